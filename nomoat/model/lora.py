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
        self.role, self.weight, self.bias = base.role, base.weight, base.bias
        ordered = sorted(parts.items(), key=lambda named: named[1].first)
        self.firsts = {name: part.first for name, part in ordered}
        self.scales = {name: part.pair.scale for name, part in ordered}
        self.down = nn.ParameterDict({name: nn.Parameter(part.pair.down) for name, part in ordered})
        self.up = nn.ParameterDict({name: nn.Parameter(part.pair.up) for name, part in ordered})

    def forward(self, h: Tensor) -> Tensor:
        downs = [self.down[name] for name in self.firsts]
        low = F.linear(h, torch.cat(downs)).split([len(down) for down in downs], -1)
        out, columns, row = super().forward(h), [], 0
        for (name, first), narrow in zip(self.firsts.items(), low):
            if gap := first - row:
                columns.append(out.new_zeros(*out.shape[:-1], gap))
            columns.append(F.linear(narrow * self.scales[name], self.up[name]))
            row = first + len(self.up[name])
        if gap := out.shape[-1] - row:
            columns.append(out.new_zeros(*out.shape[:-1], gap))
        return out + torch.cat(columns, -1)

    def parts(self) -> dict[str, Part]:
        """What it has learnt so far."""
        return {
            name: Part(self.firsts[name], Pair(self.down[name], self.up[name], self.scales[name]))
            for name in self.firsts
        }


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
        above, _, own = name.rpartition(".")
        adapted = Adapted(model.get_submodule(name), of_module)
        setattr(model.get_submodule(above), own, adapted.to(model.dtype))
    return model


def adapted(model: nn.Module) -> Iterator[tuple[str, Adapted]]:
    """The adapted matrices of a model, by the names of their modules; none where all of it learns."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Adapted))


def without(model: Transformer) -> Transformer:
    """The model with its adapters switched off: another one on the same numbers, at no memory of its own."""
    with torch.device("meta"):
        plain = Transformer(model.spec, model.kernels)
    share(plain, dict(model.named_parameters()), dict(model.named_buffers()))
    return plain.eval().requires_grad_(False)


def share(model: Transformer, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Other tensors as those of the model, which then are the same storage."""
    for module_name, module in model.named_modules():
        at = f"{module_name}." if module_name else ""
        for name, _ in [*module.named_parameters(recurse=False)]:
            given = parameters.get(f"{at}{name}", parameters.get("embed.weight"))
            module.register_parameter(name, nn.Parameter(given.detach(), requires_grad=False))
        for name, _ in [*module.named_buffers(recurse=False)]:
            module.register_buffer(name, buffers[f"{at}{name}"])
    model.tie()


@torch.no_grad()
def merge(model: Transformer, parts: Parts) -> None:
    """W + s B A in the place of W, summed in float32."""
    for name, of_module in parts.items():
        weight = model.get_submodule(name).weight
        for part in of_module.values():
            delta = part.pair.delta()
            rows = weight[part.first : part.first + len(delta)]
            rows.copy_(rows.float() + delta)
