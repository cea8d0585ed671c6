"""Next-token training on one packed batch: main loss, extra prediction depths, sequence-wise balance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.config import JsonObject, Strict, Weight
from nomoat.data.packing import NOWHERE, Batch
from nomoat.model import counts, lora
from nomoat.model.kernels import keys_read
from nomoat.model.loss import IGNORED, cross_entropy
from nomoat.model.moe import Routing, sequence_balance_loss
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Block, Transformer
from nomoat.parallel import experts
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.parallel.pipeline import Pipeline
from nomoat.train.loop import Gradient


class ObjectiveConfig(Strict):
    """Weights of the parts of the loss: V3 report, section 4.2."""

    balance_speed: Weight = 1e-3  # gamma: step of the routing biases
    balance_weight: Weight = 1e-4  # alpha: sequence-wise balance loss
    mtp_weight: Weight = 0.3  # lambda: extra prediction depths


def document_mask(doc_BT: Tensor) -> Tensor:
    """(B, 1, T, T), true where query t may attend to key s: same document, s <= t."""
    T = doc_BT.shape[1]
    same = doc_BT[:, :, None] == doc_BT[:, None, :]
    return (same & torch.ones(T, T, dtype=torch.bool, device=doc_BT.device).tril())[:, None]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the parts of the loss are means over, of all microbatches of all ranks."""

    targets: tuple[float, ...]  # trained tokens of the main loss, then of each further depth
    rows: float


def gradient(model: Transformer, batch: Batch, config: ObjectiveConfig) -> Gradient:
    """Forward and backward on a batch, all at once, by one rank."""
    return accumulate(model, [batch], config)


def accumulate(
    model: Transformer,
    batches: Sequence[Batch],
    config: ObjectiveConfig,
    mesh: Mesh = ALONE,
    pipeline: Pipeline | None = None,
) -> Gradient:
    """Forward and backward on this rank's rows of a batch, one microbatch after the other.

    Every part of the loss is divided by what there is on all ranks together, so that the sum of the ranks'
    gradients is the gradient of the mean over all trained tokens (over all sequences, for the balance).
    All ranks have as many microbatches; rows of padding alone count nowhere.  The ranks of a `pipeline` have
    the same ones.
    """
    batches = [_on(batch, model.device) for batch in batches]
    totals = totals_of(model, batches, mesh)
    parts = experts.parts(model.spec, mesh)
    if pipeline is None:
        sums = _in_turn(model, batches, config, totals, parts)
    else:
        sums = _in_stages(pipeline, batches, config, totals, parts)
    mesh.all_reduce_sum(sums)
    sent = {place: sums.pop() for place in reversed(parts)}
    loss, further, *loads = sums
    rows = sum(map(n_rows, batches)) if mesh.index("pipeline") == 0 else 0  # counted once
    T = batches[0].ids_BT.shape[1]
    tokens = rows * T
    speed = config.balance_speed if lora.passes(model) == 3 else 0.0  # beside an adapter everything stays
    return Gradient(
        loss=float(loss),
        tokens=tokens,
        flops_model=tokens * flops_train(model, (T + 1) / 2),
        flops_executed=tokens * flops_train(model, keys_read(model.kernels, T), model.kernels),
        telemetry={
            "trained_tokens": int(totals.targets[0]),
            **({"mtp_loss": float(further)} if model.spec.n_mtp else {}),
            **(load_telemetry(loads) if loads else {}),
            **experts.traffic(sent),
        },
        after=lambda: balance_experts(model, loads, speed),
    )


def _in_turn(
    model: Transformer,
    batches: Sequence[Batch],
    config: ObjectiveConfig,
    totals: Totals,
    parts: Mapping[str, int],
) -> list[Tensor]:
    """Forward and backward pass of each microbatch; gives the sums of the parts that `losses` gives."""
    sums = None
    for batch in batches:
        total, added = losses(model, batch, config, totals, parts)
        total.backward()
        sums = added if sums is None else [a + b for a, b in zip(sums, added)]
    return sums


def losses(
    model: Transformer,
    batch: Batch,
    config: ObjectiveConfig,
    totals: Totals,
    parts: Mapping[str, int],
) -> tuple[Tensor, list[Tensor]]:
    """(what a microbatch adds to the loss; its main and its further part, the load of each routed layer, how
    many tokens went how far among the `parts` that the experts lie on)."""
    mask = document_mask(batch.doc_BT)
    h_BTD, routings = model.hidden(batch.ids_BT, mask=mask)
    total, means = token_losses(model, h_BTD, batch, mask, config, totals)
    if routings:
        total = total + balance_loss(model.spec, routings, batch, config, totals)
    loads = [_load_E(routing, batch) for routing in routings]
    return total, [*means, *loads, *_sent(routings, parts, batch)]


def token_losses(
    model: Transformer, h_BTD: Tensor, batch: Batch, mask: Tensor, config: ObjectiveConfig, totals: Totals
) -> tuple[Tensor, list[Tensor]]:
    """(what the tokens of a microbatch add to the loss; the main and the further part of it)."""
    loss = _mean_loss(model, model.final(h_BTD), batch.targets_BT, totals.targets[0])
    if not model.depths:
        return loss, [loss.detach(), loss.new_zeros(())]
    further = further_loss(model, h_BTD, batch, mask, totals)
    total = loss + config.mtp_weight * further
    return total, [loss.detach(), further.detach()]


def balance_loss(
    spec: Spec, routings: Sequence[Routing], batch: Batch, config: ObjectiveConfig, totals: Totals
) -> Tensor:
    """What some of the routed layers add to the loss, for a microbatch: the sequence-wise balance."""
    B, n_active = len(batch.ids_BT), spec.ffn.n_active
    balance = sum(sequence_balance_loss(r, B, n_active) for r in routings) / spec.n_moe_layers
    return config.balance_weight * (n_rows(batch) / totals.rows) * balance


def _sent(routings: Sequence[Routing], parts: Mapping[str, int], batch: Batch) -> list[Tensor]:
    """How many tokens went how far, for each of the parts; none of a row of padding."""
    return [experts.reached(routings, n) * bool(n_rows(batch)) for n in parts.values()]


def _load_E(routing: Routing, batch: Batch) -> Tensor:
    """How many tokens chose each expert; none of a row of padding."""
    return routing.load_E() * bool(n_rows(batch))


@dataclass(frozen=True)
class Staged:
    """A microbatch, of which each stage of a pipeline computes what it has; `sums` as `losses` gives them."""

    batch: Batch
    config: ObjectiveConfig
    totals: Totals
    spec: Spec
    parts: Mapping[str, int]
    sums: list[Tensor]

    @property
    def ids_BT(self) -> Tensor:
        return self.batch.ids_BT

    def mask(self) -> Tensor:
        return document_mask(self.batch.doc_BT)

    def beside(self, routings: Mapping[int, Routing]) -> Tensor | None:
        if not routings:
            return None
        spec = self.spec
        decided = list(routings.values())
        for layer, routing in routings.items():
            place = 2 + layer - spec.n_dense_layers
            self._add(place, [_load_E(routing, self.batch)])
        sent = _sent(decided, self.parts, self.batch)
        self._add(2 + spec.n_moe_layers, sent)
        return balance_loss(spec, decided, self.batch, self.config, self.totals)

    def _add(self, first: int, parts: Sequence[Tensor]) -> None:
        """To the sums from the `first` on."""
        for whole, part in zip(self.sums[first:], parts):
            whole += part

    def end(self, model: Transformer, h_BTD: Tensor, mask: Tensor) -> Tensor:
        total, parts = token_losses(model, h_BTD, self.batch, mask, self.config, self.totals)
        self._add(0, parts)
        return total


def _in_stages(
    pipeline: Pipeline,
    batches: Sequence[Batch],
    config: ObjectiveConfig,
    totals: Totals,
    parts: Mapping[str, int],
) -> list[Tensor]:
    """As `_in_turn`, of all stages."""
    spec = pipeline.model.spec
    sizes = [(), (), *[(spec.ffn.n_routed,) for _ in range(spec.n_moe_layers)]]
    sizes += [(n + 1,) for n in parts.values()]
    sums = [torch.zeros(size, device=pipeline.device) for size in sizes]
    pipeline.step([Staged(batch, config, totals, spec, parts, sums) for batch in batches])
    pipeline.add_up(sums)
    return sums


def _on(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.ids_BT.to(device), batch.targets_BT.to(device), batch.doc_BT.to(device))


def n_rows(batch: Batch) -> int:
    """Rows that aren't padding alone; a microbatch has no row of that kind, or only such."""
    return int((batch.doc_BT[:, 0] != NOWHERE).sum())


def totals_of(model: Transformer, batches: Sequence[Batch], mesh: Mesh = ALONE) -> Totals:
    """Of these and all other ranks' microbatches."""
    counts = torch.zeros(2 + model.spec.n_mtp, dtype=torch.float64, device=model.device)
    for batch in batches:
        counts[0] += n_rows(batch)
        for k in range(1 + model.spec.n_mtp):
            trained_BT = _targets_behind(batch, k) != IGNORED
            counts[k + 1] += int(trained_BT.sum())
    mesh.all_reduce_sum([counts])
    rows, *targets = counts.tolist()
    return Totals(tuple(targets), max(rows, 1.0))


def flops_train(model: Transformer, attended: float, kernels: Kernels | None = None) -> float:
    """Of a training token, forward and backward; less where weights stay."""
    return lora.passes(model) / 3 * counts.flops_train(model.spec, attended, kernels)


def _mean_loss(model: Transformer, h_BTD: Tensor, targets_BT: Tensor, n_targets: float) -> Tensor:
    """What these rows add to the mean loss over `n_targets` trained tokens."""
    loss, _ = cross_entropy(h_BTD.flatten(0, 1), model.head.weight, targets_BT.flatten())
    n_trained = int((targets_BT != IGNORED).sum())
    return loss * (n_trained / max(n_targets, 1.0))


def further_loss(model: Transformer, h_BTD: Tensor, batch: Batch, mask: Tensor, totals: Totals) -> Tensor:
    """Mean over depths of the cross entropy of token i + k + 1 at position i (24) (25).

    Within one document.
    """
    losses = []
    deeper = model.predict_further(h_BTD, batch.ids_BT, mask)
    for k, (depth, deep_BTD) in enumerate(zip(model.depths, deeper), 1):
        targets_BT = _targets_behind(batch, k)
        losses.append(_mean_loss(model, depth.final(deep_BTD), targets_BT, totals.targets[k]))
    return sum(losses) / len(losses)


def _targets_behind(batch: Batch, k: int) -> Tensor:
    """Each position's target k further on, left out where another document is."""
    if k == 0:
        return batch.targets_BT
    targets_BT = torch.full_like(batch.targets_BT, IGNORED)
    same = batch.doc_BT[:, k:] == batch.doc_BT[:, :-k]
    targets_BT[:, :-k] = torch.where(same, batch.targets_BT[:, k:], IGNORED)
    return targets_BT


def load_telemetry(loads: list[Tensor]) -> JsonObject:
    """The load of each expert of each routed layer as a multiple of the layer's mean, and the largest."""
    shares = [load_E / load_E.mean() for load_E in loads]
    return {"load_max": float(torch.stack([share_E.max() for share_E in shares]).max()), "loads": shares}


def balance_experts(model: Transformer, loads: list[Tensor], speed: float) -> None:
    """Move each routed layer's biases by its load in this step (section 2.1.2, no auxiliary loss)."""
    routed = [block for layer, block in enumerate(model.blocks) if model.spec.is_moe(layer)]
    for block, load_E in zip(routed, loads):
        if isinstance(block, Block):  # other stages' are elsewhere
            block.ffn.balance(load_E, speed)
