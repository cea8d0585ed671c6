"""Pipeline parallelism: the blocks of a model cut into stages, whose ranks hand microbatches on.

Applied from outside: `cut` takes out of a whole model what other ranks hold, before it has values or after;
what stays keeps its name.  The embedding is with the first stage; the final norm, the head and the extra
depths are with the last.  Where the last one reads the embedding too, tied or for the extra depths, both ends
have it: they add up its gradients and so keep it equal.  In the schedules that are a V both ends are one
rank.

The schedules run are torch's (torch.distributed.pipelining).  Every rank of a pipeline has the same rows, so
that between stages nothing passes but hidden states and their gradients.  A stage may itself lie in parts
(fsdp.py), its experts on several ranks: those ranks are at the same place of their pipelines.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nomoat.model.lora import outline
from nomoat.model.moe import Routing
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.fsdp import local
from nomoat.parallel.mesh import Mesh
from nomoat.parallel.schedules import KINDS, check, split


class Part(Protocol):
    """A microbatch, and what is learned from it: losses are weighted, so that their sum is the batch's."""

    ids_BT: Tensor

    def mask(self) -> Tensor | None:
        """As Transformer.hidden takes it; made where it is needed, as it is large."""

    def beside(self, routings: Mapping[int, Routing]) -> Tensor | None:
        """The loss of some routed layers, by their number, in the stage that has them."""

    def end(self, model: Transformer, h_BTD: Tensor, mask: Tensor | None) -> Tensor:
        """The loss of what the last block gave."""


class Elsewhere(nn.Module):
    """In the place of what another rank holds."""


class Beside(torch.autograd.Function):
    """The hidden state as it is; in the backward pass the loss beside it has the gradient 1."""

    @staticmethod
    def forward(ctx, h_BTD, loss):
        return h_BTD.clone()  # a schedule detaches it in place, which a view does not allow

    @staticmethod
    def backward(ctx, grad_BTD):
        return grad_BTD, torch.ones((), device=grad_BTD.device)


class Unit(nn.Module):
    """A stage as torch's schedules run it: in parts or not, each of its passes sums its own gradients.  They
    would keep what is in parts whole over all passes of a step."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.stage = stage

    def forward(self, *received: Tensor, place: Tensor) -> Tensor:
        return self.stage(*received, place=place)


class Stage(nn.Module):
    """Some blocks of a model, with the embedding before the first and the loss behind the last."""

    def __init__(self, model: Transformer, blocks: range, *, last: bool):
        super().__init__()
        self.model, self.blocks, self.last = model, blocks, last
        self.parts: Sequence[Part] = ()

    def forward(self, *received: Tensor, place: Tensor) -> Tensor:
        """The hidden state for the next stage, or the loss."""
        model = self.model
        part = self.parts[int(place)]
        ids_BT, mask = part.ids_BT, part.mask()
        h_BTD = received[0] if received else model.embed(ids_BT)
        blocks = [model.blocks[layer] for layer in self.blocks]
        read = model.mask(mask, ids_BT)
        h_BTD, routings = model.through(blocks, h_BTD, model.turns(ids_BT), read)
        routed = filter(model.spec.is_moe, self.blocks)
        routing_of = dict(zip(routed, routings))
        beside = part.beside(routing_of)
        if not self.last:
            return h_BTD if beside is None else Beside.apply(h_BTD, beside)
        loss = part.end(model, h_BTD, mask)
        return loss if beside is None else loss + beside


class Pipeline:
    """This rank's stages of a model that is cut over the ranks of the mesh's pipeline.

    `attended`: positions that a token attends to, on average, for the balance of the stages; `dtype`: what it
    computes in.
    """

    def __init__(self, model: Transformer, mesh: Mesh, attended: float, dtype: torch.dtype):
        self.model = model
        self.device = mesh.device
        self.dtype = dtype
        self.group = mesh.group("pipeline")
        self.kind = KINDS[mesh.axes.schedule]
        self.rank = mesh.index("pipeline")
        self.n_ranks = mesh.size("pipeline")
        self.n_stages = self.n_ranks * self.kind.n_chunks
        check(model.spec, mesh.axes.schedule, self.n_ranks, self.n_stages)
        self.blocks = split(model.spec, self.n_stages, attended)
        last = self.n_stages - 1
        numbers = self._numbers(self.rank)
        self.stages = {n: Stage(model, self.blocks[n], last=n == last) for n in numbers}
        self.first_here = 0 in numbers
        self.last_here = last in numbers
        self.shared = _read_twice(model) if self.kind.n_chunks == 1 else []
        self.holders = self._holders()
        self.adapters = outline(model)
        for name in self._away(self.rank):
            above, _, own = name.rpartition(".")
            nothing = Elsewhere() if name != "depths" else nn.ModuleList()
            setattr(model.get_submodule(above), own, nothing)
        self._running = None, None

    @property
    def stage(self) -> Stage | None:
        """The one stage of this rank; None where there are two."""
        return next(iter(self.stages.values())) if len(self.stages) == 1 else None

    def _numbers(self, rank: int) -> list[int]:
        """The stages of a rank."""
        return sorted({rank, self.n_stages - 1 - rank} if self.kind.n_chunks == 2 else {rank})

    def _away(self, rank: int) -> list[str]:
        """What a rank doesn't hold of the whole model."""
        numbers, last = self._numbers(rank), self.n_stages - 1
        here = chain.from_iterable(self.blocks[n] for n in numbers)
        return _elsewhere(self.model.spec, here, 0 in numbers, last in numbers)

    def _holders(self) -> dict[str, tuple[torch.Size, int]]:
        """The shape of every parameter and buffer of the whole model, and the first rank that has it."""
        holders, away = {}, [tuple(f"{module}." for module in self._away(r)) for r in range(self.n_ranks)]
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            holder = next(rank for rank, modules in enumerate(away) if not name.startswith(modules))
            holders[name] = tensor.shape, holder
        return holders

    def step(self, parts: Sequence[Part]) -> None:
        """Forward and backward pass of the microbatches of a step, all of one shape; adds to the gradients.

        Those of what both ends hold are parts, until `join`.
        """
        shape = (len(parts), *parts[0].ids_BT.shape)
        if self._running[0] != shape:
            self._running = shape, self._schedule(*shape)
        for stage in self.stages.values():
            stage.parts = parts
        for p in self.model.parameters() if self.kind.n_chunks > 1 else ():
            if p.requires_grad and p.grad is None:
                # torch adds to what there is; where there is nothing it puts a gradient of any layout
                p.grad = torch.zeros_like(p, dtype=p.grad_dtype)
        places = torch.arange(len(parts))
        target = places if self.last_here else None
        self._running[1].step(place=places, target=target, return_outputs=False)
        for stage in self.stages.values():
            stage.parts = ()

    def _schedule(self, n_parts: int, B: int, T: int):
        """torch's schedule for microbatches of this shape."""
        from torch.distributed.pipelining import PipelineStage
        from torch.distributed.pipelining.schedules import get_schedule_class

        width = self.model.spec.d_model
        hidden = torch.empty(B, T, width, dtype=self.dtype, device="meta", requires_grad=True)
        loss = torch.empty((), device="meta", requires_grad=True)
        stages = [
            PipelineStage(
                Unit(stage),
                number,
                self.n_stages,
                self.device,
                input_args=() if number == 0 else hidden,
                output_args=loss if stage.last else hidden,
                group=self.group,
                dw_builder=_all_at_once if stage.last and _crosses(self.model.spec) else None,
            )
            for number, stage in self.stages.items()
        ]
        made = stages if self.kind.n_chunks > 1 else stages[0]
        return get_schedule_class(self.kind.name)(
            made, n_parts, loss_fn=lambda loss, _: loss, scale_grads=False
        )

    @torch.no_grad()
    def join(self) -> None:
        """Both ends have the sum of their gradients of what both hold, to the bit."""
        if not (self.first_here or self.last_here):
            return
        other = 0 if self.last_here else self.n_ranks - 1
        for name in self.shared:
            grad = local(self.model.get_parameter(name).grad)
            theirs = torch.empty_like(grad)
            to_and_fro = [
                dist.P2POp(dist.isend, grad, group=self.group, group_peer=other),
                dist.P2POp(dist.irecv, theirs, group=self.group, group_peer=other),
            ]
            for work in dist.batch_isend_irecv(to_and_fro):
                work.wait()
            grad.add_(theirs)

    @torch.no_grad()
    def everywhere(self, name: str, value: Callable[[str], Tensor]) -> Tensor:
        """A parameter or buffer of the whole model, float32, on every rank; collective.

        `value(name)` is one that this rank holds, in one piece.
        """
        shape, holder = self.holders[name]
        tensor = value(name).float() if holder == self.rank else torch.empty(shape, device=self.device)
        dist.broadcast(tensor, group=self.group, group_src=holder)
        return tensor

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Each becomes the sum over the ranks of this pipeline, in place."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self.group)


def cut(
    model: Transformer, mesh: Mesh, attended: float, dtype: torch.dtype | None = None
) -> Pipeline | None:
    """The rank's stages, where the mesh has a pipeline; the model keeps what is in them.

    It computes in `dtype`, by default the precision that it has now.
    """
    return Pipeline(model, mesh, attended, dtype or model.dtype) if mesh.size("pipeline") > 1 else None


def _crosses(spec: Spec) -> bool:
    """Whether what reads the embedding in the last stage depends on another reader of it there.

    torch (2.13) then fails to part the backward pass of the weights from that of the inputs.
    """
    return spec.n_mtp > 1 or (spec.tied and spec.n_mtp > 0)


def _all_at_once() -> Callable[[], None]:
    """What is left of the backward pass behind the inputs' part of it: nothing."""
    return lambda: None


def _read_twice(model: Transformer) -> list[str]:
    """What both ends hold and learn."""
    both = model.spec.tied or model.spec.n_mtp
    return ["embed.weight"] if both and model.embed.weight.requires_grad else []


def _elsewhere(spec: Spec, blocks: Iterable[int], first: bool, last: bool) -> list[str]:
    """The modules that a rank with these blocks, and these ends, doesn't hold."""
    away = [f"blocks.{layer}" for layer in sorted(set(range(spec.n_layers)) - set(blocks))]
    if not last:
        away += ["norm", "head", "depths"]
    if not first and not (last and (spec.tied or spec.n_mtp)):
        away.append("embed")
    return away
