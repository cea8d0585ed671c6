"""A batch in the passes in which a rank takes its rows of it."""

from dataclasses import dataclass

import torch

from nomoat.data.packing import NOWHERE, Batch, Packed
from nomoat.model.loss import IGNORED
from nomoat.parallel.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Rows:
    """`n` rows of the data from row `first` on, of all ranks together; `at_once` in a pass of one rank."""

    data: Packed
    first: int
    n: int
    at_once: int | None


def microbatches(rows: Rows, mesh: Mesh) -> list[Batch]:
    """This rank's rows in passes, as many on every rank: one that has fewer rows gets padding."""
    share = mesh.share(rows.n)
    most = -(-rows.n // mesh.data_world)
    usual = most if mesh.size("pipeline") == 1 else 1
    at_once = min(rows.at_once or usual, most)
    batches = []
    for start in range(0, most, at_once):
        part = share[start : start + at_once]
        batches.append(rows.data.batch(rows.first + part[0], len(part)) if part else padding(rows.data.T))
    return batches


def padding(T: int) -> Batch:
    """A row without a document."""
    ids_BT = torch.zeros(1, T, dtype=torch.int64)
    doc_BT = torch.full((1, T), NOWHERE, dtype=torch.int32)
    return Batch(ids_BT, torch.full_like(ids_BT, IGNORED), doc_BT)
