"""The conventional cookbook: the GPT-2 block as nanoGPT and llm.c train it, with the care that our own block
gets.

Learned positions, LayerNorm before attention and feed-forward, GELU, tied head, no biases (nanoGPT's
default); weights of std `init_std`, 0.02 as published, those that write to the residual stream divided by
sqrt(2 L) (Radford et al. 2019, section 2.3).  It has the interface of model/transformer.py, so that one loss,
one optimiser and one loop train both.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.config import parse
from nomoat.model.kernels import attend, mask_for
from nomoat.model.linear import Embedding, Linear
from nomoat.model.noise import OUTPUTS
from nomoat.model.spec import Kernels, Spec


def spec_of(d_model: int = 128, n_heads: int = 2, **facts: Any) -> Spec:
    """The shape of a GPT-2, of four layers unless `facts` of a Spec say otherwise."""
    heads = {"n_heads": n_heads, "n_kv_heads": n_heads, "d_head": d_model // n_heads}
    table = {
        "n_layers": 4,
        "d_model": d_model,
        "attention": {"kind": "grouped", **heads},
        "ffn": {"kind": "dense", "d_hidden": 4 * d_model, "gated": False},
        "positions": "learned",
        "tied": True,
        **facts,
    }
    return parse(Spec, table, "gpt2")


class LayerNorm(nn.Module):
    """Over the last axis, with a gain and no bias."""

    def __init__(self, d: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight)


class FeedForward(nn.Module):
    """W_down gelu(W_up h)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.w_up = Linear(d_model, d_hidden)
        self.w_down = Linear(d_hidden, d_model)

    def forward(self, h: Tensor) -> Tensor:
        return self.w_down(F.gelu(self.w_up(h)))


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))."""

    def __init__(self, spec: Spec, kernels: Kernels):
        super().__init__()
        D = spec.d_model
        self.n_heads, self.scale, self.kernels = spec.attention.n_heads, spec.softmax_scale, kernels
        self.norm_attention = LayerNorm(D)
        self.norm_ffn = LayerNorm(D)
        self.w_qkv = Linear(D, 3 * D)
        self.w_o = Linear(D, D)
        self.ffn = FeedForward(D, spec.ffn.d_hidden)

    def forward(self, h_BTD: Tensor, mask: Tensor | None) -> Tensor:
        qkv = self.w_qkv(self.norm_attention(h_BTD))
        heads = qkv.unflatten(-1, (3, self.n_heads, -1)).transpose(1, 3)
        q, k, v = heads.unbind(2)
        out = attend(q, k, v, mask, self.scale, self.kernels)
        h_BTD = h_BTD + self.w_o(out.transpose(1, 2).flatten(-2))
        return h_BTD + self.ffn(self.norm_ffn(h_BTD))


class Gpt2(nn.Module):
    """logits_BTV in float32 from ids_BT."""

    def __init__(self, spec: Spec, kernels: Kernels | None = None):
        super().__init__()
        D = spec.d_model
        self.spec = spec
        self.kernels = kernels or Kernels(attention="plain")
        self.embed = Embedding(spec.vocab_size, D)
        self.positions = Embedding(spec.context, D)
        self.norm = LayerNorm(D)
        blocks = (Block(spec, self.kernels) for _ in range(spec.n_layers))
        self.blocks = nn.ModuleList(blocks)
        self.depths = nn.ModuleList()

    @property
    def head(self) -> Embedding:
        return self.embed

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    def initialise(self, seed: int) -> "Gpt2":
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.split(".")[-2] in OUTPUTS
                std = self.spec.init_std / math.sqrt(2 * self.spec.n_layers if residual else 1)
                parameter.data.normal_(std=std, generator=generator)
        return self

    def hidden(self, ids_BT: Tensor, mask: Tensor | None = None) -> tuple[Tensor, list]:
        T = ids_BT.shape[1]
        mask = mask_for(self.kernels, mask, T, self.embed.weight)
        h_BTD = self.embed(ids_BT) + self.positions.weight[:T]
        for block in self.blocks:
            h_BTD = block(h_BTD, mask)
        return h_BTD, []

    def final(self, h: Tensor) -> Tensor:
        return self.norm(h)

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(self.final(h), self.head.weight).float()

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.logits(self.hidden(ids_BT)[0])
