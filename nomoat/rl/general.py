"""General questions, and what a model says to them: to be learnt beside a task, so that the rest stays."""

from collections.abc import Sequence
from types import SimpleNamespace

from nomoat.config import JsonObject
from nomoat.files import shipped
from nomoat.rl.rollout import Exercise, Rollout
from nomoat.tasks.base import Problem


def _anything(problem: Problem, answer: str) -> bool:
    return True


GENERAL = SimpleNamespace(__name__="general", form="text", levels=(1,), check=_anything)


def asked(n: int) -> list[Exercise]:
    """`n` of the questions of general.toml, spread over all of them; all where there are no more."""
    questions: Sequence[str] = shipped(__file__)["questions"]
    n = min(n, len(questions))
    chosen = [questions[i * len(questions) // n] for i in range(n)]
    return [Exercise("general", 1, GENERAL, Problem(say, say, "", {"lang": "en"})) for say in chosen]


def circles(text: str, width: int = 24) -> bool:
    """Whether some `width` characters stand there twice: small models often say the same again and again, and
    learn it from themselves.
    """
    parts = [text[i : i + width] for i in range(len(text) - width + 1)]
    return len(set(parts)) < len(parts)


def record(rollout: Rollout) -> JsonObject:
    """A reply as it was drawn, token by token: one that was cut off is learnt without an end."""
    prompt = rollout.prompt_T.tolist()
    return {
        "family": rollout.exercise.family,
        "prompt": rollout.exercise.problem.prompt,
        "answer": rollout.text,
        "n_prompt": len(prompt),
        "ids": prompt + rollout.ids_T.tolist(),
    }
