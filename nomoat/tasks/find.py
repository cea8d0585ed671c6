"""Finding tasks: families of the package, task files, and what other projects made."""

import functools
import importlib
from pathlib import Path

from nomoat.config import TaskError
from nomoat.files import what_is
from nomoat.tasks import base, contract, guest, gym, jsonl, tables
from nomoat.tasks.base import NAMES, Problem, Task

FAMILIES = (
    "lamp",
    "addition",
    "modchain",
    "sorting",
    "counting",
    "reversing",
    "countdown",
    "weekday",
    "ordering",
    "boolean",
    "path",
    "instruct",
    "fields",
    "equation",
    "clock",
    "rewriting",
    "sequence",
)
UNSEEN = (
    "equation",
    "clock",
    "rewriting",
    "sequence",
)  # no shipped recipe trains on them: they measure transfer
FOREIGN = "FILE.jsonl[:checker], FILE.jsonl:FILE.py:function (also .json, .csv, .tsv) or rg:NAME"


def families() -> dict[str, Task]:
    """Every family of the package by name, easiest to reproduce first; imported at the call."""
    return {name: find(name) for name in FAMILIES}


@functools.cache
def find(name: str) -> Task:
    """The family of that name, the task in a Python file, or what `jsonl` or `gym` make of the name."""
    if name in FAMILIES:
        return importlib.import_module(f"nomoat.tasks.families.{name}")
    if tables.NAME.fullmatch(name):
        return jsonl.load(name)
    if name.endswith(".py"):
        return load_file(name)
    if name.startswith("rg:"):
        return gym.load(name.removeprefix("rg:"))
    known = f"a .py, .jsonl, .json, .csv, .tsv file or one of: {', '.join(FAMILIES)}"
    if Path(f"{name}.py").is_file():
        raise TaskError(f"no task {name!r}; did you mean {name}.py?")
    expected = FOREIGN if ":" in name else known
    raise TaskError(f"no task {name!r}; expected {expected}; choose one")


def files(name: str) -> list[Path]:
    """The files of a task of that name; none of a family of the package."""
    return [Path(part) for part in name.split(":") if Path(part).is_file()]


def load_file(path: str | Path) -> Task:
    """A Python file as a task.  It runs with your rights: load only files that you have read.

    What its functions raise is told with its line: by `check` as a warning, by the others as a TaskError.
    """
    path, names = Path(path), ", ".join(NAMES)
    if not path.is_file():
        found = what_is(path).replace("nothing at", "no task file at")
        raise TaskError(f"{found}; expected a Python file with {names}; check the path")
    module = guest.module_at(path, "a task file")
    if missing := [name for name in NAMES if not hasattr(module, name)]:
        raise TaskError(f"{path} lacks {', '.join(missing)}; expected {names}; add what is missing")
    if not contract.ascends(module.levels):
        expected = "expected whole numbers that ascend"
        raise TaskError(f"{path} has levels = {module.levels!r:.80}; {expected}; mend them")
    module.check = guest.total(module.check, str(path))
    module.make = guest.strict(module.make, f"{path}: make", Problem, of_problem)
    module.near_misses = guest.strict(module.near_misses, f"{path}: near_misses", list, of_texts)
    written = getattr(module, "work", base.no_work)
    module.work = written if written is base.no_work else guest.strict(written, f"{path}: work", str)
    module.named = str(path)
    return module


def of_problem(problem: Problem) -> str:
    """Which part of a problem is no text, or nothing; "" where all is well."""
    for name in ("prompt", "key", "witness"):
        value = getattr(problem, name)
        if not isinstance(value, str) or not value.strip():
            return f"its {name} is {value!r:.60}, expected a text (str)"
    return ""


def of_texts(texts: list) -> str:
    """Which of them is no text; "" where all are."""
    others = [text for text in texts if not isinstance(text, str)]
    return f"it gave {others[0]!r:.60} among them, expected texts (str)" if others else ""
