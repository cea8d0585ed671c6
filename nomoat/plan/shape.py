"""Shapes that the planner knows: a ModelSpec, or a plain dense transformer that was published."""

from nomoat.config import Strict
from nomoat.model.spec import ModelSpec


class Dense(Strict):
    """A transformer with grouped-query attention; `n_windowed` layers see `window` tokens.  No gains."""

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

    def params_active(self) -> int:
        return self.params_total()

    def params_mtp(self) -> int:
        return 0


Shape = ModelSpec | Dense
