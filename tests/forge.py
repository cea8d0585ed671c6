"""Runs `nomoat` commands in forked children of a process that has everything imported; run as a script by
conftest.py.

An order is one line of JSON: {"argv", "env", "cwd", "stdin", "stdout", "stderr", "trap", "code"}; the answer
is the exit code, negative for the number of the signal that ended the child.  `code` is a program that takes
the place of `nomoat`, "" for none.  `trap` says what is to go wrong inside:

    {"signal": 9, "kind": "step", "stage": "rl", "step": 3}   the signal, right after such an event was logged
    {"signal": 9, "writes": 5}                                the signal, before the n-th file write of checkpoints
    {"cpu_seconds": 0.4}                                      killed after so much processor time, wherever that is
    {"nan": [3, 4]}                                           the loss of these gradients, counted from 0, is NaN
    {"full": true}                                            no disk space for checkpoints
    {"file_bytes": 4000}                                      no file can grow larger
    {"set": ["module", "NAME", value]}                        another value for a constant
    {"sets": [["module", "NAME", value], …]}                  and for several
"""

import dataclasses
import importlib
import json
import math
import os
import resource
import signal
import sys
import traceback

PRELOAD = (
    "torch", "numpy", "tokenizers", "safetensors.torch", "jinja2", "nomoat.cli.main",
    "nomoat.report.page", "nomoat.report.progress", "nomoat.serve.bot", "nomoat.serve.terminal",
    "nomoat.stages.pipeline", "nomoat.stages.s1_tokenizer",
    "nomoat.stages.s2_pretrain", "nomoat.stages.s3_extend", "nomoat.stages.s4_sft", "nomoat.stages.s5_rl",
    "nomoat.stages.s6_distill", "nomoat.stages.s7_eval", "nomoat.stages.s8_export",
)  # fmt: skip


def main() -> None:
    for name in PRELOAD:
        importlib.import_module(name)
    children = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                child(order)
            children[answer] = order
        print(json.dumps(answer), flush=True)


def child(order: dict) -> None:
    code = 1
    try:
        for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT), (2, os.O_WRONLY | os.O_CREAT)):
            os.dup2(os.open(order[("stdin", "stdout", "stderr")[fd]], mode, 0o644), fd)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        sys.argv = ["nomoat", *order["argv"]]
        arm(order["trap"])
        if order["code"]:
            exec(order["code"], {"__name__": "__main__"})
        from nomoat.cli import main

        code = 0 if order["code"] else main.main(order["argv"])
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:  # noqa: BLE001  (the child must not run on as its parent)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def arm(trap: dict) -> None:
    from nomoat.run.directory import Run
    from nomoat.stages import fit
    from nomoat.train import checkpoint

    if "kind" in trap:
        log = Run.log

        def watched(self, kind, /, **fields):
            log(self, kind, **fields)
            if kind == trap["kind"] and all(
                fields.get(k) == trap[k] for k in ("stage", "step", "name") if k in trap
            ):
                os.kill(os.getpid(), trap["signal"])

        Run.log = watched
    if "writes" in trap:
        write, left = checkpoint.DISK.write, [trap["writes"]]

        def counted(fd, data):
            left[0] -= 1
            if left[0] <= 0:
                os.write(fd, bytes(data[: len(data) // 2]))
                os.kill(os.getpid(), trap["signal"])
            return write(fd, data)

        checkpoint.DISK.write = counted
    if "cpu_seconds" in trap:
        signal.setitimer(
            signal.ITIMER_PROF, trap["cpu_seconds"]
        )  # its signal ends a process that does not catch it
    if "nan" in trap:
        accumulate, calls = fit.accumulate, [0]

        def poisoned(*args):
            found = accumulate(*args)
            calls[0] += 1
            return dataclasses.replace(found, loss=math.nan) if calls[0] - 1 in trap["nan"] else found

        fit.accumulate = poisoned
    if "full" in trap:
        checkpoint.DISK.free_bytes = lambda path: 0
    if "file_bytes" in trap:
        resource.setrlimit(resource.RLIMIT_FSIZE, (trap["file_bytes"], resource.RLIM_INFINITY))
    for module, name, value in [*([trap["set"]] if "set" in trap else []), *trap.get("sets", [])]:
        setattr(importlib.import_module(module), name, value)


if __name__ == "__main__":
    main()
