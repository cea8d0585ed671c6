"""What the policy wrote is decoded once, as it was written."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nomoat.engine import generate
from nomoat.rl import rollout
from nomoat.rl.rollout import Exercise
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import NOMOAT as LAYOUT

TASK = find.find("addition")
PROBLEM = next(base.problems(TASK, 2, split="train", seed=6))


@pytest.fixture(scope="module")
def tokenizer():
    stream = base.problems(TASK, 1, split="train", seed=0)
    return bpe.train([p.prompt + TASK.work(p) for p, _ in zip(stream, range(50))], 280)


@pytest.mark.parametrize("think", [True, None])
@pytest.mark.parametrize("stop", ["end", "length"])
@pytest.mark.parametrize("facts", [{"outputs": [1]}, {}])  # to be run, to be read
def test_what_the_policy_wrote_is_read_back_once(tokenizer, monkeypatch, think, stop, facts):
    ids = [
        *([] if think else [LAYOUT.think_id]),
        *tokenizer.encode("7+2"),
        LAYOUT.end_think_id,
        *tokenizer.encode("9"),
    ]
    ids += [LAYOUT.eos_id] if stop == "end" else []
    drawn, decoded, told = generate.Sample(torch.tensor(ids), torch.zeros(len(ids)), stop), [], []

    def sampled(model, prompts, *, on_end, **_):
        if stop == "end" and on_end:
            on_end(0, 0, drawn.ids_T)
        return [[drawn]]

    monkeypatch.setattr(generate, "sample", sampled)
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids, **how: decoded.append(ids) or decode(ids, **how))
    exercise = Exercise("addition", 2, TASK, replace(PROBLEM, facts=facts))
    verdicts = SimpleNamespace(begin=lambda task, problem, text: told.append(text))
    model = SimpleNamespace(spec=SimpleNamespace(context=256))
    how = {"group": 1, "max_new_tokens": 8, "think": think, "verdicts": verdicts}
    ((made,),) = rollout.sample(model, tokenizer, [exercise], **how)
    assert made.text == "<think>7+2</think>9"
    assert told == ([made.text] if stop == "end" and facts else [])
    assert len(decoded) == 1
    assert (made.length, made.stop) == (len(ids), stop)
