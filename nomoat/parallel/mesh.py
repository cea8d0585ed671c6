"""The processes of one run: start, stop, and the few exchanges that training needs.  The only file that reads
RANK.

`python -m nomoat …` is one process and needs no process group; `torchrun -m nomoat …` makes one of each rank.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nomoat.config import UserError


@dataclass(frozen=True)
class Mesh:
    """This process among `world` ranks.  Every exchange is collective: all ranks call it, in one order."""

    rank: int
    world: int
    device: torch.device

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in place, in one exchange; summed in at least
        float32.
        """
        if self.world == 1 or not tensors:
            return
        wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
        with torch.no_grad():
            bucket = torch.cat([t.detach().reshape(-1).to(wide) for t in tensors])
            dist.all_reduce(bucket)
            bucket /= self.world
            for tensor, piece in zip(tensors, bucket.split([t.numel() for t in tensors])):
                tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """True everywhere if it is true somewhere: a signal, a non-finite loss."""
        if self.world == 1:
            return flag
        votes = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def broadcast(self, thing: Any) -> Any:
        """Rank 0's object, on every rank."""
        return self.gather(thing)[0]

    def gather(self, thing: Any) -> list[Any]:
        """Every rank's object, in order of rank, on every rank."""
        if self.world == 1:
            return [thing]
        things = [None] * self.world
        dist.all_gather_object(things, thing)
        return things

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1, device=self.device))


ALONE = Mesh(0, 1, torch.device("cpu"))


def start(device: str = "cpu") -> Mesh:
    """The mesh that the environment describes: alone, or one rank of those that torchrun started.

    `device` is "cpu" (gloo), "cuda" (nccl, one card per rank) or "cuda:<n>" (alone).  UserError where it is
    not there.
    """
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    texts = [os.environ.get(name, value) for name, value in alone.items()]
    if not all(text.isdigit() for text in texts) or not int(texts[0]) < int(texts[1]):
        raise UserError(
            f"found RANK, WORLD_SIZE, LOCAL_RANK = {', '.join(texts)}; expected 0 <= RANK < WORLD_SIZE; "
            "start with torchrun, or unset them"
        )
    rank, world, local = map(int, texts)
    where = _device(device, local, world)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if world > 1 and not dist.is_initialized():
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise UserError(f"WORLD_SIZE is {world} but {', '.join(missing)} is not set; start with torchrun")
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", rank=rank, world_size=world)
    return Mesh(rank, world, where)


def stop() -> None:
    """Leave the process group, if there is one; `start` may be called again."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device(name: str, local: int, world: int) -> torch.device:
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdigit())):
        raise UserError(f'device "{name}" is not known; expected "cpu", "cuda" or "cuda:<n>"')
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            'device = "cuda", but no CUDA device was found; set device = "cpu", or check the driver'
        )
    if colon and world > 1:
        raise UserError(f'device "{name}" names one card for {world} ranks; use "cuda"')
    card, cards = int(index) if colon else local, torch.cuda.device_count()
    if card >= cards:
        raise UserError(f"card {card} was asked for, {cards} found; start at most {cards} ranks per machine")
    return torch.device("cuda", card)
