"""The whole model: embedding, blocks of attention and feed-forward, head, and the extra prediction depths.

Equations of the V3 report (arXiv 2412.19437), section 2.  The model knows no mesh, optimiser or tokenizer.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nomoat.config import ConfigError
from nomoat.model.gqa import GroupedAttention
from nomoat.model.kernels import mask_for
from nomoat.model.linear import Embedding, Linear
from nomoat.model.mla import LatentAttention
from nomoat.model.moe import Experts, Routing, SwiGLU
from nomoat.model.mtp import Depth
from nomoat.model.noise import Noise
from nomoat.model.norm import RMSNorm
from nomoat.model.rope import turns
from nomoat.model.spans import Spans
from nomoat.model.spec import Kernels, Latent, Spec


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h)), or with norms `after` h + norm(attention(h)), …

    The feed-forward is dense or routed by its place.
    """

    def __init__(self, spec: Spec, layer: int, kernels: Kernels):
        super().__init__()
        D, eps = spec.d_model, spec.norm_eps
        self.norm_attention, self.norm_ffn = RMSNorm(D, eps), RMSNorm(D, eps)
        self.after = spec.norm_place == "after"
        if isinstance(spec.attention, Latent):
            self.attention = LatentAttention(spec, kernels)
        else:
            self.attention = GroupedAttention(spec, kernels, layer)
        self.ffn = Experts(spec, kernels) if spec.is_moe(layer) else SwiGLU(D, spec.d_dense)

    def forward(
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | Spans | None = None
    ) -> tuple[Tensor, Routing | None]:
        read = self.entering(self.norm_attention, h_BTD)
        u_BTD = self.attention(read, cis_BTr, mask)
        h_BTD = h_BTD + self.leaving(self.norm_attention, u_BTD)
        read = self.entering(self.norm_ffn, h_BTD)
        routing = None
        out = self.ffn(read)
        if isinstance(self.ffn, Experts):
            out, routing = out
        out = self.leaving(self.norm_ffn, out)
        return h_BTD + out, routing

    def entering(self, norm: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """What attention or feed-forward reads of the residual stream."""
        return h if self.after else norm(h)

    def leaving(self, norm: Callable[[Tensor], Tensor], out: Tensor) -> Tensor:
        """What it adds to the stream."""
        return norm(out) if self.after else out


class Transformer(nn.Module):
    """A model in the shape of `spec`; `model(ids_BT)` gives logits_BTV in float32.

    `pos_BT` defaults to 0, 1, …; `mask` (B or 1, 1, T, T), true where a query may attend, or of one row its
    Spans, to causal.
    ConfigError for a shape that can be planned but not yet computed.
    """

    def __init__(self, spec: Spec, kernels: Kernels | None = None):
        super().__init__()
        computable(spec)
        self.spec = spec
        self.kernels = kernels or Kernels()
        V, D = spec.vocab_size, spec.d_model
        self.embed = Embedding(V, D)
        self.norm = RMSNorm(D, spec.norm_eps)
        self.head = Linear(D, V, role="embedding")
        self.tie()
        n = spec.n_layers
        every = range(n + spec.n_mtp)
        blocks = [Block(spec, layer, self.kernels) for layer in every]
        self.blocks = nn.ModuleList(blocks[:n])
        self.depths = nn.ModuleList(Depth(spec, block) for block in blocks[n:])

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def tie(self) -> None:
        """Head and embedding are one parameter again, where the spec says so; for after their storage was
        replaced.
        """
        if self.spec.tied:
            self.head.weight = self.embed.weight

    def initialise(self, seed: int) -> "Transformer":
        """First weights of std `init_std`, as Noise draws them."""
        Noise(self, self.spec.init_std, seed).fill(dict(self.named_parameters()))
        return self

    def forward(self, ids_BT: Tensor, pos_BT: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        h_BTD, _ = self.hidden(ids_BT, pos_BT, mask)
        return self.logits(h_BTD)

    def hidden(
        self,
        ids_BT: Tensor,
        pos_BT: Tensor | None = None,
        mask: Tensor | Spans | None = None,
    ) -> tuple[Tensor, list[Routing]]:
        """The last block's output h_BTD, before the final norm, and what each routed layer decided."""
        cis_BTr = self.turns(ids_BT, pos_BT)
        return self.through(self.blocks, self.embed(ids_BT), cis_BTr, self.mask(mask, ids_BT))

    def through(
        self, blocks: Iterable[nn.Module], h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | Spans | None
    ) -> tuple[Tensor, list[Routing]]:
        """The residual stream behind some blocks, one after the other, and what their routers decided."""
        routings = []
        kept = self.kernels.recompute and torch.is_grad_enabled()
        for block in blocks:
            run = partial(checkpoint, block, use_reentrant=False) if kept else block
            h_BTD, routing = run(h_BTD, cis_BTr, mask)
            if routing is not None:
                routings.append(routing)
        return h_BTD, routings

    def turns(self, ids_BT: Tensor, pos_BT: Tensor | None = None) -> Tensor:
        if pos_BT is None:
            pos_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        return turns(self.spec, pos_BT)

    def mask(self, mask: Tensor | Spans | None, ids_BT: Tensor) -> Tensor | Spans | None:
        like = next(self.parameters())
        if isinstance(mask, Spans):
            return mask.prepared(self.kernels, like)
        return mask_for(self.kernels, mask, ids_BT.shape[1], like)

    def final(self, h: Tensor) -> Tensor:
        """What the head reads."""
        return self.norm(h)

    def logits(self, h: Tensor) -> Tensor:
        return self.head(self.final(h)).float()

    def predict_further(self, h_BTD: Tensor, ids_BT: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Hidden states of the extra depths: depth k at position i sees token i + k and predicts token i + k
        + 1.

        The last k positions of depth k hold no prediction (their future token is not in the row).
        """
        cis_BTr, mask, out = self.turns(ids_BT), self.mask(mask, ids_BT), []
        for k, depth in enumerate(self.depths, start=1):
            future_BT = torch.roll(ids_BT, -k, dims=1)
            h_BTD = depth(h_BTD, self.embed(future_BT), cis_BTr, mask)
            out.append(h_BTD)
        return out


def computable(spec: Spec) -> None:
    """ConfigError for a shape that can be planned but not yet computed."""
    planned = {
        "learned positions": spec.positions == "learned",
        "windowed attention": getattr(spec.attention, "n_windowed", 0) > 0,
        "a feed-forward without a gate": not getattr(spec.ffn, "gated", True),
    }
    for what in (what for what, asked in planned.items() if asked):
        raise ConfigError(f"the spec has {what}, which is planned but not computed; choose another shape")
