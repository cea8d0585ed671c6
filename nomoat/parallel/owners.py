"""Work on whole matrices that lie in parts: each is done once, by the rank that owns it.

The rows of a matrix are sent to its owner and those of the result back, all matrices of a stack in one
exchange each way; nobody else sees the whole of it.  Where there are copies of the parts, each does some of
the matrices and hands the results on.  A stack of matrices that is parted between them needs no exchange.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from nomoat.parallel.mesh import Mesh

Work = Callable[[Tensor], Tensor]  # of a stack (n, r, c), in its precision


def once(
    params: Sequence[Tensor], parts: Sequence[Tensor], work: Work, mesh: Mesh, first: int = 0
) -> list[Tensor]:
    """This rank's parts of `work(matrix)` for every matrix of `parts`, which lie as the `params` do.

    All matrices are (r, c), or stacks of such.  `first` is the number of the first one in the order in which
    ranks take their turns.
    """
    copies = _copies(params[0], mesh)
    turns = [divmod(first + i, copies.n) for i in range(len(params))]
    copy_of = [copy for _, copy in turns]
    ours = [i for i, copy in enumerate(copy_of) if copy == copies.index]
    split = [i for i in ours if _is_split(params[i])]
    there = [i for i in ours if not _is_split(params[i])]
    rows = _rows(params)
    results = {}
    if split:
        places = [turns[i][0] % rows.n for i in split]
        theirs = _by_owners([parts[i] for i in split], places, work, rows, params[0].shape[-2])
        results |= zip(split, theirs)
    results |= zip(there, _together([parts[i] for i in there], work))
    _hand_on(results, copy_of, parts, copies)
    return [results[i].view_as(part) for i, part in enumerate(parts)]


def _together(parts: Sequence[Tensor], work: Work) -> list[Tensor]:
    """The work on whole matrices, and on stacks of such, that this rank has."""
    if not sum(part.numel() for part in parts):
        return [*parts]
    r, c = parts[0].shape[-2:]
    stacks = [part.view(-1, r, c) for part in parts]
    sizes = [len(stack) for stack in stacks]
    stack = torch.cat(stacks)
    return [*work(stack).split(sizes)]


def _by_owners(
    parts: Sequence[Tensor], owner_of: Sequence[int], work: Work, rows: "Peers", r: int
) -> list[Tensor]:
    """The work on matrices of `r` rows, of which every rank has some: this rank's rows of each result."""
    stack = _gather(parts, owner_of, rows, r)
    done = work(stack) if len(stack) else stack
    return _scatter(done, owner_of, rows, r)


def _is_split(param: Tensor) -> bool:
    return isinstance(param, DTensor) and param.ndim == 2


@dataclass(frozen=True, slots=True)
class Peers:
    """Ranks that share something: how many, which one this is."""

    n: int
    index: int
    group: dist.ProcessGroup | None

    @classmethod
    def of(cls, group: dist.ProcessGroup | None) -> "Peers":
        return cls(1, 0, None) if group is None else cls(group.size(), group.rank(), group)


def _copies(param: Tensor, mesh: Mesh) -> Peers:
    """Those that have the same part of a parameter."""
    if not isinstance(param, DTensor):
        return Peers.of(mesh.data_group)
    dims = [dim for dim, placement in enumerate(param.placements) if isinstance(placement, Replicate)]
    return Peers.of(param.device_mesh.get_group(dims[0]) if dims else None)


def _rows(params: Sequence[Tensor]) -> Peers:
    """Those that have the other rows of the matrices that are split."""
    split = next((param for param in params if _is_split(param)), None)
    if split is None:
        return Peers(1, 0, None)
    dims = [dim for dim, placement in enumerate(split.placements) if not isinstance(placement, Replicate)]
    return Peers.of(split.device_mesh.get_group(dims[0]))


def _heights(r: int, n: int) -> list[int]:
    """Rows of a matrix on each of `n` ranks, as torch parts them."""
    most = -(-r // n)
    return [min(most, max(0, r - most * rank)) for rank in range(n)]


def _gather(parts: Sequence[Tensor], owner_of: Sequence[int], rows: Peers, r: int) -> Tensor:
    """(n, r, c): the matrices that this rank owns."""
    like = parts[0]
    c = like.shape[-1]
    nothing = like.new_empty(0)
    n = owner_of.count(rows.index)
    sizes = [n * height * c for height in _heights(r, rows.n)]
    sent = []
    for rank in range(rows.n):
        theirs = [nothing]
        theirs += [part.flatten() for part, owner in zip(parts, owner_of) if owner == rank]
        sent.append(torch.cat(theirs))
    received = _exchange(sent, sizes, rows.group)
    if not n:
        return nothing.view(0, r, c)
    pieces = [piece.view(n, -1, c) for piece in received]
    return torch.cat(pieces, 1)


def _scatter(stack: Tensor, owner_of: Sequence[int], rows: Peers, r: int) -> list[Tensor]:
    """This rank's rows of each matrix that any rank owns, in the order of `owner_of`."""
    c = stack.shape[-1]
    heights = _heights(r, rows.n)
    height = heights[rows.index]
    counts = [owner_of.count(rank) for rank in range(rows.n)]
    sizes = [n * height * c for n in counts]
    sent = [piece.flatten() for piece in stack.split(heights, 1)]
    received = _exchange(sent, sizes, rows.group)
    of_owner = []
    for n, piece in zip(counts, received):
        matrices = piece.view(n, height, c)
        of_owner.append(iter(matrices))
    return [next(of_owner[rank]) for rank in owner_of]


def _exchange(sent: Sequence[Tensor], sizes: list[int], group: dist.ProcessGroup) -> list[Tensor]:
    """What each rank sent to this one, `sizes` numbers each."""
    received = sent[0].new_empty(sum(sizes))
    lengths = [len(piece) for piece in sent]
    dist.all_to_all_single(received, torch.cat([*sent]), sizes, lengths, group=group)
    return [*received.split(sizes)]


def _hand_on(
    results: dict[int, Tensor], copy_of: Sequence[int], parts: Sequence[Tensor], copies: Peers
) -> None:
    """Every copy's results to all of them."""
    for copy in range(copies.n) if copies.n > 1 else ():
        theirs = [i for i, of in enumerate(copy_of) if of == copy]
        if not theirs:
            continue
        sizes = [parts[i].numel() for i in theirs]
        bucket = parts[0].new_empty(sum(sizes))
        if copy == copies.index:
            torch.cat([results[i].flatten() for i in theirs], out=bucket)
        dist.broadcast(bucket, group=copies.group, group_src=copy)
        results |= zip(theirs, bucket.split(sizes))
