"""What the planner knows of a model: its parts, the FLOPs of a token, what is kept for the backward pass."""

from dataclasses import dataclass
from typing import Literal

from nomoat.model.spec import ModelSpec
from nomoat.plan.shape import Dense, Shape

Counted = Literal["weights", "causal", "full"]  # attention left out; half of each row; all of it


def flops_per_token(shape: Shape, context: int, counted: Counted = "causal", *, mtp: bool = True) -> float:
    """Forward and backward FLOPs of one training token, 6 a weight, in rows of `context` tokens."""
    whole = mean_attended(context, context, counted)
    if isinstance(shape, ModelSpec):
        return shape.flops_train(whole) if mtp else 3 * shape.flops_forward(whole)
    windowed = mean_attended(min(shape.window, context), context, counted)
    n_whole = shape.n_layers - shape.n_windowed
    attended = shape.n_windowed * windowed + n_whole * whole
    weights = shape.matrices() + shape.d_model * shape.vocab_size
    d_heads = shape.n_heads * shape.d_head
    return 6 * weights + 12 * d_heads * attended


def mean_attended(window: int, context: int, counted: Counted) -> float:
    """Positions that a token of a row attends to on average, at most the last `window` of them."""
    if counted == "weights":
        return 0.0
    return float(window) if counted == "full" else window * (context - (window - 1) / 2) / context


@dataclass(frozen=True)
class Parts:
    """A model as its layout sees it; extra prediction depths count as layers."""

    d_model: int
    vocab_size: int
    n_heads: int
    n_layers: int
    n_routed: int  # experts of a layer
    n_moe_layers: int
    n_copies: int  # experts that a token is sent to
    n_nodes: int  # that they may lie on
    params_embedding: int  # and head
    params_routed: int
    params_shared: int  # by all tokens: whatever is neither of the two
    kept: int  # numbers of a token and layer for the backward pass; norms and activations are computed again
    flops: float  # of one training token
    head_share: float  # of these FLOPs, in the head and those of the depths


def parts(shape: Shape, context: int) -> Parts:
    """The parts of a model that is trained on rows of `context` tokens."""
    D, V = shape.d_model, shape.vocab_size
    routed = not isinstance(shape, Dense) and shape.n_routed > 0
    n_depths = 0 if isinstance(shape, Dense) else shape.n_mtp
    n_moe_layers = shape.n_moe_layers + n_depths if routed else 0
    n_copies = shape.n_active if routed else 0
    limited = routed and shape.n_groups > 1
    params_embedding = V * D * (1 if shape.tied else 2)
    params_routed = n_moe_layers * shape.n_routed * 3 * D * shape.d_expert if routed else 0
    flops = flops_per_token(shape, context)
    return Parts(
        d_model=D,
        vocab_size=V,
        n_heads=shape.n_heads,
        n_layers=shape.n_layers + n_depths,
        n_routed=shape.n_routed if routed else 0,
        n_moe_layers=n_moe_layers,
        n_copies=n_copies,
        n_nodes=min(n_copies, shape.n_active_groups) if limited else n_copies,
        params_embedding=params_embedding,
        params_routed=params_routed,
        params_shared=shape.params_total() + shape.params_mtp() - params_embedding - params_routed,
        kept=2 * D + kept_attention(shape) + kept_ffn(shape),  # and what enters both
        flops=flops,
        head_share=6 * D * V * (1 + n_depths) / flops,
    )


def kept_attention(shape: Shape) -> int:
    """Queries, keys, values and what heads give; of MLA the latents, from which heads are computed again."""
    if isinstance(shape, Dense):
        return 2 * shape.d_head * (shape.n_heads + shape.n_kv_heads)
    queries = shape.d_q_latent or shape.n_heads * shape.d_query
    return queries + shape.d_kv_latent + shape.d_rope + shape.n_heads * shape.d_value


def kept_ffn(shape: Shape) -> int:
    """The products that enter the activation function; of experts also what was sent to each."""
    if isinstance(shape, Dense):
        return shape.d_ffn * (2 if shape.gated else 1)
    if not shape.n_routed:
        return 2 * shape.d_ffn
    return 2 * (shape.n_active + shape.n_shared) * shape.d_expert + shape.n_active * shape.d_model
