"""The decoding cache: for each layer the key-value latent and the one shared rotary key, nothing else.

Grouped-query attention keeps its heads' values and keys in their place (gqa.py)."""

import torch
from torch import Tensor

from nomoat.model.spec import ModelSpec


class LatentCache:
    """`latent[layer]` is BSc with c = C + R; columns up to `length` are written, the same for every row."""

    def __init__(self, spec: ModelSpec, n_rows: int, capacity: int, *, dtype=torch.float32, device="cpu"):
        width = sum(spec.d_cached)
        self.latent = [torch.zeros(n_rows, capacity, width, dtype=dtype, device=device) for _ in range(spec.n_layers)]
        self.length = 0

    def write(self, layer: int, new_BTc: Tensor) -> Tensor:
        """Put the new columns behind the written ones; gives all of them.  `advance` moves on, once per step."""
        end = self.length + new_BTc.shape[1]
        self.latent[layer][:, self.length : end] = new_BTc
        return self.latent[layer][:, :end]

    def advance(self, n_positions: int) -> None:
        self.length += n_positions
