"""Expert parallelism: each rank of a group holds E / N experts of every routed layer, and the copies of the
tokens travel to them and back (arXiv 2006.16668).

Applied from outside: the routers stay whole on every rank; what multiplies the copies is replaced.  A token
goes to a rank once, however many of its experts are there, and comes back as their sum.  Ranks of one node
may stand behind each other as a group in a group: then a token goes to a node once, to the rank that stands
where it came from, and from there on to the ranks of that node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from nomoat.config import JsonObject
from nomoat.model.copies import Copies
from nomoat.model.linear import ExpertLinear
from nomoat.model.moe import Experts, Product, Routing
from nomoat.model.spec import Routed, Spec
from nomoat.parallel.axes import divided
from nomoat.parallel.mesh import Mesh


class HeldExperts(ExpertLinear):
    """This rank's matrices of an ExpertLinear; its weight is a DTensor, sharded by experts.

    Each matrix sees the tokens of all ranks, and so its gradient is that of the sum of their losses.
    """

    def __init__(self, whole: ExpertLinear, mesh: DeviceMesh):
        nn.Module.__init__(self)
        self.n_experts, self.flipped = whole.n_experts // mesh.size(), whole.flipped
        held = whole.weight.detach().chunk(mesh.size())[mesh.get_local_rank()].clone()
        weight = DTensor.from_local(held, mesh, [Shard(0)], run_check=False)
        self.weight = nn.Parameter(weight, requires_grad=whole.weight.requires_grad)

    def stack(self) -> Tensor:
        return self.weight.to_local()


@dataclass(frozen=True)
class Dispatch:
    """A routed product whose experts lie on the ranks of `group`, in order, `n_held` on each; `product` is
    what multiplies by those of this rank, counted from 0.
    """

    product: Product
    n_held: int
    group: dist.ProcessGroup

    def __call__(self, h_MD: Tensor, expert_MK: Tensor, gate_MK: Tensor) -> Tensor:
        """Collective, and so is its backward pass: every rank of the group calls it, with any number of
        tokens, none too.
        """
        trip = Trip(expert_MK // self.n_held, self.group)
        sent = torch.cat([h_MD, gate_MK.to(h_MD.dtype)], 1)
        widths = [h_MD.shape[1], gate_MK.shape[1]]
        rows, gates = trip.there(sent).split(widths, 1)
        first = self.group.rank() * self.n_held
        expert = trip.there(expert_MK) - first
        elsewhere = (expert < 0) | (expert >= self.n_held)
        expert = expert.masked_fill(elsewhere, self.n_held)
        return trip.back(self.product(rows, expert, gates))


class Trip:
    """Rows that go to the ranks that `rank_MK` names, each to a rank once, and what comes back for them.

    A copy for rank N or one behind it goes nowhere.
    """

    def __init__(self, rank_MK: Tensor, group: dist.ProcessGroup):
        self.group = group
        goes = destinations(rank_MK, group.size())
        rank, token = goes.mT.nonzero().unbind(1)  # by rank, in order of the tokens
        row = torch.zeros_like(goes, dtype=token.dtype)
        numbers = torch.arange(len(token), device=token.device)
        row[token, rank] = numbers
        self.copies = Copies(token, row, goes)

        # How many rows go to each rank, and come from it.
        n_sent = goes.sum(0)
        n_received = torch.empty_like(n_sent)
        dist.all_to_all_single(n_received, n_sent, group=group)
        self.n_sent, self.n_received = n_sent.tolist(), n_received.tolist()

    def there(self, rows: Tensor) -> Tensor:
        """What this rank receives of all ranks' rows, one for each of their tokens."""
        filled = self.copies.fill(rows)
        return all_to_all_single_autograd(filled, self.n_received, self.n_sent, self.group)

    def back(self, rows: Tensor) -> Tensor:
        """The sum, for each of its tokens, of what the ranks made of the rows that they received."""
        returned = all_to_all_single_autograd(rows, self.n_sent, self.n_received, self.group)
        return self.copies.collect(returned)


def destinations(rank_MK: Tensor, n_ranks: int) -> Tensor:
    """(tokens, ranks), true where a token has a copy for an expert of the rank."""
    goes = torch.zeros(len(rank_MK), n_ranks + 1, dtype=torch.bool, device=rank_MK.device)
    return goes.scatter_(1, rank_MK.clamp(max=n_ranks), True)[:, :n_ranks]


class Splitter:
    """Called with a module, it leaves only this rank's experts of each routed layer in it, in place; all of
    them where the mesh has one rank along `expert`.

    Every rank has the same whole module before.  ConfigError where the ranks don't divide the experts.
    """

    def __init__(self, mesh: Mesh):
        self.n_ranks = mesh.size("expert")
        self.groups = levels(mesh) if self.n_ranks > 1 else []
        self.axis = mesh.dims["expert"] if self.n_ranks > 1 else None

    def __call__(self, module: nn.Module) -> None:
        layers = [m for m in module.modules() if isinstance(m, Experts)] if self.groups else []
        for layer in layers:
            divided(layer.shape.n_routed, self.n_ranks)
            layer.w_gate_up = HeldExperts(layer.w_gate_up, self.axis)
            layer.w_down = HeldExperts(layer.w_down, self.axis)
            layer.product = layer.multiply
            n_held = layer.w_down.n_experts
            for group in self.groups:
                layer.product = Dispatch(layer.product, n_held, group)
                n_held *= group.size()


def levels(mesh: Mesh) -> list[dist.ProcessGroup]:
    """The groups that a token passes on its way, the last one first: from node to node, then inside one."""
    n_nodes, n_ranks = mesh.expert_nodes, mesh.size("expert")
    if n_nodes in (1, n_ranks):
        return [mesh.group("expert")]
    both = mesh.dims["expert"]._unflatten(0, (n_nodes, n_ranks // n_nodes), ("node", "near"))
    return [both.get_group("near"), both.get_group("node")]


def split_layers(model: nn.Module) -> list[Experts]:
    """The routed layers whose experts lie on several ranks."""
    layers = (m for m in model.modules() if isinstance(m, Experts))
    return [layer for layer in layers if isinstance(layer.product, Dispatch)]


def parts(spec: Spec, mesh: Mesh) -> dict[str, int]:
    """How many ranks and nodes the experts of a model lie on; nothing where they are all in this process."""
    n_ranks, n_nodes = mesh.size("expert"), mesh.expert_nodes
    if n_ranks == 1 or not isinstance(spec.ffn, Routed):
        return {}
    return {"expert_ranks": n_ranks, **({"expert_nodes": n_nodes} if 1 < n_nodes < n_ranks else {})}


def traffic(counts: Mapping[str, Tensor]) -> JsonObject:
    """How many ranks and nodes a token went to, on average and at most, from the counts of `reached`."""
    telemetry: JsonObject = {}
    for name, tokens in counts.items():
        n_tokens = tokens.tolist()
        rows = sum(n * of_them for n, of_them in enumerate(n_tokens))
        telemetry[name] = rows / max(sum(n_tokens), 1.0)
        most = [n for n, of_them in enumerate(n_tokens) if of_them]
        telemetry[f"{name}_max"] = max(most, default=0)
    return telemetry


def reached(routings: Sequence[Routing], n_parts: int) -> Tensor:
    """How many tokens, over all layers, went to 0, 1, … of `n_parts` ranks or nodes; float32.  Routing that
    is limited by nodes (arXiv 2412.19437, section 3.2.2) keeps them to `most_reached`.
    """
    counts = torch.zeros(n_parts + 1, device=routings[0].expert_MK.device)
    for routing in routings:
        n_held = routing.score_ME.shape[1] // n_parts
        n_reached = destinations(routing.expert_MK // n_held, n_parts).sum(1)
        counts += torch.bincount(n_reached, minlength=n_parts + 1)
    return counts


def most_reached(ffn: Routed, n_parts: int) -> int:
    """The most ranks or nodes that a token can go to: those of its best groups, whose experts are
    neighbours.
    """
    n_held, per_group = ffn.n_routed // n_parts, ffn.n_routed // ffn.n_groups
    firsts = range(0, ffn.n_routed, per_group)
    spans = sorted((first + per_group - 1) // n_held - first // n_held + 1 for first in firsts)
    return min(n_parts, ffn.n_active, sum(spans[-ffn.n_active_groups :]))
