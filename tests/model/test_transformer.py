"""What is computed again in the backward pass is what was computed the first time."""

import pytest
import torch
from adapting import IDS, SHAPES, toy

from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer


@SHAPES
@pytest.mark.parametrize("attention", ["fused", "plain"])
def test_recomputed_gradients_are_the_same(spec, attention):
    found = []
    for recompute in (False, True):
        model = Transformer(spec, Kernels(attention=attention, recompute=recompute))
        model.load_state_dict(toy(spec).state_dict())
        h_BTD, routings = model.hidden(IDS)
        loss = model.logits(h_BTD).logsumexp(-1).sum() + sum(routing.score_ME.sum() for routing in routings)
        loss.backward()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*found)
