"""The model of a stage as its rank has it, made a block at a time: what it begins with, where that goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from nomoat.model.lora import Lora, attach
from nomoat.model.noise import Noise
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.pipeline import Pipeline, cut
from nomoat.stages.models import dtype_of
from nomoat.train.session import Session
from nomoat.weights import adapters

Tensors = Mapping[str, Tensor]  # whole parameters and buffers, float32, by name


class Start(Protocol):
    """What a model in the shape of `spec` begins with; `fill` writes it, of any of its tensors."""

    @property
    def spec(self) -> Spec: ...

    def fill(self, tensors: Tensors) -> None: ...


@dataclass(frozen=True)
class Values:
    """A Start."""

    spec: Spec
    fill: Callable[[Tensors], None]


def new(spec: Spec, kernels: Kernels, seed: int) -> Values:
    """First weights of noise."""
    with torch.device("meta"):
        model = Transformer(spec, kernels)
    return Values(spec, Noise(model, spec.init_std, seed).fill)


@dataclass(frozen=True)
class Learns:
    """How a model learns: adapters of this seed beside weights that stay, gradients added up over passes,
    and how many positions a token attends to on average."""

    lora: Lora | None = None
    seed: int = 0
    summed: bool = False
    attended: float = 1.0


def build(session: Session, start: Start, precision: str, how: Learns) -> tuple[Transformer, Pipeline | None]:
    """A model that learns, as this rank has it, and its stages where the mesh has a pipeline."""
    mesh, dtype = session.mesh, dtype_of(session, precision)
    model = _empty(session, start)
    if how.lora:
        parts = adapters.new_parts(model, how.lora, how.seed)
        attach(model, parts)
    pipeline = cut(model, mesh, how.attended, dtype)
    ready = partial(give, model, start=start, dtype=dtype, device=mesh.device)
    summed = how.summed or pipeline is not None
    root = pipeline and pipeline.stage
    fsdp.spread(model, mesh, ready, dtype=dtype, root=root, summed=summed)
    return model, pipeline


def frozen(session: Session, start: Start, precision: str) -> Transformer:
    """A model that stays as it is, as this rank has it."""
    mesh, dtype = session.mesh, dtype_of(session, precision)
    model = _empty(session, start).requires_grad_(False).eval()
    ready = partial(give, model, start=start, dtype=dtype, device=mesh.device)
    return fsdp.spread(model, mesh, ready, dtype=dtype)


def _empty(session: Session, start: Start) -> Transformer:
    with torch.device("meta"):
        return Transformer(start.spec, session.kernels)


@torch.no_grad()
def give(model: nn.Module, name: str, *, start: Start, dtype: torch.dtype, device: torch.device) -> None:
    """Values for what of a module has none; all of it on a device, its parameters of a type."""
    module = model.get_submodule(name)
    parameters = dict(module.named_parameters(prefix=name))
    buffers = dict(module.named_buffers(prefix=name))
    everything = parameters | buffers
    empty = {own: tensor for own, tensor in everything.items() if tensor.is_meta}
    values = {own: torch.empty(tensor.shape) for own, tensor in empty.items()}
    start.fill(values)
    for own in parameters.keys() - empty.keys():
        parameter = parameters[own]
        if not fsdp.is_part(parameter):
            parameter.data = parameter.to(device, dtype)
    made: dict[int, Tensor] = {}
    for own, tensor in empty.items():
        value = values.pop(own)
        made[id(tensor)] = _like(tensor, value, dtype, device)
    _put(module, made)


def _like(tensor: Tensor, value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A parameter in the place of one, a buffer, which keeps its type, in that of another."""
    if not isinstance(tensor, nn.Parameter):
        return value.to(device)
    return nn.Parameter(value.to(device, dtype), tensor.requires_grad)


def _put(module: nn.Module, made: Mapping[int, Tensor]) -> None:
    """Tensors in the place of others, which are told apart by their ids."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            ours = {own: made[id(tensor)] for own, tensor in table.items() if id(tensor) in made}
            table.update(ours)
