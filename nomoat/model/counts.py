"""Parameters and FLOPs of a Spec.  A multiply-add is two FLOPs; norms, softmax and lookups are left out.  No
torch here.

`attended`: positions that a token attends to, on average.  `kernels`: count what these multiply (every expert
where they are "wide"); without them what the model needs, active experts alone.
"""

from nomoat.model.spec import Dense, Kernels, Latent, Spec


def attention_matrices(spec: Spec) -> int:
    """Weights of one layer's attention, norms on latents left out."""
    a, D = spec.attention, spec.d_model
    queries = a.n_heads * a.d_query
    out = a.n_heads * a.d_value * D
    if not isinstance(a, Latent):
        return D * (queries + sum(a.d_cached)) + out
    query = queries * D
    if a.d_q_latent:
        query = a.d_q_latent * (D + queries)
    down = D * (a.d_kv_latent + a.d_rope)
    up = a.d_kv_latent * a.n_heads * (a.d_nope + a.d_value)
    return query + down + up + out


def attention_vectors(spec: Spec) -> int:
    """Biases of one layer's attention, and gains of the norms inside it."""
    a = spec.attention
    if isinstance(a, Latent):
        return a.d_kv_latent + (a.d_q_latent or 0)
    normed = {"head": (a.d_head, a.d_head), "whole": a.widths[:2], None: ()}
    gains = sum(normed[a.qk_norm])
    biases = sum(a.widths) if a.qkv_bias else 0
    if a.out_bias:
        biases += spec.d_model
    return gains + biases


def ffn_matrices(spec: Spec, layer: int, *, active: bool) -> int:
    """Weights of one layer's feed-forward, the router included and its biases left out."""
    f, D = spec.ffn, spec.d_model
    if isinstance(f, Dense):
        return (3 if f.gated else 2) * D * f.d_hidden
    if not spec.is_moe(layer):
        return 3 * D * spec.d_dense
    experts = f.n_shared + (f.n_active if active else f.n_routed)
    return 3 * D * f.d_expert * experts + f.n_routed * D


def layer_params(spec: Spec, layer: int) -> int:
    biased = spec.is_moe(layer) and spec.ffn.scoring == "sigmoid"
    matrices = attention_matrices(spec) + ffn_matrices(spec, layer, active=False)
    return matrices + attention_vectors(spec) + 2 * spec.d_model + (spec.ffn.n_routed if biased else 0)


def params_total(spec: Spec) -> int:
    """All parameters, routing biases included, without the extra prediction depths (as DeepSeek counts 671B).
    """
    tables = spec.vocab_size * (1 if spec.tied else 2)
    positions = spec.context if spec.positions == "learned" else 0
    body = sum(layer_params(spec, layer) for layer in range(spec.n_layers))
    return (tables + positions) * spec.d_model + body + spec.d_model


def params_active(spec: Spec) -> int:
    """Parameters that one token meets, embedding and head included (V3: 37.55B)."""
    whole = sum(ffn_matrices(spec, layer, active=False) for layer in range(spec.n_layers))
    met = sum(ffn_matrices(spec, layer, active=True) for layer in range(spec.n_layers))
    return params_total(spec) - whole + met


def size(spec: Spec) -> str:
    """In words."""
    return f"{params_total(spec):,} parameters ({params_active(spec):,} active)"


def params_mtp(spec: Spec) -> int:
    """Parameters of the extra prediction depths; embedding and head are shared with the main model."""
    D = spec.d_model
    return sum(2 * D * D + 3 * D + layer_params(spec, spec.n_layers + j) for j in range(spec.n_mtp))


def layer_flops(spec: Spec, layer: int, attended: float, kernels: Kernels | None = None) -> float:
    """Forward FLOPs of one token in one layer."""
    a = spec.attention
    all_experts = kernels is not None and kernels.experts == "wide"
    matrices = attention_matrices(spec) + ffn_matrices(spec, layer, active=not all_experts)
    return 2 * (matrices + a.n_heads * attended * (a.d_query + a.d_value))


def flops_forward(spec: Spec, attended: float, kernels: Kernels | None = None, *, head: bool = True) -> float:
    """Forward FLOPs of one token, head included."""
    layers = sum(layer_flops(spec, layer, attended, kernels) for layer in range(spec.n_layers))
    return layers + (2 * spec.d_model * spec.vocab_size if head else 0)


def flops_mtp(spec: Spec, attended: float, kernels: Kernels | None = None) -> float:
    """Forward FLOPs that the extra prediction depths add to one token."""
    D = spec.d_model
    depth = 2 * (2 * D * D + D * spec.vocab_size)
    return sum(depth + layer_flops(spec, spec.n_layers + j, attended, kernels) for j in range(spec.n_mtp))


def flops_train(spec: Spec, attended: float, kernels: Kernels | None = None) -> float:
    """Forward and backward FLOPs of one training token: three times the forward pass, depths included."""
    return 3 * (flops_forward(spec, attended, kernels) + flops_mtp(spec, attended, kernels))


def activation_bytes(spec: Spec, itemsize: int, *, recompute: bool = False) -> float:
    """What one token leaves for the backward pass, about: of each block what its products, norms and gates
    read, or with `recompute` what entered it, and all of one block.
    """
    a, D = spec.attention, spec.d_model
    d_heads = 2 * a.n_heads * (a.d_query + a.d_value) + 2 * sum(a.d_cached)
    if not isinstance(a, Latent) and a.qk_norm:
        d_heads += sum(a.widths[:2])
    blocks = []
    for layer in range(spec.n_layers):
        d_ffn = ffn_matrices(spec, layer, active=True) / D
        d_copies = 3 * spec.ffn.n_active * D if spec.is_moe(layer) else 0
        blocks.append(itemsize * (5 * D + d_heads + d_ffn + d_copies))
    if recompute:
        return itemsize * D * spec.n_layers + max(blocks)
    return sum(blocks)


def cache_bytes(spec: Spec) -> int:
    """What a position takes in a cache of float32."""
    return 4 * spec.n_layers * sum(spec.attention.d_cached)
