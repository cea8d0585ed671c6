"""A prompt's own ids are scored as full forwards score them."""

import random

import pytest
import torch
from behind import random_model
from laws import TINY, roomy

from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


@pytest.mark.parametrize("limits", [{}, {"step_tokens": 7}, {"step_tokens": 40, "n_blocks": 5}])
def test_a_prompt_is_scored_as_full_forwards_score_it(model, limits):
    """Also in chunks, beside others, where memory runs out, and where the cache knows the prompt."""
    fields = dict(limits)
    n = fields.pop("n_blocks", None)
    engine = Engine(model, roomy(model, n, **fields) if n else Limits(**fields))
    draw = random.Random(0)
    prompts = [[draw.randrange(TINY.vocab_size) for _ in range(n)] for n in (1, 2, 33, 64, 70)]
    prompts.append(prompts[-1])
    for _ in range(2):
        asked = {engine.submit(Request(p, 3, n=2, seed=1, prompt_logprobs=3)): p for p in prompts}
        firsts = []
        while engine.busy:
            firsts += [token for token in engine.step() if token.prompt is not None]
        assert len(firsts) == 2 * len(prompts)
        for token in firsts:
            prompt = asked[token.request]
            with torch.no_grad():
                logp_TV = model(torch.tensor([prompt]))[0].float().log_softmax(-1)[:-1]
            expected = [logp_TV[i, id].item() for i, id in enumerate(prompt[1:])]
            assert [score.logp for score in token.prompt] == pytest.approx(expected, abs=1e-4)
            best = logp_TV.topk(3).values.tolist()
            assert [[logp for _, logp in score.top] for score in token.prompt] == [
                pytest.approx(row, abs=1e-4) for row in best
            ]
