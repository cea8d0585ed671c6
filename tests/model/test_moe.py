"""DeepSeekMoE: both ways to multiply equal a loop over the equations; the bias chooses and never weighs."""

import math

import pytest
import torch
import torch.nn.functional as F
from shapes import shape, varied

from nomoat.model import copies, kernels
from nomoat.model.moe import Experts, Routing, SwiGLU, sequence_balance_loss
from nomoat.model.spec import Kernels

BASE = shape(
    vocab_size=8, n_layers=2, d_model=20, n_heads=1, d_nope=4, d_rope=2, d_value=4, d_kv_latent=4, d_ffn=8,
    n_dense_layers=0, n_routed=8, n_shared=1, n_active=3, d_expert=12,
)  # fmt: skip
SPECS = {
    "plain": {},
    "two shared, scaled": {"n_shared": 2, "routed_scale": 2.5},
    "no shared": {"n_shared": 0},
    "groups": {"n_groups": 4, "n_active_groups": 2},
    "not normalised": {"normalise_gates": False},
    "softmax, groups by best": {"scoring": "softmax", "group_score": "max", "n_groups": 4, "n_active_groups": 2},
    "one of eight": {"n_active": 1, "normalise_gates": False},
    "all": {"n_active": 8},
}


def made(change: dict, seed: int = 0) -> Experts:
    how = {"experts": change["experts"]} if "experts" in change else {}
    experts = Experts(varied(BASE, **{k: v for k, v in change.items() if k != "experts"}), Kernels(**how))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in experts.state_dict().values():
            fan = math.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 4.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 1.5 / fan)
    return experts


def tokens(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, BASE.d_model, generator=torch.Generator().manual_seed(seed))


def by_the_equations(experts: Experts, h: torch.Tensor) -> torch.Tensor:
    """(12) to (16), one token and one expert at a time."""
    s = experts.shape

    def expert(e, u):
        gate, up = (experts.w_gate_up.weight[e] @ u).chunk(2)
        return (F.silu(gate) * up) @ experts.w_down.weight[e]

    def shared(n, u):
        gate, up = (w.view(s.n_shared, s.d_expert, -1)[n] @ u for w in experts.shared.w_gate_up.weight.chunk(2))
        return experts.shared.w_down.weight.view(len(u), s.n_shared, -1)[:, n] @ (F.silu(gate) * up)

    rows = []
    for u in h:
        affinity = experts.w_router.weight @ u
        score = torch.sigmoid(affinity) if s.scoring == "sigmoid" else torch.softmax(affinity, 0)  # (15)
        biased = [(score[e] + experts.bias_E[e]).item() for e in range(s.n_routed)]
        size = s.n_routed // s.n_groups
        best = 2 if s.group_score == "top2" else 1
        worth = [sum(sorted(biased[g * size : (g + 1) * size])[-best:]) for g in range(s.n_groups)]
        groups = sorted(range(s.n_groups), key=lambda g: -worth[g])[: s.n_active_groups]
        eligible = [e for e in range(s.n_routed) if e // size in groups]
        chosen = sorted(eligible, key=lambda e: -biased[e])[: s.n_active]  # (16)
        gates = torch.stack([score[e] for e in chosen])  # (14)
        if s.normalise_gates:
            gates = gates / gates.sum()  # (13)
        out = sum((shared(n, u) for n in range(s.n_shared)), torch.zeros(len(u)))
        rows.append(out + s.routed_scale * sum(g * expert(e, u) for g, e in zip(gates, chosen)))  # (12)
    return torch.stack(rows)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("n_tokens", "tile", "rows"),
    [(1, 64, 1), (90, 64, 1), (90, 1, 1), (90, 1, 16)],
    ids=["one", "slots", "runs", "rounded runs"],
)
def test_sorted_equals_wide_equals_a_loop_over_the_equations(name, n_tokens, tile, rows, monkeypatch):
    monkeypatch.setattr(copies, "ROW_TILE", tile)
    monkeypatch.setattr(copies, "rows_of", lambda n, like: -(-n // rows) * rows)
    results = []
    for form in ("sorted", "wide", "loop"):
        experts, h_MD = made({**SPECS[name], "experts": form if form != "loop" else "sorted"}), tokens(n_tokens)
        h_MD.requires_grad_()
        out = by_the_equations(experts, h_MD) if form == "loop" else experts(h_MD)[0]
        (out * tokens(n_tokens, seed=2)).sum().backward()
        results.append((out.detach(), h_MD.grad, *(p.grad for p in experts.parameters())))
    for form in results[:2]:
        for got, want in zip(form, results[2]):
            torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)


def test_products_of_bf16_on_a_processor_have_few_numbers_of_rows():
    x = torch.empty(1, 2, dtype=torch.bfloat16)
    numbers = {0: 0, 1: 64, 64: 64, 511: 512, 513: 640, 1000: 1024, 1025: 1280, 4096: 4096}
    assert {n: kernels.rows_of(n, x) for n in numbers} == numbers
    assert kernels.rows_of(513, x.float()) == 513
    assert kernels.filled(x).shape == (64, 2)
    for whole in (x.expand(64, 2), x.float()):  # nothing is copied where nothing is missing
        assert kernels.filled(whole) is whole
    expert_MK = torch.randint(0, 8, (700, 2), generator=torch.Generator().manual_seed(0))
    slots = copies.by_expert(expert_MK, 8, torch.empty(0, dtype=torch.bfloat16))
    assert {load % 64 for load in slots.loads} == {0} and sum(slots.loads) < 1400 + 8 * 64
    assert sum(copies.by_expert(expert_MK, 8, torch.empty(0)).loads) == 1400


@pytest.mark.parametrize("name", [n for n in SPECS if n != "all"])
def test_the_bias_changes_which_experts_are_chosen_and_never_the_gate(name):
    experts, h_MD = made(SPECS[name]), tokens(200)
    s = experts.shape
    experts.bias_E.zero_()
    plain = experts.route(h_MD)
    experts.bias_E.copy_(torch.randn(s.n_routed, generator=torch.Generator().manual_seed(4)) * 0.3)
    biased = experts.route(h_MD)
    assert torch.equal(biased.score_ME, plain.score_ME)
    gate_MK = plain.score_ME.gather(1, biased.expert_MK)
    if s.normalise_gates:
        gate_MK = gate_MK / gate_MK.sum(-1, keepdim=True)
    torch.testing.assert_close(biased.gate_MK, gate_MK * s.routed_scale)
    assert not torch.equal(biased.load_E(), plain.load_E())
    experts.bias_E.add_(7.0)  # the same for all experts: nothing changes
    assert torch.equal(experts.route(h_MD).load_E(), biased.load_E())
    assert not experts.bias_E.requires_grad
    experts.bias_E.zero_()[5] = 100.0
    favoured = experts.route(h_MD)
    assert (favoured.expert_MK == 5).any(-1).all()
    assert favoured.gate_MK.max() <= s.routed_scale


@pytest.mark.parametrize("n_active_groups", [1, 2, 3])
@pytest.mark.parametrize("group_score", ["top2", "max"])
def test_no_token_reaches_more_groups_than_allowed(n_active_groups, group_score):
    change = {"n_groups": 4, "n_active_groups": n_active_groups, "n_active": 2, "group_score": group_score}
    routing = made(change).route(tokens(500))
    reached = F.one_hot(routing.expert_MK // 2, 4).amax(1).sum(1)
    assert reached.max() <= n_active_groups
    assert (routing.expert_MK.sort(1).values.diff(dim=1) > 0).all()  # K different experts


def test_balancing_moves_load_from_the_crowded_to_the_idle():
    experts, h_MD = made({}), tokens(400)
    experts.w_router.weight.data[2] = 0.3 * h_MD.mean(0) + experts.w_router.weight[3]
    experts.bias_E.zero_()[1] = 1.0

    def violation():
        load_E = experts.route(h_MD).load_E()
        return (load_E.max() / load_E.mean() - 1).item(), load_E

    before, load_E = violation()
    bias_E = experts.bias_E.clone()
    experts.balance(load_E, 0.01)
    step_E = experts.bias_E - bias_E
    torch.testing.assert_close(step_E, 0.01 * torch.sign(load_E.mean() - load_E))
    for _ in range(300):
        experts.balance(violation()[1], 0.01)
    assert violation()[0] < 0.1 < before


def routing_of(score_ME, expert_MK) -> Routing:
    return Routing(score_ME, expert_MK, score_ME.gather(1, expert_MK))


def test_the_sequence_balance_loss_is_one_at_perfect_balance():
    score_ME = torch.rand(16, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    expert_MK = torch.arange(32).view(16, 2) % 8
    loss = sequence_balance_loss(routing_of(score_ME, expert_MK), n_sequences=2, n_active=2)
    torch.testing.assert_close(loss, torch.tensor(1.0))


def test_the_sequence_balance_loss_equals_a_hand_computation_and_pushes_towards_balance():
    n_sequences, T, E, K = 3, 10, 8, 3
    experts, h_MD = made({"n_active": K}), tokens(n_sequences * T)
    routing = experts.route(h_MD)
    total = 0.0
    for b in range(n_sequences):
        rows = range(b * T, (b + 1) * T)
        for e in range(E):
            chosen = sum(int(e in routing.expert_MK[m].tolist()) for m in rows)
            f = E / (K * T) * chosen  # (18)
            p = sum((routing.score_ME[m, e] / routing.score_ME[m].sum()).item() for m in rows) / T  # (19) (20)
            total += f * p  # (17)
    loss = sequence_balance_loss(routing, n_sequences, K)
    torch.testing.assert_close(loss.item(), total / n_sequences, atol=1e-5, rtol=0)
    crowded = torch.zeros(T, E).index_fill(1, torch.tensor([0, 1, 2]), 4.0).sigmoid()
    expert_MK = torch.tensor([[0, 1, 2]]).expand(T, -1)
    assert sequence_balance_loss(routing_of(crowded, expert_MK), 1, K) > 1.3
    loss.backward()
    assert experts.w_router.weight.grad.abs().sum() > 0


def test_swiglu_is_its_definition():
    ffn, h = SwiGLU(6, 10), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for p in ffn.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator))
    gate, up = h @ ffn.w_gate_up.weight[:10].T, h @ ffn.w_gate_up.weight[10:].T
    torch.testing.assert_close(ffn(h), (gate * torch.sigmoid(gate) * up) @ ffn.w_down.weight.T)
