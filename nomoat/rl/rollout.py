"""A rollout: one problem, what the policy wrote, and under which probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nomoat.engine import engine
from nomoat.model.transformer import Transformer
from nomoat.tasks.base import Problem, Task
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer


@dataclass(frozen=True, slots=True)
class Rollout:
    """`sampled_T` is true for every token that the policy chose, the end token included."""

    task: Task
    level: int
    problem: Problem
    ids_T: Tensor  # int64: prompt and completion
    sampled_T: Tensor  # bool
    logp_T: Tensor  # float32, log-probability of each sampled token when it was drawn, 0 elsewhere
    stop: Literal["end", "length"]

    @property
    def n_prompt(self) -> int:
        return len(self.ids_T) - self.length

    @property
    def length(self) -> int:
        return int(self.sampled_T.sum())


def sample_groups(
    model: Transformer, tokenizer: Tokenizer, problems: Sequence[tuple[Task, int, Problem]], *, group: int,
    max_new_tokens: int, seed: int, temperature: float = 1.0, greedy: bool = False, think: bool | None = None,
    max_rows: int = 512, stop_ids: Sequence[int] | None = None, on_end: Callable[[Rollout], None] | None = None,
) -> list[list[Rollout]]:  # fmt: skip
    """`group` rollouts of each problem, its prompt prefilled once.

    `on_end` hears of each that ended while the others go on, so that it can be judged meanwhile; its log-probabilities
    are not known yet.
    """
    talks = [[layout.Message("user", problem.prompt)] for _, _, problem in problems]
    prompts = [r.ids for r in layout.render_batch(tokenizer, talks, generate=True, think=think)]
    tell = lambda i, j, ids_T: on_end(_rollout(problems[i], prompts[i], ids_T, torch.zeros(len(ids_T)), "end"))
    samples = engine.sample(
        model, prompts, n_per_prompt=group, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
        stop_ids=tokenizer.layout.stop_ids if stop_ids is None else stop_ids,
        pad_id=tokenizer.layout.pad_id, greedy=greedy, max_rows=max_rows, on_end=tell if on_end else None,
    )  # fmt: skip
    return [
        [_rollout(entry, prompt, s.ids_T, s.logp_T, s.stop) for s in drawn]
        for entry, prompt, drawn in zip(problems, prompts, samples)
    ]


def _rollout(entry: tuple[Task, int, Problem], prompt: list[int], new_T: Tensor, logp_T: Tensor, stop: str) -> Rollout:
    ids_T = torch.cat((torch.tensor(prompt), new_T))
    sampled_T = torch.arange(len(ids_T)) >= len(prompt)
    return Rollout(*entry, ids_T, sampled_T, torch.cat((torch.zeros(len(prompt)), logp_T)), stop)


def text_of(rollout: Rollout, tokenizer: Tokenizer) -> str:
    """What the policy wrote, special tokens shown, without the end token."""
    ids = rollout.ids_T[rollout.sampled_T].tolist()
    opened = rollout.ids_T[rollout.n_prompt - 1].item() == tokenizer.layout.think_id
    if ids and ids[-1] in tokenizer.layout.stop_ids:
        ids = ids[:-1]
    return ("<think>" if opened else "") + tokenizer.decode(ids, specials=True)
