"""Tasks from elsewhere: files of problems, reward functions with TRL's signature, data sets of reasoning-gym.

    mine.jsonl                       question|problem|prompt and answer|solution a line; GSM8K, MATH, HumanEval as they are
    mine.jsonl:exact                 or :number (the last one counts), :line (the text), :code (f(x) on hidden inputs)
    mine.jsonl:exact:test            every problem is held out; without it, about 1 in 16 is
    mine.jsonl:reward.py:function    right is what the function rewards with 1 or more
    rg:chain_sum                     a data set of reasoning-gym; right is what it scores with 1

They have one level, 0.  A function or a library runs with your rights, and its judgement is its own: `nomoat task check`
shows what it lets pass.  Data sets whose scorer evaluates what a model wrote are refused.
"""

import ast
import importlib
import inspect
import itertools
import json
import re
import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from nomoat.tasks import answers, base, contract, exact
from nomoat.tasks.base import Problem, TaskError

QUESTION, ANSWER = ("question", "problem", "prompt"), ("answer", "solution", "canonical_solution", "ground_truth")
CHECKERS: dict[str, Callable[[Problem, str], bool]] = {
    "exact": lambda p, answer: exact.equal(answer, p.witness, units=p.facts.get("units"), lang=p.facts.get("reads", "en")),
    "number": lambda p, answer: exact.last_number(answer) == exact.number(p.witness) is not None,
    "line": lambda p, answer: base.same(answer, p.witness),
    "code": lambda p, answer: base.by_tests(p, program(p, answer)),
}
EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\((?!entry)")
REFUSED = {"acre": "its data are not freely licensed", "prime_factorization": "its scorer fails on every separator but one"}
FICKLE = ("codeio", "isomorphic_strings", "knight_swap", "list_functions", "ransom_note")  # other problems in another process
JUNK = ("?", "()", "\x00", "nan")  # right nowhere, unless it is the answer
SIZE = 10**6


def load(name: str) -> SimpleNamespace:
    """The task of that name; TaskError says what is wrong with it, and in which line."""
    path, *rest = name.split(":")
    if path == "rg":
        return gym(":".join(rest))
    if not path.endswith(".jsonl"):
        raise TaskError(f"no task {name!r}; expected FILE.jsonl[:checker], FILE.jsonl:FILE.py:function or rg:NAME; choose one")
    rows = read(Path(path))
    if rest and rest[0].endswith(".py"):
        try:
            function = runpy.run_path(rest[0])[rest[-1]]
        except (OSError, SyntaxError, KeyError) as error:
            raise TaskError(f"no function {rest[-1]!r} in {rest[0]}: {error!r}; expected TRL's signature; mend it") from None
        return from_reward(function, rows.values(), name=path)
    held, rest = "test" in rest, [part for part in rest if part != "test"]
    checker = rest[0] if rest else "code" if {"inputs", "test"} & {*next(iter(rows.values()))} else "exact"
    if checker not in CHECKERS:
        raise TaskError(f"no checker {checker!r} for {path}; expected one of {', '.join(CHECKERS)}; choose one")
    found: dict[str, Problem] = {}
    for where, row in rows.items():
        problem = posed(row, where, checker, held)
        if found.setdefault(problem.key, problem).witness != problem.witness:
            raise TaskError(f"{where}: the question has another answer above; expected one; drop a line")
    if not (problems := [p for p in found.values() if checker != "code" or p.facts["inputs"]]):
        raise TaskError(f"{path} has no problem with tests that are plain data; expected some; give inputs and outputs")
    return task(path, lambda rng: rng.choice(problems), CHECKERS[checker], "text" if checker == "code" else "line")


def task(name: str, draw: Callable[[Random], Problem], check: Callable, form: str) -> SimpleNamespace:
    """An object with the names of a task file."""
    return SimpleNamespace(
        __name__=re.sub(r"\W", "_", Path(name).stem), __file__=name if Path(name).is_file() else None, levels=(0,), form=form,
        make=lambda rng, level: draw(rng), check=check, near_misses=lambda p: ["?"], work=lambda p: p.facts.get("work", ""),
    )  # fmt: skip


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file by their place."""
    rows, where = {}, str(path)
    try:
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
            where = f"{path}, line {number}"
            if line.strip():
                rows[where] = dict(json.loads(line))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise TaskError(f"{where}: {error}; expected a JSON object a line, in UTF-8; mend it") from None
    if rows:
        return rows
    raise TaskError(f"{path} is empty; expected a JSON object with question and answer a line; add some")


def posed(row: Mapping[str, Any], where: str, checker: str, held: bool = False) -> Problem:
    """The problem in a row, in whichever layout."""
    names = [next((n for n in names if row.get(n) not in (None, "")), "") for names in (QUESTION, ANSWER)]
    prompt, witness = (row.get(name) for name in names)
    work, facts = row.get("solution", ""), {k: row[k] for k in ("units", "inputs", "outputs") if k in row}
    try:
        prompt = prompt[-1]["content"] if isinstance(prompt, list) else prompt  # messages
        witness = witness if isinstance(witness, str) else json.dumps(witness)
        if "####" in witness:  # GSM8K
            work, _, witness = re.sub(r"<<[^<>]*>>", "", witness).rpartition("####")
        elif names[1] == "solution" and checker != "code":  # MATH
            witness = exact.boxed(witness) or witness
        if checker == "code" and "test" in row:
            facts |= {"entry": row["entry_point"], "before": prompt} | asserted(row["test"], row["entry_point"])
        witness = witness if checker == "code" else witness.strip()
        fits = all(names) and not answers.SPECIAL.search(prompt + witness)
        line = 0 < len(witness) <= base.MAX_ANSWER and "\n" not in witness
        fits = fits and (len(facts["inputs"]) == len(facts["outputs"]) if checker == "code" else line)
    except (LookupError, TypeError, SyntaxError):
        fits = False
    if not fits:
        raise TaskError(
            f"{where}: {str(dict(row))[:80]}; expected {'|'.join(QUESTION)} and {'|'.join(ANSWER)} without special tokens: an "
            f"answer of one line, after ####, in \\boxed{{}}, or a program with tests or inputs and outputs; mend it"
        )
    facts |= {"work": str(work).strip(), "reads": row.get("lang", "en")}
    key = " ".join(prompt.casefold().split())
    found = (Problem(prompt, f"{key} {n}", witness, facts) for n in itertools.count())
    return next(p for p in found if not held or base.split_of(p) == "eval")


def asserted(test: str, entry: str) -> dict[str, list]:
    """Inputs and outputs from HumanEval's `assert candidate(…) == …`, where both are JSON; none if they are few."""
    pairs = []
    for node in ast.walk(ast.parse(test)):
        match node:
            case ast.Assert(ast.Compare(ast.Call(ast.Name("candidate"), args, []), [ast.Eq()], [told])):
                try:
                    given, told = [ast.literal_eval(arg) for arg in args], ast.literal_eval(told)
                    if json.loads(json.dumps(given)) == given:  # a tuple would arrive as a list
                        pairs.append((given, json.loads(json.dumps(told))))
                except (ValueError, TypeError):
                    continue
    pairs = pairs if len(pairs) > 2 and entry != "f" else []
    return {"inputs": [given for given, _ in pairs], "outputs": [told for _, told in pairs]}


def program(problem: Problem, answer: str) -> str:
    """What defines f(x): the answer, or HumanEval's beginning with what the answer goes on with or writes anew."""
    fenced = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    code, entry = fenced[1] if fenced else answer, problem.facts.get("entry")
    if not entry or not code.strip():
        return code
    joint = "\n" if f"def {entry}(" in code else "" if code.startswith((" ", "\t")) else "    "
    return f"{problem.facts['before']}{joint}{code}\n\ndef f(x): return {entry}(*x)\n"


def from_reward(
    function: Callable[..., Sequence[float]], rows: Iterable[Mapping[str, Any]], threshold: float = 1.0, name: str = "reward"
) -> SimpleNamespace:
    """The task of `rows` judged by function(prompts=, completions=, **columns), TRL's signature.

    The completion is the answer that stands after the thinking.  Each row's own answer has to earn the threshold.
    """
    asked = {(p := posed(row, f"{name}, row {n}", "line")).prompt: (p, row) for n, row in enumerate(rows, 1)}

    def score(problem: Problem, answer: str) -> bool:
        row = asked[problem.prompt][1]
        talk = [{"role": "assistant", "content": answer}] if isinstance(row.get("prompt"), list) else answer
        columns = {k: [v] for k, v in row.items() if k not in ("prompt", "completion")}
        reward = function(prompts=[row.get("prompt", problem.prompt)], completions=[talk], **columns)[0]
        return reward is not None and float(reward) >= threshold

    problems = [p for p, _ in asked.values()]
    return vetted(task(name, lambda rng: rng.choice(problems), score, "text"))


def gym(name: str) -> SimpleNamespace:
    """A data set of reasoning-gym, judged by its own scorer."""
    try:
        library = importlib.import_module("reasoning_gym")
    except ImportError:
        raise TaskError(f"rg:{name} needs reasoning-gym; expected the extra `gym`; pip install 'nomoat[gym]'") from None
    try:
        if name in REFUSED or name in FICKLE:
            raise ValueError(REFUSED.get(name, "its problems differ from process to process"))
        data = library.create_dataset(name, seed=0, size=SIZE)
        if EVALUATES.search(inspect.getsource(type(data).score_answer)):
            raise ValueError("its scorer evaluates what a model wrote")
    except (ValueError, AssertionError) as error:
        raise TaskError(f"rg:{name} can't be used: {error}; expected a data set that can judge; choose another") from None

    def draw(rng: Random) -> Problem:
        entry = data[rng.randrange(SIZE)]
        return Problem(entry["question"], entry["question"], str(entry["answer"] or ""), {"entry": entry})

    score = lambda problem, answer: data.score_answer(answer, problem.facts["entry"]) >= 1
    sample = [draw(base.Rng(f"form/{i}")).witness for i in range(16)]
    lines = all(len(w.splitlines()) == 1 and len(w) <= base.MAX_ANSWER for w in sample)
    return vetted(task(f"rg_{name}", draw, score, "line" if lines else "text"))


def vetted(task: SimpleNamespace) -> SimpleNamespace:
    """The task, if it accepts its own answers, takes no junk and asks the same again.  Its check no longer raises."""
    for i in range(8):
        first, again = (task.make(base.Rng(f"vetted/{i}"), 0) for _ in range(2))
        faults = [] if first == again else ["asks another question the second time:"]
        for text, want in ((first.witness.strip(), True), *((junk, False) for junk in JUNK if junk != first.witness)):
            if ((got := contract.verdict(task, first, text)) is True) is not want:
                faults.append(f"{contract.says(got)} {text[:60]!r} for")
        if faults:
            raise TaskError(f"{task.__name__} {faults[0]} {first.prompt[:60]!r}; expected otherwise; mend it or leave it")
    raw = SimpleNamespace(check=task.check)
    task.check = lambda problem, answer: contract.verdict(raw, problem, answer) is True
    return task
