"""Stage 5, between two rounds: rejection sampling, right and readable answers become data (R1, section 2.3.3)."""

import json
from typing import Any

from pydantic import Field

from nomoat.config import DataError
from nomoat.data import documents
from nomoat.files import write_whole
from nomoat.model import counts
from nomoat.rl import reward
from nomoat.rl.rollout import Rollout, sample_groups, text_of
from nomoat.stages import estimate
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import base, find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work, count

CHUNK = 256  # problems sampled at a time


class Config(StageConfig):
    """`problems` of the training split, `samples` answers to each; at most `keep` different ones are kept of each."""

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
    drawn = list(documents.problems(config.tasks, config.problems, recipe.key(config.name, "problems")))
    kept: list[dict[str, Any]] = []
    for start in range(0, len(drawn), CHUNK):
        session.check_stop()
        entries = [(find.find(family), level, problem) for family, level, problem in drawn[start : start + CHUNK]]
        with Work(session, "sample answers") as work:
            groups = sample_groups(
                model, tokenizer, entries, group=config.samples, max_new_tokens=config.max_new_tokens,
                temperature=config.temperature, seed=recipe.key(config.name, "sample", start), think=config.think,
                max_rows=1024,
            )  # fmt: skip
            for group, marks in zip(groups, reward.scores(groups, tokenizer)):
                new = sum(r.length for r in group)
                count(work, model, group[0].n_prompt + new, group[0].n_prompt + new / len(group) / 2)
                kept += accepted(group, marks, tokenizer, config.keep)
    if not kept:
        raise DataError(
            f"{config.name}: none of {len(drawn) * config.samples} answers of {config.source} was right and readable; "
            "expected at least one; choose easier levels, or train the model before it for longer"
        )
    path = session.run.stage_dir(session.stage) / "samples.jsonl"
    if session.leads:
        write_whole(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
    session.mesh.barrier()
    share = 100 * len(kept) / (len(drawn) * config.samples)
    bought = f"{len(kept):,} answers, {share:.0f} % of those drawn"
    return {"samples": f"{session.stage}/samples.jsonl", "kept": len(kept), "bought": bought}


def accepted(group: list[Rollout], marks: list[reward.Score], tokenizer: Tokenizer, n: int) -> list[dict[str, Any]]:
    """Up to `n` different right and readable answers: one language, nothing said three times in a row."""
    found: dict[str, dict[str, Any]] = {}
    for rollout, mark in zip(group, marks):
        text = text_of(rollout, tokenizer)
        thinking, closed, answer = text.removeprefix("<think>").rpartition("</think>")
        if mark.strict and mark.language == 1.0 and not repeats(thinking):
            found.setdefault(text, {
                "family": base.short(rollout.task), "level": rollout.level, "prompt": rollout.problem.prompt,
                "thinking": thinking if closed else None, "answer": answer,
            })  # fmt: skip
    return list(found.values())[:n]


def repeats(text: str, width: int = 12) -> bool:
    """Whether some `width` characters stand three times in a row."""
    return any(text[i : i + width] * 3 == text[i : i + 3 * width] for i in range(len(text) - 3 * width + 1))


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    said, read = config.problems * config.samples * answer, config.problems * prompt
    flops = counts.flops_forward(recipe.shape(config), prompt + answer / 2)
    figures = {"tokens": round(said + read), "flops": (said + read) * flops, "sampled": (said + read / 2) * flops}
    return {**figures, "answers": config.problems * config.samples}
