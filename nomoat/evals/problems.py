"""A model's answers to problems, greedy once and sampled several times, and the scores of a level."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nomoat import stats
from nomoat.model.transformer import Transformer
from nomoat.rl import reward
from nomoat.rl.rollout import Rollout, sample_groups, text_of
from nomoat.tasks.base import Problem, Task
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Work, count


@dataclass(frozen=True, kw_only=True)
class Question:
    """One problem of one level of a family."""

    family: str
    level: int
    task: Task
    problem: Problem


@dataclass(frozen=True)
class Asking:
    """How questions are put: the longest reply, and whether thinking is opened, skipped or left to the model."""

    max_new_tokens: int
    think: bool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote, and what a program decided about it."""

    rollout: Rollout
    score: reward.Score
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its greedy answer and those at temperature 1."""

    question: Question
    greedy: Answer
    sampled: Sequence[Answer]

    @property
    def right(self) -> int:
        """How many of the sampled answers are right."""
        return sum(answer.score.strict for answer in self.sampled)

    @property
    def rate(self) -> float:
        return self.right / len(self.sampled)


def answer(
    work: Work,
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    asking: Asking,
    *,
    samples: int = 1,
    greedy: bool = False,
    seed: int,
) -> list[list[Answer]]:
    """`samples` answers to each question; their forward passes are counted as `work`."""
    entries = [(q.task, q.level, q.problem) for q in questions]
    groups = sample_groups(
        model,
        tokenizer,
        entries,
        group=samples,
        max_new_tokens=asking.max_new_tokens,
        think=asking.think,
        greedy=greedy,
        seed=seed,
        max_rows=1024,
    )
    for group in groups:
        n_prompt, new = group[0].n_prompt, sum(rollout.length for rollout in group)
        count(work, model.spec, n_prompt + new, n_prompt + new / samples / 2)
    return [
        [Answer(rollout, score, text_of(rollout, tokenizer)) for rollout, score in zip(group, scores)]
        for group, scores in zip(groups, reward.scores(groups, tokenizer))
    ]


def both(
    work: Work,
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    asking: Asking,
    *,
    samples: int,
    seed: int,
) -> list[Answered]:
    """Each question answered greedily, and `samples` times at temperature 1."""
    greedy = answer(work, model, tokenizer, questions, asking, greedy=True, seed=seed)
    sampled = answer(work, model, tokenizer, questions, asking, samples=samples, seed=seed)
    return [Answered(question, first, drawn) for question, (first,), drawn in zip(questions, greedy, sampled)]


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers with its 95 % interval over problems, and the share in a lenient reading."""

    value: float
    low: float
    high: float
    lenient: float


@dataclass(frozen=True)
class Level:
    """What a model can do at one level of one family: `length` in tokens, `passed` of the problems in any sample."""

    family: str
    level: int
    n: int
    greedy: Accuracy
    sampled: Accuracy
    length: float
    passed: float


def by_level(answered: Iterable[Answered]) -> list[Level]:
    """The scores of each level; what the machine failed to judge counts as wrong."""
    cells: dict[tuple[str, int], list[Answered]] = defaultdict(list)
    for a in answered:
        cells[a.question.family, a.question.level].append(a)
    return [
        _level(family, level, cell)
        for (family, level), cell in sorted(cells.items(), key=lambda item: item[0])
    ]


def _level(family: str, level: int, cell: Sequence[Answered]) -> Level:
    n, samples = len(cell), len(cell[0].sampled)
    right = sum(a.greedy.score.strict for a in cell)
    lenient = sum(a.greedy.score.lenient for a in cell) / n
    greedy = Accuracy(right / n, *stats.wilson(right, n), lenient)
    rates = [a.rate for a in cell]
    drawn = [answer for a in cell for answer in a.sampled]
    lenient = sum(answer.score.lenient for answer in drawn) / samples / n
    sampled = Accuracy(sum(rates) / n, *stats.bootstrap(rates, key=f"{family}/{level}"), lenient)
    length = sum(answer.rollout.length for answer in drawn) / len(drawn)
    passed = sum(stats.pass_at_k(samples, a.right, samples) for a in cell) / n
    return Level(family, level, n, greedy, sampled, length, passed)


def mean_accuracy(answered: Iterable[Answered]) -> float:
    """Sampled accuracy, the mean over families."""
    rates: dict[str, list[float]] = defaultdict(list)
    for a in sorted(answered, key=lambda a: (a.question.family, a.question.level)):
        rates[a.question.family].append(a.rate)
    return sum(sum(r) / len(r) for r in rates.values()) / len(rates)
