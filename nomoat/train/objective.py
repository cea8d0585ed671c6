"""Next-token training on one packed batch: main loss, extra prediction depths, sequence-wise balance."""

import torch
from torch import Tensor

from nomoat.config import Strict
from nomoat.data.packing import Batch
from nomoat.model.moe import Experts, Routing, sequence_balance_loss
from nomoat.model.transformer import Transformer
from nomoat.train.loop import Gradient
from nomoat.train.loss import IGNORED, cross_entropy


class ObjectiveConfig(Strict):
    """Weights of the parts of the loss: V3 report, section 4.2."""

    balance_speed: float = 1e-3  # gamma: step of the routing biases
    balance_weight: float = 1e-4  # alpha: sequence-wise balance loss
    mtp_weight: float = 0.3  # lambda: extra prediction depths


def document_mask(doc_BT: Tensor) -> Tensor:
    """(B, 1, T, T), true where query t may attend to key s: same document, s <= t."""
    T = doc_BT.shape[1]
    same = doc_BT[:, :, None] == doc_BT[:, None, :]
    return (same & torch.ones(T, T, dtype=torch.bool, device=doc_BT.device).tril())[:, None]


def gradient(model: Transformer, batch: Batch, config: ObjectiveConfig) -> Gradient:
    """Forward and backward on one batch; the mean is over the trained tokens of this rank's rows."""
    B, T = batch.ids_BT.shape
    device = model.embed.device
    batch = Batch(batch.ids_BT.to(device), batch.targets_BT.to(device), batch.doc_BT.to(device))
    mask = document_mask(batch.doc_BT)
    h_BTD, routings = model.hidden(batch.ids_BT, mask=mask)
    targets_M = batch.targets_BT.flatten()
    loss, _ = cross_entropy(model.final(h_BTD).flatten(0, 1), model.head, targets_M)
    total = loss
    telemetry = {"trained_tokens": int((targets_M != IGNORED).sum())}
    if model.depths:
        further = further_loss(model, h_BTD, batch, mask)
        total = total + config.mtp_weight * further
        telemetry["mtp_loss"] = float(further.detach())
    if routings:
        s = model.spec
        balance = sum(sequence_balance_loss(r, B, s.n_active) for r in routings) / len(routings)
        total = total + config.balance_weight * balance
        telemetry["load_max"] = max(float(r.load_E().max() / r.load_E().mean()) for r in routings)
    total.backward()
    attended = T / 2 if model.spec.attention == "fused" else T
    return Gradient(
        loss=float(loss.detach()),
        tokens=B * T,
        flops_model=B * T * model.spec.flops_train((T + 1) / 2),
        flops_executed=B * T * model.spec.flops_train(attended, executed=True),
        telemetry=telemetry,
        after=lambda: balance_experts(model, routings, config.balance_speed),
    )


def further_loss(model: Transformer, h_BTD: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Mean over depths of the cross entropy of token i + k + 1 at position i (24) (25), within one document."""
    losses = []
    for k, (depth, deep_BTD) in enumerate(zip(model.depths, model.predict_further(h_BTD, batch.ids_BT, mask)), 1):
        targets_BT = torch.full_like(batch.targets_BT, IGNORED)
        same = batch.doc_BT[:, k:] == batch.doc_BT[:, :-k]
        targets_BT[:, :-k] = torch.where(same, batch.targets_BT[:, k:], IGNORED)
        losses.append(cross_entropy(depth.final(deep_BTD).flatten(0, 1), model.head, targets_BT.flatten())[0])
    return sum(losses) / len(losses)


def balance_experts(model: Transformer, routings: list[Routing], speed: float) -> None:
    """Move every routed layer's biases by what its load was in this step (section 2.1.2, no auxiliary loss)."""
    layers = [block.ffn for block in model.blocks if isinstance(block.ffn, Experts)]
    for layer, routing in zip(layers, routings):
        layer.balance(routing.load_E(), speed)
