"""What the planner knows of a model, a ModelSpec or a plain dense shape: parameters, FLOPs, kept activations."""

from dataclasses import dataclass
from typing import Literal

from nomoat.config import Strict
from nomoat.model.spec import ModelSpec

Counted = Literal["weights", "causal", "full"]  # attention left out; half of each row; every position with every other


class Dense(Strict):
    """A published transformer with grouped-query attention; `n_windowed` layers see the last `window` tokens.  No gains."""

    vocab_size: int
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_ffn: int
    d_head: int = 128
    gated: bool = True
    tied: bool = False
    n_positions: int = 0
    window: int = 0
    n_windowed: int = 0

    def matrices(self) -> int:
        attention = 2 * self.d_model * self.d_head * (self.n_heads + self.n_kv_heads)
        return self.n_layers * (attention + (3 if self.gated else 2) * self.d_model * self.d_ffn)

    def params_total(self) -> int:
        return self.matrices() + self.d_model * (self.vocab_size * (1 if self.tied else 2) + self.n_positions)

    params_active = params_total
    params_mtp = lambda self: 0


Shape = ModelSpec | Dense


def flops_per_token(shape: Shape, context: int, counted: Counted = "causal", *, mtp: bool = True) -> float:
    """Forward and backward FLOPs of one training token, 6 a weight; causal: it attends to half of the row on average."""
    mean = lambda w: {"weights": 0.0, "full": float(w), "causal": w * (context - (w - 1) / 2) / context}[counted]
    if isinstance(shape, ModelSpec):
        return shape.flops_train(mean(context)) if mtp else 3 * shape.flops_forward(mean(context))
    attended = shape.n_windowed * mean(min(shape.window, context)) + (shape.n_layers - shape.n_windowed) * mean(context)
    weights = shape.matrices() + shape.d_model * shape.vocab_size
    return 6 * weights + 12 * shape.n_heads * shape.d_head * attended


@dataclass(frozen=True)
class Parts:
    """A shape as its layout sees it; prediction depths count as layers."""

    shape: Shape
    n_layers: int
    n_moe: int
    copies: int  # experts that a token is sent to
    reach: int  # nodes that they may lie on
    params_embedding: int  # and head
    params_routed: int
    params_shared: int
    kept: int  # numbers a token and layer for the backward pass; norms and activation functions are computed again
    flops: float


def parts(shape: Shape, flops: float) -> Parts:
    """The parts of a shape of which one token takes `flops`; MLA's heads are computed again from their latents."""
    D, depths, n_moe, copies, reach = shape.d_model, 0, 0, 0, 0
    if isinstance(shape, Dense):
        kept = 2 * shape.d_head * (shape.n_heads + shape.n_kv_heads) + shape.d_ffn * (2 if shape.gated else 1)
    else:
        depths, queries = shape.n_mtp, shape.d_q_latent or shape.n_heads * shape.d_query
        kept = queries + shape.d_kv_latent + shape.d_rope + shape.n_heads * shape.d_value + 2 * shape.d_ffn
        if shape.n_routed:
            n_moe, copies = shape.n_moe_layers + depths, shape.n_active
            reach = min(copies, shape.n_active_groups) if shape.n_groups > 1 else copies
            kept += 2 * (copies + shape.n_shared) * shape.d_expert + copies * D - 2 * shape.d_ffn
    table, routed = shape.vocab_size * D * (2 - shape.tied), n_moe and n_moe * shape.n_routed * 3 * D * shape.d_expert
    shared = shape.params_total() + shape.params_mtp() - table - routed
    return Parts(shape, shape.n_layers + depths, n_moe, copies, reach, table, routed, shared, 2 * D + kept, flops)
