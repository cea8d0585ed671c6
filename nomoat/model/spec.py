"""What a model is: attention x feed-forward, and facts beside them.  No torch here; numbers that follow:
counts.py.

The legend of every tensor in this project (a name's suffix spells its axes):

    B sequences                 T positions computed now    S positions attended to    D model width
    V vocabulary                H heads                     N head width, no rotation  R rotary head width
    W value head width          C key-value latent          P query latent             M tokens, flattened
    E routed experts            K experts per token         F expert hidden width      Z routed copies
    G rollouts per prompt       J extra prediction depths   L layers
    U key-value heads           c cached width              r rotary pairs, R / 2

Symbols of the V3 report (arXiv 2412.19437) that differ from ours: d_c = C, d_c' = P, d_h = N, d_h^R = R, N_r
= E, N_s = n_shared, K_r = K, D (depths) = J.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nomoat.config import Count, Positive, Strict, Whole, parse
from nomoat.files import shipped

Factor = Annotated[float, Field(ge=1, le=1e6)]
Scale = Annotated[float, Field(ge=-1e6, le=1e6)]
Width = Annotated[int, Field(ge=1, le=2**20)]
Even = Annotated[int, Field(ge=1, le=2**20, multiple_of=2)]


class Interpolation(Strict):
    """Positions divided by `factor`: position interpolation (arXiv 2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: Factor


class Llama3(Strict):
    """Slow pairs divided by `factor`, fast ones kept, those between blended (Llama 3.1's published code).

    Slow is a pair that turns less than `low` times in the original context, fast one that turns more than
    `high` times.
    """

    kind: Literal["llama3"] = "llama3"
    factor: Factor
    original_context: Count
    low: Positive = 1.0
    high: Positive = 4.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"expected low < high, found low = {self.low}, high = {self.high}")
        return self


class Yarn(Strict):
    """Context extension by YaRN (arXiv 2309.00071) with DeepSeek's attention scale."""

    kind: Literal["yarn"] = "yarn"
    factor: Factor
    original_context: Count
    beta_fast: Positive = 32.0
    beta_slow: Positive = 1.0
    mscale: Scale = 1.0
    mscale_all_dim: Scale = 1.0

    def magnitude(self, mscale: float) -> float:
        """0.1 m ln(s) + 1, the entropy correction of YaRN, 1 where nothing is stretched."""
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0  # YaRN (22)

    @property
    def turn_scale(self) -> float:
        """What multiplies cos and sin."""
        return self.magnitude(self.mscale) / self.magnitude(self.mscale_all_dim)


class Latent(Strict):
    """Multi-head latent attention (V3 report, section 2.1.1); without a query latent where `d_q_latent` is
    None.
    """

    kind: Literal["latent"]
    n_heads: Width
    d_nope: Width
    d_rope: Even
    d_value: Width
    d_kv_latent: Width
    d_q_latent: Width | None = None

    @property
    def d_query(self) -> int:
        """Width of one query or key head: N + R."""
        return self.d_nope + self.d_rope

    @property
    def d_cached(self) -> tuple[int, int]:
        """Widths of what a layer caches of a position: C and R."""
        return self.d_kv_latent, self.d_rope


class Grouped(Strict):
    """Grouped-query attention (arXiv 2305.13245): each key-value head serves n_heads / n_kv_heads query
    heads.

    The whole head is rotated.  In `n_windowed` of the layers a position attends to the last `window` alone.
    `qk_norm`: queries and keys pass an RMSNorm before they are turned, each "head" by itself or the "whole"
    row of heads at once.
    """

    kind: Literal["grouped"]
    n_heads: Width
    n_kv_heads: Width
    d_head: Even
    d_value: Width | None = None  # by default d_head
    window: Count | None = None
    n_windowed: Whole = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["head", "whole"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _values_as_wide_as_keys(cls, table: object) -> object:
        if isinstance(table, dict) and table.get("d_value") is None and "d_head" in table:
            return {**table, "d_value": table["d_head"]}
        return table

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"expected n_kv_heads to divide n_heads = {self.n_heads}, found {self.n_kv_heads}"
            )
        if self.n_windowed and not self.window:
            raise ValueError(f"expected a window beside n_windowed = {self.n_windowed}")
        return self

    @property
    def widths(self) -> tuple[int, int, int]:
        """Of all queries, all keys and all values of a position."""
        return self.n_heads * self.d_head, self.n_kv_heads * self.d_head, self.n_kv_heads * self.d_value

    @property
    def d_query(self) -> int:
        """Width of one query or key head."""
        return self.d_head

    @property
    def d_rope(self) -> int:
        """Of the query, what is rotated: all."""
        return self.d_head

    @property
    def d_cached(self) -> tuple[int, int]:
        """Widths of what a layer caches of a position: every key-value head's value and key."""
        return self.n_kv_heads * self.d_value, self.n_kv_heads * self.d_head


class Dense(Strict):
    """SwiGLU (arXiv 2002.05202) in every layer, or without `gated` one matrix up, GELU, one matrix down."""

    kind: Literal["dense"]
    d_hidden: Width
    gated: bool = True


class Routed(Strict):
    """DeepSeekMoE (V3 report, section 2.1.2) behind `n_dense_layers` dense layers of width `d_dense`."""

    kind: Literal["routed"]
    n_dense_layers: Whole = 1
    d_dense: Width
    n_routed: Width
    n_shared: int = Field(1, ge=0, le=2**10)
    n_active: Width = 2
    d_expert: Width
    n_groups: Width = 1
    n_active_groups: Width = 1
    group_score: Literal["top2", "max"] = "top2"
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    normalise_gates: bool = True
    routed_scale: Positive = 1.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        per_group, rest = divmod(self.n_routed, self.n_groups)
        if rest or self.n_active_groups > self.n_groups:
            raise ValueError(
                f"expected n_groups to divide n_routed = {self.n_routed} and n_active_groups <= n_groups, "
                f"found n_groups = {self.n_groups}, n_active_groups = {self.n_active_groups}"
            )
        reachable = per_group * self.n_active_groups
        if self.n_active > reachable:
            raise ValueError(
                f"expected 1 <= n_active <= {reachable} (experts in the chosen groups), found {self.n_active}"
            )
        if self.group_score == "top2" and self.n_groups > 1 and per_group < 2:
            raise ValueError("expected two experts in a group, found one: the group score sums the best two")
        return self


class Spec(Strict):
    """A model: `attention` is Latent or Grouped, `ffn` Dense or Routed, the rest are facts.

    `stretch` lets rotary positions reach further than they were trained for; the layers in `unrotated` have
    none.  `norm_place`: norms stand before attention and feed-forward, or behind them, as in OLMo 2.
    """

    vocab_size: int = Field(ge=1, le=2**24)
    n_layers: int = Field(ge=1, le=2**12)
    d_model: Width
    attention: Annotated[Latent | Grouped, Field(discriminator="kind")]
    ffn: Annotated[Dense | Routed, Field(discriminator="kind")]
    n_mtp: int = Field(0, ge=0, le=64)
    context: Count = 256
    positions: Literal["rope", "learned"] = "rope"
    rope_theta: Positive = 10000.0
    stretch: Annotated[Yarn | Llama3 | Interpolation, Field(discriminator="kind")] | None = None
    unrotated: tuple[Whole, ...] = ()
    norm_eps: float = Field(1e-6, ge=0, le=1)
    norm_place: Literal["before", "after"] = "before"
    tied: bool = False
    init_std: float = Field(0.02, ge=0, le=1e3)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.n_dense_layers > self.n_layers - isinstance(self.ffn, Routed):
            raise ValueError(
                f"expected n_dense_layers < n_layers = {self.n_layers}, found {self.n_dense_layers}"
            )
        if isinstance(self.attention, Grouped) and self.attention.n_windowed > self.n_layers:
            raise ValueError(
                f"expected n_windowed <= n_layers = {self.n_layers}, found {self.attention.n_windowed}"
            )
        if isinstance(self.attention, Latent) and self.unrotated:
            raise ValueError(f"expected rotation in every layer of latent attention, found {self.unrotated}")
        if any(not 0 <= layer < self.n_layers for layer in self.unrotated):
            raise ValueError(f"expected unrotated layers in 0 … {self.n_layers - 1}, found {self.unrotated}")
        return self

    @property
    def n_dense_layers(self) -> int:
        return self.ffn.n_dense_layers if isinstance(self.ffn, Routed) else self.n_layers

    @property
    def d_dense(self) -> int:
        """Hidden width of the dense layers."""
        return self.ffn.d_dense if isinstance(self.ffn, Routed) else self.ffn.d_hidden

    @property
    def n_moe_layers(self) -> int:
        return self.n_layers - self.n_dense_layers

    def is_moe(self, layer: int) -> bool:
        """Experts behind the leading dense layers; the extra prediction depths are layers n_layers, …"""

        return isinstance(self.ffn, Routed) and layer >= self.n_dense_layers

    @property
    def softmax_scale(self) -> float:
        """1/sqrt(d_h + d_h^R) of eq. (10), times YaRN's squared attention scale."""
        magnitude = 1.0
        if isinstance(self.stretch, Yarn):
            magnitude = self.stretch.magnitude(self.stretch.mscale_all_dim)
        return self.attention.d_query**-0.5 * magnitude**2

    @property
    def turn_scale(self) -> float:
        """What multiplies cos and sin of the rotary positions."""
        return self.stretch.turn_scale if isinstance(self.stretch, Yarn) else 1.0

    def changed(self, **fields: object) -> "Spec":
        """The spec with other facts; checked again."""
        return parse(Spec, {**self.model_dump(), **fields}, "spec")


class Kernels(Strict):
    """How products are computed, which changes no result: no part of what a model is.

    `attention`: "fused" is torch's kernel, "plain" keeps the weights of the softmax (kernels.py).  `experts`:
    "sorted" multiplies each expert by its own tokens, "wide" every expert by all tokens (moe.py).
    `recompute` keeps of each block what entered it, and computes the rest again in the backward pass (arXiv
    1604.06174).
    """

    attention: Literal["fused", "plain"] = "fused"
    experts: Literal["sorted", "wide"] = "sorted"
    recompute: bool = False


PRESETS = {name: parse(Spec, table, name) for name, table in shipped(__file__).items()}
