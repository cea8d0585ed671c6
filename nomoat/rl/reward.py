"""What a decision is worth.  A task's `check` decides; here it is weighed.  No model, no human, judges."""

import itertools
import os
import random
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from nomoat.config import Strict, UserError
from nomoat.files import shipped
from nomoat.rl.rollout import Rollout, text_of
from nomoat.tasks import answers, base
from nomoat.tokenizer.bpe import Tokenizer


class Weights(Strict):
    """The reward is the sum of these times what the reply achieved; R1-Zero's is accuracy = 1, format = 1.

    `accuracy`: right in the right form; `format`: thought in one closed block, answered and ended; `language`: share of
    the words that are not of the other language; `random`: a coin, for control runs.
    """

    accuracy: float = 1.0
    format: float = 0.0
    language: float = 0.0
    random: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """`strict` is right in the right form and ended; `lenient` is right in any form that a reader would accept.

    `shadow`: strict, and yet the answer also passes for another problem that has another answer: it may be a trick.
    `undecided`: the machine failed to judge; such a rollout is left out.
    """

    strict: bool
    lenient: bool
    format: bool = False
    language: float = 1.0
    shadow: bool = False
    undecided: bool = False

    def reward(self, weights: Weights, coin: float = 0.0) -> float:
        """What the score is worth; `coin` is the random part's draw."""
        right = weights.accuracy * self.strict + weights.format * self.format
        return right + weights.language * self.language + weights.random * coin


Verdicts = dict[tuple[str, str], Future]  # (prompt, answer) -> decision: equal answers are judged once


class Ahead:
    """`with Ahead(tokenizer) as ahead:` judges answers that have to be run while others are still being sampled.

    `ahead.hear` is for sample_groups; `ahead.known` then goes to `scores`.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.known = tokenizer, Verdicts()
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def hear(self, rollout: Rollout) -> None:
        """Take up the answer of a rollout that ended, if its task runs answers."""
        if "outputs" in rollout.problem.facts:
            answer = answers.strict_answer(text_of(rollout, self.tokenizer), getattr(rollout.task, "form", "line"))
            place = rollout.problem.prompt, answer
            if answer is not None and place not in self.known:
                self.known[place] = self.pool.submit(rollout.task.check, rollout.problem, answer)


def decide(task: base.Task, problem: base.Problem, answer: str, known: Verdicts) -> bool:
    """`check`, asked once for equal answers and again if the machine failed; then base.Undecided."""
    place = problem.prompt, answer
    for _ in range(2):
        if place not in known or known[place].exception() is not None:
            known[place] = Future()
            try:
                known[place].set_result(task.check(problem, answer))
            except base.Undecided as error:
                known[place].set_exception(error)
    return known[place].result()


def grade(text: str, ended: bool, task: base.Task, problem: base.Problem, known: Verdicts | None = None) -> Score:
    """The score of a reply.  An answer that was cut off has not been given: strict is False."""
    known = {} if known is None else known
    form = getattr(task, "form", "line")
    answer = answers.strict_answer(text, form) if ended else None
    shape = answer is not None and "</think>" in text
    try:
        strict = answer is not None and decide(task, problem, answer, known)
        lenient = strict or (form == "line" and decide(task, problem, answers.lenient_answer(text), known))
    except base.Undecided:
        return Score(False, False, undecided=True)
    return Score(strict, lenient, shape, consistency(text, problem.facts.get("lang") if form == "line" else None))


def scores(groups: Sequence[Sequence[Rollout]], tokenizer: Tokenizer, known: Verdicts | None = None) -> list[list[Score]]:
    """The score of every rollout; `known` are decisions that were taken ahead."""
    known = {} if known is None else known
    graded = lambda r: grade(text_of(r, tokenizer), r.stop == "end", r.task, r.problem, known)
    return [[graded(rollout) for rollout in group] for group in groups]


def consistency(text: str, lang: str | None) -> float:
    """Share of the words that are not words of the other language alone; 1 without any word or language.

    arXiv 2501.12948, section 2.3.2.
    """
    foreign = foreign_to(lang)
    words = re.findall(r"[a-zäöüß]{2,}", answers.SPECIAL.sub(" ", text).lower())
    return 1 - sum(word in foreign for word in words) / len(words) if words else 1.0


@cache
def foreign_to(lang: str | None) -> frozenset[str]:
    """Words that other languages have and this one has not; none for a language without a list."""
    known = {name: frozenset(listed.split()) for name, listed in shipped(__file__).items()}
    return frozenset().union(*known.values()) - known[lang] if lang in known else frozenset()


def doubts(rollout: Rollout, answer: str, seed: int) -> bool:
    """The shadow grader: whether a right answer also passes for another problem of its level, which has another answer.

    Nobody is rewarded by it.  An honest answer fits its own problem; one that fits others too has found a hole.
    """
    for other in itertools.islice(base.problems(rollout.task, rollout.level, split="train", seed=seed), 8):
        if other.key != rollout.problem.key and not base.same(other.witness, rollout.problem.witness):
            try:
                return rollout.task.check(other, answer)
            except base.Undecided:
                return False
    return False


def canary(task: base.Task, problem: base.Problem) -> None:
    """One answer known to be good and one known to be bad through the same grader; UserError if either flips."""
    for answer, expected in ((problem.witness.strip(), True), (task.near_misses(problem)[0], False)):
        found = grade(f"<think>1</think>{answer}", True, task, problem)
        if found.strict is not expected and not found.undecided:
            raise UserError(
                f"the checker of {base.short(task)} {'rejects' if expected else 'accepts'} {answer[:80]!r} for "
                f"{problem.prompt[:80]!r}; expected the opposite: its rewards can't be trusted; "
                f"run `nomoat task check {base.short(task)}` and mend it; the checkpoints are kept"
            )


def coin(key: int, group: int, index: int) -> float:
    """0 or 1, the same for the same key."""
    return float(random.Random(f"coin/{key}/{group}/{index}").random() < 0.5)
