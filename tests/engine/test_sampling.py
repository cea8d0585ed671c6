"""Laws of choosing one token: the distribution, the edges, the truncations, the keyed randomness."""

import math

import pytest
import torch
from behind import random_model
from laws import TINY, alone, bits
from shapes import varied

from nomoat.config import ConfigError
from nomoat.engine.engine import Engine
from nomoat.engine.request import Request, Sampling
from nomoat.engine.sampling import BELOW_ONE, choose, shaped, truncated, uniforms


@pytest.mark.parametrize("n_vocab", [64, 200, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_follow_the_softmax(n_vocab, temperature):
    generator = torch.Generator().manual_seed(n_vocab)
    logits_1V = torch.randn(1, n_vocab, generator=generator)
    n = 100_000
    expected_V = (logits_1V / temperature).double().softmax(-1)[0] * n
    id_B, _ = choose(logits_1V.expand(n, -1), torch.rand(n, generator=generator), temperature)
    found_V = torch.bincount(id_B, minlength=n_vocab).double()
    chi_square = ((found_V - expected_V) ** 2 / expected_V).sum().item()
    freedom = n_vocab - 1
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_the_log_probability_is_the_log_softmax_of_the_chosen_token():
    generator = torch.Generator().manual_seed(0)
    logits_BV = 8 * torch.randn(50, 333, generator=generator)
    for temperature in (0.3, 1.0, 2.0):
        id_B, logp_B = choose(logits_BV, torch.rand(50, generator=generator), temperature)
        expected_B = (logits_BV / temperature).log_softmax(-1).gather(1, id_B[:, None])[:, 0]
        torch.testing.assert_close(logp_B, expected_B, atol=1e-5, rtol=1e-5)


def test_a_larger_uniform_number_never_gives_a_lower_id():
    logits_1V = torch.randn(1, 300, generator=torch.Generator().manual_seed(1))
    id_B, _ = choose(logits_1V.expand(4000, -1), torch.linspace(0, BELOW_ONE, 4000))
    assert (id_B.diff() >= 0).all()
    assert id_B[0] == 0
    assert id_B[-1] == 299


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.999999, BELOW_ONE])
def test_impossible_tokens_are_never_chosen(uniform):
    possible = torch.tensor([3, 64, 127, 130, 191, 256])
    logits_BV = torch.full((64, 400), float("-inf"))
    logits_BV[:, possible] = torch.randn(64, len(possible), generator=torch.Generator().manual_seed(2))
    id_B, logp_B = choose(logits_BV, torch.full((64,), uniform))
    assert torch.isin(id_B, possible).all()
    assert logp_B.isfinite().all()


def test_greedy_takes_the_best_and_of_equals_the_lower_id():
    id_B, logp_B = choose(torch.tensor([[0.0, 3.0, 1.0, 3.0], [5.0, 1.0, 2.0, 3.0]]), None)
    assert id_B.tolist() == [1, 0]
    assert (logp_B < 0).all()


def test_a_row_of_uniform_numbers_depends_on_its_key_alone():
    many = uniforms(5, [(0, 0), (3, 1), (3, 2)], 20)
    assert torch.equal(uniforms(5, [(3, 1)], 12)[0], many[1, :12])
    assert len({tuple(row.tolist()) for row in many}) == 3
    assert not torch.equal(uniforms(6, [(3, 1)], 20)[0], many[1])
    assert ((many >= 0) & (many < 1)).all()


def test_truncation_keeps_what_its_rules_say():
    logits_V = torch.tensor([0.5, 0.05, 0.2, 0.2, 0.05]).log()

    def kept(**rules):
        return torch.isfinite(truncated(logits_V, Sampling(**rules))).nonzero()[:, 0].tolist()

    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=1) == [0]
    assert kept(top_k=2) == [0, 2]  # of equals the lower id
    assert kept(top_k=9) == [0, 1, 2, 3, 4]
    assert kept(top_p=0.5) == [0]
    assert kept(top_p=0.6) == [0, 2]
    assert kept(top_p=0.95) == [0, 1, 2, 3]
    assert kept(top_p=1e-9) == [0]
    assert kept(min_p=0.3) == [0, 2, 3]
    assert kept(min_p=1.0) == [0]
    assert kept(top_k=3, top_p=0.6) == [0, 2]  # of the three that are left, .56 and .22
    assert kept(top_p=0.5, temperature=9.0) == [0, 2, 3]  # flatter: behind the temperature
    survivors = truncated(logits_V, Sampling(top_k=3))[[0, 2, 3]]
    assert torch.equal(survivors, logits_V[[0, 2, 3]])


def test_truncation_keeps_what_sorting_the_whole_vocabulary_keeps():
    generator = torch.Generator().manual_seed(0)
    settings = [{"top_k": k} for k in (1, 40, 511, 512, 600)] + [{"top_p": p} for p in (0.1, 0.9, 0.999)]
    settings += [{"top_k": 600, "top_p": 0.5}, {"min_p": 0.1}, {"min_p": 1e-6}]
    settings += [{"top_k": 50, "top_p": 0.8, "min_p": 0.01}]
    for width in (0.1, 1.0, 4.0):
        logits_V = width * torch.randn(3000, generator=generator)
        logits_V = logits_V.mul(4).round().div(4)  # with many equals
        logits_V[::7] = -math.inf
        for rules in settings:
            for temperature in (0.7, 1.5):
                sampling = Sampling(temperature, **rules)
                found = torch.isfinite(truncated(logits_V, sampling)).nonzero()[:, 0].tolist()
                assert found == sorted(by_rule(logits_V, sampling)), (width, rules)


def by_rule(logits_V, sampling):
    """The ids that stay, one after the other."""
    logits = logits_V.tolist()
    order = sorted(range(len(logits)), key=lambda id: (-logits[id], id))[: sampling.top_k]
    p_V = (logits_V[order] / sampling.temperature).double().softmax(-1)
    before, p = (p_V.cumsum(-1) - p_V).tolist(), p_V.tolist()
    return [id for n, id in enumerate(order) if n == 0 or (
        before[n] < sampling.top_p - 1e-9 and p[n] >= sampling.min_p * p[0] * (1 - 1e-6))]  # fmt: skip


def test_penalties_and_bias_change_the_logits_they_name():
    logits_V = torch.tensor([2.0, -2.0, 1.0, 0.0])
    asked = Sampling(repetition=2.0, presence=0.5, frequency=0.25, bias={3: -100.0})
    found = shaped(logits_V, asked, prompt=[0], reply=[1, 1])
    assert found.tolist() == [1.0, -4.0 - 0.5 - 2 * 0.25, 1.0, -100.0]
    assert logits_V.tolist() == [2.0, -2.0, 1.0, 0.0]
    assert shaped(logits_V, Sampling(), [0], [1]) is logits_V


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": math.nan}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1},
     {"min_p": -0.1},
     {"min_p": 2}, {"repetition": 0}, {"presence": math.inf}, {"top_logprobs": 21}, {"top_logprobs": -1}],
)  # fmt: skip
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} = .*; expected"):
        Sampling(**wrong)


def naive(
    logits: list[float], sampling: Sampling, prompt: list[int], reply: list[int], uniform: float
) -> tuple[int, float]:
    """The id and its log-probability by the words of `Sampling`, one number after another."""
    logits = list(logits)
    for id in {*prompt, *reply}:
        logits[id] *= sampling.repetition if logits[id] < 0 else 1 / sampling.repetition
    for id in reply:
        logits[id] -= sampling.frequency
    for id in set(reply):
        logits[id] -= sampling.presence
    for id, bias in sampling.bias.items():
        logits[id] += bias
    temperature, best = sampling.temperature or 1.0, max(logits)
    power = {id: math.exp((logit - best) / temperature) for id, logit in enumerate(logits)}
    total = sum(power.values())
    order = sorted(power, key=lambda id: (-power[id], id))[: sampling.top_k]
    within, kept = sum(power[id] for id in order), []
    for id in order:
        before = sum(power[k] for k in kept) / within
        if kept and (before >= sampling.top_p or power[id] < sampling.min_p * power[order[0]]):
            break
        kept.append(id)
    place, chosen = uniform * sum(power[id] for id in kept), order[0]
    for id in sorted(kept) if sampling.temperature else []:
        chosen = id
        place -= power[id]
        if place < 0:
            break
    return chosen, math.log(power[chosen] / total)


RULES = {
    "nothing": {},
    "greedy": {"temperature": 0.0},
    "warm": {"temperature": 1.7},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.7, "temperature": 1.4},
    "min-p": {"min_p": 0.15, "temperature": 2.0},
    "repetition": {"repetition": 1.8},
    "presence": {"presence": 1.5, "temperature": 0.0},
    "frequency": {"frequency": 0.8, "temperature": 0.3},
    "bias": {"bias": {1: 3.0, 2: -100.0, 39: 1.0}},
    "all": {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition": 0.8, "presence": -0.5,
            "frequency": 0.3, "bias": {4: -2.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_an_engine_chooses_as_the_words_say(model, name, compiled):
    asked = Request([3, 1, 4, 1, 5], 25, sampling=Sampling(**RULES[name]), seed=3, key=2, n=2)
    found = alone(Engine(model, compiled=compiled), asked)
    for sample, tokens in found.items():
        ids, numbers = list(asked.prompt), uniforms(3, [(2, sample)], 25)[0].tolist()
        with torch.no_grad():
            logits_TV = model(torch.tensor([[*ids, *(token.id for token in tokens)]]))[0].double()
        assert len(tokens) == 25
        for token, uniform in zip(tokens, numbers):
            reply = ids[5:]
            id, logp = naive(logits_TV[len(ids) - 1].tolist(), asked.sampling, asked.prompt, reply, uniform)
            assert token.id == id
            assert abs(token.logp - logp) < 1e-4
            ids.append(token.id)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("k", [0, 1, 20])
def test_the_alternatives_are_those_of_the_forward(model, k, compiled):
    asked = Request([3, 1, 4], 15, sampling=Sampling(0.8, bias={6: 1.0}, top_logprobs=k), n=2)
    for tokens in alone(Engine(model, compiled=compiled), asked).values():
        with torch.no_grad():
            logp_TV = model(torch.tensor([[3, 1, 4, *(token.id for token in tokens)]]))[0, 2:].log_softmax(-1)
        for token, logp_V in zip(tokens, logp_TV):
            best = logp_V.topk(k)
            assert [logp for _, logp in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
            assert [id for id, _ in token.top] == best.indices.tolist()
            assert token.plain_logp == pytest.approx(logp_V[token.id].item(), abs=1e-4)


def test_a_small_vocabulary_has_no_twenty_alternatives():
    model = random_model(varied(TINY, vocab_size=7))
    found = alone(Engine(model), Request([1], 3, sampling=Sampling(top_logprobs=20)))
    assert [len(token.top) for token in found[0]] == [7] * 3


def test_samples_are_drawn_by_seed_key_and_number(model):
    engine = Engine(model)

    def draw(**how):
        return bits(alone(engine, Request([5, 6], 12, **how)))

    three = draw(n=3, seed=9, key=4)
    assert draw(n=2, seed=9, key=4) == {j: three[j] for j in (0, 1)}
    assert draw(seed=9, key=4) == {0: three[0]}
    keys = ((8, 4), (9, 5), (-9, 4), (2**70, -1))
    others = [*(draw(seed=seed, key=key) for seed, key in keys), {0: three[1]}]
    assert three[0] not in [other[0] for other in others]
    assert len({str(other) for other in others}) == 5
