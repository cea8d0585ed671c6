"""Parts of tensors: which part of each a rank holds, which it writes, and where what it reads was written.

A plain tensor is whole on every rank that has it.  A sharded one is a DTensor, which tells the box that is
this rank's by torch's protocol for distributed checkpoints.  What several ranks hold, one of them writes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor
from torch.distributed.tensor import DTensor

from nomoat.parallel.fsdp import local

Groups = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Part:
    """The box of a tensor that begins at `offset`; of a whole one, all of it."""

    name: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]  # the shape of the tensor
    n_bytes: int = 0

    @property
    def key(self) -> str:
        """What a file calls it: NAME, or NAME@OFFSET of a part."""
        is_whole = self.shape == self.whole
        return self.name if is_whole else f"{self.name}@{','.join(map(str, self.offset))}"

    @classmethod
    def of_key(cls, key: str, shape: Sequence[int]) -> Self:
        """What a file holds under a key; of a part, `whole` is what it reaches to.  ValueError for no key."""
        name, is_part, offset = key.partition("@")
        begin = tuple(map(int, offset.split(","))) if is_part else (0,) * len(shape)
        if len(begin) != len(shape) or min(begin, default=0) < 0:
            raise ValueError(f"{key} is no part of a tensor with {len(shape)} dimensions")
        return cls(name, begin, tuple(shape), tuple(map(sum, zip(begin, shape))))

    def common(self, other: "Part") -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """Where in this part, and where in the other, lies what both hold; None where that is nothing."""
        firsts = tuple(map(max, zip(self.offset, other.offset)))
        ends = tuple(map(min, zip(self.ends, other.ends)))
        if any(first >= end for first, end in zip(firsts, ends)):
            return None
        return self._inside(firsts, ends), other._inside(firsts, ends)

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(self.offset, self.shape)))

    def _inside(self, firsts: Sequence[int], ends: Sequence[int]) -> tuple[slice, ...]:
        """A box of the whole tensor, counted from where this part begins."""
        places = zip(self.offset, firsts, ends)
        return tuple(slice(first - at, end - at) for at, first, end in places)


def parts_of(tensors: Groups) -> Iterator[tuple[Part, Tensor]]:
    """The parts of all tensors that this rank holds, and their memory; names are `group/name`."""
    for group, table in tensors.items():
        for name, tensor in table.items():
            memory = local(tensor.detach())
            yield _part_of(f"{group}/{name}", tensor, memory), memory


def _part_of(name: str, tensor: Tensor, memory: Tensor) -> Part:
    offset = (0,) * tensor.ndim
    if isinstance(tensor, DTensor):
        offset = tuple(tensor.__create_chunk_list__()[0].offsets)
    return Part(name, offset, tuple(memory.shape), tuple(tensor.shape), memory.nbytes)


def shares(parts: Sequence[Sequence[Part]]) -> list[set[str]]:
    """The keys that each rank writes of the parts that each holds: every part once, about equally many bytes.

    ValueError where parts overlap or leave a hole: then ranks call different tensors by one name.
    """
    holders: dict[str, tuple[Part, list[int]]] = {}
    for rank, held in enumerate(parts):
        for part in held:
            if part.n_bytes or part.shape == part.whole:
                holders.setdefault(part.key, (part, []))[1].append(rank)
    _check([part for part, _ in holders.values()])
    bytes_of_rank, keys = [0] * len(parts), [set() for _ in parts]
    for key in sorted(holders, key=lambda key: (-holders[key][0].n_bytes, key)):
        part, ranks = holders[key]
        rank = min(ranks, key=lambda rank: bytes_of_rank[rank])
        bytes_of_rank[rank] += part.n_bytes
        keys[rank].add(key)
    return keys


def _check(parts: Sequence[Part]) -> None:
    """ValueError unless the parts of each tensor fill it."""
    left = {part.name: math.prod(part.whole) for part in parts}
    for part in parts:
        left[part.name] -= math.prod(part.shape)
    wrong = sorted(name for name, n in left.items() if n)
    if wrong:
        raise ValueError(f"the parts of {', '.join(wrong[:3])} overlap or leave a hole")
