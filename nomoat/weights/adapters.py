"""Published matrices as rows of our own ones: what an adapter is made for, and what it is matched to."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.config import ConfigError, WeightsError, nearest
from nomoat.model.linear import Linear
from nomoat.model.lora import Lora, Pair, Part, adapted, attach, merge, new_pair, without
from nomoat.model.transformer import Transformer
from nomoat.weights import slots
from nomoat.weights.families import chosen, family

Pairs = Mapping[str, Pair]  # published name without ".weight" -> its pair, rows as published
ByModule = dict[str, dict[str, Part]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a published matrix (rows, d_in) stands in one of ours: `order` are our rows in the order of its
    rows."""

    module: str
    order: Tensor
    d_in: int

    @property
    def first(self) -> int:
        return int(self.order.min())

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.order), self.d_in


def places(model: Transformer) -> dict[str, Place]:
    """The matrices of attention and of dense or shared feed-forward, by their published names; no tables of
    the vocabulary, no routers, no routed experts, and nothing of the extra prediction depths."""
    modules = {
        id(module.weight): name
        for name, module in model.named_modules()
        if isinstance(module, Linear) and module.role == "hidden" and not name.startswith("depths.")
    }
    found = {}
    for name, view in family(chosen(model.spec)).slots(model).items():
        whole = view if view._base is None else view._base
        if id(whole) in modules and name.endswith(".weight"):
            order = _rows(view, whole)
            found[name.removesuffix(".weight")] = Place(modules[id(whole)], order, whole.shape[1])
    return found


def _rows(view: Tensor, whole: Tensor) -> Tensor:
    """The rows of a matrix that a view of it shows, in its order."""
    d_in = whole.shape[1]
    strides = [stride // d_in for stride in view.stride()[:-1]]
    first = (view.storage_offset() - whole.storage_offset()) // d_in
    return torch.arange(len(whole)).as_strided(view.shape[:-1], strides, first).flatten()


def is_target(name: str, targets: Sequence[str] | None) -> bool:
    """As PEFT has it: the whole name, or its end behind a point."""
    return targets is None or any(f".{name}".endswith(f".{target}") for target in targets)


def new_parts(model: Transformer, lora: Lora, seed: int) -> ByModule:
    """Pairs for a model that is to learn; ConfigError for a target that is no matrix of it."""
    known = places(model)
    for target in lora.targets or ():
        if not any(is_target(name, [target]) for name in known):
            ends = sorted({name.rpartition(".")[2] for name in known})
            raise ConfigError(
                f"`lora.targets` has {target!r}, which is no matrix of attention or of a dense or shared "
                f"feed-forward here; {nearest(target, ends)}"
            )
    generator = torch.Generator().manual_seed(seed)
    chosen_ones = {name: place for name, place in known.items() if is_target(name, lora.targets)}
    pairs = {name: new_pair(*place.shape, lora, generator) for name, place in chosen_ones.items()}
    return ours(known, pairs)


def ours(known: Mapping[str, Place], pairs: Pairs) -> ByModule:
    """Pairs as published, by our matrices, B's rows in our order."""
    found: ByModule = defaultdict(dict)
    for name, pair in pairs.items():
        place = known[name]
        up = torch.empty_like(pair.up)
        up[place.order - place.first] = pair.up.detach()
        own = name.rpartition(".")[2]
        found[place.module][own] = Part(place.first, Pair(pair.down, up, pair.scale))
    return dict(found)


def published(known: Mapping[str, Place], parts: Mapping[str, Mapping[str, Part]]) -> dict[str, Pair]:
    """The other way: what is learnt, under published names, in float32 of its own."""
    found = {}
    for name, place in known.items():
        _, _, own = name.rpartition(".")
        part = parts.get(place.module, {}).get(own)
        if part is not None:
            found[name] = _as_published(part.pair, place)
    return found


def _as_published(pair: Pair, place: Place) -> Pair:
    down, up = pair.down.detach(), pair.up.detach()
    return Pair(down.float().clone(), up.float()[place.order - place.first], pair.scale)


def of_model(model: Transformer) -> dict[str, Pair]:
    """What an adapted model has learnt, as it would be published."""
    return published(places(model), {name: module.parts() for name, module in adapted(model)})


def summed(first: Pairs, second: Pairs) -> dict[str, Pair]:
    """Both adapters as one, exactly: their ranks side by side, each scale within B."""
    both = {}
    names = dict.fromkeys([*first, *second])
    for name in names:
        pairs = [adapter[name] for adapter in (first, second) if name in adapter]
        downs = [pair.down for pair in pairs]
        ups = [pair.up * pair.scale for pair in pairs]
        down, up = torch.cat(downs), torch.cat(ups, 1)
        both[name] = Pair(down, up, 1.0)
    return both


def probe(model: Transformer) -> Tensor:
    """Some ids of its vocabulary, (1, T)."""
    return torch.arange(7, 7 + min(48, model.spec.context))[None] * 37 % model.spec.vocab_size


@torch.no_grad()
def merged(model: Transformer, parts: Mapping[str, Mapping[str, Part]]) -> float:
    """Merges parts into a model, in place; gives how far its logits then are from those of the adapter's own
    forward, as a share of the largest.  WeightsError where that is more than rounding.
    """
    ids_BT = probe(model)
    expected = attach(without(model), parts)(ids_BT)
    merge(model, parts)
    gap = float((model(ids_BT) - expected).abs().max() / expected.abs().max())
    bound = 1e-3 if model.dtype == torch.float32 else 0.05
    if not gap < bound:
        raise WeightsError(
            f"an adapter, merged: its logits differ from its own forward by {gap:.2g} of the largest; "
            f"expected less than {bound:g}; report this"
        )
    return gap


def same_shapes(known: Mapping[str, Place], shapes: Mapping[str, tuple[int, int]], where: str) -> None:
    """WeightsError unless every matrix of an adapter is one of the model's, of the same shape."""
    if unknown := slots.differences(known, shapes)["unknown"]:
        raise WeightsError(
            f"{where}: {len(unknown)} of {len(shapes)} matrices are none of the base model's that can be "
            f"adapted ({', '.join(unknown[:3])}); expected attention and dense or shared feed-forward; it is "
            "an adapter of another base, or of embeddings, heads or routed experts, which are not read here"
        )
    for name, shape in shapes.items():
        if shape != known[name].shape:
            raise WeightsError(
                f"{where}: {name} adapts {list(shape)}, and the base model has {list(known[name].shape)}: it "
                "is an adapter of another base; name that one as base_model_name_or_path"
            )
