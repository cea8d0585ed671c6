"""Problems that no model was trained on, and what their task's own verifier says of an answer."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from nomoat.config import JsonObject, nearest
from nomoat.serve.pages.bodies import AskBody, ProblemBody, VerdictBody
from nomoat.serve.refusal import Refusal
from nomoat.tasks import base, find
from nomoat.tasks.base import Problem, Task
from nomoat.tasks.verdicts import Verdict, Verdicts

SEEDS = 2**32


def tasks_of(files: Iterable[str]) -> dict[str, Task]:
    """Each task of one's own by a short name, or by its whole one where another has that; a UserError where
    one can't be read.
    """
    found: dict[str, Task] = {}
    for file in files:
        task = find.find(file)
        name = Path(base.short(task)).name
        taken = name in found or name in find.FAMILIES
        found[file if taken else name] = task
    return found


class Checks:
    """The families of the package, and `own` tasks beside them."""

    def __init__(self, own: Mapping[str, Task]):
        self.own = own

    def kinds(self) -> JsonObject:
        """Own tasks first."""
        every = {**self.own, **find.families()}
        rows = [
            {"family": name, "levels": [*task.levels], "own": name in self.own}
            for name, task in every.items()
        ]
        return {"kinds": rows}

    def task(self, family: str) -> Task:
        """Refusal for a name that no task has."""
        if family in self.own:
            return self.own[family]
        if family in find.FAMILIES:
            return find.find(family)
        guess = nearest(family[:96], [*self.own, *find.FAMILIES])
        raise Refusal(f"no task {family[:96]!r} here; {guess}", "family")

    def drawn(self, asked: ProblemBody | VerdictBody | AskBody, seed: int) -> tuple[Task, Problem]:
        """The task and its held-out problem of this seed: the same one each time."""
        task = self.task(asked.family)
        check_level(task, asked.level)
        held_out = base.problems(task, asked.level, split="eval", seed=seed, lang=asked.lang)
        return task, next(held_out)

    def problem(self, body: ProblemBody) -> JsonObject:
        seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed
        _, problem = self.drawn(body, seed)
        lang = body.lang or problem.facts.get("lang")
        messages = {"messages": problem.facts["messages"]} if problem.facts.get("messages") else {}
        where = {"family": body.family, "level": body.level, "seed": seed, "lang": lang}
        return {**where, "prompt": problem.prompt, **messages}

    def verdict(self, body: VerdictBody) -> JsonObject:
        task, problem = self.drawn(body, body.seed)
        thinking = f"<think>{body.thinking}</think>" if body.thinking else ""
        with Verdicts() as verdicts:
            said = verdicts.verdict(task, problem, thinking + body.answer, ended=True)
        return told(said, problem) | {"rule": rule_of(task)}


def check_level(task: Task, level: int) -> None:
    """Refusal for one that the task hasn't."""
    if level not in task.levels:
        expected = f"expected one of {[*task.levels]}"
        raise Refusal(f"`level`: {base.short(task)} has no level {level}; {expected}", "level")


def told(verdict: Verdict, problem: Problem) -> JsonObject:
    """A verdict in words that a page translates: `why` is one of right, form, wrong, empty, undecided."""
    if verdict.undecided:
        why = "undecided"
    elif verdict.strict:
        why = "right"
    elif verdict.lenient:
        why = "form"
    else:
        why = "wrong" if verdict.answer is not None else "empty"
    return {
        "right": verdict.strict,
        "lenient": verdict.lenient,
        "answer": verdict.answer,
        "expected": problem.witness.strip(),
        "why": why,
    }


def rule_of(task: Task) -> str:
    """What the task is, in the first sentence of its file."""
    return (getattr(task, "__doc__", None) or base.short(task)).strip().partition("\n")[0]
