"""Next-token training on one packed batch: main loss, extra prediction depths, sequence-wise balance."""

import torch
from torch import Tensor

from nomoat.config import JsonObject, Strict, Weight
from nomoat.data.packing import Batch
from nomoat.model import counts, lora
from nomoat.model.kernels import keys_read
from nomoat.model.loss import IGNORED, cross_entropy
from nomoat.model.moe import Experts, sequence_balance_loss
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
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


def gradient(model: Transformer, batch: Batch, config: ObjectiveConfig, mesh: Mesh = ALONE) -> Gradient:
    """Forward and backward on this rank's rows of a batch.

    Every part of the loss is weighted so that the mean of the ranks' gradients is the gradient of the mean
    over all trained tokens (over all sequences, for the balance).
    """
    B, T = batch.ids_BT.shape
    device = model.device
    batch = Batch(batch.ids_BT.to(device), batch.targets_BT.to(device), batch.doc_BT.to(device))
    mask = document_mask(batch.doc_BT)
    h_BTD, routings = model.hidden(batch.ids_BT, mask=mask)
    loss, n_trained = _mean_loss(model, model.final(h_BTD), batch.targets_BT, mesh)
    total = loss
    telemetry = {"trained_tokens": n_trained}
    if model.depths:
        further = further_loss(model, h_BTD, batch, mask, mesh)
        total = total + config.mtp_weight * further
        telemetry["mtp_loss"] = float(further.detach())
    if routings:
        n_active = model.spec.ffn.n_active
        balance = sum(sequence_balance_loss(r, B, n_active) for r in routings) / len(routings)
        total = total + config.balance_weight * _weight(B, mesh) * balance
    loads = [r.load_E() for r in routings]
    mesh.all_reduce_mean(loads)
    if loads:
        telemetry |= load_telemetry(loads)
    total.backward()
    loss = loss.detach().clone()
    mesh.all_reduce_mean([loss])
    tokens = B * T
    speed = config.balance_speed if lora.passes(model) == 3 else 0.0  # beside an adapter everything stays
    return Gradient(
        loss=float(loss),
        tokens=tokens,
        flops_model=tokens * flops_train(model, (T + 1) / 2),
        flops_executed=tokens * flops_train(model, keys_read(model.kernels, T), model.kernels),
        telemetry=telemetry,
        after=lambda: balance_experts(model, loads, speed),
    )


def flops_train(model: Transformer, attended: float, kernels: Kernels | None = None) -> float:
    """Of a training token, forward and backward; less where weights stay."""
    return lora.passes(model) / 3 * counts.flops_train(model.spec, attended, kernels)


def _mean_loss(model: Transformer, h_BTD: Tensor, targets_BT: Tensor, mesh: Mesh) -> tuple[Tensor, int]:
    """(the rank's part of the mean loss over all trained tokens, how many it trains)."""
    loss, _ = cross_entropy(h_BTD.flatten(0, 1), model.head.weight, targets_BT.flatten())
    n_trained = int((targets_BT != IGNORED).sum())
    return loss * _weight(n_trained, mesh), n_trained


def _weight(n: int, mesh: Mesh) -> float:
    """This rank's share of something counted, times the number of ranks: 1 where it is alone."""
    if mesh.world == 1:
        return 1.0
    mean = torch.tensor(float(n), device=mesh.device)
    mesh.all_reduce_mean([mean])
    return n / max(float(mean), 1e-9)


def further_loss(model: Transformer, h_BTD: Tensor, batch: Batch, mask: Tensor, mesh: Mesh = ALONE) -> Tensor:
    """Mean over depths of the cross entropy of token i + k + 1 at position i (24) (25).

    Within one document.
    """
    losses = []
    deeper = model.predict_further(h_BTD, batch.ids_BT, mask)
    for k, (depth, deep_BTD) in enumerate(zip(model.depths, deeper), 1):
        targets_BT = _targets_behind(batch, k)
        loss, _ = _mean_loss(model, depth.final(deep_BTD), targets_BT, mesh)
        losses.append(loss)
    return sum(losses) / len(losses)


def _targets_behind(batch: Batch, k: int) -> Tensor:
    """Each position's target k further on, left out where another document is."""
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
