"""The records of step.c, and a model's weights in its panels."""

import ctypes
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.engine.native import build
from nomoat.model.gqa import GroupedAttention
from nomoat.model.mla import LATENT_EPS, LatentAttention
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.spec import Latent, Routed, Spec
from nomoat.model.transformer import Block, Transformer

Precision = Literal["as is", "bf16", "int8"]
F32, BF16, INT8, TILES = range(4)
KINDS = {torch.float32: F32, torch.bfloat16: BF16, torch.int8: INT8}
DEPTH = 32  # of d_in that a tile takes
Kept = TypeVar("Kept")
P, I, R = ctypes.c_void_p, ctypes.c_int, ctypes.c_float


def _record(name: str, **fields: object) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


Matrix = _record("Matrix", panels=P, scale=P, bias=P, d_in=I, d_out=I, kind=I)
Layer = _record(
    "Layer",
    norm_attention=P,
    norm_ffn=P,
    norm_q=P,
    norm_kv=P,
    w_in=Matrix,
    up_q=Matrix,
    out=Matrix,
    up_k=P,
    up_v=P,
    gate_up=Matrix,
    down=Matrix,
    expert_gate_up=P,
    expert_down=P,
    router=Matrix,
    router_bias=P,
    rotated=I,
)
Depth = _record("Depth", norm_embed=P, norm_hidden=P, norm=P, join=Matrix)
Cache = _record("Cache", keys=P, values=P, n_layers=I, n_heads=I, key_width=I, value_width=I)
NUMBERS = (
    "d_model",
    "n_layers",
    "vocab_size",
    "embed_kind",
    "latent",
    "n_heads",
    "n_kv_heads",
    "d_nope",
    "d_rope",
    "d_value",
    "d_kv_latent",
    "d_q_latent",
    "qk_norm",
    "norm_after",
    "n_routed",
    "n_active",
    "n_groups",
    "n_active_groups",
    "top2",
    "softmax",
    "normalise",
    "d_shared",
    "d_expert",
    "d_dense",
)
FACTORS = ("scale", "eps", "latent_eps", "routed_scale")
Model = _record(
    "Model",
    **dict.fromkeys(NUMBERS, I),
    **dict.fromkeys(FACTORS, R),
    embed=P,
    norm=P,
    cos_sin=P,
    layers=P,
    depths=P,
    head=Matrix,
    cache=Cache,
)
Batch = _record(
    "Batch",
    M=I,
    n_out=I,
    max_blocks=I,
    depth=I,
    by_columns=I,
    joined=I,
    n_threads=I,
    ids=P,
    pos=P,
    sequence=P,
    tables=P,
    out=P,
    temperature=P,
    uniform=P,
    logits=P,
    hidden=P,
    chosen=P,
    logp=P,
    count=I,
    phase=I,
)


class Weights:
    """A model as step.c reads it.  Matrices are copied into panels of `width` columns: whole, in bfloat16
    (for tiles, where the processor has them) or as int8 with a scale for each column; everything else is
    read where it is.
    """

    def __init__(self, model: Transformer, width: int, precision: Precision):
        self.model, self.width, self.precision = model, width, precision
        self.alive: list[object] = []  # what the pointers lead to
        spec = model.spec
        blocks = [*model.blocks, *(depth.block for depth in model.depths)]
        rotated = [layer not in spec.unrotated for layer in range(len(blocks))]
        self.layers = self.keep((Layer * len(blocks))(*map(self.layer, blocks, rotated)))
        depths = [
            Depth(
                *map(self.gain, (d.norm_embed, d.norm_hidden, d.norm)),
                self.matrix(d.w_join.weight),
            )
            for d in model.depths
        ]
        self.depths = self.keep((Depth * len(depths))(*depths))
        self.head = self.matrix(model.head.weight)
        self.norm = self.gain(model.norm)

    def record(self, cos_sin: Tensor, cache: ctypes.Structure) -> ctypes.Structure:
        """The whole model, its cache and the turns of its positions (position, R/2, 2)."""
        embed = self.model.embed.weight.detach()
        if embed.dtype not in (torch.float32, torch.bfloat16):
            embed = embed.float()
        self.keep(embed)  # for as long as its address is known, whatever becomes of the model
        return Model(
            **numbers(self.model.spec),
            embed_kind=KINDS[embed.dtype],
            embed=embed.data_ptr(),
            norm=self.norm,
            cos_sin=cos_sin.data_ptr(),
            layers=ctypes.addressof(self.layers),
            depths=ctypes.addressof(self.depths),
            head=self.head,
            cache=cache,
        )

    @property
    def tiles(self) -> bool:
        return self.precision == "bf16" and build.tiles()

    def keep(self, thing: Kept) -> Kept:
        self.alive.append(thing)
        return thing

    def numbers(self, tensor: Tensor) -> int:
        """Where its values lie, as float32."""
        return self.keep(tensor.detach().float().contiguous()).data_ptr()

    def gain(self, norm: nn.Module | None) -> int | None:
        return None if norm is None else self.numbers(norm.weight)

    def matrix(
        self, weight: Tensor, bias: Tensor | None = None, *, exact: bool = False
    ) -> ctypes.Structure:
        """A weight (d_out, d_in); `exact`: float32 whatever the precision."""
        weight, scale = weight.detach(), None
        if exact or weight.dtype not in (torch.float32, torch.bfloat16):
            weight = weight.float()
        if self.precision == "bf16" and not exact:
            weight = weight.bfloat16()
        if self.precision == "int8" and not exact:
            largest = weight.float().abs().amax(1).clamp(min=1e-30)
            scale = largest / 127
            weight = (weight.float() / scale[:, None]).round().to(torch.int8)
        d_out, d_in = weight.shape
        kind = TILES if self.tiles and not exact else KINDS[weight.dtype]
        panels = self.keep((tiled if kind == TILES else panelled)(weight, self.width))
        pointers = [
            None if tensor is None else self.numbers(tensor) for tensor in (scale, bias)
        ]
        return Matrix(panels.data_ptr(), *pointers, d_in, d_out, kind)

    def many(self, weights: Sequence[Tensor] | Tensor) -> int:
        """Where the records of several matrices begin."""
        records = [self.matrix(weight) for weight in weights]
        return ctypes.addressof(self.keep((Matrix * len(records))(*records)))

    def layer(self, block: Block, rotated: bool) -> ctypes.Structure:
        a = block.attention
        of_kind = self.latent if isinstance(a, LatentAttention) else self.grouped
        fed = (
            self.experts(block.ffn) if isinstance(block.ffn, Experts) else self.dense(block.ffn)
        )
        return Layer(
            norm_attention=self.gain(block.norm_attention),
            norm_ffn=self.gain(block.norm_ffn),
            w_in=self.matrix(a.w_in.weight, a.w_in.bias),
            out=self.matrix(a.w_o.weight, a.w_o.bias),
            rotated=int(rotated),
            **of_kind(a),
            **fed,
        )

    def latent(self, a: LatentAttention) -> dict[str, object]:
        s = a.shape
        w_uk_HNC, w_uv_HWC = a.w_ukv.weight.view(s.n_heads, -1, s.d_kv_latent).split(
            (s.d_nope, s.d_value), 1
        )
        fields = {
            "norm_kv": self.gain(a.norm_kv),
            "up_k": self.many(w_uk_HNC.mT),
            "up_v": self.many(w_uv_HWC),
        }
        if s.d_q_latent:
            fields |= {"norm_q": self.gain(a.norm_q), "up_q": self.matrix(a.w_uq.weight)}
        return fields

    def grouped(self, a: GroupedAttention) -> dict[str, object]:
        return {"norm_q": self.gain(a.norm_q), "norm_kv": self.gain(a.norm_k)}

    def dense(self, ffn: SwiGLU) -> dict[str, object]:
        return {
            "gate_up": self.matrix(ffn.w_gate_up.weight),
            "down": self.matrix(ffn.w_down.weight),
        }

    def experts(self, ffn: Experts) -> dict[str, object]:
        return {
            "expert_gate_up": self.many(ffn.w_gate_up.matrices().mT),
            "expert_down": self.many(ffn.w_down.matrices().mT),
            "router": self.matrix(ffn.w_router.weight, exact=True),
            "router_bias": self.numbers(ffn.bias_E),
            **(self.dense(ffn.shared) if ffn.shared is not None else {}),
        }


def panelled(weight: Tensor, width: int) -> Tensor:
    """A weight (d_out, d_in) as product.h reads it: (panels, d_in, width)."""
    d_out, d_in = weight.shape
    return F.pad(weight, (0, 0, 0, -d_out % width)).view(-1, width, d_in).mT.contiguous()


def tiled(weight: Tensor, width: int) -> Tensor:
    """A weight (d_out, d_in) as tiles.h reads it: (panels, steps of DEPTH, 2, DEPTH / 2, width / 2, 2)."""
    d_out, d_in = weight.shape
    padded = F.pad(weight, (0, -d_in % DEPTH, 0, -d_out % width))
    pairs = padded.contiguous().view(torch.int32)  # pairs stay together: moved as one number
    by_step = pairs.view(-1, 2, width // 2, padded.shape[1] // DEPTH, DEPTH // 2)
    return by_step.permute(0, 3, 1, 4, 2).contiguous()


def numbers(spec: Spec) -> dict[str, int | float]:
    """The facts of a spec by the names that step.c gives them."""
    a, f = spec.attention, spec.ffn
    latent, routed = isinstance(a, Latent), isinstance(f, Routed)
    found = {
        "d_model": spec.d_model,
        "n_layers": spec.n_layers,
        "vocab_size": spec.vocab_size,
        "latent": latent,
        "n_heads": a.n_heads,
        "d_rope": a.d_rope,
        "d_value": a.d_value,
        "norm_after": spec.norm_place == "after",
        "d_dense": spec.d_dense,
        "scale": spec.softmax_scale,
        "eps": spec.norm_eps,
        "latent_eps": LATENT_EPS,
    }
    if latent:
        found |= {
            "d_nope": a.d_nope,
            "d_kv_latent": a.d_kv_latent,
            "d_q_latent": a.d_q_latent or 0,
        }
    else:
        found |= {
            "n_kv_heads": a.n_kv_heads,
            "qk_norm": (None, "head", "whole").index(a.qk_norm),
        }
    if routed:
        names = (
            "n_routed",
            "n_active",
            "n_groups",
            "n_active_groups",
            "d_expert",
            "routed_scale",
        )
        found |= {name: getattr(f, name) for name in names}
        found |= {
            "top2": f.group_score == "top2",
            "softmax": f.scoring == "softmax",
            "normalise": f.normalise_gates,
            "d_shared": f.n_shared * f.d_expert,
        }
    return found
