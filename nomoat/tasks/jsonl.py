"""Files of problems as tasks, judged by comparison, by hidden tests, or by a reward function of TRL's signature.

    mine.jsonl              question|problem|prompt and answer|solution a line; GSM8K, MATH, HumanEval as they are
    mine.jsonl:exact        or :number (the last one counts), :line (the text), :code (f(x) on hidden inputs)
    mine.jsonl:exact:test   every problem is held out; without it, about 1 in 16 is
    mine.jsonl:mine.py:f    right is what the function f rewards with 1 or more

They have one level, 0.  A function runs with your rights, and its judgement is its own: `nomoat task check` shows
what it lets pass.
"""

import ast
import itertools
import json
import re
import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nomoat.config import TaskError
from nomoat.tasks import answers, base, contract, exact
from nomoat.tasks.base import Problem

Row = Mapping[str, Any]
QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer", "solution", "canonical_solution", "ground_truth")
EXPECTED = (
    f"{'|'.join(QUESTION)} and {'|'.join(ANSWER)} without special tokens: "
    "an answer of one line, after ####, in \\boxed{}, or a program with tests or inputs and outputs"
)
MIN_TESTS = 3  # that are plain data; HumanEval's others use random inputs or tolerances


def exactly(problem: Problem, answer: str) -> bool:
    units, lang = problem.facts.get("units"), problem.facts.get("reads", "en")
    return exact.equal(answer, problem.witness, units=units, lang=lang)


def by_last_number(problem: Problem, answer: str) -> bool:
    right = exact.number(problem.witness)
    return right is not None and exact.last_number(answer) == right


def by_tests(problem: Problem, answer: str) -> bool:
    return base.by_tests(problem, program(problem, answer))


CHECKERS = {"exact": exactly, "number": by_last_number, "line": base.check, "code": by_tests}


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
    form = "line"
    if checker == "code":
        form = "text"
        problems = [p for p in problems if p.facts["inputs"]]
    if not problems:
        expected = "expected some; give inputs and outputs"
        raise TaskError(f"{path} has no problem with tests that are plain data; {expected}")
    return base.one_level(path, lambda rng: rng.choice(problems), CHECKERS[checker], form)


def usual_checker(rows: Mapping[str, Row]) -> str:
    first = next(iter(rows.values()))
    return "code" if "inputs" in first or "test" in first else "exact"


def distinct(rows: Mapping[str, Row], checker: str, held: bool) -> list[Problem]:
    """The problems of the rows, each once; TaskError where one has two answers."""
    problems: dict[str, Problem] = {}
    for place, row in rows.items():
        problem = posed(row, place, checker, held)
        if problems.setdefault(problem.key, problem).witness != problem.witness:
            raise TaskError(f"{place}: the question has another answer above; expected one; drop a line")
    return list(problems.values())


def read(path: Path) -> dict[str, dict[str, Any]]:
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
        problem = with_tests(row) if checker == "code" else with_answer(row)
        fits = not answers.SPECIAL.search(problem.prompt + problem.witness)
    except (LookupError, TypeError, SyntaxError):
        fits = False
    if not fits:
        raise TaskError(f"{place}: {str(dict(row))[:80]}; expected {EXPECTED}; mend it")
    key = " ".join(problem.prompt.casefold().split())
    for n in itertools.count():
        keyed = replace(problem, key=f"{key} {n}")
        if not held or base.split_of(keyed) == "eval":
            return keyed


def with_answer(row: Row) -> Problem:
    """A question and an answer of one line; GSM8K's and MATH's solutions are the worked chain."""
    column, given = first_of(row, ANSWER)
    witness, work = as_text(given), row.get("solution", "")
    if "####" in witness:  # GSM8K
        work, _, witness = re.sub(r"<<[^<>]*>>", "", witness).rpartition("####")
    elif column == "solution":  # MATH
        witness = exact.boxed(witness) or witness
    witness = witness.strip()
    if not 0 < len(witness) <= base.MAX_ANSWER or "\n" in witness:
        raise LookupError("no answer of one line")
    return assembled(row, witness, work)


def with_tests(row: Row) -> Problem:
    """A program and what it is tried on: HumanEval's test, or inputs and outputs."""
    witness = as_text(first_of(row, ANSWER)[1])
    problem = assembled(row, witness, row.get("solution", ""))
    if "test" in row:
        entry = row["entry_point"]
        tests = {"entry": entry, "before": problem.prompt, **asserted(row["test"], entry)}
        problem = replace(problem, facts={**problem.facts, **tests})
    if len(problem.facts["inputs"]) != len(problem.facts["outputs"]):
        raise LookupError("not as many outputs as inputs")
    return problem


def assembled(row: Row, witness: str, work: str) -> Problem:
    prompt = first_of(row, QUESTION)[1]
    if isinstance(prompt, list):  # messages
        prompt = prompt[-1]["content"]
    facts = {name: row[name] for name in ("units", "inputs", "outputs") if name in row}
    facts |= {"work": str(work).strip(), "reads": row.get("lang", "en")}
    return Problem(prompt, prompt, witness, facts)


def first_of(row: Row, columns: Sequence[str]) -> tuple[str, Any]:
    """(column, value) of the first of them that is filled; LookupError where none is."""
    for column in columns:
        if row.get(column) not in (None, ""):
            return column, row[column]
    raise LookupError(columns)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def asserted(test: str, entry: str) -> dict[str, list]:
    """Inputs and outputs of HumanEval's `assert candidate(…) == …` where both are JSON; none if they are few."""
    inputs, outputs = [], []
    for node in ast.walk(ast.parse(test)):
        match node:
            case ast.Assert(ast.Compare(ast.Call(ast.Name("candidate"), args, []), [ast.Eq()], [right])):
                try:
                    given = [ast.literal_eval(arg) for arg in args]
                    want = json.loads(json.dumps(ast.literal_eval(right)))
                    plain = json.loads(json.dumps(given)) == given  # a tuple would arrive as a list
                except (ValueError, TypeError):
                    continue
                if plain:
                    inputs.append(given)
                    outputs.append(want)
    enough = len(inputs) >= MIN_TESTS and entry != "f"
    return {"inputs": inputs, "outputs": outputs} if enough else {"inputs": [], "outputs": []}


def program(problem: Problem, answer: str) -> str:
    """What defines f(x): the answer, or HumanEval's beginning and what the answer adds or writes anew."""
    fenced = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    code = fenced[1] if fenced else answer
    entry = problem.facts.get("entry")
    if not entry or not code.strip():
        return code
    if f"def {entry}(" in code:
        joint = "\n"
    else:
        joint = "" if code.startswith((" ", "\t")) else "    "
    return f"{problem.facts['before']}{joint}{code}\n\ndef f(x): return {entry}(*x)\n"


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
    problems, row_of = {}, {}
    for number, row in enumerate(rows, 1):
        problem = posed(row, f"{name}, row {number}", "line")
        problems[problem.prompt], row_of[problem.prompt] = problem, row

    def check(problem: Problem, answer: str) -> bool:
        row = row_of[problem.prompt]
        prompt, completion = row.get("prompt", problem.prompt), answer
        if isinstance(prompt, list):
            completion = [{"role": "assistant", "content": answer}]
        columns = {k: [v] for k, v in row.items() if k not in ("prompt", "completion")}
        reward = function(prompts=[prompt], completions=[completion], **columns)[0]
        return reward is not None and float(reward) >= threshold

    questions = list(problems.values())
    return contract.vetted(base.one_level(name, lambda rng: rng.choice(questions), check, "text"))
