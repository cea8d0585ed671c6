"""What a decision is worth.  A task's `check` decides; here it is weighed.  No model, no human, judges."""

from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.rl.rollout import Rollout, text_of
from nomoat.tasks.base import lenient_answer, strict_answer
from nomoat.tokenizer.bpe import Tokenizer


@dataclass(frozen=True, slots=True)
class Score:
    """`strict` is right in the right form and ended; `lenient` is right in any form that a reader would accept."""

    strict: bool
    lenient: bool


def score(rollout: Rollout, tokenizer: Tokenizer) -> Score:
    """Decided by the task's program.  An answer that was cut off has not been given: strict is False."""
    text = text_of(rollout, tokenizer)
    answer = strict_answer(text) if rollout.stop == "end" else None
    strict = answer is not None and rollout.task.check(rollout.problem, answer)
    return Score(strict, strict or rollout.task.check(rollout.problem, lenient_answer(text)))


def scores(groups: Sequence[Sequence[Rollout]], tokenizer: Tokenizer) -> list[list[Score]]:
    return [[score(rollout, tokenizer) for rollout in group] for group in groups]
