"""A rollout: one problem, what the policy wrote, and under which probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from nomoat.data import documents
from nomoat.engine import generate
from nomoat.engine.request import Sample
from nomoat.model.transformer import Transformer
from nomoat.tasks import find
from nomoat.tasks.base import Problem, Task
from nomoat.tasks.verdicts import Verdicts
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Work, count


@dataclass(frozen=True, slots=True)
class Exercise:
    """A problem to be answered and where it is from; `family` is spelled as in the recipe.

    `before` is what was said before, of which the first exchanges go where the context has no room.
    """

    family: str
    level: int
    task: Task
    problem: Problem
    before: layout.Conversation = ()

    @property
    def place(self) -> str:
        return f"{self.family}/{self.level}"

    @property
    def is_run(self) -> bool:
        """Whether its answers are programs, which take a while to judge."""
        return "outputs" in self.problem.facts


def exercises(levels: documents.Levels, n: int, seed: int, split: str = "train") -> list[Exercise]:
    """As data.documents.problems draws them."""
    drawn = documents.problems(levels, n, seed, split=split)
    return [Exercise(family, level, find.find(family), problem) for family, level, problem in drawn]


def behind_solved(asked: Sequence[Exercise], n: int, tokenizer: Tokenizer, seed: int) -> list[Exercise]:
    """The exercises, each behind `n` solved ones of its level, others for each; a question that is a
    conversation stays alone.
    """
    behind = []
    for i, exercise in enumerate(asked):
        if n and "messages" not in exercise.problem.facts:
            solved = documents.solved(exercise.family, exercise.level, n, tokenizer, seed + i)
            exercise = replace(exercise, before=tuple(solved))
        behind.append(exercise)
    return behind


@dataclass(frozen=True, slots=True)
class Rollout:
    exercise: Exercise
    prompt_T: Tensor  # int64, shared by the rollouts of a group
    ids_T: Tensor  # int64, what the policy wrote, the end token included
    logp_T: Tensor  # float32, log-probability of each of these when it was drawn
    text: str  # what the policy wrote, special tokens shown, without the end token
    stop: Literal["end", "length"]
    weight_T: Tensor | None = None  # float32, of an outside sampler's tokens (mismatch.py)

    @property
    def n_prompt(self) -> int:
        return len(self.prompt_T)

    @property
    def length(self) -> int:
        return len(self.ids_T)


Rollouts = tuple[Rollout, ...]  # of one exercise
Draw = Callable[..., list[list[Sample]]]


def turns_asked(exercises: Sequence[Exercise]) -> list[int]:
    """Of how many turns each question is, all of which are asked."""
    return [len(e.problem.facts.get("messages", [None])) for e in exercises]


def to_be_run(exercises: Sequence[Exercise]) -> set[int]:
    """The numbers of those whose answers are programs."""
    return {i for i, exercise in enumerate(exercises) if exercise.is_run}


def sample(
    model: Transformer,
    tokenizer: Tokenizer,
    exercises: Sequence[Exercise],
    *,
    group: int,
    max_new_tokens: int,
    think: bool | None = None,
    verdicts: Verdicts | None = None,
    draw: Draw | None = None,
    **how: Any,
) -> list[Rollouts]:
    """`group` rollouts of each exercise, its prompt prefilled once; `how` as generate.sample takes it, in
    whose place `draw` may stand.

    `verdicts` begin with each that ended while the others go on, if its answer has to be run.
    """
    heard = to_be_run(exercises) if verdicts else ()
    whole = turns_asked(exercises)
    talks = [[*e.before, *layout.turns(e.problem.prompt, e.problem.facts)] for e in exercises]
    prompts = layout.render_latest(
        tokenizer, talks, model.spec.context - max_new_tokens, generate=True, think=think, whole=whole
    )
    openings = ["<think>" if prompt.thinking else "" for prompt in prompts]
    texts = {}  # (exercise, sample) -> what was written

    def ended(i: int, j: int, ids_T: Tensor) -> None:
        if i in heard:
            texts[i, j] = openings[i] + tokenizer.decode(ids_T[:-1].tolist(), specials=True)
            verdicts.begin(exercises[i].task, exercises[i].problem, texts[i, j])

    samples = (draw or generate.sample)(
        model,
        [prompt.ids for prompt in prompts],
        n_per_prompt=group,
        max_new_tokens=max_new_tokens,
        on_end=ended if heard else None,
        **{"stop_ids": tokenizer.layout.stop_ids} | how,
    )
    groups = []
    for i, (exercise, prompt) in enumerate(zip(exercises, prompts)):
        prompt_T = torch.tensor(prompt.ids)
        rollouts = []
        for j, drawn in enumerate(samples[i]):
            if (i, j) not in texts:
                texts[i, j] = openings[i] + tokenizer.decode(drawn.written, specials=True)
            rollouts.append(Rollout(exercise, prompt_T, drawn.ids_T, drawn.logp_T, texts[i, j], drawn.stop))
        groups.append(tuple(rollouts))
    return groups


def account(work: Work, model: Transformer, groups: Sequence[Rollouts]) -> None:
    """Add what sampling took to a work record."""
    for group in groups:
        n_prompt, n_new = group[0].n_prompt, sum(r.length for r in group)
        count(work, model, n_prompt + n_new, n_prompt + n_new / len(group) / 2)
