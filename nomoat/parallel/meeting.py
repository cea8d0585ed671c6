"""Ranks that meet say what each of them found, before they lay out anything: those of different meshes would
wait for each other in groups that never come together.
"""

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch.distributed as dist

from nomoat.config import UserError

READ_SECONDS = 10  # for all to read why they don't begin, where rank 0 keeps the store


def agree(
    store: dist.Store, rank: int, world: int, facts: Mapping[str, str], *, speaks: bool = True
) -> None:
    """UserError on every rank where one has found something else than rank 0: a recipe, a version, a mesh.

    Nothing but the store is needed: no group, and so no common backend.  Waits for all ranks as long as the
    store does.  `speaks`: this is the rank of its machine that says it.
    """
    n = store.add(f"meetings{rank}", 1)  # a process may meet the others again
    store.set(f"found{n}-{rank}", json.dumps([socket.gethostname(), dict(facts)]))
    if rank == 0:
        everyones = [json.loads(store.get(f"found{n}-{other}")) for other in range(world)]
        store.set(f"verdict{n}", differing(everyones))
    verdict = store.get(f"verdict{n}").decode()
    store.set(f"read{n}-{rank}", "1")
    if verdict:
        if rank == 0:
            with contextlib.suppress(RuntimeError):  # torch's errors of a connection
                everyone = [f"read{n}-{other}" for other in range(world)]
                store.wait(everyone, timedelta(seconds=READ_SECONDS))
        error = UserError(verdict)
        error.told = not speaks
        raise error


def differing(everyones: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """What the first rank that differs found, and what rank 0; empty where all are the same."""
    host, first = everyones[0]
    for rank, (where, facts) in enumerate(everyones):
        names = [name for name in {**first, **facts} if first.get(name) != facts.get(name)]
        if names:
            ours, theirs = (", ".join(f"{name} {of.get(name)}" for name in names) for of in (first, facts))
            return (
                f"rank {rank} on {where} found {theirs}; rank 0 on {host} {ours}; expected the same on all "
                "ranks; start them from the same files and the same installation"
            )
    return ""
