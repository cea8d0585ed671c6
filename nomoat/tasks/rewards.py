"""Reward functions of TRL's form as checkers: f(prompts=, completions=, **columns) -> a number for each.

    mine.jsonl:mine.py:f          right is a completion with 1 or more: what stands after the thinking
    mine.jsonl:mine.py:f:reply    the completion is the whole reply, its thinking block included

As TRL 1 calls them: prompts and completions are texts, or lists of messages where the file's `prompt` is one;
all columns of the file, None where a row has none; async functions are awaited; None and NaN leave a
completion out.  `log_extra` and `log_metric` are heard and dropped.  `completion_ids` and `trainer_state` are
not known where a text is judged: a function that looks into them is refused.
"""

import asyncio
import copy
import functools
import inspect
import itertools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.files import what_is
from nomoat.tasks import base, contract, guest
from nomoat.tasks.base import Problem

NOT_COLUMNS = ("prompt", "completion", "completion_ids")  # as in TRL
CHUNK = 64  # completions of one call
LONGEST_SECONDS = 300.0  # of one call
SIGNATURE = "TRL's signature, f(prompts, completions, **columns)"


class Unknown:
    """What is not known where a text is judged; whoever looks into it is told so."""

    def __init__(self, name: str):
        self._name = name

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"{self._name} is not known where a text is judged; expected a verdict without it")

    def __len__(self) -> int:
        return self.__getattr__("len")

    def __iter__(self) -> Any:
        return self.__getattr__("iter")

    def __getitem__(self, key: Any) -> Any:
        return self.__getattr__("item")

    def __eq__(self, other: object) -> bool:
        return self.__getattr__("eq")

    __hash__ = None


class Judge:
    """One reward function, called as TRL calls it."""

    def __init__(self, function: Callable[..., Any]):
        @functools.wraps(function)
        def listed(**named: Any) -> Any:
            """What the function gives, as a list unless it has to be awaited."""
            n = len(named["completions"])
            given = function(**named)
            return given if inspect.isawaitable(given) else _listed(given, n)

        self.listed = listed
        self.loop: asyncio.AbstractEventLoop | None = None  # one for all calls

    def rewards(self, prompts: list, completions: list, columns: Mapping[str, list]) -> list[float | None]:
        """A reward for each completion; TypeError or ValueError for anything else."""
        n = len(completions)
        given = guest.within(
            LONGEST_SECONDS,
            self.listed,
            prompts=prompts,
            completions=completions,
            completion_ids=[Unknown("completion_ids") for _ in completions],
            trainer_state=Unknown("trainer_state"),
            log_extra=lambda *_, **__: None,
            log_metric=lambda *_, **__: None,
            **columns,
        )
        if inspect.isawaitable(given):
            given = _listed(self._awaited(given), n)
        if len(given) != n:
            raise ValueError(f"it gives {len(given)} rewards for {n} completions; expected as many")
        return [_number(reward) for reward in given]

    def _awaited(self, given: Any) -> Any:
        """What an async function gives, always in one loop: clients belong to that of their first call.

        Its thread is no reason to wait where the command ends.
        """
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            Thread(target=_run, args=(self.loop,), daemon=True).start()
            weakref.finalize(self, self.loop.call_soon_threadsafe, self.loop.stop)
        future = asyncio.run_coroutine_threadsafe(_result(given), self.loop)
        try:
            return future.result(LONGEST_SECONDS)
        except TimeoutError:
            if future.done():  # its own
                raise
            raise guest.too_slow(self.listed, LONGEST_SECONDS) from None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _listed(given: Any, n: int) -> list:
    """What was given in an order; of what may have no end, one too many."""
    if isinstance(given, str | bytes | Mapping | Set) or not hasattr(given, "__iter__"):
        raise TypeError(f"it gives a {type(given).__name__}; expected a list with a reward a completion")
    return list(given if hasattr(given, "__len__") else itertools.islice(given, n + 1))


def _number(reward: Any) -> float | None:
    """None for a reward that is none, as TRL has it."""
    if reward is None:
        return None
    if isinstance(reward, str | bytes):
        raise TypeError(f"it gives {reward!r}; expected a number")
    value = float(reward)
    return None if math.isnan(value) else value


class Only:
    """The function, given what it takes: all, or the names that it has.  TRL would refuse what it has not."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        kinds = inspect.signature(function).parameters.values()
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.takes_all = any(kind.kind is inspect.Parameter.VAR_KEYWORD for kind in kinds)
        self.names = {kind.name for kind in kinds}

    def __call__(self, **named: Any) -> Any:
        return self.function(**{k: v for k, v in named.items() if self.takes_all or k in self.names})


def function_in(file: str, name: str) -> Callable[..., Any]:
    """The function of that name in a Python file, which may import its neighbours."""
    if not Path(file).is_file():
        found = f"no function {name!r}: {what_is(Path(file))}"
        raise TaskError(f"{found}; expected {SIGNATURE}; check the path")
    function = getattr(guest.module_at(Path(file), f"a file with {SIGNATURE}"), name, None)
    if not callable(function):
        raise TaskError(f"no function {name!r} in {file}; expected {SIGNATURE}; mend it")
    return function


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
    function: Callable[..., Any],
    rows: Mapping[str, JsonObject],
    problems: Mapping[str, Problem],
    threshold: float = 1.0,
    name: str = "reward",
    whole: bool = False,
) -> SimpleNamespace:
    """The task of the problems judged by the function; each row's own answer has to earn the threshold.

    `whole`: it is handed the whole reply.
    """
    judge = Judge(Only(function))
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
