"""What a step computes, with torch: on any device, and what native/step.c is compared with."""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nomoat.engine.batch import Batch, Drawn
from nomoat.engine.blocks import BLOCK
from nomoat.engine.sampling import choose
from nomoat.model.kernels import Pair
from nomoat.model.moe import Experts
from nomoat.model.rope import turns
from nomoat.model.transformer import Block, Transformer


class Runner(Protocol):
    """A model and the cache of `n_blocks` blocks that it reads and writes."""

    invariant: bool  # whether a row's results are the same bits alone and in any batch

    @staticmethod
    def block_bytes(model: Transformer) -> int:
        """What a block takes of memory."""

    def run(self, batch: Batch) -> Drawn: ...

    def copy(self, source: int, target: int) -> None:
        """Block `target` holds what `source` holds."""

    def refresh(self) -> None:
        """The model's weights have changed."""


class TorchRunner:
    """Not invariant: torch chooses other kernels for other numbers of rows, which round otherwise.  Over 60
    mixes of small random models, log-probabilities alone and in company differed by 8e-6 at most and 5e-7
    on average in float32, by 5e-7 at most in bfloat16, and no id did; other processors may differ more.
    """

    invariant = False

    def __init__(self, model: Transformer, n_blocks: int):
        self.model = model
        like = model.embed.weight
        layers = [*model.blocks, *(depth.block for depth in model.depths)]
        self.layers = [(block, block.attention.behind()) for block in layers]
        n = n_blocks * BLOCK
        self.caches: list[Pair] = []
        for _ in layers:
            widths = model.spec.attention.d_cached
            self.caches.append(tuple(like.new_zeros(n, width) for width in widths))
        self.hidden_MD = like.new_zeros(0, model.spec.d_model)

    @staticmethod
    def block_bytes(model: Transformer) -> int:
        spec = model.spec
        n_numbers = (spec.n_layers + spec.n_mtp) * BLOCK * sum(spec.attention.d_cached)
        return n_numbers * model.embed.weight.element_size()

    def refresh(self) -> None:
        self.layers = [(block, block.attention.behind()) for block, _ in self.layers]
        for numbers in (numbers for cache in self.caches for numbers in cache):
            numbers.zero_()  # the old weights may have left what is no number

    def copy(self, source: int, target: int) -> None:
        for cache in self.caches:
            for numbers in cache:
                blocks = numbers.unflatten(0, (-1, BLOCK))
                blocks[target] = blocks[source]

    @torch.inference_mode()
    def run(self, batch: Batch) -> Drawn:
        """Rows with as many new tokens as each other go through the model side by side."""
        model = self.model
        M = len(batch.ids_M)
        starts = np.flatnonzero(np.diff(batch.slot_M, prepend=-1))
        counts = np.diff(starts, append=M)
        hidden_MD = model.embed.weight.new_empty(M, model.spec.d_model)
        for T in np.unique(counts):
            first_B = starts[counts == T]
            token_BT = first_B[:, None] + np.arange(T)
            hidden_MD[self.there(token_BT)] = self.hidden(batch, token_BT)
        if not batch.depth:
            self.hidden_MD = hidden_MD
        final = model.depths[batch.depth - 1].final if batch.depth else model.final
        h = hidden_MD[self.there(batch.out)]
        logits = model.head(final(h)).float()
        uniform = self.there(batch.uniform)
        temperature = self.there(batch.temperature)
        ids, logps = choose(logits, uniform, temperature)
        return Drawn(ids.tolist(), logps.tolist(), logits)

    def there(self, numbers: np.ndarray) -> Tensor:
        """On the model's device."""
        return torch.from_numpy(numbers).to(self.model.device)

    def hidden(self, batch: Batch, token_BT: np.ndarray) -> Tensor:
        """The last layer's output h_BTD for rows of T tokens each."""
        model = self.model
        pos_BT = self.there(batch.pos_M[token_BT])
        n_blocks = int(pos_BT.max()) // BLOCK + 1
        slot_B = batch.slot_M[token_BT[:, 0]]
        columns = slice(n_blocks)
        table = batch.tables[slot_B, columns]
        places = table[..., None] * BLOCK + np.arange(BLOCK)
        place_BS = self.there(places).flatten(1)
        place_BT = place_BS.gather(1, pos_BT.long())
        column_S = torch.arange(n_blocks * BLOCK, device=model.device)
        closed = column_S > pos_BT[:, :, None]
        bias = torch.zeros(closed.shape, dtype=model.dtype, device=model.device)
        bias.masked_fill_(closed, -math.inf)
        cis_BTr = turns(model.spec, pos_BT)
        h_BTD = model.embed(self.there(batch.ids_M[token_BT]))
        first, end = 0, len(model.blocks)
        if batch.depth:
            first = end + batch.depth - 1
            end = first + 1
            before_BTD = self.hidden_MD[self.there(token_BT)]
            depth = model.depths[batch.depth - 1]
            h_BTD = depth.join(before_BTD, h_BTD)
        bias = bias[:, :, None]  # of all heads
        for layer in range(first, end):
            h_BTD = self.layer(layer, h_BTD, cis_BTr, bias, place_BT, place_BS)
        return h_BTD

    def layer(
        self,
        layer: int,
        h_BTD: Tensor,
        cis_BTr: Tensor,
        bias: Tensor,
        place_BT: Tensor,
        place_BS: Tensor,
    ) -> Tensor:
        """What `Block.forward` says, behind the cache."""
        block, attention = self.layers[layer]

        def extend(*new: Tensor) -> Pair:
            for numbers, part in zip(self.caches[layer], new):
                numbers[place_BT] = part
            return tuple(numbers[place_BS] for numbers in self.caches[layer])

        norm = block.norm_attention.few
        u_BTD = attention(block.entering(norm, h_BTD), cis_BTr, extend, bias)
        h_BTD = h_BTD + block.leaving(norm, u_BTD)
        return h_BTD + block.leaving(block.norm_ffn.few, fed_forward(block, h_BTD))


def fed_forward(block: Block, h_BTD: Tensor) -> Tensor:
    out = block.ffn(block.entering(block.norm_ffn.few, h_BTD))
    return out[0] if isinstance(block.ffn, Experts) else out
