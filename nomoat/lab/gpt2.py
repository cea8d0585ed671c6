"""The conventional cookbook: the GPT-2 block as nanoGPT and llm.c train it, with the care that our own block gets.

Learned positions, LayerNorm before attention and feed-forward, GELU, tied head, no biases (nanoGPT's default); weights
of std `init_std`, 0.02 as published, those that write to the residual stream divided by sqrt(2 L) (Radford et al. 2019,
section 2.3).  It has the interface of model/transformer.py, so that one loss, one optimiser and one loop train both.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.config import Strict
from nomoat.model.mla import PlainAttention, mask_for


class Gpt2Spec(Strict):
    """The shape of a GPT-2; `attention` as in ModelSpec."""

    vocab_size: int
    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 2
    context: int = 256
    init_std: float = 0.02
    attention: str = "plain"

    def params_total(self) -> int:
        D = self.d_model
        return (self.vocab_size + self.context) * D + self.n_layers * (12 * D * D + 2 * D) + D

    params_active = params_total

    def flops_train(self, attended: float, *, executed: bool = False) -> float:
        """Forward and backward FLOPs of one token that attends to `attended` positions on average, head included."""
        D = self.d_model
        layer = 2 * 12 * D * D + 4 * D * attended
        return 3 * (self.n_layers * layer + 2 * D * self.vocab_size)


class FeedForward(nn.Module):
    """W_down gelu(W_up h)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.w_up = nn.Parameter(torch.empty(4 * d_model, d_model))
        self.w_down = nn.Parameter(torch.empty(d_model, 4 * d_model))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(h, self.w_up)), self.w_down)


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))."""

    def __init__(self, spec: Gpt2Spec):
        super().__init__()
        self.spec, D = spec, spec.d_model
        self.norm_attention, self.norm_ffn = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))
        self.w_qkv, self.w_o = nn.Parameter(torch.empty(3 * D, D)), nn.Parameter(torch.empty(D, D))
        self.ffn = FeedForward(D)

    def forward(self, h_BTD: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = h_BTD.shape
        qkv = F.linear(F.layer_norm(h_BTD, (D,), self.norm_attention), self.w_qkv)
        q, k, v = (x.transpose(1, 2) for x in qkv.view(B, T, 3, self.spec.n_heads, -1).unbind(2))
        if self.spec.attention == "plain":
            out = PlainAttention.apply(q, k, v, mask, q.shape[-1] ** -0.5)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        h_BTD = h_BTD + F.linear(out.transpose(1, 2).flatten(-2), self.w_o)
        return h_BTD + self.ffn(F.layer_norm(h_BTD, (D,), self.norm_ffn))


class Gpt2(nn.Module):
    """logits_BTV in float32 from ids_BT."""

    def __init__(self, spec: Gpt2Spec):
        super().__init__()
        self.spec = spec
        self.embed = nn.Parameter(torch.empty(spec.vocab_size, spec.d_model))
        self.positions = nn.Parameter(torch.empty(spec.context, spec.d_model))
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.n_layers))
        self.norm = nn.Parameter(torch.ones(spec.d_model))
        self.depths = nn.ModuleList()

    @property
    def head(self) -> Tensor:
        return self.embed

    def initialise(self, seed: int) -> "Gpt2":
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.rpartition(".")[2] in ("w_o", "w_down")
                std = self.spec.init_std / math.sqrt(2 * self.spec.n_layers if residual else 1)
                parameter.data.normal_(std=std, generator=generator)
        return self

    def hidden(self, ids_BT: Tensor, mask: Tensor | None = None) -> tuple[Tensor, list]:
        T = ids_BT.shape[1]
        mask = mask_for(self.spec, mask, T, self.embed.dtype, ids_BT.device)
        h_BTD = F.embedding(ids_BT, self.embed) + self.positions[:T]
        for block in self.blocks:
            h_BTD = block(h_BTD, mask)
        return h_BTD, []

    def final(self, h: Tensor) -> Tensor:
        return F.layer_norm(h, (self.spec.d_model,), self.norm)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return F.linear(self.final(self.hidden(ids_BT)[0]), self.head).float()
