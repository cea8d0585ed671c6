"""Stage 5, between two rounds: rejection sampling, right and readable answers become data (R1, section
2.3.3)."""

import json
from typing import Literal

from pydantic import Field, model_validator

from nomoat.config import Count, DataError, Whole
from nomoat.evals.problems import Candidate
from nomoat.files import write_whole
from nomoat.model import counts
from nomoat.rl import general
from nomoat.rl.reward import Group
from nomoat.rl.rollout import behind_solved, exercises
from nomoat.stages import estimate, footprint, inputs
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.recipe import Fields, Recipe, StageConfig, Tasks
from nomoat.tasks import base
from nomoat.train.session import Session, Work

CHUNK = 256  # problems sampled at a time


class Config(StageConfig):
    """`problems` of the training split, `samples` answers to each; at most `keep` different ones are kept of
    each.  They are asked behind `shots` solved turns, which are not kept: what was shown becomes habit.

    `general` questions (rl/general.py) stand in the place of tasks: each is answered once, greedily, and
    every reply is kept, whatever it says, but those that go round in circles.
    """

    tasks: Tasks = {}
    general: bool = False
    problems: Count = 2000
    samples: Count = 4
    keep: Count = 2
    shots: Whole = 0
    max_new_tokens: Count = 96
    temperature: float = Field(1.0, gt=0, le=100)
    think: bool | None = None
    precision: Literal["bf16", "fp32"] = "fp32"  # of answers, see problems.Candidate

    @model_validator(mode="after")
    def _of_something(self):
        if self.general == bool(self.tasks):
            both = "both" if self.tasks else "neither"
            raise ValueError(f"expected `tasks`, families and their levels, or general = true; found {both}")
        return self


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    return session.lead(lambda own: _run(own, config, recipe))


def _run(session: Session, config: Config, recipe: Recipe) -> Fields:
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, config.source), session, "fp32").eval()
    how = config.max_new_tokens, config.think, config.temperature, config.precision
    candidate = Candidate(model, tokenizer, *how)
    if config.general:
        return _replies(session, config, candidate)
    return _right(session, config, recipe, candidate)


def _right(session: Session, config: Config, recipe: Recipe, candidate: Candidate) -> Fields:
    tokenizer = candidate.tokenizer
    asked = exercises(config.tasks, config.problems, recipe.key(config.name, "problems"))
    asked = behind_solved(asked, config.shots, tokenizer, recipe.key(config.name, "shots"))
    kept = []
    for start in range(0, len(asked), CHUNK):
        session.check_stop()
        key = recipe.key(config.name, "sample", start)
        chunk = asked[start : start + CHUNK]
        with Work(session, "sample answers") as work:
            groups = candidate.answers(work, chunk, samples=config.samples, seed=key)
        for group in groups:
            kept += accepted(group, config.keep)
    return _kept(session, kept, len(asked) * config.samples)


def _replies(session: Session, config: Config, candidate: Candidate) -> Fields:
    asked = general.asked(config.problems)
    with Work(session, "sample answers") as work:
        groups = candidate.answers(work, asked, samples=1, seed=0, greedy=True)
    replies = [judged.rollout for (judged,) in groups]
    kept = [general.record(reply) for reply in replies if not general.circles(reply.text)]
    return _kept(session, kept, len(asked))


def _kept(session: Session, kept: list[Fields], n_answers: int) -> Fields:
    """What a stage leaves of so many answers."""
    if not kept:
        raise DataError(
            f"{session.stage}: none of {n_answers} answers was right and readable; "
            "expected at least one; choose easier levels, or train the model before it for longer"
        )
    path = session.directory / "samples.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
    write_whole(path, "".join(lines))
    bought = f"{len(kept):,} answers, {100 * len(kept) / n_answers:.0f} % of those drawn"
    where = f"{session.stage}/samples.jsonl"
    return {"samples": where, "sha256": inputs.sha256(path), "kept": len(kept), "bought": bought}


def accepted(group: Group, n: int) -> list[Fields]:
    """Up to `n` different right and readable answers: one language, nothing said three times in a row."""
    records = {}
    for judged in group:
        exercise, text = judged.rollout.exercise, judged.rollout.text
        thinking, closed, answer = text.removeprefix("<think>").rpartition("</think>")
        if judged.score.strict and judged.score.language == 1.0 and not repeats(thinking):
            record = {
                "family": base.short(exercise.task),
                "level": exercise.level,
                "prompt": exercise.problem.prompt,
                "messages": exercise.problem.facts.get("messages"),
                "thinking": thinking if closed else None,
                "answer": answer,
            }
            records.setdefault(text, record)
    return list(records.values())[:n]


def repeats(text: str, width: int = 12) -> bool:
    """Whether some `width` characters stand three times in a row."""
    last = len(text) - 3 * width
    return any(text[i : i + width] * 3 == text[i : i + 3 * width] for i in range(last + 1))


def plan(config: Config, recipe: Recipe) -> Fields:
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    n_answers = config.problems * (1 if config.general else config.samples)
    written = n_answers * answer
    read = config.problems * (1 + config.shots) * prompt
    spec = recipe.shape(config)
    forward = counts.flops_forward(spec, prompt + answer / 2)
    n_rows = min(n_answers, CHUNK * config.samples)
    held = footprint.asking(spec, n_rows, config.max_new_tokens, config.precision)
    return {
        "tokens": round(written + read),
        "flops": (written + read) * forward,
        "sampled": (written + read / 2) * forward,
        "answers": n_answers,
        **({"memory_bytes": held} if recipe.given else {}),
    }
