"""What an RL step leaves to read: its rollouts, its figures, its answers to the same few problems."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nomoat.model.transformer import Transformer
from nomoat.rl import reward, rollout
from nomoat.rl.grpo import Update
from nomoat.rl.reward import Group, Judged
from nomoat.rl.rollout import Exercise
from nomoat.tasks import base, find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session

N_PROBES = 5  # held-out prompts that are answered again and again


def write(session: Session, step: int, groups: Sequence[Group]) -> None:
    """Every rollout of the step, one JSON object a line, behind those of the steps before."""
    records = [record(step, number, judged) for number, group in enumerate(groups) for judged in group]
    lines = [json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n" for entry in records]
    everywhere = session.mesh.gather("".join(lines))
    if session.leads:
        path = session.run.stage_dir(session.stage) / "rollouts.jsonl"
        with open(path, "a", encoding="utf-8", errors="replace") as file:
            file.write("".join(everywhere))


def record(step: int, number: int, judged: Judged) -> dict[str, Any]:
    r, score = judged.rollout, judged.score
    return {
        "step": step,
        "group": number,
        "family": r.exercise.family,
        "level": r.exercise.level,
        "key": r.exercise.problem.key,
        "prompt": r.exercise.problem.prompt,
        "reply": r.text,
        "answer": score.answer,
        "reward": judged.reward,
        "strict": score.strict,
        "lenient": score.lenient,
        "shadow": score.shadow,
        "undecided": score.undecided,
        "length": r.length,
        "stop": r.stop,
        "logp": round(float(r.logp_T.sum()) / r.length, 4),
    }


def telemetry(groups: Sequence[Group], n_live: int, updates: Sequence[Update]) -> dict[str, Any]:
    """Means over the rollouts of a step, `n_live` of whose groups taught something, and over its updates."""
    flat = [judged for group in groups for judged in group]
    families: dict[str, list[bool]] = {}
    for judged in flat:
        families.setdefault(judged.rollout.exercise.family, []).append(judged.score.strict)
    return {
        "reward": mean(j.score.strict for j in flat),
        "value": mean(j.reward for j in flat),
        "lenient": mean(j.score.lenient for j in flat),
        "shadow": mean(j.score.shadow for j in flat if j.score.strict),
        "undecided": sum(j.score.undecided for j in flat),
        "length": mean(j.rollout.length for j in flat),
        "length_right": mean(j.rollout.length for j in flat if j.score.strict),
        "length_wrong": mean(j.rollout.length for j in flat if not j.score.strict),
        "truncated": mean(j.rollout.stop == "length" for j in flat),
        "dead_groups": 1 - n_live / len(groups),
        "entropy": mean(update.entropy for update in updates),
        "drift": updates[0].drift,
        "kl": updates[0].kl,
        "rewards": {family: mean(rights) for family, rights in families.items()},
    }


def mean(values: Iterable[float]) -> float | None:
    """None where there is nothing."""
    values = list(values)
    return sum(values) / len(values) if values else None


def held_out(tasks: Mapping[str, Sequence[int]]) -> list[Exercise]:
    """The same few held-out problems for all runs, from as many families as there are."""
    spots = [(family, levels[len(levels) // 2]) for family, levels in tasks.items()]
    spots = spots[:: max(len(spots) // N_PROBES, 1)]
    streams = [base.problems(find.find(family), level, split="eval", seed=0) for family, level in spots]
    turns = itertools.islice(itertools.cycle(zip(spots, streams)), N_PROBES)
    return rollout.exercises((family, level, next(stream)) for (family, level), stream in turns)


def probe(
    policy: Transformer,
    tokenizer: Tokenizer,
    tasks: Mapping[str, Sequence[int]],
    max_new_tokens: int,
    think: bool | None,
) -> list[dict[str, Any]]:
    """The likeliest reply to each held-out problem, and whether it is right."""
    groups = rollout.sample(
        policy,
        tokenizer,
        held_out(tasks),
        group=1,
        max_new_tokens=max_new_tokens,
        seed=0,
        greedy=True,
        think=think,
    )
    return [
        {
            "family": base.short(judged.rollout.exercise.task),
            "prompt": judged.rollout.exercise.problem.prompt,
            "reply": judged.rollout.text,
            "right": judged.score.strict,
        }
        for (judged,) in reward.judge(groups)
    ]
