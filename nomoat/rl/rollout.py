"""A rollout: one problem, what the policy wrote, and under which probabilities."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nomoat.engine import engine
from nomoat.model.transformer import Transformer
from nomoat.tasks import find
from nomoat.tasks.base import Problem, Task
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer


@dataclass(frozen=True, slots=True)
class Exercise:
    """A problem to be answered and where it is from; `family` is spelled as in the recipe."""

    family: str
    level: int
    task: Task
    problem: Problem

    @property
    def place(self) -> str:
        return f"{self.family}/{self.level}"


def exercises(problems: Iterable[tuple[str, int, Problem]]) -> list[Exercise]:
    """Of (family, level, problem), as data.documents.problems draws them."""
    return [Exercise(family, level, find.find(family), problem) for family, level, problem in problems]


@dataclass(frozen=True, slots=True)
class Rollout:
    exercise: Exercise
    prompt_T: Tensor  # int64, shared by the rollouts of a group
    ids_T: Tensor  # int64, what the policy wrote, the end token included
    logp_T: Tensor  # float32, log-probability of each of these when it was drawn
    text: str  # what the policy wrote, special tokens shown, without the end token
    stop: Literal["end", "length"]

    @property
    def n_prompt(self) -> int:
        return len(self.prompt_T)

    @property
    def length(self) -> int:
        return len(self.ids_T)


def sample(
    model: Transformer,
    tokenizer: Tokenizer,
    exercises: Sequence[Exercise],
    *,
    group: int,
    max_new_tokens: int,
    seed: int,
    temperature: float = 1.0,
    greedy: bool = False,
    think: bool | None = None,
    max_rows: int = 512,
    stop_ids: Sequence[int] = (layout.EOS,),
    on_end: Callable[[Task, Problem, str], None] | None = None,
) -> list[tuple[Rollout, ...]]:
    """`group` rollouts of each exercise, its prompt prefilled once.

    `on_end` gets the text of each that ended while the others go on, so that it can be judged meanwhile.
    """
    talks = [[layout.Message("user", exercise.problem.prompt)] for exercise in exercises]
    prompts = [rendered.ids for rendered in layout.render_batch(tokenizer, talks, generate=True, think=think)]
    opening = "<think>" if think else ""
    texts: dict[tuple[int, int], str] = {}

    def ended(i: int, j: int, ids_T: Tensor) -> None:
        texts[i, j] = opening + tokenizer.decode(ids_T[:-1].tolist(), specials=True)
        on_end(exercises[i].task, exercises[i].problem, texts[i, j])

    samples = engine.sample(
        model,
        prompts,
        n_per_prompt=group,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        stop_ids=stop_ids,
        pad_id=layout.PAD,
        greedy=greedy,
        max_rows=max_rows,
        on_end=ended if on_end else None,
    )
    groups = []
    for i, (exercise, prompt) in enumerate(zip(exercises, prompts)):
        prompt_T, rollouts = torch.tensor(prompt), []
        for j, drawn in enumerate(samples[i]):
            if (i, j) not in texts:
                written_T = drawn.ids_T[:-1] if drawn.stop == "end" else drawn.ids_T
                texts[i, j] = opening + tokenizer.decode(written_T.tolist(), specials=True)
            rollouts.append(Rollout(exercise, prompt_T, drawn.ids_T, drawn.logp_T, texts[i, j], drawn.stop))
        groups.append(tuple(rollouts))
    return groups
