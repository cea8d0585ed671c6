"""Attacks the sandbox as attacks.toml says, and looks at this machine for effects, not at what was said."""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.files import shipped
from nomoat.sandbox import walls

LIMITS = sandbox.Limits(wall_seconds=1.5, cpu_seconds=2)
SLACK_SECONDS = 5.0  # for starting and ending on a busy machine
MAX_GROWTH_KIB = 32 << 10  # of this process
MAX_VERDICT = 1 << 20  # characters


@contextmanager
def target(token: str) -> Iterator[tuple[dict, Iterator[str]]]:
    """(what an attack is told of files, sockets and a process of ours, what became of them when asked)."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        secret, made, name = Path(folder, "secret"), Path(folder, "made"), f"nomoat-{os.urandom(8).hex()}"
        secret.write_text(token)
        process = sibling(token, stack)
        tcp = bound(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = bound(stack, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        abstract = bound(stack, socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name)
        tcp.listen()
        abstract.listen()
        facts = {
            "secret": str(secret),
            "target": str(made),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "pid": process.pid,
            "parent": os.getpid(),
            "scratch": LIMITS.scratch_bytes,
        }

        def effects() -> Iterator[str]:
            if not secret.is_file() or secret.read_text() != token or secret.stat().st_mode & 0o111:
                yield "a file was changed"
            if made.exists():
                yield "a file was made"
            if process.poll() is not None:
                yield "another process was killed"
            for stream in (tcp, abstract):
                with suppress(BlockingIOError):
                    stream.accept()[0].close()
                    yield "a connection was made"
            with suppress(BlockingIOError):
                udp.recv(1)
                yield "a connection was made"

        yield facts, effects()


def sibling(token: str, stack: ExitStack) -> subprocess.Popen:
    """A process that holds the token, until the stack ends."""
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    env = {"SECRET": token}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    for end in (process.stdin.close, process.wait, process.kill):  # the last comes first
        stack.callback(end)
    return process


def bound(stack: ExitStack, family: int, kind: int, address: object) -> socket.socket:
    one = stack.enter_context(socket.socket(family, kind))
    one.setblocking(False)
    one.bind(address)
    return one


def jails() -> set[tuple[str, str]]:
    """(pid, start time) of each process that runs jail.py."""
    running = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if walls.text("jail.py")[:200].encode() in (place / "cmdline").read_bytes():
                running.add((place.name, (place / "stat").read_text().rpartition(")")[2].split()[19]))
    return running


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def attack(code: str, name: str) -> tuple[bool, str]:
    """(held, what it did or how it ended)."""
    token, before, peak = os.urandom(12).hex(), jails(), peak_kib()
    start = time.monotonic()
    with target(token) as (facts, effects):
        verdict = sandbox.confined(code, [facts], LIMITS, name)
        seconds = time.monotonic() - start
        signs = list(effects)
    answer = repr(verdict)
    seen = {
        "it was not run": verdict.status == "infra",
        "a secret was read": token in answer,
        f"it gained {verdict.outputs!r:.60}": verdict.status == "pass" and any(verdict.outputs),
        f"it ran for {seconds:.1f} s": seconds > LIMITS.wall_seconds + SLACK_SECONDS,
        "it filled this process": peak_kib() - peak > MAX_GROWTH_KIB or len(answer) > MAX_VERDICT,
        "a process was left": bool(jails() - before),
    }
    signs += filter(seen.get, seen)
    return not signs, "; ".join(signs) or f"{verdict.status} {verdict.detail}".strip()


def self_test(name: str) -> list[tuple[str, bool, str]]:
    """[(attack, held, detail)]; nothing holds where a benign program doesn't run."""
    table = shipped(__file__)
    benign = sandbox.confined("def f(x): return x", [[1, "a"]], LIMITS, name)
    if benign.outputs != [[1, "a"]]:
        return [(one["name"], False, f"not run: {benign.detail}") for one in table["attack"]]
    return [(one["name"], *attack(table["prelude"] + one["code"], name)) for one in table["attack"]]


def layers() -> list[tuple[str, bool, str]]:
    """[(layer, active, detail)]: each backend, then what a program under the chosen one has around it."""
    rows, chosen = [], None
    for name in sandbox.BACKENDS:
        try:
            rows.append((sandbox.probe(name), True, "works"))
        except UserError as error:
            rows.append((name, False, str(error)))
            continue
        if name == os.environ.get(sandbox.VARIABLE, name):
            chosen = chosen or name
    seccomp, privileges, memory = around(chosen)
    return [
        *rows,
        ("seccomp filter", seccomp == 2, f"mode {seccomp}"),
        ("no new privileges", privileges == 1, ""),
        ("resource limits", memory == LIMITS.memory_bytes, f"{memory >> 20} MiB of address space"),
    ]


def around(name: str | None) -> tuple[int, int, int]:
    """(seccomp mode, no new privileges, bytes of address space) of a program; zeros where none runs."""
    outputs = sandbox.confined(shipped(__file__)["layers"], [0], LIMITS, name).outputs if name else []
    return outputs[0] if outputs else (0, 0, 0)
