"""What can't be continued is refused before anything is computed, and disturbs nobody."""

import math
import re

import pytest
from behind import random_model
from laws import CLOSE, OPEN, TINY, alone, bits, finish, roomy, said, whole

from nomoat.config import ConfigError, DataError, UserError
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import sample, stream
from nomoat.engine.native import build
from nomoat.engine.request import Request, Sampling, Thinking


class Letters:
    """Each id is a letter."""

    def token_bytes(self, id: int) -> bytes:
        return bytes([97 + id % 26])


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


WRONG = {
    r"the prompt is empty; expected one id or more": {"prompt": []},
    r"the prompt has 150 ids and the model's context is 150; expected at most 149": {"prompt": [1] * 150},
    r"the prompt has 9999 ids": {"prompt": [1] * 9999},
    r"the prompt names id 40; expected 0 to 39": {"prompt": [1, 40, 2]},
    r"the prompt names id -1; expected 0 to 39": {"prompt": [1, -1]},
    r"max_new_tokens = 0; expected 1 or more": {"max_new_tokens": 0},
    r"max_new_tokens = -3; expected 1 or more": {"max_new_tokens": -3},
    r"n = 0; expected 1 or more": {"n": 0},
    r"max_new_tokens = 2.5; expected a whole number": {"max_new_tokens": 2.5},
    r"n = 1.5; expected a whole number": {"n": 1.5},
    r"seed = 'a'; expected a whole number": {"seed": "a"},
    r"the prompt names id 1.5; expected a whole number": {"prompt": [1, 1.5]},
    r"the prompt names id 'a'; expected a whole number": {"prompt": "ab"},
    r"the logit bias names id '3'; expected a whole number": {"sampling": Sampling(bias={"3": 1.0})},
    r"stop = 'ab'; expected a tuple of texts": {"stop": "ab"},
    r"a stop string is empty; expected a character": {"stop": ("a", "")},
    r"the stop string '\\ud800' has half a surrogate pair; expected text": {"stop": ("\ud800",)},
    r"the logit bias names id 40; expected 0 to 39": {"sampling": Sampling(bias={40: 1.0})},
    r"the logit bias names id -1; expected 0 to 39": {"sampling": Sampling(bias={3: 1.0, -1: 1.0})},
    r"thinking names id 44; expected 0 to 39": {"thinking": Thinking(3, 38, 44, opened=False)},
    r"the cache holds 96 positions; expected room for the 101 of one row; raise": {"max_new_tokens": 98},
    r"the cache holds 96 positions; expected room for the 150 of one row; raise": {"max_new_tokens": 10**12},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_what_cannot_be_continued_is_refused_and_touches_nobody(model, compiled, message):
    block_bytes = Engine(model, Limits(rows=1), compiled=compiled).block_bytes
    limits = Limits(rows=4, cache_bytes=3 * block_bytes)
    engine = Engine(model, limits, tokenizer=Letters(), compiled=compiled)
    good = Request([3, 4, 5], 8)
    expected = bits(alone(engine, good))
    number = engine.submit(good)
    tokens = engine.step()
    computed = []
    run, engine.runner.run = engine.runner.run, lambda batch: computed.append(batch)
    with pytest.raises(UserError, match=message):
        engine.submit(Request(**{"prompt": [1, 2, 3], "max_new_tokens": 4} | WRONG[message]))
    engine.runner.run = run
    assert not computed
    whole(engine)
    found = said(tokens + finish(engine))
    assert bits(found[number]) == expected
    assert list(found) == [number]


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 1e-9}, {"temperature": math.inf}, {"temperature": 1e300}, {"repetition": -1.0},
     {"repetition": 1e-30},
     {"repetition": math.nan}, {"presence": math.nan}, {"presence": 1e39}, {"frequency": -math.inf},
     {"bias": {3: math.nan}},
     {"bias": {3: math.inf}}, {"bias": {3: 0.0, 4: -math.inf}}, {"top_k": -1}, {"top_k": 2.5},
     {"top_logprobs": 1.5}, {"top_p": math.nan},
     {"top_p": -0.1},
     {"min_p": math.nan}],
)  # fmt: skip
def test_settings_that_no_token_can_be_drawn_by_are_named(wrong):
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} = .*; expected"):
        Sampling(**wrong)


@pytest.mark.parametrize("temperature", [0.0, 1e-4, 1e4])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_settings_at_their_ends_are_possible(model, compiled, temperature):
    far = Sampling(temperature, 1, 1e-9, 1.0, 1e4, 1e4, -1e4, dict.fromkeys(range(40), -1e4), 20)
    for sampling in (far, Sampling(temperature), Sampling(temperature, repetition=1e-4, bias={2: 1e4})):
        engine = Engine(model, compiled=compiled)
        for prompt in ([1, 2], [5] * 140):
            engine.submit(Request(prompt, 12, sampling=sampling, n=2))
        for token in finish(engine):
            assert math.isfinite(token.logp)
            assert 0 <= token.id < 40


def test_engines_that_cannot_be_are_named(model):
    for wrong in ({"rows": 0}, {"step_tokens": 0}, {"cache_bytes": -1}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} = .*; expected 1 or more"):
            Limits(**wrong)
    for wrong in ({"precision": "int4"}, {"drafts": "guess"}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} = \w+; expected one of"):
            Engine(model, **wrong)
    with pytest.raises(ConfigError, match="no extra prediction depth"):
        Engine(model, drafts="mtp")
    with pytest.raises(ConfigError, match="needs a compiled step"):
        Engine(model, precision="int8", compiled=False)
    with pytest.raises(ConfigError, match="need the engine's tokenizer"):
        Engine(model).submit(Request([1], 3, stop=("a",)))
    with pytest.raises(ConfigError, match="thinking budget = -1"):
        Thinking(-1, OPEN, CLOSE, opened=False)


def test_many_at_once_are_all_asked_or_none(model):
    engine = Engine(model, roomy(model, 3, rows=4))
    how = {"max_new_tokens": 60, "seed": 0, "stop_ids": []}
    with pytest.raises(ConfigError, match=re.escape("the 129 of one row")):
        sample(model, [[1], [2] * 69], engine=engine, **how)
    with pytest.raises(DataError, match="prompt 2 is empty"):
        sample(model, [[1], [2], []], engine=engine, **how)
    with pytest.raises(DataError, match="the prompt is empty"):
        next(stream(engine, Request([], 3)))
    assert not engine.busy
    whole(engine)


def test_a_compiler_may_have_words_behind_it_and_the_cache_be_no_directory(monkeypatch, tmp_path):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("CC", "gcc -g0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "FLAGS", ["-O0" if flag == "-O2" else flag for flag in build.FLAGS])
    assert build.library.__wrapped__() is not None
