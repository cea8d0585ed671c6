"""One step of reinforcement learning, part by part, for the measurements: sampling, judging, update.

A random model is never right, so the reward is a parity of the text besides: every group has a signal, none
is left out.  No answer ends early (there is no stop id), so that every step has the same tokens.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from benchmarks.common import products_of
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.rl import grpo, reward, rollout, variants
from nomoat.rl.step import compared
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.train.loop import reduce_gradients
from nomoat.train.optim import Optimizer

TASK, LEVEL = find.find("countdown"), 2


@dataclass(frozen=True)
class Parts:
    """Seconds of each part; `drift`: max |log p in the update - log p when drawn|; columns of the update."""

    sampling: float
    judging: float
    update: float
    drift: float
    columns: int

    @property
    def total(self) -> float:
        return self.sampling + self.judging + self.update


def parity(text: str) -> float:
    return float(len(text) % 2)


def problems_of(n: int) -> list[base.Problem]:
    return list(islice(base.problems(TASK, LEVEL, split="train", seed=0), n))


def tokenizer_of(problems: list[base.Problem], vocab_size: int) -> bpe.Tokenizer:
    """A small one: what the prompts look like in tokens matters, not how well text is compressed."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(6000)]
    return bpe.train([*(p.prompt for p in problems), " ".join(words)], vocab_size)


def step(
    policy: Transformer,
    model: Transformer,
    optimizer: Optimizer,
    tokenizer: bpe.Tokenizer,
    problems: Sequence[base.Problem],
    *,
    group: int,
    n_new: int,
    seed: int,
    ranks: Mesh = ALONE,
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Parts:
    """`policy` writes `group` answers of `n_new` tokens to each problem; `model` learns from them
    and from what the other ranks wrote.

    `wait` returns when the device has done what it was given.
    """
    start = clock()
    drawn = [rollout.Exercise(TASK.__name__, LEVEL, TASK, problem) for problem in problems]
    groups = rollout.sample(
        policy,
        tokenizer,
        drawn,
        group=group,
        max_new_tokens=n_new,
        seed=seed,
        stop_ids=(),
        precision=products_of(model),
    )
    sampled = clock()
    judged = [
        tuple(replace(one, reward=one.score.strict + parity(one.rollout.text)) for one in answers)
        for answers in reward.judge(groups)
    ]
    live = compared(judged, variants.VARIANTS["dr-grpo"])
    scored = clock()
    n_rollouts = len(problems) * group * ranks.world
    update = grpo.gradient(model, live, grpo.Objective(max_new_tokens=n_new), n_rollouts)
    optimizer.step(1.0, reduce_gradients(ranks, optimizer))
    wait()
    return Parts(sampled - start, scored - sampled, clock() - scored, update.drift, update.tokens)
