"""Feed-forward layers: SwiGLU, and DeepSeekMoE with bias balancing (V3 report, section 2.1.2, equations (12) to (20)).

Shared experts stand first in the expert matrices: n_shared experts of width F equal one of width n_shared * F.
Two ways to multiply give the same numbers.  `sorted` groups the copies of the tokens by expert and multiplies each
group by its own matrices; `wide` multiplies every token by all experts in one product and lets the gates, zero for the
experts not chosen, weigh them: faster for small experts, at more FLOPs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.spec import ModelSpec

ROW_TILE = 64  # expert groups are padded to a multiple of this: few distinct shapes, so that kernels are reused


@dataclass(frozen=True, slots=True)
class Routing:
    """What one layer's router decided: affinities, chosen experts, their gates; all float32 or int64."""

    score_ME: Tensor
    expert_MK: Tensor
    gate_MK: Tensor

    def load_E(self) -> Tensor:
        """How many tokens chose each expert, float32."""
        return torch.bincount(self.expert_MK.flatten(), minlength=self.score_ME.shape[1]).float()


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of one matrix that holds both side by side.

    The copy pays on the CPU: silu of narrow strided halves leaves its vector path and takes eight times as long.
    """
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate.contiguous()) * up


class SwiGLU(nn.Module):
    """W_down(silu(W_gate h) * W_up h), gate and up in one matrix (arXiv 2002.05202)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.w_gate_up = nn.Parameter(torch.empty(2 * d_hidden, d_model))
        self.w_down = nn.Parameter(torch.empty(d_model, d_hidden))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(swiglu(F.linear(h, self.w_gate_up)), self.w_down)


class Slots:
    """Places for the copies of the tokens, expert by expert: each expert has `n_rows` and fills the first of them.

    `slot_MK` is the place of each copy, `token` whose copy each place holds.  An empty place holds token 0 and is given
    gate zero, so that it adds nothing to any sum or gradient.
    """

    def __init__(self, expert_MK: Tensor, n_experts: int):
        expert_Z = expert_MK.flatten()
        load_E = torch.bincount(expert_Z, minlength=n_experts)
        self.n_rows = -(-int(load_E.max()) // ROW_TILE) * ROW_TILE
        first_E = torch.arange(0, n_experts * self.n_rows, self.n_rows, device=load_E.device)
        order_Z = expert_Z.argsort(stable=True)
        place_Z = torch.arange(len(order_Z), device=load_E.device)
        place_Z += (first_E - load_E.cumsum(0) + load_E).repeat_interleave(load_E)
        self.slot_MK = torch.empty_like(expert_Z).index_copy_(0, order_Z, place_Z).view_as(expert_MK)
        self.token = expert_Z.new_zeros(n_experts * self.n_rows).index_copy_(0, place_Z, order_Z // expert_MK.shape[1])

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every slot's token: (experts, n_rows, D)."""
        return _Fill.apply(h_MD, self.token, self.slot_MK).unflatten(0, (-1, self.n_rows))

    def collect(self, slots: Tensor) -> Tensor:
        """The sum of every token's copies, MD: the transpose of `fill`."""
        return _Collect.apply(slots.flatten(0, 1), self.token, self.slot_MK)


class _Fill(torch.autograd.Function):
    """Its gradient reads the copies of each token; adding them up in place, row by row, takes ten times as long."""

    @staticmethod
    def forward(ctx, h_MD, token, slot_MK):
        ctx.save_for_backward(slot_MK)
        return h_MD.index_select(0, token)

    @staticmethod
    def backward(ctx, grad):
        return F.embedding_bag(*ctx.saved_tensors, grad, mode="sum"), None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slots, token, slot_MK):
        ctx.save_for_backward(token)
        return F.embedding_bag(slot_MK, slots, mode="sum")

    @staticmethod
    def backward(ctx, grad_MD):
        return grad_MD.index_select(0, *ctx.saved_tensors), None, None


class Experts(nn.Module):
    """Shared and routed experts behind one router."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        E, D, width = spec.n_routed, spec.d_model, spec.d_expert
        self.w_router = nn.Parameter(torch.empty(E, D))  # the centroids e_i of (15)
        self.register_buffer("bias_E", torch.zeros(E, dtype=torch.float32))
        self.w_gate_up = nn.Parameter(torch.empty(spec.n_shared + E, 2 * width, D))
        self.w_down = nn.Parameter(torch.empty(spec.n_shared + E, width, D))

    def route(self, h_MD: Tensor) -> Routing:
        """Who computes, and with what weight.  The bias moves the choice only, never the gate (16)."""
        s = self.spec
        logits_ME = F.linear(h_MD.float(), self.w_router.float())
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
        s = self.spec
        by_group = choice_ME.view(len(choice_ME), s.n_groups, -1)
        score = by_group.topk(2, -1).values.sum(-1) if s.group_score == "top2" else by_group.amax(-1)
        closed = torch.ones_like(score, dtype=torch.bool)
        closed.scatter_(1, score.topk(s.n_active_groups, -1, sorted=False).indices, False)
        return by_group.masked_fill(closed[..., None], float("-inf")).flatten(1)

    def forward(self, h: Tensor) -> tuple[Tensor, Routing]:
        h_MD = h.reshape(-1, h.shape[-1])
        routing = self.route(h_MD)
        out_MD = self._wide(h_MD, routing) if self.spec.experts == "wide" else self._sorted(h_MD, routing)
        return out_MD.view_as(h), routing

    def _wide(self, h_MD: Tensor, routing: Routing) -> Tensor:
        s = self.spec
        gate_up = F.linear(h_MD, self.w_gate_up.flatten(0, 1)).view(len(h_MD), -1, 2 * s.d_expert)
        weight_ME = torch.zeros_like(routing.score_ME).scatter(1, routing.expert_MK, routing.gate_MK)
        weight = F.pad(weight_ME, (s.n_shared, 0), value=1.0).to(h_MD.dtype)  # shared experts always count once
        hidden = swiglu(gate_up) * weight[..., None]
        return hidden.flatten(1) @ self.w_down.flatten(0, 1)  # (12)

    def _sorted(self, h_MD: Tensor, routing: Routing) -> Tensor:
        n, slots = self.spec.n_shared, Slots(routing.expert_MK, self.spec.n_routed)
        shared_gate_up, w_gate_up = self.w_gate_up.split((n, self.spec.n_routed))
        shared_down, w_down = self.w_down.split((n, self.spec.n_routed))
        gate = h_MD.new_zeros(len(slots.token))
        gate = gate.index_copy(0, slots.slot_MK.flatten(), routing.gate_MK.flatten().to(h_MD.dtype))
        hidden = swiglu(torch.bmm(slots.fill(h_MD), w_gate_up.mT)) * gate.view(-1, slots.n_rows, 1)
        out_MD = slots.collect(torch.bmm(hidden, w_down))  # (12)
        if n:
            hidden = swiglu(F.linear(h_MD, shared_gate_up.flatten(0, 1)).unflatten(1, (n, -1)))
            out_MD = out_MD + hidden.flatten(1) @ shared_down.flatten(0, 1)
        return out_MD

    def balance(self, load_E: Tensor, speed: float) -> None:
        """Balancing without an auxiliary loss: overloaded experts' biases fall by `speed`, the others' rise."""
        self.bias_E += speed * torch.sign(load_E.mean() - load_E)  # V3 report, section 2.1.2


def sequence_balance_loss(routing: Routing, n_sequences: int, n_active: int) -> Tensor:
    """(17) to (20) without the factor alpha: 1 where each sequence spreads evenly over the experts."""
    M, E = routing.score_ME.shape
    T = M // n_sequences
    chosen_ME = torch.zeros_like(routing.score_ME).scatter(1, routing.expert_MK, 1.0)
    f_BE = chosen_ME.view(n_sequences, T, E).mean(1) * (E / n_active)  # (18)
    share_ME = routing.score_ME / routing.score_ME.sum(-1, keepdim=True)  # (19)
    p_BE = share_ME.view(n_sequences, T, E).mean(1)  # (20)
    return (f_BE * p_BE).sum(-1).mean()  # (17)
