"""Group relative policy optimisation (arXiv 2402.03300): rollouts and what they are worth -> a gradient.

What an answer is worth beside its group, how much each of its tokens counts and what bounds an old rollout's
ratio is in `variants.py`; the default is Dr. GRPO's (arXiv 2503.20783): the reward less the mean of the
group, every token alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, field_validator
from torch import Tensor

from nomoat.config import Count, Strict, Weight, nearest
from nomoat.model import lora
from nomoat.model.loss import log_prob_objective
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.rl.reward import Group, flat
from nomoat.rl.rows import Columns, hidden_at, joined, lay, passes
from nomoat.rl.variants import VARIANTS, Bounds, Sizes

Refer = Callable[[Sequence[Columns]], Sequence[Tensor]]  # log p of what each pass learns from


class Objective(Strict):
    """What is optimised.

    `minibatches` updates are made of each step's rollouts; one is on-policy, more need the variant's ratio
    and its bounds, or `clip` instead.  `kl` pulls to a reference.  `temperature` and `max_new_tokens` are
    those of the rollouts.
    """

    variant: str = "dr-grpo"  # a row of VARIANTS
    clip: Bounds | None = None
    minibatches: Count = 1
    kl: Weight = 0.0
    temperature: float = Field(1.0, gt=0, le=100)
    max_new_tokens: Count = 96

    @field_validator("variant")
    @classmethod
    def _of_the_table(cls, name: str) -> str:
        if name not in VARIANTS:
            raise ValueError(nearest(name, list(VARIANTS)))
        return name

    @property
    def off_policy(self) -> bool:
        return self.minibatches > 1

    @property
    def whole_ratio(self) -> bool:
        return self.off_policy and VARIANTS[self.variant].whole


@dataclass(frozen=True, slots=True)
class Update:
    """What one policy-gradient pass measured; means over the sampled tokens."""

    loss: float
    entropy: float
    drift: float  # max |log p now - log p when drawn|: zero but for rounding while the policy is the sampler
    kl: float | None  # to the reference, in nats a token, by the k3 estimator
    tokens: int  # columns that were computed, of prompts and completions
    attended: float  # mean columns that one of them was multiplied with
    passes: int  # forward passes that were computed; a backward pass counts as two, or one where weights stay


def gradient(
    model: Transformer,
    groups: Sequence[Group],
    objective: Objective,
    n_rollouts: float,
    reference: Refer | None = None,
    mesh: Mesh = ALONE,
) -> Update:
    """Gradients of -sum_t weight_t s(w_t, A_t) + kl weight_t k3_t, accumulated over this rank's share of all
    rollouts of the groups, in as many passes as any rank needs.

    The mean over the batch is one over `n_rollouts`: those that teach nothing count too.  `reference` gives
    log p of the tokens of each pass, and is asked before any gradient is held.
    On-policy w_t = 1 and the gradient is REINFORCE's.  Tokens of an outside sampler have their advantage
    times their weight (mismatch.py).  k3 = r - log r - 1 with r = pi_ref / pi (GRPO, arXiv
    2402.03300, eq. 4).  Logits are divided by the temperature.
    """
    n_targets = sum(judged.rollout.length for judged in flat(groups))
    sizes = Sizes(n_rollouts, n_targets, objective.max_new_tokens)
    laid = [lay(chunk, model.device) for chunk in passes(model, groups, mesh)]
    said = reference(laid) if reference else [None] * len(laid)
    parts = []
    for columns, logp_M in zip(laid, said):
        terms = _terms(model, columns, objective, sizes, logp_M)
        parts.append(_pass(model, columns, terms))
    measured = ([p.loss for p in parts], [p.entropy for p in parts], [p.kl for p in parts])
    loss, entropy, kl = mesh.sums(*map(sum, measured))
    tokens = sum(p.tokens for p in parts)
    attended = sum(p.tokens * p.attended for p in parts)
    n = max(n_targets, 1)
    return Update(
        loss=loss,
        entropy=entropy / n,
        drift=max(mesh.gather(max([0.0, *(p.drift for p in parts)]))),
        kl=None if reference is None else kl / n,
        tokens=tokens,
        attended=attended / max(tokens, 1),
        passes=lora.passes(model) + (reference is not None) + objective.whole_ratio,
    )


def _pass(model: Transformer, columns: Columns, terms: "Terms") -> Update:
    """Forward and backward on some columns; what was measured, summed over their tokens."""
    objective = terms.objective
    h_MD = _hidden(model, columns, objective.temperature)
    total, logp_M, entropy_M = log_prob_objective(
        h_MD, model.head.weight, columns.target_M, terms.coefficient, entropy=True
    )
    total.backward()
    log_w_M = logp_M - terms.logp_drawn_M
    loss = -float((terms.weight_M * terms.advantage_M * log_w_M.exp()).sum())
    kl = 0.0
    if terms.logp_reference_M is not None:
        log_r_M = terms.logp_reference_M - logp_M
        k3_M = log_r_M.exp() - log_r_M - 1
        kl = float(k3_M.sum())
        loss += objective.kl * float((terms.weight_M * k3_M).sum())
    n = columns.ids_BT.shape[1]
    drift = float(log_w_M.abs().max()) if len(log_w_M) else 0.0
    return Update(loss, float(entropy_M.sum()), drift, kl, n, columns.attended, passes=0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the coefficient of log p is made of, for every target of some rows."""

    objective: Objective
    advantage_M: Tensor
    weight_M: Tensor
    logp_drawn_M: Tensor  # of the policy that drew the rollouts
    logp_base_M: (
        Tensor  # what log w is taken against; the one above, or for a whole ratio what makes log w its mean
    )
    logp_reference_M: Tensor | None

    def coefficient(self, logp: Tensor, part: slice) -> Tensor:
        """-weight (ds / dlog p - kl dk3 / dlog p), where dk3 / dlog p = 1 - r."""
        variant = VARIANTS[self.objective.variant]
        bounds = self.objective.clip or variant.bounds
        kl = self.objective.kl
        gain = self.advantage_M[part]
        if self.objective.off_policy:
            w = (logp - self.logp_base_M[part]).exp()
            gain = variant.surrogate(w, gain, bounds)
        if kl and self.logp_reference_M is not None:
            gain = gain - kl * (1 - (self.logp_reference_M[part] - logp).exp())
        return -self.weight_M[part] * gain


def _terms(
    model: Transformer,
    columns: Columns,
    objective: Objective,
    sizes: Sizes,
    logp_reference_M: Tensor | None,
) -> Terms:
    device, temperature = columns.ids_BT.device, objective.temperature
    lengths = [judged.rollout.length for judged in columns.members]
    each = torch.tensor(lengths, dtype=torch.long)
    advantages = torch.tensor([judged.advantage for judged in columns.members])
    weights = torch.tensor([VARIANTS[objective.variant].weight(length, sizes) for length in lengths])
    drawn_M = joined([judged.rollout.logp_T for judged in columns.members], torch.float32).to(device)
    advantage_M = advantages.repeat_interleave(each)
    if any(judged.rollout.weight_T is not None for judged in columns.members):
        advantage_M *= joined([judged.rollout.weight_T for judged in columns.members], torch.float32)
    base_M = drawn_M
    if objective.whole_ratio:  # log p - base is then the rollout's mean log ratio, gradients aside
        now_M = at_columns(model, columns, temperature)
        means = [log_w.mean().expand(len(log_w)) for log_w in (now_M - drawn_M).split(lengths)]
        base_M = now_M - joined(means, torch.float32).to(device)
    return Terms(
        objective=objective,
        advantage_M=advantage_M.to(device),
        weight_M=weights.repeat_interleave(each).to(device),
        logp_drawn_M=drawn_M,
        logp_base_M=base_M,
        logp_reference_M=logp_reference_M,
    )


def _hidden(model: Transformer, columns: Columns, temperature: float) -> Tensor:
    """(M, D): what predicts each target; its product with the head is the logits over the temperature."""
    h_MD = hidden_at(model, columns.ids_BT, columns.pos_BT, columns.spans, columns.source_M)
    return h_MD if temperature == 1 else h_MD / temperature


def log_probs(model: Transformer, laid: Sequence[Columns], temperature: float = 1.0) -> list[Tensor]:
    """log p of the sampled tokens of each pass, by a model that learns nothing here."""
    return [at_columns(model, columns, temperature) for columns in laid]


@torch.no_grad()
def at_columns(model: Transformer, columns: Columns, temperature: float) -> Tensor:
    """log p of every target of a pass."""
    h_MD = _hidden(model, columns, temperature)
    return log_prob_objective(
        h_MD, model.head.weight, columns.target_M, lambda logp, part: torch.zeros_like(logp)
    )[1]
