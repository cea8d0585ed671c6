"""Files of problems as tasks, judged by comparison, by hidden tests, or by a reward function as TRL's are.

    mine.jsonl              question|problem|prompt and answer|solution a line; GSM8K, MATH, HumanEval as is
    mine.jsonl:exact        or :number (the last one counts), :line (the text), :code (f(x) on hidden inputs)
    mine.jsonl:exact:test   every problem is held out; without it, about 1 in 16 is
    mine.jsonl:mine.py:f    right is what the function f rewards with 1 or more

They have one level, 0.  A function runs with your rights, and judges as it likes: `nomoat task check` shows
what it lets pass.
"""

import functools
import itertools
import json
import re
import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.tasks import answers, base, contract, exact, programs
from nomoat.tasks.base import Problem

Row = JsonObject
QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer", "solution", "canonical_solution", "ground_truth")
EXPECTED = (
    f"{'|'.join(QUESTION)} and {'|'.join(ANSWER)} without special tokens: "
    "an answer of one line, after ####, in \\boxed{}, or a program with tests or inputs and outputs"
)
CHECKERS: dict[str, Callable[[Problem, str], bool]] = {
    "exact": lambda p, text: exact.equal(text, p.witness, units=p.facts["units"], lang=p.facts["reads"]),
    "number": lambda p, text: exact.says_last(text, p.witness, lang=p.facts["reads"]),
    "line": lambda p, text: base.check(p, text) or base.bare(text) == p.witness.strip(),
    "code": programs.check,
}


def rule(checker: str, problem: Problem, text: str) -> str:
    """What the verdict about an answer follows from, for a person."""
    lang = problem.facts["reads"]
    if checker == "exact":
        return exact.compared(text, problem.witness, units=problem.facts["units"], lang=lang)[1]
    if checker == "number":
        return f"the last number is {exact.last_number(text, lang=lang)}"
    if checker == "line":
        return "the line as it is, but for blanks, case and a full stop"
    return f"{len(problem.facts.get('asserts', problem.facts['inputs']))} tests in the sandbox"


def load(name: str) -> SimpleNamespace:
    """The task of that name; TaskError says what is wrong with it, and in which line."""
    path, *options = name.split(":")
    rows = read(Path(path))
    if options and options[0].endswith(".py"):
        return from_reward(function_in(options[0], options[-1]), rows.values(), name=path)
    checker = next((option for option in options if option != "test"), usual_checker(rows))
    if checker not in CHECKERS:
        raise TaskError(
            f"no checker {checker!r} for {path}; expected one of {', '.join(CHECKERS)}; choose one"
        )
    problems = distinct(rows, checker, held="test" in options)
    form, notes = "line", []
    if checker == "code":
        form, whole = "text", problems
        problems = [p for p in whole if p.facts["inputs"]]
        notes = list(programs.left_out(whole, problems))
    if checker == "number":
        notes = ["lenient: the last number counts, so that `not 7` passes for 7"]
    if not problems:
        raise TaskError(f"{path} has no problem that can be judged: {notes[0]}; give inputs and outputs")
    task = base.one_level(path, lambda rng: rng.choice(problems), CHECKERS[checker], form)
    task.named, task.notes, task.lenient = name, notes, checker == "number"
    task.rule = functools.partial(rule, checker)
    return task


def usual_checker(rows: Mapping[str, Row]) -> str:
    first = next(iter(rows.values()))
    return "code" if "inputs" in first or "test" in first else "exact"


def distinct(rows: Mapping[str, Row], checker: str, held: bool) -> list[Problem]:
    """The problems of the rows, each once; TaskError where one has two answers."""
    problems = {}
    for place, row in rows.items():
        problem = posed(row, place, checker, held)
        judges_itself(problem, place, checker)
        if problems.setdefault(problem.key, problem).witness != problem.witness:
            raise TaskError(f"{place}: the question has another answer above; expected one; drop a line")
    return list(problems.values())


def judges_itself(problem: Problem, place: str, checker: str) -> None:
    """TaskError where the checker refuses the row's own answer."""
    if checker == "code" or CHECKERS[checker](problem, problem.witness):
        return
    expected = "a number" if checker == "number" else "an answer that equals itself"
    others = " or ".join(f":{other}" for other in ("exact", "line") if other != checker)
    raise TaskError(
        f"{place}: :{checker} can't judge the answer {problem.witness!r}; expected {expected}; "
        f"mend it or use {others}"
    )


def read(path: Path) -> dict[str, JsonObject]:
    """The rows of a file by their place."""
    rows, place = {}, str(path)
    try:
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
            place = f"{path}, line {number}"
            if line.strip():
                rows[place] = dict(json.loads(line))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise TaskError(f"{place}: {error}; expected a JSON object a line, in UTF-8; mend it") from None
    if rows:
        return rows
    raise TaskError(f"{path} is empty; expected a JSON object with question and answer a line; add some")


def posed(row: Row, place: str, checker: str, held: bool = False) -> Problem:
    """The problem in a row, in whichever layout; where it is to be held out, under a key that is."""
    try:
        prompt = asked(row)
        read = with_tests if checker == "code" else with_answer
        witness, facts = read(row, prompt)
        fits = not answers.SPECIAL.search(prompt + witness)
    except (LookupError, TypeError, SyntaxError):
        fits = False
    if not fits:
        raise TaskError(f"{place}: {str(dict(row))[:80]}; expected {EXPECTED}; mend it")
    facts["reads"] = row.get("lang", "en")
    key = " ".join(prompt.casefold().split())
    keyed = (Problem(prompt, f"{key} {n}", witness, facts) for n in itertools.count())
    return next(problem for problem in keyed if not held or base.split_of(problem) == "eval")


def asked(row: Row) -> str:
    prompt = first_of(row, QUESTION)[1]
    return prompt[-1]["content"] if isinstance(prompt, list) else prompt  # messages


def with_answer(row: Row, prompt: str) -> tuple[str, JsonObject]:
    """(answer of one line, facts); GSM8K's and MATH's solutions are the worked chain."""
    column, given = first_of(row, ANSWER)
    witness = as_text(given)
    work = row.get("solution", "")
    if "####" in witness:  # GSM8K
        work, _, witness = re.sub(r"<<[^<>]*>>", "", witness).rpartition("####")
    elif column == "solution":  # MATH
        witness = " ".join((exact.boxed(witness) or witness).split())
    witness = witness.strip()
    if not 0 < len(witness) <= base.MAX_ANSWER or "\n" in witness:
        raise LookupError("no answer of one line")
    return witness, {"units": row.get("units"), "work": str(work).strip()}


def with_tests(row: Row, prompt: str) -> tuple[str, JsonObject]:
    """(program, facts with what it is tried on): HumanEval's test, or inputs and outputs."""
    facts = {"work": str(row.get("solution", "")).strip()}
    if "test" in row:
        entry = row["entry_point"]
        facts |= {"entry": entry, "before": prompt, **programs.tests(row["test"], entry)}
    else:
        facts |= {"inputs": row["inputs"], "outputs": row["outputs"]}
        if len(facts["inputs"]) != len(facts["outputs"]):
            raise LookupError("not as many outputs as inputs")
    return as_text(first_of(row, ANSWER)[1]), facts


def first_of(row: Row, columns: Sequence[str]) -> tuple[str, Any]:
    """(column, value) of the first of them that is filled; LookupError where none is."""
    for column in columns:
        if row.get(column) not in (None, ""):
            return column, row[column]
    raise LookupError(columns)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def function_in(file: str, name: str) -> Callable[..., Sequence[float]]:
    try:
        return runpy.run_path(file)[name]
    except (OSError, SyntaxError, KeyError) as error:
        expected = "expected TRL's signature; mend it"
        raise TaskError(f"no function {name!r} in {file}: {error!r}; {expected}") from None


def from_reward(
    function: Callable[..., Sequence[float]],
    rows: Iterable[Row],
    threshold: float = 1.0,
    name: str = "reward",
) -> SimpleNamespace:
    """The task of `rows` judged by function(prompts=, completions=, **columns), TRL's signature.

    The completion is what stands after the thinking.  Each row's own answer has to earn the threshold.
    """
    row_of = {}
    problems = {}
    for number, row in enumerate(rows, 1):
        problem = posed(row, f"{name}, row {number}", "line")
        problems[problem.prompt] = problem
        row_of[problem.prompt] = row

    def check(problem: Problem, answer: str) -> bool:
        row = row_of[problem.prompt]
        prompt = row.get("prompt", problem.prompt)
        talk = [{"role": "assistant", "content": answer}] if isinstance(prompt, list) else answer
        columns = {k: [v] for k, v in row.items() if k not in ("prompt", "completion")}
        reward = function(prompts=[prompt], completions=[talk], **columns)[0]
        return reward is not None and float(reward) >= threshold

    questions = list(problems.values())
    return contract.vetted(base.one_level(name, lambda rng: rng.choice(questions), check, "text"))
