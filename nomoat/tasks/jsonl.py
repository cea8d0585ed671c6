"""Files of problems as tasks, judged by comparison, by hidden tests, or by a reward function as TRL's are.

    mine.jsonl              question|problem|prompt and answer|solution a line; GSM8K, MATH, HumanEval as is;
                            messages that end with the answer; also .json, .csv, .tsv, see tables.py
    mine.csv:question=q,answer=a    the columns q and a under other names
    mine.jsonl:exact        or :number (the last one counts), :line (the text), :code (f(x) on hidden inputs)
    mine.jsonl:exact:test   every problem is held out; without it, about 1 in 16 is
    mine.jsonl:mine.py:f    right is what the function f rewards with 1 or more, see rewards.py

They have one level, 0.  A function runs with your rights, in a process of its own, and judges as it likes:
`nomoat task check` shows what it lets pass.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from nomoat.config import JsonObject, TaskError, UserError
from nomoat.tasks import (
    answers,
    asked,
    asserts,
    base,
    columns,
    exact,
    last,
    programs,
    questions,
    rewards,
    tables,
    texts,
)
from nomoat.tasks.base import Problem
from nomoat.tasks.tables import ANSWER, QUESTION

Row = JsonObject
REWARDED = ("prompt", "question", "problem")  # a reward function is told `prompt`, as by TRL
TRIED = 8  # solutions of a file that are run when it is read
SENTENCE = re.compile(r"(?:\S+\s+){4,}\S*\d|\d\S*\s+(?:\S+\s+){3,}|\b(?:answer|Antwort) (?:is|ist)\b|\.\s+\S")
ODD = re.compile(r"\s*(?:[\[{]\s*['\"].*[\]}]|nan|none|null|n/a|<na>|#n/a)\s*", re.IGNORECASE)  # of a table
EXPECTED = (
    f"{'|'.join(QUESTION)} and {'|'.join(ANSWER)} without special tokens: "
    "an answer of one line, after ####, in \\boxed{}, or a program with tests or inputs and outputs; other "
    "names of columns as in mine.jsonl:question=q,answer=a"
)


def same(problem: Problem, text: str) -> tuple[bool, str]:
    """(whether the answer is the one expected, by which rule)."""
    facts = problem.facts
    units = tuple((facts["units"] or {}).items())
    return compared(text, problem.witness, units, facts["reads"], problem.prompt)


@functools.lru_cache(1024)
def compared(text: str, witness: str, units: tuple, lang: str, question: str) -> tuple[bool, str]:
    """exact.compared, once: a group often answers alike, and is asked for the verdict and then its rule."""
    return exact.compared(text, witness, units=dict(units) or None, lang=lang, question=question)


CHECKERS: dict[str, Callable[[Problem, str], bool]] = {
    "exact": lambda p, text: same(p, text)[0],
    "number": lambda p, text: last.says_last(text, p.witness, lang=p.facts["reads"], question=p.prompt),
    "line": lambda p, text: base.check(p, text) or base.bare(text) == base.bare(p.witness),
    "code": programs.check,
}


def rule(checker: str, problem: Problem, text: str) -> str:
    """What the verdict about an answer follows from, for a person."""
    lang = problem.facts["reads"]
    if checker == "exact":
        return same(problem, text)[1]
    if checker == "number":
        return last.last_of(text, lang=lang, nouns=asked.asked(problem.prompt).nouns)[1]
    if checker == "line":
        return "the line as it is, but for blanks, case and a full stop"
    return f"{len(problem.facts.get('asserts', problem.facts['inputs']))} tests in the sandbox"


def load(name: str) -> SimpleNamespace:
    """The task of that name; TaskError says what is wrong with it, and in which line."""
    path, *options = tables.parted(name)
    rows = tables.read(path, options)
    options = [option for option in options if "=" not in option]
    if options and options[0].endswith(".py"):
        held = "test" in options
        problems = {place: posed(row, place, "line", held, REWARDED) for place, row in rows.items()}
        problems = on_one_side(rows, problems, held)
        return rewards.task(name, path, options, rows, problems)
    checker = named_checker(path, options) or usual_checker(rows)
    problems = distinct(rows, checker, held="test" in options)
    form, notes = "line", list(counted(rows, problems))
    if checker == "code":
        form, whole = "text", problems
        problems = [p for p in whole if p.facts["inputs"]]
        notes += programs.left_out(whole, problems)
        runs_itself(problems)
    if checker == "number":
        notes.append("lenient: the last number counts, so that `not 7` passes for 7")
    if not problems:
        raise TaskError(f"{path} has no problem that can be judged: {notes[-1]}; give inputs and outputs")
    task = base.listed(path, problems, CHECKERS[checker], form)
    task.named, task.notes, task.lenient = name, notes, checker == "number"
    task.rule = functools.partial(rule, checker)
    return task


def named_checker(path: str, options: Sequence[str]) -> str | None:
    """The checker that the options name, if they do."""
    names = [option for option in options if option not in ("test", "")]
    expected = f"expected one of {', '.join(CHECKERS)}, or test; choose one"
    for name in names:
        if name not in CHECKERS:
            raise TaskError(f"no checker {name!r} for {path}; {expected}")
    if len(names) > 1:
        raise TaskError(f"{len(names)} checkers for {path}; {expected}")
    return names[0] if names else None


def usual_checker(rows: Mapping[str, Row]) -> str:
    """By tests, or exactly; TaskError for a file of both kinds."""
    kinds = {place: _has_tests(row) for place, row in rows.items()}
    first = next(iter(kinds.values()))
    other = next((place for place, kind in kinds.items() if kind != first), None)
    if other is not None:
        here, above = ("no tests", "tests") if first else ("tests", "none")
        found = f"{other} has {here} (test, or inputs and outputs), and the first row {above}"
        raise TaskError(f"{found}; expected rows of one kind; make two files of them")
    return "code" if first else "exact"


def _has_tests(row: Row) -> bool:
    return any(row.get(name) not in (None, "") for name in ("inputs", "test"))


def oddly(problems: Sequence[Problem]) -> Iterator[str]:
    """Answers that a table may have written for a list, or for none."""
    odd = [problem for problem in problems if ODD.fullmatch(problem.witness)]
    for first in odd[:1]:
        place = first.facts["place"]
        found = f"answers such as {first.witness[:40]!r} ({place})"
        yield f"{found} are compared as text: {len(odd)} in all"


def counted(rows: Mapping[str, Row], problems: Sequence[Problem]) -> Iterator[str]:
    """What of a file is not asked, or not again."""
    if again := len(rows) - len(problems):
        yield f"{again} of {len(rows)} rows say again what stands above, and count once"
    yield from oddly(problems)
    if names := questions.unread(rows):
        yield f"not read: the columns {', '.join(names[:12])}"


def distinct(rows: Mapping[str, Row], checker: str, held: bool) -> list[Problem]:
    """The problems of the rows, each once; TaskError where one has two answers."""
    problems = {}
    for place, row in rows.items():
        problem = posed(row, place, checker, held)
        questions.one_question(row, QUESTION, place)
        judges_itself(problem, place, checker)
        question = question_of(problem)
        first = problems.setdefault(question, problem)
        if not texts.same_words(first.prompt, problem.prompt):  # What is R? and what is r?
            problem = with_capitals(problem, side_of(row, place, held))
            question = question_of(problem)
            first = problems.setdefault(question, problem)
        problems[question] = of_the_side(rows, first, problem, held)
        a, b = first.witness, problem.witness
        if judged_by(first) != judged_by(problem):
            found = f"the question stands above with other tests or units ({first.facts['place']})"
            raise TaskError(f"{place}: {found}; expected one; drop a line")
        if a == b or (checker == "exact" and columns.alike(a, b)):
            continue
        found = f"the question has another answer above, {a[:60]!r} and not {b[:60]!r}"
        raise TaskError(f"{place}: {found} ({first.facts['place']}); expected one; drop a line")
    return list(problems.values())


def with_capitals(problem: Problem, side: str | None) -> Problem:
    """The problem under a key that holds its capitals, too."""
    return keyed(problem, f"{problem.key} / {' '.join(problem.prompt.split())}", side)


def keyed(problem: Problem, key: str, side: str | None) -> Problem:
    """The problem under the key, or under the next one that falls to the side where it is to be."""
    ways = (dataclasses.replace(problem, key=f"{key} {n}") for n in itertools.count())
    return next(problem for problem in ways if side in (None, base.split_of(problem)))


def question_of(problem: Problem) -> str:
    """What rows that ask the same have in common: the key, but for the number that decides the side."""
    return problem.key.rpartition(" ")[0]


def side_of(row: Row, place: str, held: bool) -> str | None:
    """Where a row is to be: held out as all are, or where its column `split` says; TaskError for no side."""
    said = row.get("split")
    if held or said is None or not str(said).strip():
        return "eval" if held else None
    side = tables.SPLITS.get(str(said).strip().lower())
    if side is None:
        expected = f"expected one of {', '.join(tables.SPLITS)}"
        cure = "mend it, or call the column otherwise, as in mine.jsonl:part=split"
        raise TaskError(f"{place}: split is {said!r:.40}; {expected}; {cure}")
    return side


def of_the_side(rows: Mapping[str, Row], first: Problem, again: Problem, held: bool) -> Problem:
    """Of two that ask the same, the one whose row says on which side; TaskError where they say two."""
    above, here = first.facts["place"], again.facts["place"]
    before = side_of(rows[above], above, held)
    side = side_of(rows[here], here, held)
    if side in (None, before):
        return first
    if before is None:
        return again
    a, b = rows[above]["split"], rows[here]["split"]
    found = f"the question stands in {b} and, above, in {a} ({above})"
    raise TaskError(f"{here}: {found}; expected it on one side; drop a line")


def on_one_side(rows: Mapping[str, Row], problems: Mapping[str, Problem], held: bool) -> dict[str, Problem]:
    """The problems by their places, those that ask the same under one key."""
    one = {}
    for problem in problems.values():
        question = question_of(problem)
        one[question] = of_the_side(rows, one.get(question, problem), problem, held)
    return {
        place: dataclasses.replace(problem, key=one[question_of(problem)].key)
        for place, problem in problems.items()
    }


def judged_by(problem: Problem) -> str:
    """What decides about an answer beside the right one."""
    return repr([problem.facts.get(name) or None for name in ("inputs", "outputs", "asserts", "units")])


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


def runs_itself(problems: Sequence[Problem]) -> None:
    """TaskError where one of TRIED solutions of the file, spread over it, fails the tests beside it."""
    for problem in problems[:: len(problems) // TRIED + 1]:
        try:
            passed = not problem.witness.strip() or programs.check(problem, problem.witness)
        except (base.Undecided, UserError):  # no sandbox here; who judges says so
            return
        if not passed:
            found = f"its solution fails its tests: {problem.witness.strip()[:60]!r}"
            expected = "expected a function that passes, see docs/your-own-task.md"
            raise TaskError(f"{problem.facts['place']}: {found}; {expected}; mend either")


def posed(row: Row, place: str, checker: str, held: bool = False, asks: Sequence[str] = QUESTION) -> Problem:
    """The problem in a row, in whichever layout, asked by the first of `asks` that is filled; where it is to
    be held out, as its column `split` may say, under a key that is.
    """
    try:
        turns, row = questions.asked(row, asks, place)
        prompt = questions.text_of(turns)
        read = with_tests if checker == "code" else with_answer
        witness, facts = read(row, prompt)
        lang = "en"
        special = answers.SPECIAL.search(prompt + witness)
        fault = "special tokens" if special else None
    except (LookupError, TypeError, SyntaxError) as error:
        fault = str(error.args[0]) if isinstance(error, LookupError) else "what can't be read"
    if checker != "code":
        columns.check_units(row, place)
        lang = columns.language(row, place if checker in ("exact", "number") else None)
        columns.agree(row, place)
    if fault:
        found = f"{fault} in {str(dict(row))[:80]}"
        raise TaskError(f"{place}: {found}; expected {EXPECTED}; mend it")
    facts["place"], facts["reads"] = place, lang
    side = side_of(row, place, held)
    if side != "eval":
        questions.check_marks(row, place)
    if len(turns) > 1:
        facts["messages"] = turns
    key = " ".join(prompt.casefold().split())
    return keyed(Problem(prompt, key, witness, facts), key, side)


def with_answer(row: Row, prompt: str) -> tuple[str, JsonObject]:
    """(answer of one line, facts); GSM8K's and MATH's solutions are the worked chain."""
    column, given = first_of(row, ANSWER)
    if isinstance(given, list | dict):
        raise LookupError(f"{column} that is a {type(given).__name__} and no text or number,")
    witness = columns.as_text(given)
    work = row.get("solution", "")
    laid_out = "\n" in witness.strip() and texts.boxed(witness)
    if "####" in witness:  # GSM8K
        work, _, witness = re.sub(r"<<[^<>]*>>", "", witness).rpartition("####")
    elif column == "solution" or laid_out:  # MATH
        witness = " ".join((texts.boxed(witness) or witness).split())
    witness = witness.strip()
    if column == "solution" and in_words(witness):
        raise LookupError("a solution without a \\boxed{} or ####")
    if not 0 < len(witness) <= base.MAX_ANSWER or "\n" in witness:
        raise LookupError("no answer of one line")
    return witness, {"units": row.get("units"), "work": str(work).strip()}


def in_words(text: str) -> bool:
    """Whether a solution is told, and no answer by itself."""
    return SENTENCE.search(text) is not None and not exact.readings(text)


def with_tests(row: Row, prompt: str) -> tuple[str, JsonObject]:
    """(program, facts with what it is tried on): HumanEval's test, or inputs and outputs."""
    facts = {"work": str(row.get("solution", "")).strip()}
    if "test" in row:
        entry = row["entry_point"]
        facts |= {"entry": entry, "before": prompt, **asserts.tests(row["test"], entry)}
    else:
        facts |= {"inputs": row["inputs"], "outputs": row["outputs"]}
        for name in ("inputs", "outputs"):
            if not isinstance(row[name], list):
                raise LookupError(f"{name} that are a {type(row[name]).__name__} and no list,")
        if len(facts["inputs"]) != len(facts["outputs"]):
            found = f"{len(facts['inputs'])} inputs and {len(facts['outputs'])} outputs"
            raise LookupError(found)
    return columns.as_text(first_of(row, ANSWER)[1]), facts


def first_of(row: Row, names: Sequence[str]) -> tuple[str, Any]:
    """(column, value) of the first of them that is filled; LookupError where none is."""
    for column in names:
        if row.get(column) not in (None, ""):
            return column, row[column]
    raise LookupError(f"no {names[0]}")
