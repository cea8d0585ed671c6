"""Reward functions of TRL's form as checkers: f(prompts=, completions=, **columns) -> a number for each.

    mine.jsonl:mine.py:f          right is a completion with 1 or more: what stands after the thinking
    mine.jsonl:mine.py:f:reply    the completion is the whole reply, its thinking block included

As TRL 1 calls them: prompts and completions are texts, or lists of messages where the file's `prompt` is one;
all columns of the file, None where a row has none; async functions are awaited; None and NaN leave a
completion out.  `log_extra` and `log_metric` are heard and dropped.  `completion_ids` and `trainer_state` are
not known where a text is judged: a function that looks into them is refused.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.files import what_is
from nomoat.tasks import base, contract, guest, trl, worker
from nomoat.tasks.base import Problem

NOT_COLUMNS = ("prompt", "completion", "completion_ids")  # as in TRL
CHUNK = 64  # completions of one call
SIGNATURE = "TRL's signature, f(prompts, completions, **columns)"


def function_in(file: str, name: str) -> worker.Worker:
    """The function of that name in a Python file, in a process of its own."""
    if not Path(file).is_file():
        found = f"no function {name!r}: {what_is(Path(file))}"
        raise TaskError(f"{found}; expected {SIGNATURE}; check the path")
    return worker.Worker(file, name, SIGNATURE)


def task(
    name: str,
    path: str,
    options: Sequence[str],
    rows: Mapping[str, JsonObject],
    problems: Mapping[str, Problem],
) -> SimpleNamespace:
    """The task that a name with a function means; `problems` are those of the rows, by the same places."""
    file, *rest = [option for option in options if option != "test"]
    whole = rest[1:] == ["reply"]
    if not rest or rest[1:] not in ([], ["reply"]):
        expected = f"expected {file}:FUNCTION or {file}:FUNCTION:reply"
        raise TaskError(f"{name} names {':'.join(rest) or 'no function'}; {expected}; mend it")
    made = from_reward(function_in(file, rest[0]), rows, problems, name=path, whole=whole)
    made.named = name
    return made


def from_reward(
    function: Callable[..., Any] | worker.Worker,
    rows: Mapping[str, JsonObject],
    problems: Mapping[str, Problem],
    threshold: float = 1.0,
    name: str = "reward",
    whole: bool = False,
) -> SimpleNamespace:
    """The task of the problems judged by the function; each row's own answer has to earn the threshold.

    `whole`: it is handed the whole reply.
    """
    judge = function if isinstance(function, worker.Worker) else trl.Judge(function)
    row_of = {}
    for place, problem in problems.items():
        if row_of.setdefault(problem.key, rows[place]) != rows[place]:
            raise TaskError(f"{place}: the question stands above with other columns; expected one; drop it")
    columns = [k for k in dict.fromkeys(k for row in rows.values() for k in row) if k not in NOT_COLUMNS]

    def rewards(asked: Sequence[Problem], texts: Sequence[str]) -> list[float | None]:
        chosen = [copy.deepcopy(row_of[problem.key]) for problem in asked]  # it may write into them
        prompts = copy.deepcopy(list(map(prompt_of, chosen, asked)))
        completions = list(map(completion_of, prompts, texts))
        return judge.rewards(prompts, completions, transposed(chosen, columns))

    def check(problem: Problem, answer: str) -> bool:
        (reward,) = rewards([problem], [answer])
        if reward is None:
            raise base.Undecided(f"{name}: no reward for this completion")
        return reward >= threshold

    questions = list({problem.key: problem for problem in problems.values()}.values())
    made = base.listed(name, questions, check, "reply" if whole else "text")
    if whole:
        made.dressed = dressed
    vet(made, rewards, threshold)
    return contract.vetted(made)


def transposed(rows: Sequence[JsonObject], columns: Sequence[str]) -> dict[str, list]:
    """The columns of the rows; None where a row has none."""
    return {column: [row.get(column) for row in rows] for column in columns}


def prompt_of(row: JsonObject, problem: Problem) -> str | list:
    """The prompt as the file has it: a text, or messages."""
    return row.get("prompt") or problem.facts.get("messages", problem.prompt)


def completion_of(prompt: str | list, text: str) -> str | list:
    """The completion as TRL has it: messages where the prompt is messages."""
    return [{"role": "assistant", "content": text}] if isinstance(prompt, list) else text


def dressed(problem: Problem) -> str:
    """A whole reply with the right answer."""
    return f"<think>{problem.facts.get('work') or '1'}</think>{problem.witness.strip()}"


def vet(made: SimpleNamespace, rewards: Callable, threshold: float) -> None:
    """TaskError with its place for a row whose own answer doesn't earn its reward, alone or among others."""
    questions = [problem for side in made.listed.values() for problem in side]
    right = getattr(made, "dressed", lambda problem: problem.witness.strip())
    for start in range(0, len(questions), CHUNK):
        chunk = questions[start : start + CHUNK]
        texts = list(map(right, chunk))
        given = guest.attempt(rewards, chunk, texts)
        found = given.words if isinstance(given, guest.Fault) else f"rewards {given[:8]}"
        if not isinstance(given, guest.Fault) and None not in given and min(given) >= threshold:
            continue
        for problem, text in zip(chunk, texts):
            _alone(made, problem, text)
        what = f"judges {len(chunk)} completions together otherwise"
        expected = "expected the verdicts that it gives one by one"
        cure = "mend the function"
        raise TaskError(f"{made.__name__} {what}: {found}; {expected}; {cure}")


def _alone(made: SimpleNamespace, problem: Problem, text: str) -> None:
    """TaskError where the right answer of a problem is not taken."""
    fault = next(contract.misjudged(made.check, problem, [], text), None)
    if fault:
        what = f"{problem.facts['place']}: {made.__name__} {fault} {problem.prompt[:60]!r}"
        expected = "expected its own answer to earn the reward"
        raise TaskError(f"{what}; {expected}; mend the row or the function")
