"""Low-rank adapters (arXiv 2106.09685): a frozen matrix W, and beside it what is learnt of it, W + s B A.

One of our matrices may hold several published ones, rows of queries above rows of keys; each of them has a
pair A (rank, d_in), B (rows, rank) of its own, as adapters are published.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nomoat.config import Positive, Strict
from nomoat.model.linear import Linear
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer


class Lora(Strict):
    """Which matrices learn, by their published names ("q_proj"), absent all of attention and feed-forward;
    B A is multiplied by alpha / rank.
    """

    rank: Annotated[int, Field(ge=1, le=2**12)] = 16
    alpha: Positive = 32.0
    targets: tuple[str, ...] | None = None

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class Pair:
    """What an adapter knows of one published matrix: B A times `scale`."""

    down: Tensor  # A: (rank, d_in)
    up: Tensor  # B: (rows, rank)
    scale: float

    def delta(self) -> Tensor:
        """(rows, d_in) float32."""
        return self.scale * (self.up.float() @ self.down.float())


@dataclass(frozen=True, slots=True)
class Part:
    """A pair, and the first row of our matrix that it is for; B's rows are in our order."""

    first: int
    pair: Pair


class Adapted(Linear):
    """A Linear whose weight stays and whose parts learn; parts don't overlap."""

    def __init__(self, base: Linear, parts: Mapping[str, Part]):
        nn.Module.__init__(self)
        self.role = base.role
        self.weight = base.weight
        self.bias = base.bias
        self.firsts: dict[str, int] = {}
        self.scales: dict[str, float] = {}
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        in_order = sorted(parts, key=lambda name: parts[name].first)
        for name in in_order:
            self._take(name, parts[name])

    def _take(self, name: str, part: Part) -> None:
        self.firsts[name] = part.first
        self.scales[name] = part.pair.scale
        self.down[name] = nn.Parameter(part.pair.down)
        self.up[name] = nn.Parameter(part.pair.up)

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        low = F.linear(h, torch.cat([self.down[name] for name in self.firsts]))
        flat = torch.addmm(out.flatten(0, -2), low.flatten(0, -2), self._up().T)
        return flat.view_as(out)

    def _up(self) -> Tensor:
        """s B of all parts in one matrix, each in the columns of its own rank: one product beside W's."""
        n_ranks = sum(map(len, self.down.values()))
        column = row = 0
        rows: list[Tensor] = []
        for name, first in self.firsts.items():
            up = self.scales[name] * self.up[name]
            rank = up.shape[1]
            behind = n_ranks - column - rank
            rows.append(up.new_zeros(first - row, n_ranks))
            rows.append(F.pad(up, (column, behind)))
            column += rank
            row = first + len(up)
        rows.append(self.weight.new_zeros(len(self.weight) - row, n_ranks))
        return torch.cat(rows)

    def parts(self) -> dict[str, Part]:
        """What it has learnt so far."""
        return {name: Part(first, self.pair(name)) for name, first in self.firsts.items()}

    def pair(self, name: str) -> Pair:
        return Pair(self.down[name], self.up[name], self.scales[name])


Parts = Mapping[str, Mapping[str, Part]]  # module -> published name -> part


def new_pair(rows: int, d_in: int, lora: Lora, generator: torch.Generator) -> Pair:
    """A uniform, as wide as torch makes a new Linear, and B zero: at first the model is what it was."""
    bound = 1 / math.sqrt(d_in)
    down = (2 * torch.rand(lora.rank, d_in, generator=generator) - 1) * bound
    return Pair(down, torch.zeros(rows, lora.rank), lora.scale)


def attach(model: Transformer, parts: Parts) -> Transformer:
    """Adapters in the place of matrices; nothing else of the model learns any more."""
    model.requires_grad_(False)
    for name, of_module in parts.items():
        above, own = _place(model, name)
        adapted = Adapted(getattr(above, own), of_module)
        setattr(above, own, adapted.to(model.dtype))
    return model


def adapted(model: nn.Module) -> Iterator[tuple[str, Adapted]]:
    """The adapted matrices of a model, by the names of their modules; none where all of it learns."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Adapted))


def outline(model: nn.Module) -> dict[str, dict[str, Part]]:
    """The parts of a model's adapters without their values."""
    return {name: {own: _empty(part) for own, part in m.parts().items()} for name, m in adapted(model)}


def _empty(part: Part) -> Part:
    down, up = (torch.empty(tensor.shape, device="meta") for tensor in (part.pair.down, part.pair.up))
    return Part(part.first, Pair(down, up, part.pair.scale))


def passes(model: nn.Module) -> int:
    """Forward and backward in passes: of a matrix that stays, the backward one is as much as the forward one,
    of one that learns twice as much.
    """
    return 3 if next(adapted(model), None) is None else 2


def without(model: Transformer, kernels: Kernels | None = None) -> Transformer:
    """The model with its adapters switched off: another one on the same numbers, at no memory of its own."""
    with torch.device("meta"):
        plain = Transformer(model.spec, kernels or model.kernels)
    share(plain, dict(model.named_parameters()), dict(model.named_buffers()))
    return plain.eval().requires_grad_(False)


def share(model: Transformer, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Other tensors as those of the model, which then are the same storage."""
    for name, _ in [*model.named_parameters()]:
        above, own = _place(model, name)
        shared = nn.Parameter(parameters[name].detach(), requires_grad=False)
        above.register_parameter(own, shared)
    for name, _ in [*model.named_buffers()]:
        above, own = _place(model, name)
        above.register_buffer(own, buffers[name])
    model.tie()


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that something is of, and what it is called there."""
    above, _, own = name.rpartition(".")
    return model.get_submodule(above), own


@torch.no_grad()
def merge(model: Transformer, parts: Parts) -> None:
    """W + s B A in the place of W, summed in float32."""
    for name, of_module in parts.items():
        weight = model.get_submodule(name).weight
        for part in of_module.values():
            delta = part.pair.delta()
            rows = weight[part.first : part.first + len(delta)]
            rows.copy_(rows.float() + delta)


class Merged:
    """A float32 model that follows an adapted one, whose float32 masters are `master`, with every `renew`."""

    def __init__(self, model: Transformer, master: Mapping[str, Tensor]):
        self.model = model
        self.master = master
        self.policy = without(model)
        learns = {f"{name}.weight" for name, _ in adapted(model)}
        for name, weight in self.policy.named_parameters():
            whole = weight.data.float()  # what stays, of a float32 model, is shared
            weight.data = whole.clone() if name in learns else whole
        self.renew()

    @torch.no_grad()
    def renew(self) -> None:
        for name, module in adapted(self.model):
            weight = self.policy.get_submodule(name).weight
            weight.copy_(module.weight)
            for own in module.firsts:
                self._add(weight, name, module, own)

    def _add(self, weight: Tensor, name: str, module: Adapted, own: str) -> None:
        down = self.master[f"{name}.down.{own}"]
        up = self.master[f"{name}.up.{own}"]
        first = module.firsts[own]
        weight[first : first + len(up)].addmm_(up, down, alpha=module.scales[own])
