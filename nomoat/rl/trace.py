"""What an RL step leaves to read: its rollouts, its figures, its answers to the same few problems."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nomoat.config import JsonObject
from nomoat.data.documents import Levels
from nomoat.model.transformer import Transformer
from nomoat.rl import reward, rollout
from nomoat.rl.grpo import Update
from nomoat.rl.reward import Group, Judged
from nomoat.rl.rollout import Exercise
from nomoat.stats import grouped, mean
from nomoat.tasks import base
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session

Record = JsonObject  # JSON
FEWEST = 4  # problems of a family in a step of which a constant answer can be told
N_PROBES = 5  # held-out prompts that are answered again and again


def write(session: Session, step: int, groups: Sequence[Group]) -> None:
    """Every rollout of the step, one JSON object a line, behind those of the steps before."""
    if not session.leads:
        return
    lines = ""
    for number, group in enumerate(groups):
        for judged in group:
            entry = record(step, number, judged)
            lines += json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
    path = session.directory / "rollouts.jsonl"
    with open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(lines)


def record(step: int, number: int, judged: Judged) -> Record:
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
        **ruling(r.exercise, score.answer),
        "reward": judged.reward,
        "strict": score.strict,
        "lenient": score.lenient,
        "shadow": score.shadow,
        "undecided": score.undecided,
        "length": r.length,
        "stop": r.stop,
        "logp": round(float(r.logp_T.sum()) / r.length, 4),
    }


def ruling(exercise: Exercise, answer: str | None) -> Record:
    """What a file of problems expects, and by which rule it takes or refuses an answer."""
    rule = getattr(exercise.task, "rule", None)
    if rule is None or answer is None:
        return {}
    return {"expected": exercise.problem.witness, "rule": rule(exercise.problem, answer)}


def telemetry(groups: Sequence[Group], n_live: int, updates: Sequence[Update]) -> Record:
    """Means over the rollouts of a step, `n_live` of whose groups taught something, and over its updates."""
    judged = reward.flat(groups)
    right = [j for j in judged if j.score.strict]
    wrong = [j for j in judged if not j.score.strict]
    families = grouped((j.rollout.exercise.family, j.score.strict) for j in judged)
    return {
        **constant(groups),
        "reward": mean(j.score.strict for j in judged),
        "value": mean(j.reward for j in judged),
        "lenient": mean(j.score.lenient for j in judged),
        "shadow": mean(j.score.shadow for j in right),
        "undecided": sum(j.score.undecided for j in judged),
        "length": mean(j.rollout.length for j in judged),
        "length_right": mean(j.rollout.length for j in right),
        "length_wrong": mean(j.rollout.length for j in wrong),
        "truncated": mean(j.rollout.stop == "length" for j in judged),
        "dead_groups": 1 - n_live / len(groups),
        "entropy": mean(update.entropy for update in updates),
        "drift": updates[0].drift,
        "kl": updates[0].kl,
        "rewards": {family: mean(rights) for family, rights in families.items()},
    }


def constant(groups: Sequence[Group]) -> Record:
    """`common`: the share of the answers that are one and the same, of a family the most frequent one; and
    `common_right`: the share of problems for which that is right.  Nothing for fewer than FEWEST problems."""
    families = grouped((group[0].rollout.exercise.family, group) for group in groups)
    same = []
    right = []
    for of_family in families.values():
        if len(of_family) < FEWEST:
            continue
        given = [judged.score.answer for judged in reward.flat(of_family)]
        answer, n = Counter(given).most_common(1)[0]
        same.append(0.0 if answer is None else n / len(given))
        right.append(mean(takes(group, answer) for group in of_family))
    return {"common": mean(same), "common_right": mean(right)}


def takes(group: Group, answer: str | None) -> bool:
    """Whether an answer was given in a group, and was right."""
    return any(judged.score.strict and judged.score.answer == answer for judged in group)


def held_out(tasks: Levels) -> list[Exercise]:
    """The same few held-out problems for all runs, from as many families as there are."""
    families = list(tasks)[:: max(len(tasks) // N_PROBES, 1)]
    middle = {family: [tasks[family][len(tasks[family]) // 2]] for family in families}
    return rollout.exercises(middle, N_PROBES, 0, "eval")


def probe(
    policy: Transformer,
    tokenizer: Tokenizer,
    tasks: Levels,
    max_new_tokens: int,
    **how: Any,
) -> list[Record]:
    """The likeliest reply to each held-out problem and whether it is right; `how` as for rollout.sample."""
    groups = rollout.sample(
        policy,
        tokenizer,
        held_out(tasks),
        group=1,
        max_new_tokens=max_new_tokens,
        seed=0,
        greedy=True,
        **how,
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
