"""What the planner knows of a model, a Spec or a plain dense shape: parameters, FLOPs, kept activations."""

from dataclasses import dataclass
from typing import Literal

from nomoat.config import Strict
from nomoat.model import counts
from nomoat.model.spec import Routed, Spec

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


Shape = Spec | Dense


def params_total(shape: Shape) -> int:
    return shape.params_total() if isinstance(shape, Dense) else counts.params_total(shape)


def params_active(shape: Shape) -> int:
    return shape.params_active() if isinstance(shape, Dense) else counts.params_active(shape)


def flops_per_token(shape: Shape, context: int, counted: Counted = "causal", *, mtp: bool = True) -> float:
    """Forward and backward FLOPs of one training token, 6 a weight; causal: it attends to half of the row on average."""
    mean = lambda w: {"weights": 0.0, "full": float(w), "causal": w * (context - (w - 1) / 2) / context}[counted]
    if isinstance(shape, Spec):
        train = counts.flops_train(shape, mean(context))
        return train if mtp else 3 * counts.flops_forward(shape, mean(context))
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
        a, f, depths = shape.attention, shape.ffn, shape.n_mtp
        hidden = f.d_dense if isinstance(f, Routed) else f.d_hidden
        queries = a.d_q_latent or a.n_heads * a.d_query
        kept = queries + a.d_kv_latent + a.d_rope + a.n_heads * a.d_value + 2 * hidden
        if isinstance(f, Routed):
            n_moe, copies = shape.n_moe_layers + depths, f.n_active
            reach = min(copies, f.n_active_groups) if f.n_groups > 1 else copies
            kept += 2 * (copies + f.n_shared) * f.d_expert + copies * D - 2 * hidden
    table, routed = shape.vocab_size * D * (2 - shape.tied), n_moe and n_moe * shape.ffn.n_routed * 3 * D * shape.ffn.d_expert
    shared = params_total(shape) + (0 if isinstance(shape, Dense) else counts.params_mtp(shape)) - table - routed
    return Parts(shape, shape.n_layers + depths, n_moe, copies, reach, table, routed, shared, 2 * D + kept, flops)
