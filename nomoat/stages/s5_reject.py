"""Stage 5, between two rounds: rejection sampling, right and readable answers become data (R1, section
2.3.3)."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from nomoat.config import DataError
from nomoat.data import documents
from nomoat.files import write_whole
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.rl import reward, rollout
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise
from nomoat.stages import estimate
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import base
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work

CHUNK = 256  # problems sampled at a time


class Config(StageConfig):
    """`problems` of the training split, `samples` answers to each; at most `keep` different ones are kept of
    each."""

    tasks: dict[str, list[int]]
    problems: int = 2000
    samples: int = Field(4, ge=1)
    keep: int = Field(2, ge=1)
    max_new_tokens: int = 96
    temperature: float = Field(1.0, gt=0)
    think: bool | None = None


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, config.source), session, "fp32").eval()
    problems = documents.problems(config.tasks, config.problems, recipe.key(config.name, "problems"))
    exercises = rollout.exercises(problems)
    kept: list[dict[str, Any]] = []
    for start in range(0, len(exercises), CHUNK):
        session.check_stop()
        key = recipe.key(config.name, "sample", start)
        for group in answers(session, config, key, model, tokenizer, exercises[start : start + CHUNK]):
            kept += accepted(group, config.keep)
    n_answers = len(exercises) * config.samples
    if not kept:
        raise DataError(
            f"{config.name}: none of {n_answers} answers of {config.source} was right and readable; "
            "expected at least one; choose easier levels, or train the model before it for longer"
        )
    path = session.run.stage_dir(session.stage) / "samples.jsonl"
    if session.leads:
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
        write_whole(path, "".join(lines))
    session.mesh.barrier()
    bought = f"{len(kept):,} answers, {100 * len(kept) / n_answers:.0f} % of those drawn"
    return {"samples": f"{session.stage}/samples.jsonl", "kept": len(kept), "bought": bought}


def answers(
    session: Session,
    config: Config,
    key: int,
    model: Transformer,
    tokenizer: Tokenizer,
    exercises: Sequence[Exercise],
) -> list[Group]:
    """Judged answers to each exercise; what they took goes into the log."""
    with Work(session, "sample answers") as work:
        groups = rollout.sample(
            model,
            tokenizer,
            exercises,
            group=config.samples,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=key,
            think=config.think,
            max_rows=1024,
        )
        rollout.account(work, model, groups)
        return reward.judge(groups)


def accepted(group: Group, n: int) -> list[dict[str, Any]]:
    """Up to `n` different right and readable answers: one language, nothing said three times in a row."""
    records: dict[str, dict[str, Any]] = {}
    for judged in group:
        exercise, text = judged.rollout.exercise, judged.rollout.text
        thinking, closed, answer = text.removeprefix("<think>").rpartition("</think>")
        if judged.score.strict and judged.score.language == 1.0 and not repeats(thinking):
            record = {
                "family": base.short(exercise.task),
                "level": exercise.level,
                "prompt": exercise.problem.prompt,
                "thinking": thinking if closed else None,
                "answer": answer,
            }
            records.setdefault(text, record)
    return list(records.values())[:n]


def repeats(text: str, width: int = 12) -> bool:
    """Whether some `width` characters stand three times in a row."""
    last = len(text) - 3 * width
    return any(text[i : i + width] * 3 == text[i : i + 3 * width] for i in range(last + 1))


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    written = config.problems * config.samples * answer
    read = config.problems * prompt
    forward = counts.flops_forward(recipe.shape(config), prompt + answer / 2)
    return {
        "tokens": round(written + read),
        "flops": (written + read) * forward,
        "sampled": (written + read / 2) * forward,
        "answers": config.problems * config.samples,
    }
