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
    copies, rows = _copies(params[0], mesh), _rows(params)
    turns = [divmod(first + i, copies.n) for i in range(len(params))]
    ours = [i for i, (_, copy) in enumerate(turns) if copy == copies.index]
    split = [i for i in ours if rows is not None and params[i].ndim == 2]
    r, c = params[0].shape[-2:]
    stacks = [parts[i].view(-1, r, c) for i in ours if i not in split]
    sizes = [len(stack) for stack in stacks]
    if split:
        owner_of = [turns[i][0] % rows.n for i in split]
        stacks.append(_gather([parts[i] for i in split], owner_of, rows, r))
    stack = torch.cat(stacks) if stacks else parts[0].new_empty(0, r, c)
    done = work(stack) if len(stack) else stack
    results = dict(zip((i for i in ours if i not in split), done.split([*sizes, len(stack) - sum(sizes)])))
    if split:
        results |= zip(split, _scatter(done[sum(sizes) :], owner_of, rows, r))
    _hand_on(results, [copy for _, copy in turns], parts, copies)
    return [results[i].view_as(part) for i, part in enumerate(parts)]


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


def _rows(params: Sequence[Tensor]) -> Peers | None:
    """Those that have the other rows of the matrices; None where every matrix is in one piece."""
    split = next((p for p in params if isinstance(p, DTensor) and p.ndim == 2), None)
    if split is None:
        return None
    dims = [dim for dim, placement in enumerate(split.placements) if not isinstance(placement, Replicate)]
    return Peers.of(split.device_mesh.get_group(dims[0]))


def _heights(r: int, n: int) -> list[int]:
    """Rows of a matrix on each of `n` ranks, as torch parts them."""
    most = -(-r // n)
    return [min(most, max(0, r - most * rank)) for rank in range(n)]


def _gather(parts: Sequence[Tensor], owner_of: Sequence[int], rows: Peers, r: int) -> Tensor:
    """(n, r, c): the matrices that this rank owns."""
    c = parts[0].shape[-1]
    mine = owner_of.count(rows.index)
    sizes = [mine * height * c for height in _heights(r, rows.n)]
    sent = [torch.cat([_nothing(parts), *_of(parts, owner_of, rank)]) for rank in range(rows.n)]
    received = _exchange(sent, sizes, rows.group)
    return (
        torch.cat([piece.view(mine, -1, c) for piece in received], 1) if mine else parts[0].new_empty(0, r, c)
    )


def _scatter(stack: Tensor, owner_of: Sequence[int], rows: Peers, r: int) -> list[Tensor]:
    """This rank's rows of each matrix that any rank owns, in the order of `owner_of`."""
    heights, c = _heights(r, rows.n), stack.shape[-1]
    height = heights[rows.index]
    sizes = [owner_of.count(rank) * height * c for rank in range(rows.n)]
    sent = [piece.flatten() for piece in stack.split(heights, 1)]
    of_owner = [iter(piece.view(-1, height, c)) for piece in _exchange(sent, sizes, rows.group)]
    return [next(of_owner[rank]) for rank in owner_of]


def _of(parts: Sequence[Tensor], owner_of: Sequence[int], rank: int) -> list[Tensor]:
    return [part.flatten() for part, owner in zip(parts, owner_of) if owner == rank]


def _nothing(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].new_empty(0)


def _exchange(sent: Sequence[Tensor], sizes: list[int], group: dist.ProcessGroup) -> list[Tensor]:
    """What each rank sent to this one, `sizes` numbers each."""
    received = sent[0].new_empty(sum(sizes))
    dist.all_to_all_single(received, torch.cat([*sent]), sizes, [len(piece) for piece in sent], group=group)
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
