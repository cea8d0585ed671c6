"""Next-token training on one packed batch: main loss, extra prediction depths, sequence-wise balance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.config import JsonObject, Strict, Weight
from nomoat.data.packing import NOWHERE, Batch
from nomoat.model import counts, lora
from nomoat.model.kernels import keys_read
from nomoat.model.loss import IGNORED, cross_entropy
from nomoat.model.moe import Experts, sequence_balance_loss
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.parallel import experts
from nomoat.parallel.mesh import ALONE, Mesh
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
    model: Transformer, batches: Sequence[Batch], config: ObjectiveConfig, mesh: Mesh = ALONE
) -> Gradient:
    """Forward and backward on this rank's rows of a batch, one microbatch after the other.

    Every part of the loss is divided by what there is on all ranks together, so that the sum of the ranks'
    gradients is the gradient of the mean over all trained tokens (over all sequences, for the balance).
    All ranks have as many microbatches; rows of padding alone count nowhere.
    """
    batches = [_on(batch, model.device) for batch in batches]
    totals = totals_of(model, batches, mesh)
    sums = None
    for batch in batches:
        total, parts = losses(model, batch, config, totals)
        total.backward()
        sums = parts if sums is None else [a + b for a, b in zip(sums, parts)]
    mesh.all_reduce_sum(sums)
    sent = {place: sums.pop() for place in reversed(experts.parts(model))}
    loss, further, *loads = sums
    tokens = sum(n_rows(batch) * batch.ids_BT.shape[1] for batch in batches)
    T = batches[0].ids_BT.shape[1]
    speed = config.balance_speed if lora.passes(model) == 3 else 0.0  # beside an adapter everything stays
    return Gradient(
        loss=float(loss),
        tokens=tokens,
        flops_model=tokens * flops_train(model, (T + 1) / 2),
        flops_executed=tokens * flops_train(model, keys_read(model.kernels, T), model.kernels),
        telemetry={
            "trained_tokens": int(totals.targets[0]),
            **({"mtp_loss": float(further)} if model.depths else {}),
            **(load_telemetry(loads) if loads else {}),
            **experts.traffic(sent),
        },
        after=lambda: balance_experts(model, loads, speed),
    )


def losses(
    model: Transformer, batch: Batch, config: ObjectiveConfig, totals: Totals
) -> tuple[Tensor, list[Tensor]]:
    """(what a microbatch adds to the loss; its main and its further part, the load of each routed layer, how
    many tokens went how far)."""
    B = len(batch.ids_BT)
    mask = document_mask(batch.doc_BT)
    h_BTD, routings = model.hidden(batch.ids_BT, mask=mask)
    loss = _mean_loss(model, model.final(h_BTD), batch.targets_BT, totals.targets[0])
    total = loss
    further = loss.new_zeros(())
    if model.depths:
        further = further_loss(model, h_BTD, batch, mask, totals)
        total = total + config.mtp_weight * further
    n_real = n_rows(batch)
    if routings:
        n_active = model.spec.ffn.n_active
        balance = sum(sequence_balance_loss(r, B, n_active) for r in routings) / len(routings)
        total = total + config.balance_weight * (n_real / totals.rows) * balance
    loads = [r.load_E() for r in routings]
    sent = [experts.reached(routings, n) for n in experts.parts(model).values()]
    tokens = (count if n_real else torch.zeros_like(count) for count in (*loads, *sent))
    return total, [loss.detach(), further.detach(), *tokens]


def _on(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.ids_BT.to(device), batch.targets_BT.to(device), batch.doc_BT.to(device))


def n_rows(batch: Batch) -> int:
    """Rows that aren't padding alone; a microbatch has no row of that kind, or only such."""
    return int((batch.doc_BT[:, 0] != NOWHERE).sum())


def totals_of(model: Transformer, batches: Sequence[Batch], mesh: Mesh = ALONE) -> Totals:
    """Of these and all other ranks' microbatches."""
    counts = torch.zeros(2 + len(model.depths), dtype=torch.float64, device=model.device)
    for batch in batches:
        counts[0] += n_rows(batch)
        for k in range(1 + len(model.depths)):
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
    layers = [block.ffn for block in model.blocks if isinstance(block.ffn, Experts)]
    for layer, load_E in zip(layers, loads):
        layer.balance(load_E, speed)
