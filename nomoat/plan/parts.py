"""What the planner knows of a model: its parts, the FLOPs of a token, what is kept for the backward pass."""

from dataclasses import dataclass
from typing import Literal

from nomoat.model import counts
from nomoat.model.spec import Dense, Grouped, Latent, Routed, Spec

Counted = Literal["weights", "causal", "full"]  # attention left out; half of each row; all of it


def flops_per_token(spec: Spec, context: int, counted: Counted = "causal", *, mtp: bool = True) -> float:
    """Forward and backward FLOPs of one training token, 6 a weight, in rows of `context` tokens."""
    attended = mean_attended(context, context, counted)
    attention = spec.attention
    if isinstance(attention, Grouped) and attention.n_windowed:
        window = min(attention.window, context)
        windowed = mean_attended(window, context, counted)
        share = attention.n_windowed / spec.n_layers
        attended += share * (windowed - attended)  # the mean over layers
    return counts.flops_train(spec, attended) if mtp else 3 * counts.flops_forward(spec, attended)


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


def parts(spec: Spec, context: int) -> Parts:
    """The parts of a model that is trained on rows of `context` tokens."""
    D, V, ffn = spec.d_model, spec.vocab_size, spec.ffn
    n_routed = n_moe_layers = n_copies = n_nodes = params_routed = 0
    if isinstance(ffn, Routed):
        n_routed, n_copies = ffn.n_routed, ffn.n_active
        n_moe_layers = spec.n_moe_layers + spec.n_mtp
        n_nodes = min(n_copies, ffn.n_active_groups) if ffn.n_groups > 1 else n_copies
        params_routed = n_moe_layers * n_routed * 3 * D * ffn.d_expert
    params_embedding = V * D * (1 if spec.tied else 2)
    params = counts.params_total(spec) + counts.params_mtp(spec)
    flops = flops_per_token(spec, context)
    return Parts(
        d_model=D,
        vocab_size=V,
        n_heads=spec.attention.n_heads,
        n_layers=spec.n_layers + spec.n_mtp,
        n_routed=n_routed,
        n_moe_layers=n_moe_layers,
        n_copies=n_copies,
        n_nodes=n_nodes,
        params_embedding=params_embedding,
        params_routed=params_routed,
        params_shared=params - params_embedding - params_routed,
        kept=2 * D + kept_attention(spec) + kept_ffn(spec),  # and what enters both
        flops=flops,
        head_share=6 * D * V * (1 + spec.n_mtp) / flops,
    )


def kept_attention(spec: Spec) -> int:
    """Queries, keys, values and what heads give; of MLA the latents, from which heads are computed again."""
    a = spec.attention
    queries = a.n_heads * a.d_query
    if isinstance(a, Latent) and a.d_q_latent:
        queries = a.d_q_latent
    return queries + sum(a.d_cached) + a.n_heads * a.d_value


def kept_ffn(spec: Spec) -> int:
    """The products that enter the activation function; of experts also what was sent to each."""
    f = spec.ffn
    if isinstance(f, Dense):
        return f.d_hidden * (2 if f.gated else 1)
    return 2 * (f.n_active + f.n_shared) * f.d_expert + f.n_active * spec.d_model
