"""A model's answers to problems, greedy once and sampled several times, and the scores of a level."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from nomoat import stats
from nomoat.config import JsonObject
from nomoat.engine import generate
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import release_memory
from nomoat.rl.reward import Group, Judged, judge
from nomoat.rl.rollout import Exercise, account, sample
from nomoat.stats import Accuracy, grouped, mean
from nomoat.tasks.base import Undecided
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Work

N_CONSTANTS = 3  # answers that are tried as the only one: the most frequent


@dataclass(frozen=True)
class Candidate:
    """A model that is asked: its longest reply, and thinking opened (true), skipped (false) or left to it."""

    model: Transformer
    tokenizer: Tokenizer
    max_new_tokens: int
    think: bool | None = None
    temperature: float = 1.0
    precision: Literal["bf16", "fp32"] = "fp32"  # of its products, where the processor has tiles for bf16

    def answers(
        self, work: Work | None, asked: Sequence[Exercise], *, samples: int, seed: int, greedy: bool = False
    ) -> list[Group]:
        """`samples` answers to each exercise; their forward passes are counted as `work`, in a run."""
        groups = sample(
            self.model,
            self.tokenizer,
            asked,
            group=samples,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            greedy=greedy,
            think=self.think,
            temperature=self.temperature,
            precision=generate.products_for(self.precision, self.model.device),
        )
        release_memory()  # the engine's copy of the weights
        if work is not None:
            account(work, self.model, groups)
        return judge(groups)

    def both(self, work: Work | None, asked: Sequence[Exercise], samples: int, seed: int) -> list["Answered"]:
        """Each exercise answered greedily, and `samples` times."""
        greedy = self.answers(work, asked, samples=1, seed=seed, greedy=True)
        sampled = self.answers(work, asked, samples=samples, seed=seed)
        return [Answered(exercise, first, drawn) for exercise, (first,), drawn in zip(asked, greedy, sampled)]


@dataclass(frozen=True)
class Answered:
    """An exercise with its greedy answer and those at temperature 1."""

    exercise: Exercise
    greedy: Judged
    sampled: Group

    @property
    def right(self) -> int:
        """How many of the sampled answers are right."""
        return sum(answer.score.strict for answer in self.sampled)

    @property
    def rate(self) -> float:
        return self.right / len(self.sampled)


@dataclass(frozen=True)
class Level:
    """What a model can do at one level of a family: `length` in tokens, `passed` in any of the samples."""

    family: str
    level: int
    greedy: Accuracy
    sampled: Accuracy
    length: float
    passed: float


def by_level(answered: Iterable[Answered]) -> list[Level]:
    """The scores of each level; what the machine failed to judge counts as wrong."""
    cells = grouped(((a.exercise.family, a.exercise.level), a) for a in answered)
    return [_level(*place, cells[place]) for place in sorted(cells)]


def _level(family: str, level: int, cell: Sequence[Answered]) -> Level:
    n, samples = len(cell), len(cell[0].sampled)
    drawn = [answer for a in cell for answer in a.sampled]
    first = [a.greedy.score for a in cell]
    right = sum(score.strict for score in first)
    rates = [a.rate for a in cell]
    low, high = stats.bootstrap(rates, key=f"{family}/{level}")
    lenient = mean(score.lenient for score in first)
    lenient_sampled = sum(answer.score.lenient for answer in drawn) / samples / n
    greedy = Accuracy(right / n, *stats.wilson(right, n), lenient, n)
    sampled = Accuracy(mean(rates), low, high, lenient_sampled, n)
    return Level(
        family,
        level,
        greedy,
        sampled,
        length=mean(answer.rollout.length for answer in drawn),
        passed=mean(stats.pass_at_k(samples, a.right, samples) for a in cell),
    )


def scores(model: str, answered: Sequence[Answered]) -> Iterator[JsonObject]:
    """What a log says of each level: greedy, sampled, passed in any sample."""
    for cell in by_level(answered):
        where = {"model": model}
        where |= {"family": cell.family, "level": cell.level}
        yield {"name": "accuracy/greedy", **asdict(cell.greedy), **where}
        yield {"name": "accuracy/sampled", **asdict(cell.sampled), "length": cell.length, **where}
        name = f"pass@{len(answered[0].sampled)}"
        yield {"name": name, "value": cell.passed, "n": cell.greedy.n, **where}


def constants(asked: Sequence[Exercise]) -> Iterator[JsonObject]:
    """The one answer that is right most often at each level: a model that always gives it has learnt nothing
    of the task.  Of levels whose answers are run, none is tried."""
    cells = grouped(((exercise.family, exercise.level), exercise) for exercise in asked)
    for (family, level), cell in sorted(cells.items()):
        if not any(exercise.is_run for exercise in cell):
            yield {"family": family, "level": level, **_constant(cell)}


def _constant(cell: Sequence[Exercise]) -> JsonObject:
    """Of the most frequent right answers the one that is right for most problems, and for how many."""
    witnesses = Counter(exercise.problem.witness.strip() for exercise in cell)
    rights = {}
    for answer, _ in witnesses.most_common(N_CONSTANTS):
        taken = [_takes(exercise, answer) for exercise in cell]
        rights[answer] = sum(taken)
    answer = max(rights, key=rights.get)
    n = len(cell)
    low, high = stats.wilson(rights[answer], n)
    share = rights[answer] / n
    return {"answer": answer, "value": share, "low": low, "high": high, "n": n}


def _takes(exercise: Exercise, answer: str) -> bool:
    try:
        return exercise.task.check(exercise.problem, answer)
    except Undecided:
        return False


def mean_accuracy(answered: Iterable[Answered]) -> float:
    """Sampled accuracy, the mean over families."""
    ordered = sorted(answered, key=lambda a: (a.exercise.family, a.exercise.level))
    rates = grouped((a.exercise.family, a.rate) for a in ordered)
    return mean(map(mean, rates.values()))
