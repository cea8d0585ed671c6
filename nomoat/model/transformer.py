"""The whole model: embedding, blocks of latent attention and experts, head, and the extra prediction depths.

Equations of the V3 report (arXiv 2412.19437), section 2.  The model knows no mesh, optimiser or tokenizer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.cache import LatentCache
from nomoat.model.gqa import GroupedAttention
from nomoat.model.mla import LatentAttention, mask_for
from nomoat.model.moe import Experts, Routing, SwiGLU
from nomoat.model.mtp import Depth
from nomoat.model.norm import rms_norm
from nomoat.model.rope import turns
from nomoat.model.spec import ModelSpec


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h)); the feed-forward is dense or routed by its place."""

    def __init__(self, spec: ModelSpec, layer: int):
        super().__init__()
        self.layer, self.eps = layer, spec.norm_eps
        self.norm_attention = nn.Parameter(torch.ones(spec.d_model))
        self.attention = LatentAttention(spec) if spec.mixer == "mla" else GroupedAttention(spec)
        self.norm_ffn = nn.Parameter(torch.ones(spec.d_model))
        self.ffn = Experts(spec) if spec.is_moe(layer) else SwiGLU(spec.d_model, spec.d_ffn)

    def forward(self, h_BTD, cis_BTr, mask=None, cache: LatentCache | None = None) -> tuple[Tensor, Routing | None]:
        normed = rms_norm(h_BTD, self.norm_attention, self.eps)
        h_BTD = h_BTD + self.attention(normed, cis_BTr, mask, cache, self.layer)
        normed = rms_norm(h_BTD, self.norm_ffn, self.eps)
        out, routing = self.ffn(normed) if isinstance(self.ffn, Experts) else (self.ffn(normed), None)
        return h_BTD + out, routing


class Transformer(nn.Module):
    """DeepSeek-V3 in the shape of `spec`; `model(ids_BT)` gives logits_BTV in float32.

    With a cache the new positions are appended to it.  `pos_BT` defaults to 0, 1, … behind the cache; `mask`
    (B or 1, 1, T, S), true where a query may attend, defaults to causal.
    """

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        self.embed = nn.Parameter(torch.empty(spec.vocab_size, spec.d_model))
        self.blocks = nn.ModuleList(Block(spec, layer) for layer in range(spec.n_layers))
        self.norm = nn.Parameter(torch.ones(spec.d_model))
        self.head = self.embed if spec.tied else nn.Parameter(torch.empty(spec.vocab_size, spec.d_model))
        self.depths = nn.ModuleList(Depth(spec, Block(spec, spec.n_layers + j)) for j in range(spec.n_mtp))

    def initialise(self, seed: int) -> "Transformer":
        """Normal weights of std `init_std`, output projections zero so that every block starts as the identity."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.data.fill_(1.0)
            elif name.rpartition(".")[2] in ("w_o", "w_down"):
                parameter.data.zero_()
            else:
                draw = torch.randn(parameter.shape, generator=generator) * self.spec.init_std
                parameter.data.copy_(draw)
        return self

    def forward(
        self, ids_BT: Tensor, pos_BT: Tensor | None = None, mask: Tensor | None = None, cache: LatentCache | None = None
    ) -> Tensor:
        h_BTD, _ = self.hidden(ids_BT, pos_BT, mask, cache)
        return self.logits(h_BTD)

    def hidden(self, ids_BT, pos_BT=None, mask=None, cache=None) -> tuple[Tensor, list[Routing]]:
        """The last block's output h_BTD, before the final norm, and what each routed layer decided."""
        cis_BTr = self.turns(ids_BT, pos_BT, cache)
        if cache is None or cache.length == 0:
            mask = mask_for(self.spec, mask, ids_BT.shape[1], self.embed.dtype, ids_BT.device)
        h_BTD, routings = F.embedding(ids_BT, self.embed), []
        for block in self.blocks:
            h_BTD, routing = block(h_BTD, cis_BTr, mask, cache)
            if routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.advance(ids_BT.shape[1])
        return h_BTD, routings

    def turns(self, ids_BT: Tensor, pos_BT: Tensor | None = None, cache: LatentCache | None = None) -> Tensor:
        if pos_BT is None:
            start = cache.length if cache is not None else 0
            pos_BT = torch.arange(start, start + ids_BT.shape[1], device=ids_BT.device)[None]
        return turns(self.spec, pos_BT)

    def final(self, h: Tensor) -> Tensor:
        """What the head reads."""
        return rms_norm(h, self.norm, self.spec.norm_eps)

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(self.final(h), self.head).float()

    def predict_further(self, h_BTD: Tensor, ids_BT: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Hidden states of the extra depths: depth k at position i sees token i + k and predicts token i + k + 1.

        The last k positions of depth k hold no prediction (their future token is not in the row).
        """
        cis_BTr, out = self.turns(ids_BT), []
        mask = mask_for(self.spec, mask, ids_BT.shape[1], self.embed.dtype, ids_BT.device)
        for k, depth in enumerate(self.depths, start=1):
            future_BT = torch.roll(ids_BT, -k, dims=1)
            h_BTD = depth(h_BTD, F.embedding(future_BT, self.embed), cis_BTr, mask)
            out.append(h_BTD)
        return out
