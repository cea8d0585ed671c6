"""Feed-forward layers: SwiGLU, and DeepSeekMoE with bias balancing (V3 report, section 2.1.2, equations (12)
to (20)).

The shared experts are one SwiGLU: n_shared experts of width F equal one of width n_shared * F.
Two ways to multiply the routed ones give the same numbers.  `sorted` groups the copies of the tokens by
expert and multiplies each group by its own matrices; `wide` multiplies every token by all experts in one
product and lets the gates, zero for the experts not chosen, weigh them: faster for small experts, at more
FLOPs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nomoat.model.copies import by_expert
from nomoat.model.kernels import swiglu
from nomoat.model.linear import ExpertLinear, Linear
from nomoat.model.spec import Kernels, Spec

Product = Callable[[Tensor, Tensor, Tensor], Tensor]  # (h_MD, expert_MK, gate_MK) -> out_MD


@dataclass(frozen=True, slots=True)
class Routing:
    """What one layer's router decided: affinities, chosen experts, their gates; all float32 or int64."""

    score_ME: Tensor
    expert_MK: Tensor
    gate_MK: Tensor

    def load_E(self) -> Tensor:
        """How many tokens chose each expert, float32."""
        return torch.bincount(self.expert_MK.flatten(), minlength=self.score_ME.shape[1]).float()


class SwiGLU(nn.Module):
    """W_down(silu(W_gate h) * W_up h), gate and up in one matrix (arXiv 2002.05202)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.w_gate_up = Linear(d_model, 2 * d_hidden)
        self.w_down = Linear(d_hidden, d_model)

    def forward(self, h: Tensor) -> Tensor:
        return self.w_down(swiglu(self.w_gate_up(h)))


class Experts(nn.Module):
    """Shared and routed experts behind one router; `product` is who multiplies the routed copies: this layer
    itself, or what stands between it and the experts of other processes (parallel/experts.py).
    """

    def __init__(self, spec: Spec, kernels: Kernels):
        super().__init__()
        self.shape = spec.ffn
        self.kernels = kernels
        D = spec.d_model
        E, F = self.shape.n_routed, self.shape.d_expert
        d_shared = self.shape.n_shared * F
        self.w_router = Linear(D, E, role="router")  # the centroids e_i of (15)
        self.register_buffer("bias_E", torch.zeros(E, dtype=torch.float32))
        self.shared = SwiGLU(D, d_shared) if d_shared else None
        self.w_gate_up = ExpertLinear(E, D, 2 * F)
        self.w_down = ExpertLinear(E, F, D, flipped=True)
        self.product: Product = self.multiply

    def route(self, h_MD: Tensor) -> Routing:
        """Who computes, and with what weight, in float32.  The bias moves the choice only, never the gate
        (16).
        """
        s = self.shape
        logits_ME = nn.functional.linear(h_MD.float(), self.w_router.weight.float())
        score_ME = logits_ME.sigmoid() if s.scoring == "sigmoid" else logits_ME.softmax(-1)  # (15)
        choice_ME = score_ME.detach() + self.bias_E
        if s.n_groups > 1:
            choice_ME = self._limit_groups(choice_ME)
        expert_MK = choice_ME.topk(s.n_active, -1, sorted=False).indices  # (16)
        gate_MK = score_ME.gather(1, expert_MK)  # (14)
        if s.normalise_gates:
            gate_MK = gate_MK / (gate_MK.sum(-1, keepdim=True) + 1e-20)  # (13)
        return Routing(score_ME, expert_MK, gate_MK * s.routed_scale)

    def _limit_groups(self, choice_ME: Tensor) -> Tensor:
        """Node-limited routing: only experts of the best groups stay eligible (section 2.1.2)."""
        s = self.shape
        per_group = s.n_routed // s.n_groups
        by_group = choice_ME.unflatten(1, (s.n_groups, per_group))
        best = 2 if s.group_score == "top2" else 1
        score = by_group.topk(best, -1).values.sum(-1)
        chosen = score.topk(s.n_active_groups, -1, sorted=False).indices
        closed = torch.ones_like(score, dtype=torch.bool)
        closed.scatter_(1, chosen, False)
        return by_group.masked_fill(closed[..., None], float("-inf")).flatten(1)

    def forward(self, h: Tensor) -> tuple[Tensor, Routing]:
        h_MD = h.reshape(-1, h.shape[-1])
        routing = self.route(h_MD)
        out_MD = self.product(h_MD, routing.expert_MK, routing.gate_MK)
        if self.shared is not None:
            out_MD = out_MD + self.shared(h_MD)  # (12)
        return out_MD.view_as(h), routing

    def multiply(self, h_MD: Tensor, expert_MK: Tensor, gate_MK: Tensor) -> Tensor:
        """The gated sum over the experts whose matrices are in this layer, counted from 0: MD.

        A copy for an expert behind the last of them adds nothing.
        """
        product = self._wide if self.kernels.experts == "wide" else self._sorted
        return product(h_MD, expert_MK, gate_MK)

    def _wide(self, h_MD: Tensor, expert_MK: Tensor, gate_MK: Tensor) -> Tensor:
        n_experts = self.w_down.n_experts
        gate_up = self.w_gate_up(h_MD).unflatten(1, (n_experts, 2 * self.shape.d_expert))
        weight = gate_MK.new_zeros(len(h_MD), n_experts + 1).scatter(1, expert_MK, gate_MK)
        hidden = swiglu(gate_up) * weight[:, :-1].to(h_MD.dtype)[..., None]
        return self.w_down(hidden.flatten(1))  # (12)

    def _sorted(self, h_MD: Tensor, expert_MK: Tensor, gate_MK: Tensor) -> Tensor:
        slots = by_expert(expert_MK, self.w_down.n_experts, h_MD)
        gate_up = self.w_gate_up(slots.fill(h_MD), slots.loads)
        hidden = swiglu(gate_up) * slots.gates(gate_MK.to(h_MD.dtype))
        return slots.collect(self.w_down(hidden, slots.loads))  # (12)

    def balance(self, load_E: Tensor, speed: float) -> None:
        """Balancing without an auxiliary loss: overloaded experts' biases fall by `speed`, others' rise."""
        self.bias_E += speed * torch.sign(load_E.mean() - load_E)  # V3 report, section 2.1.2


def sequence_balance_loss(routing: Routing, n_sequences: int, n_active: int) -> Tensor:
    """(17) to (20) without the factor alpha: 1 where each sequence spreads evenly over the experts."""
    score_ME = routing.score_ME
    M, E = score_ME.shape
    T = M // n_sequences
    chosen_ME = torch.zeros_like(score_ME).scatter(1, routing.expert_MK, 1.0)
    f_BE = chosen_ME.view(n_sequences, T, E).mean(1) * (E / n_active)  # (18)
    share_ME = score_ME / score_ME.sum(-1, keepdim=True)  # (19)
    p_BE = share_ME.view(n_sequences, T, E).mean(1)  # (20)
    return (f_BE * p_BE).sum(-1).mean()  # (17)
