"""Names that spell their axes, executed.

Inside `nomoat` a local called `..._BTD` has three axes, and each letter one size per function call.  An axis
of length one broadcasts and says nothing.
"""

import contextlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import partial

import pytest
import torch
from behind import told
from shapes import built, shape

from nomoat.data.packing import Batch
from nomoat.engine import generate
from nomoat.engine.engine import Engine
from nomoat.model.loss import IGNORED, divergence
from nomoat.model.moe import sequence_balance_loss
from nomoat.model.spec import Yarn
from nomoat.rl import grpo
from nomoat.rl.reward import Group, Judged
from nomoat.rl.rollout import Rollout
from nomoat.train import objective

SUFFIX = re.compile(r"_([A-Z][A-Zcr]*)$")


@contextlib.contextmanager
def shape_suffixes(package: str, seen: set[str], excused: Collection[str] = ()):
    """Fails on any lie of a function that is not excused, and where an excused one has none; fills `seen`."""
    lies: dict[str, list[str]] = {}  # by function

    def on_return(frame, event, _):
        if event == "return" and f"/{package}/" in frame.f_code.co_filename:
            place = f"{frame.f_code.co_filename.rsplit('/', 1)[1]}:{frame.f_code.co_qualname}"
            for lie in lies_of(frame.f_locals, seen):
                lies.setdefault(place, []).append(f"{place} {lie}")

    before = sys.getprofile()
    sys.setprofile(on_return)
    try:
        yield
    finally:
        sys.setprofile(before)
    told = [lie for place, found in lies.items() if place not in excused for lie in dict.fromkeys(found)]
    assert not told, "names that lie about shapes:\n  " + "\n  ".join(told)
    assert not set(excused) - set(lies), "excused, and tell the truth: take them out"


def lies_of(names: Mapping[str, object], seen: set[str]) -> Iterator[str]:
    size: dict[str, tuple[int, str]] = {}
    for name, value in names.items():
        match, shape = SUFFIX.search(name), getattr(value, "shape", None)
        if match is None or not isinstance(shape, tuple):
            continue
        seen.add(name)
        if len(shape) != len(match[1]):
            yield f"{name}{list(shape)}: {len(match[1])} letters, {len(shape)} axes"
            continue
        for letter, n in zip(match[1], shape):
            first, owner = size.setdefault(letter, (n, name))
            if first == 1:
                size[letter] = (n, name)
            elif n not in (1, first):
                yield f"{name}{list(shape)}: {letter}={n} but {letter}={first} in {owner}"


SPEC = shape(  # no two axes alike, so that a lie shows
    vocab_size=61, n_layers=2, d_model=29, n_heads=3, d_nope=10, d_rope=8, d_value=9, d_kv_latent=14,
    d_q_latent=13, d_ffn=37, n_dense_layers=1, n_routed=6, n_shared=2, n_active=2, n_groups=3,
    n_active_groups=2, d_expert=17, n_mtp=2, stretch=Yarn(factor=2.0, original_context=8),
)  # fmt: skip
WAYS = {
    "sorted, fused": {},
    "wide, plain": {"experts": "wide", "attention": "plain"},
    "no query latent": {"d_q_latent": None},
}


@pytest.mark.parametrize("way", WAYS)
def test_names_do_not_lie_about_shapes(way):
    seen: set[str] = set()
    B, T = 5, 11
    with shape_suffixes("nomoat", seen):
        model = built(SPEC, **WAYS[way]).initialise(0)
        ids_BT = torch.arange(B * T).view(B, T) % SPEC.vocab_size
        mask = torch.ones(B, 1, T, T, dtype=torch.bool).tril()
        h_BTD, routings = model.hidden(ids_BT, torch.arange(T).expand(B, T), mask)
        deep = model.predict_further(h_BTD, ids_BT, mask)
        balance = sum(sequence_balance_loss(r, B, SPEC.ffn.n_active) for r in routings)
        (model.logits(h_BTD).sum() + sum(h.sum() for h in deep) + balance).backward()
        model.blocks[1].ffn.balance(routings[0].load_E(), 0.1)
        with torch.no_grad():
            told(model, ids_BT, 7)
    assert {"h_BTD", "c_kv_BTC", "cis_BTr", "weights_BTHS", "gate_MK", "f_BE"} <= seen


@pytest.fixture(scope="module")
def model():
    return built(SPEC).initialise(0)


def test_nor_in_training(model):
    B, T = 5, 11
    ids_BT = torch.arange(B * T).view(B, T) % SPEC.vocab_size
    doc_BT = (torch.arange(T) >= 7).int().expand(B, T)
    targets_BT = torch.where(doc_BT == 0, ids_BT.roll(-1, 1), IGNORED)
    seen: set[str] = set()
    with shape_suffixes("nomoat", seen):
        objective.gradient(model, Batch(ids_BT, targets_BT, doc_BT), objective.ObjectiveConfig()).after()
        divergence(*[torch.randn(7, SPEC.d_model), model.head.weight] * 2, reverse=True)
    assert {"targets_M", "h_MD", "deep_BTD", "load_E"} <= seen


def test_nor_in_sampling_and_in_the_update(model):
    """Prompts of three lengths, rows that end early, then an off-policy update against a reference."""
    seen: set[str] = set()
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11, 12]]
    with shape_suffixes("nomoat", seen):
        slow = Engine(model, compiled=False)
        drawn = generate.sample(
            model, prompts, n_per_prompt=4, max_new_tokens=6, seed=0, stop_ids=range(40), engine=slow
        )
        groups = [judged(prompt, samples) for prompt, samples in zip(prompts, drawn)]
        for name in ("gspo", "cispo"):
            pulled = grpo.Objective(variant=name, minibatches=2, kl=0.1, temperature=0.9)
            grpo.gradient(model, groups, pulled, 12, partial(grpo.log_probs, model, temperature=0.9))
    assert {len(sample.ids_T) for samples in drawn for sample in samples} >= {1, 2}
    assert {"ids_BT", "logp_B", "entropy_M", "scores_BTHS"} <= seen


def judged(prompt: list[int], samples: list[generate.Sample]) -> Group:
    prompt_T = torch.tensor(prompt)
    rollouts = [Rollout(None, prompt_T, s.ids_T, s.logp_T, "", s.stop) for s in samples]
    return tuple(Judged(r, None, 0.0, a) for r, a in zip(rollouts, (0.5, -0.5, 1.0, -1.0)))


def liar():
    x_BT = torch.zeros(2, 3)  # noqa: F841
    y_TB = torch.zeros(2, 3)  # noqa: F841
    z_B = torch.zeros(2, 3)  # noqa: F841


@pytest.mark.parametrize(
    "lie",
    [
        "y_TB[2, 3]: T=2 but T=3 in x_BT",
        "y_TB[2, 3]: B=3 but B=2 in x_BT",
        "z_B[2, 3]: 1 letters, 2 axes",
    ],
)
def test_a_lie_is_found(lie):
    with pytest.raises(AssertionError) as error, shape_suffixes("style", set()):
        liar()
    assert lie in str(error.value)


def test_an_excuse_holds_for_lies_alone():
    with shape_suffixes("style", set(), ["test_shape_suffixes.py:liar"]):
        liar()
    with (
        pytest.raises(AssertionError, match="take them out"),
        shape_suffixes("style", set(), ["a.py:honest"]),
    ):
        pass
