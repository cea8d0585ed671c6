"""A look at what a model can do of a task before it is taught: right answers by level, and their form."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nomoat.data import documents
from nomoat.engine import generate
from nomoat.model import counts
from nomoat.model.lora import Lora, attach, without
from nomoat.model.loss import cross_entropy
from nomoat.model.transformer import Transformer
from nomoat.report.table import Table
from nomoat.rl import kept
from nomoat.rl.reward import Group, Judged, judge
from nomoat.rl.rollout import Exercise, behind_solved, exercises, sample
from nomoat.stages.models import quick_dtype
from nomoat.stages.recipe import Recipe
from nomoat.stats import grouped, mean
from nomoat.tasks import find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.objective import document_mask
from nomoat.weights import adapters

PROBLEMS, SAMPLES, SHOTS = 40, 5, 2
N_WORKED = 96  # worked answers whose tokens are counted
TIMED_TOKENS = 512  # of the rows that an update is timed on
WORDY = 16  # tokens of a reply beyond a worked answer: whether the right one stands in a wordy one


@dataclass(frozen=True)
class Seen:
    """One level: shares of the answers to `n` problems, and of the problems.

    `right` in the right form and ended; `said`: the right answer stands somewhere in it; `cut`: it never
    ended; `mixed`: problems with right answers and wrong ones, which is what reinforcement learns from;
    `shown`: right behind solved turns.
    """

    level: int
    n: int
    right: float
    said: float
    cut: float
    mixed: float
    shown: float


@dataclass(frozen=True)
class Look:
    """What was seen, and what it says of time: the model's parameters and context, tokens of a mean prompt,
    of a mean and the longest worked answer, of the longest example; tokens a second drawn and learnt from.
    """

    levels: tuple[Seen, ...]
    parameters: int
    context: int
    prompt: float
    answer: float
    longest: int
    example: int
    drawn_a_second: float
    learnt_a_second: float
    seconds: float

    def of_all(self, what: str) -> float:
        """The mean of a share over all problems."""
        n = sum(seen.n for seen in self.levels)
        return sum(getattr(seen, what) * seen.n for seen in self.levels) / n

    @property
    def read_a_second(self) -> float:
        """Tokens of prompts: of an update beside adapters, forward is one pass of two."""
        return 2 * self.learnt_a_second

    def table(self) -> Table:
        header = ("level", "problems", "right", "said somewhere", "never ended", "mixed", "right when shown")
        rows = [
            (str(s.level), str(s.n), *map(percent, (s.right, s.said, s.cut, s.mixed, s.shown)))
            for s in self.levels
        ]
        note = (
            f"{SAMPLES} answers each at temperature 1, to the question alone, by the model's own template; "
            f"shown: behind {SHOTS} solved turns. Mixed problems have right answers and wrong ones. "
            f"This machine draws {self.drawn_a_second:.0f} tokens a second and learns from "
            f"{self.learnt_a_second:.0f}; a prompt has {self.prompt:.0f}, a worked answer {self.answer:.0f}."
        )
        return Table("What it can do already", header, rows, note)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def look(model: Transformer, tokenizer: Tokenizer, task: str, recipe: Recipe) -> Look:
    """What a model does with problems to train on, and how fast, multiplied as the recipe's reinforcement
    does; afterwards it is in that precision."""
    start, seed, config = time.perf_counter(), recipe.key("look"), recipe.stage("rl")
    levels = {task: list(find.find(task).levels)}
    prompt, worked, example = lengths(tokenizer, levels, seed)
    room = min(max(worked) + WORDY, model.spec.context // 2)
    asked = exercises(levels, PROBLEMS, seed)
    mark = time.perf_counter()
    products = generate.products_for(config.precision, model.device)
    ask = partial(drawn, model, tokenizer, room=room, seed=seed, precision=products)
    alone = ask(asked)
    took = time.perf_counter() - mark
    shown = ask(behind_solved(asked, SHOTS, tokenizer, seed + 1))
    dtype = quick_dtype(config.precision, model.device)
    learns = without(model.to(dtype), recipe.kernels).train()
    learnt = learning_rate(learns, tokenizer, levels, seed, config.lora)
    written = sum(judged.rollout.length for group in alone for judged in group)
    reading = PROBLEMS * prompt / (2 * learnt)
    return Look(
        levels=tuple(seen_at(*cell) for cell in by_level(alone, shown).items()),
        parameters=counts.params_total(model.spec),
        context=model.spec.context,
        prompt=prompt,
        answer=mean(worked),
        longest=max(worked),
        example=example,
        drawn_a_second=written / max(took - reading, took / 4),
        learnt_a_second=learnt,
        seconds=time.perf_counter() - start,
    )


def lengths(tokenizer: Tokenizer, levels: documents.Levels, seed: int) -> tuple[float, list[int], int]:
    """Tokens of a mean prompt, of worked answers with what ends them, and of the longest example."""
    examples = list(documents.worked(levels, N_WORKED, 1.0, tokenizer, seed))
    answers = [sum(example.trained) for example in examples]
    wholes = [len(example.ids) for example in examples]
    return mean(whole - answer for whole, answer in zip(wholes, answers)), answers, max(wholes)


def drawn(
    model: Transformer, tokenizer: Tokenizer, asked: Sequence[Exercise], room: int, **how: Any
) -> list[Group]:
    return judge(sample(model, tokenizer, asked, group=SAMPLES, max_new_tokens=room, **how))


def by_level(alone: Sequence[Group], shown: Sequence[Group]) -> dict[int, list[tuple[Group, Group]]]:
    pairs = ((one[0].rollout.exercise.level, (one, other)) for one, other in zip(alone, shown))
    return dict(sorted(grouped(pairs).items()))


def seen_at(level: int, pairs: Sequence[tuple[Group, Group]]) -> Seen:
    alone = [judged for one, _ in pairs for judged in one]
    rates = [mean(judged.score.strict for judged in one) for one, _ in pairs]
    return Seen(
        level=level,
        n=len(pairs),
        right=mean(rates),
        said=mean(says(judged) for judged in alone),
        cut=mean(judged.rollout.stop == "length" for judged in alone),
        mixed=mean(0 < rate < 1 for rate in rates),
        shown=mean(judged.score.strict for _, other in pairs for judged in other),
    )


def says(judged: Judged) -> bool:
    """Whether the right answer stands in a reply, whatever stands around it."""
    witness = re.escape(judged.rollout.exercise.problem.witness.strip())
    return judged.score.lenient or bool(re.search(rf"(?<!\w){witness}(?!\w)", judged.rollout.text))


def learning_rate(
    model: Transformer, tokenizer: Tokenizer, levels: documents.Levels, seed: int, lora: Lora | None
) -> float:
    """Tokens a second that adapters learn from, or all weights, by one gradient after one that is not
    counted."""
    examples = documents.worked(levels, N_WORKED, 1.0, tokenizer, seed)
    taken, n_tokens = [], 0
    for example in examples:
        if n_tokens + len(example.ids) > TIMED_TOKENS and taken:
            break
        taken.append(example)
        n_tokens += len(example.ids)
    if lora:
        model = attach(model, adapters.new_parts(model, lora, seed))
    else:
        model.requires_grad_()
    batch = kept.rows(taken, max(len(example.ids) for example in taken), seed)
    took = 0.0
    for _ in range(2):
        mark = time.perf_counter()
        h_BTD, _ = model.hidden(batch.ids_BT, mask=document_mask(batch.doc_BT))
        h_MD = model.final(h_BTD).flatten(0, 1)
        loss, _ = cross_entropy(h_MD, model.head.weight, batch.targets_BT.flatten())
        loss.backward()
        took = time.perf_counter() - mark
    return batch.ids_BT.numel() / took
