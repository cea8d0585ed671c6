"""Laws on several ranks: a function of a test file runs on N of them, gloo on the CPU.

    def law(mesh, x):            # at module level; what it gives comes back, pickled
        ...

    def test_law():
        found = ranks.run(law, 2, x, shard=2)     # [what rank 0 gave, what rank 1 gave]

One process has torch imported, for the whole session; the ranks are forked from it, in some hundredths of a
second each.  A rank that fails ends the others, and its traceback is in the error; so does a time that is
over.  However it ends, no rank is left.
"""

import importlib.util
import multiprocessing
import os
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

PRELOAD = (
    "torch",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "pytest",
    "nomoat.stages.fit",
    "nomoat.rl.step",
    "shapes",
    "ranks",
)
SECONDS = 60.0  # for all of it, unless a test says otherwise
GRACE_SECONDS = 2.0  # for the others to fail too, once one has


class RankError(AssertionError):
    """A rank failed, or was not done in time."""


def run(law: Callable, world: int, *args: Any, seconds: float = SECONDS, **axes: int) -> list[Any]:
    """What `law(mesh, *args)` gave on each of `world` ranks, in their order; their mesh has these `axes`."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # its own free port
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD])
    order = pickle.dumps((law.__code__.co_filename, law.__name__, args, axes))
    pipes, started = [], []
    try:
        for rank in range(world):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank, args=(order, rank, world, store.port, theirs), daemon=True
            )
            _start(process)
            theirs.close()
            pipes.append(mine)
            started.append(process)
        return _collect(pipes, time.monotonic() + seconds)
    finally:
        for process in started:
            process.kill()
        for process, pipe in zip(started, pipes):
            process.join()
            process.close()
            pipe.close()


def _start(process: Any) -> None:
    """Starts a process that needn't import what pytest was started with."""
    main, sys.modules["__main__"] = sys.modules["__main__"], sys.modules[__name__]
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main


def _collect(pipes: list[Connection], deadline: float) -> list[Any]:
    """What came out of each pipe; RankError with the tracebacks of all ranks that failed."""
    given, failed = {}, {}
    while len(given) + len(failed) < len(pipes):
        left = [pipe for pipe in pipes if pipe not in given and pipe not in failed]
        ready = wait(left, max(0.0, deadline - time.monotonic()))
        for pipe in ready:
            try:
                is_fine, what = pickle.loads(pipe.recv_bytes())
            except EOFError:
                is_fine, what = False, "ended without a word"
            (given if is_fine else failed)[pipe] = what
            if not is_fine:
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if not ready:
            break
    if len(given) < len(pipes):
        words = [
            f"rank {i}: {failed.get(p, 'not done in time')}" for i, p in enumerate(pipes) if p not in given
        ]
        raise RankError("\n".join(words))
    return [given[pipe] for pipe in pipes]


def _rank(order: bytes, rank: int, world: int, port: int, pipe: Connection) -> None:
    """One rank, in a process of its own."""
    warnings.simplefilter("error")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), **place}
    try:
        said = True, _work(order)
        data = pickle.dumps(said)
    except BaseException:  # noqa: BLE001  (whatever it was, the test hears of it)
        data = pickle.dumps((False, traceback.format_exc()))
    pipe.send_bytes(data)
    pipe.close()


def _work(order: bytes) -> Any:
    import torch

    from nomoat.parallel import mesh
    from nomoat.parallel.axes import MeshConfig

    torch.set_num_threads(1)
    file, name, args, axes = pickle.loads(order)
    law = getattr(_module(Path(file)), name)
    ranks = mesh.start("cpu", MeshConfig(**axes))
    given = law(ranks, *args)
    if torch.distributed.is_initialized():
        ranks.barrier()  # nobody leaves while another still asks
    mesh.stop()
    return given


def _module(path: Path) -> Any:
    """The test file as a module, whatever pytest calls it."""
    spec = importlib.util.spec_from_file_location(f"law_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
