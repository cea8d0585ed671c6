"""The decoding cache: for each layer the key-value latent and the one shared rotary key, nothing else."""

import torch
from torch import Tensor

from nomoat.model.spec import ModelSpec


class LatentCache:
    """`latent[layer]` is BSc with c = C + R; columns up to `length` are written, the same for every row.

    Rows of unequal prompts are aligned at their right end: `mask_BS` says which columns a row may attend to.
    """

    def __init__(self, spec: ModelSpec, n_rows: int, capacity: int, *, dtype=torch.float32, device="cpu"):
        width = spec.d_kv_latent + spec.d_rope
        self.latent = [torch.zeros(n_rows, capacity, width, dtype=dtype, device=device) for _ in range(spec.n_layers)]
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.latent[0].shape[1]

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.latent)

    def write(self, layer: int, new_BTc: Tensor) -> Tensor:
        """Put the new columns behind the written ones; gives all of them.  `advance` moves on, once per step."""
        end = self.length + new_BTc.shape[1]
        self.latent[layer][:, self.length : end] = new_BTc
        return self.latent[layer][:, :end]

    def advance(self, n_positions: int) -> None:
        self.length += n_positions

    def rows(self, index_B: Tensor) -> None:
        """Keep, repeat or reorder rows: how a group shares its prompt and how finished rows leave."""
        self.latent = [layer.index_select(0, index_B) for layer in self.latent]
