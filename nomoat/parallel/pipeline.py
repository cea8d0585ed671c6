"""Pipeline parallelism: the blocks of a model cut into stages, whose ranks hand microbatches on.

Applied from outside: `Pipeline(model, group)` takes out of a whole model what other ranks hold; what stays
keeps its name.  The embedding is with the first stage; the final norm, the head and the extra depths are with
the last.  Where the last one reads the embedding too, tied or for the extra depths, both ends have it: they
add up its gradients and so keep it equal.  In the schedules that are a V both ends are one rank.

The schedules run are torch's (torch.distributed.pipelining).  Every rank of a pipeline has the same rows, so
that between stages nothing passes but hidden states and their gradients.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nomoat.config import ConfigError
from nomoat.model import counts
from nomoat.model.moe import Routing
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Kind:
    """A schedule: its name in torch, how many stages a rank has, and how long a rank waits in a step.

    `idle` counts forward passes of a stage for each rank but one, where B = 2F, W = F and handing over takes
    no time.
    """

    name: str
    n_chunks: int
    idle: int


KINDS = {
    "1f1b": Kind("1F1B", 1, idle=3),
    "zbv": Kind("ZBVZeroBubble", 2, idle=1),
    "dualpipev": Kind("DualPipeV", 2, idle=2),
}


def bubble(schedule: str, n_ranks: int, n_parts: int) -> float:
    """Share of a step in which a rank waits, for p equal ranks and m microbatches.

    1F1B waits (p - 1)(F + B), and DualPipeV, whose PP stages are 2p, (PP/2 - 1)(F&B + B - 3W)
    (arXiv 2412.19437, table 2).  ZB-V never waits between its first and its last action
    (arXiv 2401.10241, section 6); the ranks begin F apart.
    """
    kind = KINDS[schedule]
    idle = (n_ranks - 1) * kind.idle
    return idle / (3 * kind.n_chunks * n_parts + idle)


def check(spec: Spec, schedule: str, n_ranks: int, n_parts: int) -> None:
    """ConfigError where the blocks or the microbatches of a step are fewer than the stages."""
    n_chunks = KINDS[schedule].n_chunks
    n_stages = n_ranks * n_chunks
    if spec.n_layers < n_stages:
        most = spec.n_layers // n_chunks
        raise ConfigError(
            f'pipeline = {n_ranks} with schedule "{schedule}" cuts a model into {n_stages} stages, found one '
            f"of {spec.n_layers} blocks; expected a block for each stage: set pipeline = {max(most, 1)}"
        )
    if n_parts < n_stages:
        raise ConfigError(
            f'pipeline = {n_ranks} with schedule "{schedule}" has {n_stages} stages, found {n_parts} '
            f"microbatches in a step; expected one for each stage at least: {n_stages}; lower micro_rows, or "
            "raise rows"
        )


def split(spec: Spec, n_stages: int, attended: float) -> tuple[range, ...]:
    """The blocks of each stage, one at least, so that the slowest has the fewest counted FLOPs.

    The last one counts with the head and the extra depths.
    """
    costs = [counts.layer_flops(spec, layer, attended) for layer in range(spec.n_layers)]
    costs[-1] += 2 * spec.d_model * spec.vocab_size + counts.flops_mtp(spec, attended)

    @cache
    def best(first: int, n: int) -> tuple[float, tuple[int, ...]]:
        """(cost of the slowest, where each ends) of the blocks from `first` on, in n stages."""
        if n == 1:
            return sum(costs[first:]), (spec.n_layers,)
        options = []
        for end in range(first + 1, spec.n_layers - n + 2):
            slowest, ends = best(end, n - 1)
            own = sum(costs[first:end])
            slowest = max(own, slowest)
            options.append((slowest, (end, *ends)))
        return min(options)

    _, ends = best(0, n_stages)
    return tuple(range(*pair) for pair in pairwise((0, *ends)))


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
    """This rank's stages of a model that is cut over the ranks of `group`.

    `schedule` is one of KINDS.  `attended`: positions that a token attends to, on average, for the balance of
    the stages.
    """

    def __init__(self, model: Transformer, group: dist.ProcessGroup | None, schedule: str, attended: float):
        self.model = model
        self.device = model.device
        self.group = group
        self.kind = KINDS[schedule]
        self.rank = dist.get_rank(group)
        self.n_ranks = dist.get_world_size(group)
        self.n_stages = self.n_ranks * self.kind.n_chunks
        check(model.spec, schedule, self.n_ranks, self.n_stages)
        blocks = split(model.spec, self.n_stages, attended)
        last = self.n_stages - 1
        numbers = {self.rank}
        if self.kind.n_chunks == 2:
            numbers.add(last - self.rank)
        self.stages = {n: Stage(model, blocks[n], last=n == last) for n in sorted(numbers)}
        self.first_here = 0 in numbers
        self.last_here = last in numbers
        self.shared = _read_twice(model) if self.kind.n_chunks == 1 else []
        self.away = self._take_out()
        self._running = None, None

    def _take_out(self) -> list[tuple[nn.Module, str, nn.Module]]:
        """What other ranks hold, without values, and its place, in which nothing is left."""
        here = chain.from_iterable(stage.blocks for stage in self.stages.values())
        away = []
        for parent, name in _elsewhere(self.model, here, self.first_here, self.last_here):
            module = getattr(parent, name)
            away.append((parent, name, module.to("meta")))
            nothing = Elsewhere() if name != "depths" else nn.ModuleList()
            setattr(parent, name, nothing)
        return away

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

        width, dtype = self.model.spec.d_model, self.model.dtype
        hidden = torch.empty(B, T, width, dtype=dtype, device="meta", requires_grad=True)
        loss = torch.empty((), device="meta", requires_grad=True)
        stages = [
            PipelineStage(
                stage,
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
            grad = self.model.get_parameter(name).grad
            theirs = torch.empty_like(grad)
            to_and_fro = [
                dist.P2POp(dist.isend, grad, group=self.group, group_peer=other),
                dist.P2POp(dist.irecv, theirs, group=self.group, group_peer=other),
            ]
            for work in dist.batch_isend_irecv(to_and_fro):
                work.wait()
            grad.add_(theirs)

    @torch.no_grad()
    def whole(self, named: Mapping[str, Tensor]) -> Transformer:
        """The model in one piece again, on every rank; `named` values take the place of those that are here.

        Collective, and the end of this pipeline.
        """
        model = self.model
        held = {**dict(model.named_parameters()), **named, **dict(model.named_buffers())}
        everyones = self.gather(held)
        for parent, name, module in self.away:
            setattr(parent, name, module.to_empty(device=self.device))
        model.tie()
        for name, buffer in model.named_buffers():
            buffer.copy_(everyones[name])
        for name, parameter in model.named_parameters():
            parameter.data = everyones[name]
        return model

    def gather(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all ranks, by name, on each; of those with one name the first rank's."""
        tables: list[dict] = [{}] * self.n_ranks
        like = {name: (tensor.shape, tensor.dtype) for name, tensor in named.items()}
        dist.all_gather_object(tables, like, self.group)
        everyones = {}
        for rank, table in enumerate(tables):
            for name in (name for name in table if name not in everyones):
                shape, dtype = table[name]
                tensor = torch.empty(shape, dtype=dtype, device=self.device)
                if rank == self.rank:
                    tensor.copy_(named[name].detach())
                dist.broadcast(tensor, group=self.group, group_src=rank)
                everyones[name] = tensor
        return everyones

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Each becomes the sum over the ranks of this pipeline, in place."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self.group)


def cut(model: Transformer, mesh: Mesh, attended: float) -> Pipeline | None:
    """The rank's stages, where the mesh has a pipeline; the model keeps what is in them."""
    group = mesh.group("pipeline")
    return None if group is None else Pipeline(model, group, mesh.axes.schedule, attended)


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


def _elsewhere(
    model: Transformer, blocks: Iterable[int], first: bool, last: bool
) -> list[tuple[nn.Module, str]]:
    """The places of all that a rank with these blocks, and these ends, doesn't hold."""
    places = [(model.blocks, str(layer)) for layer in set(range(model.spec.n_layers)) - set(blocks)]
    if not last:
        places += [(model, "norm"), (model, "head"), (model, "depths")]
    if not first and not (last and (model.spec.tied or model.spec.n_mtp)):
        places.append((model, "embed"))
    return places
