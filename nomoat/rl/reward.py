"""What a decision is worth.  A task's `check` decides; here it is weighed.  No model, no human, judges."""

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache

from nomoat.config import Strict, UserError, Weight
from nomoat.files import shipped
from nomoat.rl.rollout import Exercise, Rollout, Rollouts
from nomoat.tasks import answers, base
from nomoat.tasks.verdicts import Verdict, Verdicts, form_of

SHADOW_PROBLEMS = 8  # other problems that a right answer is held against


class Weights(Strict):
    """The reward is the sum of these times what the reply achieved; R1-Zero's is accuracy = 1, format = 1.

    `accuracy`: right in the right form; `format`: thought in one closed block, answered and ended;
    `language`: share of the words that are not of the other language; `random`: a coin, for control runs.
    """

    accuracy: Weight = 1.0
    format: Weight = 0.0
    language: Weight = 0.0
    random: Weight = 0.0


ACCURACY = Weights()


@dataclass(frozen=True, slots=True)
class Score(Verdict):
    """The verdict and what else is seen; `language` is the share of words that are not of the other language.

    `shadow`: strict, and yet the answer also passes for another problem that has another answer: it may be a
    trick.
    """

    language: float = 1.0
    shadow: bool = False

    def reward(self, weights: Weights, coin: float = 0.0) -> float:
        """What the score is worth; `coin` is the random part's draw."""
        right = weights.accuracy * self.strict + weights.format * self.format
        return right + weights.language * self.language + weights.random * coin


@dataclass(frozen=True, slots=True)
class Judged:
    """A rollout with what it is worth; `advantage` is None until it is held against its group."""

    rollout: Rollout
    score: Score
    reward: float
    advantage: float | None = None


Group = tuple[Judged, ...]  # the rollouts of one exercise


def flat(groups: Sequence[Group]) -> list[Judged]:
    return [judged for group in groups for judged in group]


def judge(
    groups: Sequence[Rollouts],
    verdicts: Verdicts | None = None,
    weights: Weights = ACCURACY,
    *,
    shadow_key: int | None = None,
    coin_key: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[Group]:
    """Every rollout with its score and reward.

    The shadow grader works where it has a key; `numbers` are those of the groups among those of the coins,
    by default from 0 on.
    """
    verdicts = Verdicts() if verdicts is None else verdicts
    judged = []
    for number, group in zip(range(len(groups)) if numbers is None else numbers, groups):
        scores = [grade(r.exercise, r.text, r.stop == "end", verdicts) for r in group]
        if shadow_key is not None:
            scores = shadowed(group[0].exercise, scores, shadow_key)
        coins = [coin(coin_key, number, i) if weights.random else 0.0 for i in range(len(group))]
        rewards = [score.reward(weights, drawn) for score, drawn in zip(scores, coins)]
        judged.append(tuple(map(Judged, group, scores, rewards)))
    return judged


def grade(exercise: Exercise, text: str, ended: bool, verdicts: Verdicts) -> Score:
    """The score of a reply."""
    verdict = verdicts.verdict(exercise.task, exercise.problem, text, ended)
    lang = exercise.problem.facts.get("lang") if form_of(exercise.task) == "line" else None
    return Score(*astuple(verdict), language=1.0 if verdict.undecided else consistency(text, lang))


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
    words_of = {name: frozenset(listed.split()) for name, listed in shipped(__file__).items()}
    return frozenset().union(*words_of.values()) - words_of[lang] if lang in words_of else frozenset()


def shadowed(exercise: Exercise, scores: Sequence[Score], key: int) -> list[Score]:
    """The scores, `shadow` set where the shadow grader doubts the first right answer of the group or its
    equals."""
    suspect = next((score.answer for score in scores if score.strict), None)
    if suspect is None or not doubts(exercise, suspect, key):
        return list(scores)
    return [replace(score, shadow=score.strict and score.answer == suspect) for score in scores]


def doubts(exercise: Exercise, answer: str, key: int) -> bool:
    """The shadow grader: whether a right answer also passes for another problem of its level, of another
    answer.

    Nobody is rewarded by it.  An honest answer fits its own problem; one that fits others too has found a
    hole.
    """
    stream = base.problems(exercise.task, exercise.level, split="train", seed=key)
    for other in itertools.islice(stream, SHADOW_PROBLEMS):
        if other.key != exercise.problem.key and not base.same(other.witness, exercise.problem.witness):
            try:
                return exercise.task.check(other, answer)
            except base.Undecided:
                return False
    return False


def canary(exercise: Exercise) -> None:
    """One answer known to be good and one known to be bad through the same grader; UserError if either
    flips."""
    task, problem = exercise.task, exercise.problem
    for answer, expected in ((problem.witness.strip(), True), (task.near_misses(problem)[0], False)):
        score = grade(exercise, f"<think>1</think>{answer}", True, Verdicts())
        if score.strict is not expected and not score.undecided:
            raise UserError(
                f"the checker of {base.short(task)} {'rejects' if expected else 'accepts'} {answer[:80]!r} "
                f"for {problem.prompt[:80]!r}; expected the opposite: its rewards can't be trusted; "
                f"run `nomoat task check {base.named(task)}` and mend it; the checkpoints are kept"
            )


def coin(key: int, group: int, index: int) -> float:
    """0 or 1, the same for the same key."""
    return float(random.Random(f"coin/{key}/{group}/{index}").random() < 0.5)
