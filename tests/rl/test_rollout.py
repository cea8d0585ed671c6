"""What the policy wrote is decoded once, as it was written."""

import pytest
import torch

from nomoat.engine import engine
from nomoat.rl import rollout
from nomoat.rl.rollout import Exercise
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe, layout

TASK = find.find("addition")
PROBLEM = next(base.problems(TASK, 2, split="train", seed=6))


@pytest.fixture(scope="module")
def tokenizer():
    stream = base.problems(TASK, 1, split="train", seed=0)
    return bpe.train([p.prompt + TASK.work(p) for p, _ in zip(stream, range(50))], 280)


@pytest.mark.parametrize("think", [True, None])
@pytest.mark.parametrize("stop", ["end", "length"])
def test_what_the_policy_wrote_is_read_back_once(tokenizer, monkeypatch, think, stop):
    ids = [*([] if think else [layout.THINK]), *tokenizer.encode("7+2"), layout.END_THINK, *tokenizer.encode("9")]
    ids += [layout.EOS] if stop == "end" else []
    drawn, decoded, told = engine.Sample(torch.tensor(ids), torch.zeros(len(ids)), stop), [], []

    def sampled(model, prompts, *, on_end, **_):
        if stop == "end":
            on_end(0, 0, drawn.ids_T)
        return [[drawn]]

    monkeypatch.setattr(engine, "sample", sampled)
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids, **how: decoded.append(ids) or decode(ids, **how))
    exercise = Exercise("addition", 2, TASK, PROBLEM)
    hear = lambda task, problem, text: told.append(text)
    ((made,),) = rollout.sample(None, tokenizer, [exercise], group=1, max_new_tokens=9, seed=0, think=think, on_end=hear)
    assert made.text == "<think>7+2</think>9"
    assert told == ([made.text] if stop == "end" else [])
    assert len(decoded) == 1
    assert (made.length, made.stop) == (len(ids), stop)
