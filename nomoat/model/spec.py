"""What a model is, in numbers: its shape, its parameters, its FLOPs.  No torch here.

The legend of every tensor in this project (a name's suffix spells its axes):

    B sequences                 T positions computed now    S positions attended to    D model width
    V vocabulary                H heads                     N head width, no rotation  R rotary head width
    W value head width          C key-value latent          P query latent             M tokens, flattened
    E routed experts            K experts per token         F expert hidden width      Z routed copies
    G rollouts per prompt       J extra prediction depths   L layers
    U key-value heads           c cached width              r rotary pairs, R / 2

Symbols of the V3 report (arXiv 2412.19437) that differ from ours: d_c = C, d_c' = P, d_h = N, d_h^R = R, N_r = E,
N_s = n_shared, K_r = K, D (depths) = J.
"""

import math
from typing import Literal

from pydantic import model_validator

from nomoat.config import Strict, parse
from nomoat.files import shipped


class Yarn(Strict):
    """Context extension by YaRN (arXiv 2309.00071) with DeepSeek's attention scale."""

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0

    @model_validator(mode="after")
    def _possible(self):
        if self.factor < 1 or self.original_context < 1:
            raise ValueError("expected factor >= 1 and original_context >= 1")
        return self

    def magnitude(self, mscale: float) -> float:
        """0.1 m ln(s) + 1, the entropy correction of YaRN, 1 where nothing is stretched."""
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0  # YaRN (22)

    @property
    def turn_scale(self) -> float:
        """What multiplies cos and sin."""
        return self.magnitude(self.mscale) / self.magnitude(self.mscale_all_dim)


class ModelSpec(Strict):
    """The shape of a DeepSeek-V3 model.  `n_routed = 0` makes every layer dense: the dense twin.

    `mixer = "gqa"` is grouped-query attention: `n_kv_heads`, no latent, and `d_rope` the width of the whole head.
    """

    vocab_size: int
    n_layers: int
    d_model: int
    n_heads: int
    d_nope: int
    d_rope: int
    d_value: int
    d_kv_latent: int
    d_q_latent: int | None = None
    d_ffn: int
    n_dense_layers: int = 1
    n_routed: int = 0
    n_shared: int = 1
    n_active: int = 2
    d_expert: int = 0
    n_groups: int = 1
    n_active_groups: int = 1
    group_score: Literal["top2", "max"] = "top2"
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    normalise_gates: bool = True
    routed_scale: float = 1.0
    n_mtp: int = 0
    context: int = 256
    rope_theta: float = 10000.0
    yarn: Yarn | None = None
    norm_eps: float = 1e-6
    tied: bool = False
    init_std: float = 0.02
    experts: Literal["sorted", "wide"] = "sorted"  # how the experts are multiplied, see moe.py
    attention: Literal["fused", "plain"] = "fused"  # how training attends, see mla.py
    mixer: Literal["mla", "gqa"] = "mla"
    n_kv_heads: int | None = None

    @model_validator(mode="after")
    def _possible(self):
        latent = ("d_nope", "d_kv_latent") if self.mixer == "mla" else ()
        for name in ("vocab_size", "n_layers", "d_model", "n_heads", *latent, "d_rope", "d_value", "d_ffn", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, found {getattr(self, name)}")
        if self.mixer == "gqa" and (self.d_nope or self.d_kv_latent or self.d_q_latent):
            raise ValueError('expected d_nope = 0, d_kv_latent = 0 and no d_q_latent beside mixer = "gqa"')
        U, H = self.n_kv_heads, self.n_heads
        if (U is None) == (self.mixer == "gqa") or (U is not None and (U < 1 or H % U)):
            raise ValueError(f'expected n_kv_heads, a divisor of n_heads = {H}, with mixer = "gqa" and only there, found {U}')
        if self.d_rope % 2:
            raise ValueError(f"expected an even d_rope (rotation turns pairs), found {self.d_rope}")
        if self.n_routed:
            if not 0 <= self.n_dense_layers < self.n_layers:
                raise ValueError(f"expected 0 <= n_dense_layers < n_layers = {self.n_layers}, found {self.n_dense_layers}")
            if self.n_routed % self.n_groups or self.n_active_groups > self.n_groups:
                raise ValueError(
                    f"expected n_groups to divide n_routed = {self.n_routed} and n_active_groups <= n_groups, "
                    f"found n_groups = {self.n_groups}, n_active_groups = {self.n_active_groups}"
                )
            reachable = self.n_routed // self.n_groups * self.n_active_groups
            if not 1 <= self.n_active <= reachable:
                raise ValueError(f"expected 1 <= n_active <= {reachable} (experts in the chosen groups), found {self.n_active}")
            if self.group_score == "top2" and self.n_groups > 1 and self.n_routed // self.n_groups < 2:
                raise ValueError("expected two experts or more in a group, found one: the group score sums the best two")
            if self.d_expert < 1 or self.n_shared < 0:
                raise ValueError(f"expected d_expert >= 1 and n_shared >= 0, found {self.d_expert} and {self.n_shared}")
        return self

    @property
    def n_moe_layers(self) -> int:
        return self.n_layers - self.n_dense_layers if self.n_routed else 0

    @property
    def d_query(self) -> int:
        """Width of one query or key head: N + R."""
        return self.d_nope + self.d_rope

    @property
    def d_cached(self) -> tuple[int, int]:
        """Widths of what a layer's cache holds for a position: C and R, or all values and all keys of the key-value heads."""
        U = self.n_kv_heads
        return (U * self.d_value, U * self.d_rope) if self.mixer == "gqa" else (self.d_kv_latent, self.d_rope)

    @property
    def softmax_scale(self) -> float:
        """1/sqrt(d_h + d_h^R) of eq. (10), times YaRN's squared attention scale."""
        magnitude = self.yarn.magnitude(self.yarn.mscale_all_dim) if self.yarn else 1.0
        return self.d_query**-0.5 * magnitude**2

    def is_moe(self, layer: int) -> bool:
        """The report's leading dense layers, then experts; the extra prediction depths are layers n_layers, …"""
        return bool(self.n_routed) and layer >= self.n_dense_layers

    def dense_twin(self) -> "ModelSpec":
        """The model without routing at equal active parameters: each layer as wide as its active experts."""
        if not self.n_routed:
            return self
        n_moe, n_dense = self.n_moe_layers, self.n_dense_layers
        active = (self.n_active + self.n_shared) * self.d_expert
        d_ffn = round((n_moe * active + n_dense * self.d_ffn) / self.n_layers)
        return self.model_copy(update={"n_routed": 0, "n_dense_layers": self.n_layers, "d_ffn": d_ffn, "d_expert": 0})

    # --- parameters -------------------------------------------------------------------------------------------

    def _attention_params(self) -> int:
        D, H, C = self.d_model, self.n_heads, self.d_kv_latent
        if self.mixer == "gqa":
            return D * (H * self.d_rope + sum(self.d_cached) + H * self.d_value)
        query_in = self.d_q_latent or D
        query = H * self.d_query * query_in + (self.d_q_latent or 0) * (D + 1)
        return query + D * (C + self.d_rope) + C + C * H * (self.d_nope + self.d_value) + H * self.d_value * D

    def _ffn_params(self, layer: int, active: bool) -> int:
        """Without the routing biases."""
        D = self.d_model
        if not self.is_moe(layer):
            return 3 * D * self.d_ffn
        experts = self.n_shared + (self.n_active if active else self.n_routed)
        return 3 * D * self.d_expert * experts + self.n_routed * D

    def _layer_params(self, layer: int) -> int:
        bias = self.n_routed if self.is_moe(layer) and self.scoring == "sigmoid" else 0
        return self._attention_params() + self._ffn_params(layer, active=False) + bias + 2 * self.d_model

    def params_total(self) -> int:
        """All parameters, routing biases included, without the extra prediction depths (as DeepSeek counts 671B)."""
        head = 0 if self.tied else self.vocab_size * self.d_model
        body = sum(self._layer_params(layer) for layer in range(self.n_layers))
        return self.vocab_size * self.d_model + head + body + self.d_model

    def params_active(self) -> int:
        """Parameters that one token meets, embedding and head included (V3: 37.55B)."""
        idle = lambda layer: self._ffn_params(layer, active=False) - self._ffn_params(layer, active=True)
        return self.params_total() - sum(map(idle, range(self.n_layers)))

    def params_mtp(self) -> int:
        """Parameters of the extra prediction depths; embedding and head are shared with the main model."""
        D = self.d_model
        return sum(2 * D * D + 3 * D + self._layer_params(self.n_layers + j) for j in range(self.n_mtp))

    # --- FLOPs: a multiply-add is two ---------------------------------------------------------------------------

    def _layer_flops(self, layer: int, attended: float, executed: bool) -> float:
        """Forward FLOPs of one token in one layer that attends to `attended` positions."""
        matrices = self._attention_params() - self.d_kv_latent - (self.d_q_latent or 0)
        matrices += self._ffn_params(layer, active=not (executed and self.experts == "wide"))
        return 2 * (matrices + self.n_heads * attended * (self.d_query + self.d_value))

    def flops_forward(self, attended: float, *, executed: bool = False, head: bool = True) -> float:
        """Forward FLOPs of one token that attends to `attended` positions on average, head included.

        `executed` counts what this implementation multiplies (every expert where `experts = "wide"`), else what
        the model needs (active experts only).  Norms, softmax and lookups are left out.
        """
        layers = sum(self._layer_flops(layer, attended, executed) for layer in range(self.n_layers))
        return layers + (2 * self.d_model * self.vocab_size if head else 0)

    def flops_mtp(self, attended: float, *, executed: bool = False) -> float:
        """Forward FLOPs that the extra prediction depths add to one token."""
        D = self.d_model
        depth = 2 * (2 * D * D + D * self.vocab_size)
        return sum(depth + self._layer_flops(self.n_layers + j, attended, executed) for j in range(self.n_mtp))

    def flops_train(self, attended: float, *, executed: bool = False) -> float:
        """Forward and backward FLOPs of one training token: three times the forward pass, depths included."""
        return 3 * (self.flops_forward(attended, executed=executed) + self.flops_mtp(attended, executed=executed))


PRESETS = {name: parse(ModelSpec, table, name) for name, table in shipped(__file__).items()}
