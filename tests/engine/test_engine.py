"""Laws of decoding: with the cache, in groups and in waves the model says what its full forward says."""

import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from behind import random_model
from shapes import dense_twin, shape, varied

from nomoat.config import ConfigError, DataError
from nomoat.engine.batch import Batch, Drawn
from nomoat.engine.engine import Engine
from nomoat.engine.generate import Sampler, sample, stream
from nomoat.engine.request import Request, Sampling, Thinking
from nomoat.model.spec import Yarn
from nomoat.model.transformer import Transformer

BASE = shape(
    vocab_size=150, n_layers=3, d_model=32, n_heads=2, d_nope=8, d_rope=4, d_value=6, d_kv_latent=12,
    d_q_latent=16, d_ffn=48, n_routed=8, n_active=2, d_expert=12, context=80,
)  # fmt: skip
SPECS = {
    "sigmoid": BASE,
    "softmax": varied(
        BASE, scoring="softmax", group_score="max", n_groups=4, n_active_groups=2, normalise_gates=False,
        n_shared=2, d_q_latent=None, tied=True,
    ),
    "unshared": varied(BASE, n_shared=0, routed_scale=2.5, n_mtp=1),
    "stretched": varied(dense_twin(BASE), stretch=Yarn(factor=4.0, original_context=20)),
}  # fmt: skip
PROMPTS = [[5, 9, 11], [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31], [7], [90, 3, 3, 14, 15, 92]]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model(BASE)


def full_logits(model: Transformer, prompt, ids_T) -> torch.Tensor:
    """logits_TV that stood before each of the new ids, by a forward pass without a cache."""
    with torch.no_grad():
        return model(torch.tensor([[*prompt, *ids_T.tolist()]]))[0, len(prompt) - 1 : -1]


@pytest.mark.parametrize("name", SPECS)
def test_greedy_ids_are_the_argmax_of_full_forwards(name):
    model = random_model(SPECS[name])
    groups = sample(model, PROMPTS, max_new_tokens=30, seed=0, stop_ids=[], greedy=True)
    for prompt, [one] in zip(PROMPTS, groups, strict=True):
        logits_TV = full_logits(model, prompt, one.ids_T)
        best_T, chosen_T = logits_TV.amax(-1), logits_TV.gather(1, one.ids_T[:, None])[:, 0]
        torch.testing.assert_close(chosen_T, best_T, atol=1e-4, rtol=0)
        assert (logits_TV.argmax(-1) == one.ids_T).float().mean() > 0.95  # the rest are ties up to rounding


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_full_forwards(name, temperature):
    model = random_model(SPECS[name])
    groups = sample(
        model,
        PROMPTS,
        n_per_prompt=3,
        max_new_tokens=40,
        temperature=temperature,
        seed=1,
        stop_ids=[8],
    )
    for prompt, one in (
        (prompt, one) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group
    ):
        logp_TV = (full_logits(model, prompt, one.ids_T) / temperature).log_softmax(-1)
        torch.testing.assert_close(one.logp_T, logp_TV.gather(1, one.ids_T[:, None])[:, 0], atol=1e-4, rtol=0)


def ids_of(groups) -> list[list[list[int]]]:
    return [[one.ids_T.tolist() for one in group] for group in groups]


def test_a_sample_does_not_depend_on_its_company(model):
    how = {"max_new_tokens": 30, "seed": 4, "stop_ids": [8, 9, 10, 11]}
    together = ids_of(sample(model, PROMPTS, n_per_prompt=4, **how))
    assert len({tuple(ids) for group in together for ids in group}) == 16
    for i, prompt in enumerate(PROMPTS):
        assert ids_of(sample(model, [prompt], n_per_prompt=4, keys=[i], **how)) == [together[i]]
        assert ids_of(sample(model, [prompt], keys=[i], **how)) == [together[i][:1]]
    assert ids_of(sample(model, PROMPTS, n_per_prompt=4, rows=3, **how)) == together
    backwards = sample(model, PROMPTS[::-1], n_per_prompt=4, keys=[3, 2, 1, 0], **how)
    assert ids_of(backwards) == together[::-1]
    shorter = ids_of(sample(model, PROMPTS, n_per_prompt=4, **(how | {"max_new_tokens": 9})))
    assert shorter == [[ids[:9] for ids in group] for group in together]


def test_the_same_call_gives_the_same_bits_and_another_seed_does_not(model):
    def run(seed):
        groups = sample(model, PROMPTS, n_per_prompt=2, max_new_tokens=20, seed=seed, stop_ids=[8])
        return [(one.ids_T.tolist(), one.logp_T.tolist()) for group in groups for one in group]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_calls_of_one_sampler_share_an_engine_as_long_as_it_has_room(model):
    how = {"n_per_prompt": 2, "seed": 1, "stop_ids": [8]}
    sampler = Sampler("as is")
    engines = []
    for prompts, n in ((PROMPTS, 20), (PROMPTS[:1], 9), (PROMPTS[1:], 24)):
        drawn = sampler(model, prompts, max_new_tokens=n, **how)
        assert ids_of(drawn) == ids_of(sample(model, prompts, max_new_tokens=n, **how))
        engines.append(sampler.engine)
    assert engines[0] is engines[1] is engines[2]
    assert Sampler("as is")(model, [], max_new_tokens=9, **how) == []
    sampler.engine.blocks.n = 1
    sampler(model, PROMPTS, max_new_tokens=40, **how)
    assert sampler.engine is not engines[0]


def test_a_row_ends_at_its_first_stop_id_or_at_the_limit(model):
    stops = list(range(0, 150, 12))
    groups = sample(model, PROMPTS, n_per_prompt=16, max_new_tokens=12, seed=2, stop_ids=stops)
    ended = [one for group in groups for one in group if one.stop == "end"]
    cut = [one for group in groups for one in group if one.stop == "length"]
    assert ended
    assert cut
    for one in ended:
        *before, last = one.ids_T.tolist()
        assert last in stops
        assert not set(before) & set(stops)
    assert all(len(one.ids_T) == 12 and not set(one.ids_T.tolist()) & set(stops) for one in cut)
    for group in groups:
        assert all(len(one.logp_T) == len(one.ids_T) and one.logp_T.dtype == torch.float32 for one in group)


def test_a_row_ends_where_the_context_ends(model):
    long = [1 + i % 140 for i in range(BASE.context - 3)]
    [[one], [other]] = sample(model, [long, [5, 6]], max_new_tokens=10, seed=0, stop_ids=[])
    assert (len(one.ids_T), one.stop) == (3, "length")
    assert len(other.ids_T) == 10


def test_samples_can_enter_a_loss(model):
    [[one]] = sample(model, [[5]], max_new_tokens=4, seed=0, stop_ids=[])
    weight = torch.ones(4, requires_grad=True)
    (weight * one.logp_T).square().sum().backward()
    assert weight.grad is not None


def test_a_stream_says_what_a_sample_says(model):
    [[one]] = sample(model, [PROMPTS[1]], max_new_tokens=25, seed=3, stop_ids=[8, 9])
    ask = Request(PROMPTS[1], 25, stop_ids=frozenset((8, 9)), seed=3)
    assert [token.id for token in stream(Engine(model), ask)] == one.ids_T.tolist()
    [[best]] = sample(model, [PROMPTS[1]], max_new_tokens=25, seed=3, stop_ids=[8, 9], greedy=True)
    ask = replace(ask, sampling=Sampling(temperature=0.0), seed=5)
    assert [token.id for token in stream(Engine(model), ask)] == best.ids_T.tolist()


def test_a_stream_stops_when_asked(model):
    said, engine = [], Engine(model)
    for token in stream(engine, Request([5], 20), should_stop=lambda: len(said) == 3):
        said.append(token)
    assert len(said) == 3
    assert not engine.busy


def test_mistakes_are_named(model):
    how = {"max_new_tokens": 4, "seed": 0, "stop_ids": []}
    with pytest.raises(DataError, match="prompt 1 is empty"):
        sample(model, [[1], []], **how)
    with pytest.raises(DataError, match=r"prompt 0 has 80 ids and the model's context is 80.*shorten"):
        sample(model, [[1] * 80], **how)
    with pytest.raises(DataError, match="the model's context is 80"):
        next(stream(Engine(model), Request([1] * 99, 4)))
    with pytest.raises(DataError, match="2 prompts, 1 keys"):
        sample(model, [[1], [2]], keys=[0], **how)
    with pytest.raises(ConfigError, match="temperature = 0"):
        sample(model, [[1]], temperature=0, **how)
    with pytest.raises(ConfigError, match="max_new_tokens = 0"):
        sample(model, [[1]], **(how | {"max_new_tokens": 0}))
    assert sample(model, [], **how) == []


class Script:
    """A runner that says what is written: after the prompt, `ids` in turn."""

    invariant = True

    def __init__(self, n_prompt: int, ids: list[int]):
        self.n_prompt, self.ids = n_prompt, ids

    def run(self, batch: Batch) -> Drawn:
        ids = np.array([self.ids[batch.pos_M[place] + 1 - self.n_prompt] for place in batch.out])
        logits = torch.full((len(ids), BASE.vocab_size), -50.0)
        logits[torch.arange(len(ids)), torch.from_numpy(ids)] = 50.0
        return Drawn(ids, np.zeros(len(ids), np.float32), logits)


class Bytes:
    """A tokenizer of these pieces."""

    def __init__(self, pieces: list[bytes]):
        self.pieces = pieces

    def token_bytes(self, id: int) -> bytes:
        return self.pieces[id]


def scripted(model, ids: list[int], pieces: list[bytes] = (), n_prompt: int = 3, **asked) -> list:
    """The tokens that come of it when a model says `ids`."""
    engine = Engine(model, tokenizer=Bytes(pieces))
    engine.runner = Script(n_prompt, ids)
    engine.submit(Request([1] * n_prompt, len(ids), **asked))
    tokens = []
    while engine.busy:
        tokens += engine.step()
    return tokens


@pytest.mark.parametrize(
    ("pieces", "stop", "n"),
    [(["ab", "c", "d"], ["d"], 3), (["ab", "c", "d"], ["bc"], 2), (["ab", "c", "d"], ["abcd"], 3),
     (["xaby", "c"], ["ab"], 1),
     (["a", "a", "b"], ["aab"], 3), (["a", "a", "a", "b"], ["aab"], 4), (["ab"] * 3, ["bab", "x"], 2),
     (["a", "b", "", "c"], ["bc"], 4), (["ab", "cd", "ef"], ["bd", "g"], None), (["ab", "c"], ["cd"], None),
     (["one", "\n", "\nUser", ":"], ["\n\nUser:"], 4), (["a" * 50, "b"], ["a" * 40 + "b", "q"], 2)],
)  # fmt: skip
def test_a_stop_string_may_cross_tokens(model, pieces, stop, n):
    tokens = scripted(model, list(range(len(pieces))), [p.encode() for p in pieces], stop=tuple(stop))
    assert [token.id for token in tokens] == list(range(n or len(pieces)))
    assert tokens[-1].stop == ("stop" if n else "length")


def test_a_stop_string_may_cross_the_bytes_of_a_letter(model):
    said = "né 🙂!".encode()
    pieces = [said[i : i + 1] for i in range(len(said))]
    for stop, n in {"é": 3, "🙂": 8, "é 🙂": 8, "🙂!": 9, "\u00c3": None}.items():
        tokens = scripted(model, list(range(len(pieces))), pieces, stop=(stop,))
        assert (len(tokens), tokens[-1].stop) == ((n, "stop") if n else (len(pieces), "length"))


def test_stop_strings_end_where_the_whole_text_holds_one(model):
    draw, pieces = random.Random(0), [b"a", b"b", b"ab", b"ba", b"aab", b"", b"\xc3", b"\xa9"]
    ends = []
    for _ in range(150):
        ids = [draw.randrange(8) for _ in range(30)]
        lengths = [draw.randrange(1, 6) for _ in range(draw.randrange(1, 3))]
        stop = tuple("".join(draw.choices("abé", k=length)) for length in lengths)
        texts = [b"".join(pieces[id] for id in ids[: n + 1]) for n in range(30)]
        held = [n for n, text in enumerate(texts) if any(end.encode() in text for end in stop)]
        tokens = scripted(model, ids, pieces, stop=stop)
        assert len(tokens) == (held[0] + 1 if held else 30)
        ends.append(tokens[-1].stop)
    assert min(ends.count("stop"), ends.count("length")) > 5


def test_a_stop_string_is_none_of_the_prompt(model):
    tokens = scripted(model, [2, 0, 2], [b"a", b"a", b"b"], stop=("aab",))
    assert len(tokens) == 3  # the prompt ends with aaa


OPEN, CLOSE = 148, 149


@pytest.mark.parametrize(
    ("said", "budget", "opened", "expected"),
    [([1, 2, 3, 4], 0, True, [CLOSE, 2, 3, 4]), ([1, 2, 3, 4], 2, True, [1, 2, CLOSE, 4]),
     ([1, 2, 3], 3, True, [1, 2, 3]),
     ([1, CLOSE, 3, 4], 2, True, [1, CLOSE, 3, 4]), ([1, 2, CLOSE, 4], 2, True, [1, 2, CLOSE, 4]),
     ([1, 2, 3, 4], 0, False, [1, 2, 3, 4]), ([1, OPEN, 3, 4], 0, False, [1, OPEN, CLOSE, 4]),
     ([1, OPEN, 3, 4, 5], 2, False, [1, OPEN, 3, 4, CLOSE]),
     ([OPEN, CLOSE, OPEN, 3, 4], 1, False, [OPEN, CLOSE, OPEN, 3, CLOSE]),
     ([1, 2, 3, OPEN, 5, 6], 1, True, [1, CLOSE, 3, OPEN, 5, CLOSE])],
)  # fmt: skip
def test_thinking_ends_with_its_budget(model, said, budget, opened, expected):
    for settings in ({}, {"temperature": 0.0}, {"top_logprobs": 2}):
        thinking = Thinking(budget, OPEN, CLOSE, opened)
        tokens = scripted(model, said, thinking=thinking, sampling=Sampling(**settings))
        assert [token.id for token in tokens] == expected
        forced = [token for token, id in zip(tokens, said) if token.id != id]
        assert all(token.logp == pytest.approx(-100, abs=1e-3) for token in forced)  # what the model gives it


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_a_budget_changes_no_token_before_its_end(model, compiled):
    """What follows a forced mark is what follows the same ids in a prompt."""
    engine = Engine(model, compiled=compiled)
    how, thinking = {"sampling": Sampling(temperature=0.0)}, Thinking(4, OPEN, CLOSE, opened=True)
    free = [token.id for token in stream(engine, Request([5, 6], 20, **how))]
    held = [token.id for token in stream(engine, Request([5, 6], 20, thinking=thinking, **how))]
    assert held[:5] == [*free[:4], CLOSE]
    assert held[5:] == [token.id for token in stream(engine, Request([5, 6, *held[:5]], 15, **how))]


def test_two_streams_of_one_engine_lose_nothing(model):
    engine = Engine(model)
    asked = [Request(prompt, 9 + i, seed=i) for i, prompt in enumerate(PROMPTS)]
    alone = [[token.id for token in stream(Engine(model), request)] for request in asked]
    streams, heard = [stream(engine, request) for request in asked], [[] for _ in asked]
    for turn in range(20):
        for i in range(len(asked)):
            heard[i] += [token.id for token in islice(streams[i], 1 + turn % 3)]
    assert heard == alone
    inside = []
    for token in stream(engine, asked[0]):
        [[one]] = sample(model, [PROMPTS[1]], max_new_tokens=4, seed=0, stop_ids=[], engine=engine)
        inside.append(token.id)
    assert inside == alone[0]
    assert not engine.busy


def test_a_stream_that_is_closed_early_leaves_nothing(model):
    engine = Engine(model)
    others = stream(engine, Request([9], 12))
    first = next(others).id
    for n in range(4):
        closed = stream(engine, Request(PROMPTS[1], 20, n=1 + n % 2))
        for _ in range(n):
            next(closed)
        closed.close()
        assert len(engine.scheduler.running) == 1
        assert not engine.scheduler.waiting
    rest = [token.id for token in others]
    assert [first, *rest] == [token.id for token in stream(Engine(model), Request([9], 12))]
    assert not engine.busy
    assert not engine.unread


def test_an_error_of_the_listener_leaves_nothing(model):
    engine = Engine(model)

    def fails(*_):
        raise ValueError("no more")

    how = {"stop_ids": range(0, 150, 6), "on_end": fails}
    with pytest.raises(ValueError, match="no more") as caught:
        sample(model, PROMPTS, max_new_tokens=30, seed=2, engine=engine, **how)
    assert not engine.busy
    assert not engine.unread
    assert caught.tb is not None
    assert sample(model, [[1]], max_new_tokens=3, seed=2, stop_ids=[], engine=engine)
