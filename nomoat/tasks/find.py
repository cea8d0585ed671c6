"""Finding tasks: families of the package, task files, and what other projects made."""

import functools
import importlib
import importlib.util
from pathlib import Path

from nomoat.config import TaskError
from nomoat.tasks.base import Task

FAMILIES = (
    "lamp", "addition", "modchain", "sorting", "counting", "reversing", "countdown", "weekday", "ordering", "boolean",
    "path", "instruct", "fields", "equation", "clock", "rewriting", "sequence",
)  # fmt: skip
UNSEEN = ("equation", "clock", "rewriting", "sequence")  # no shipped recipe trains on them: they measure transfer
NAMES = ("levels", "make", "check", "near_misses", "work")


def families() -> dict[str, Task]:
    """Every family of the package by name, easiest to reproduce first; imported at the call."""
    return {name: importlib.import_module(f"nomoat.tasks.families.{name}") for name in FAMILIES}


@functools.cache
def find(name: str) -> Task:
    """The family of that name, the task in a Python file, or one that `nomoat.tasks.external` reads."""
    if name in FAMILIES:
        return importlib.import_module(f"nomoat.tasks.families.{name}")
    if name.endswith(".py"):
        return load_file(name)
    if ":" in name or name.endswith(".jsonl"):
        return importlib.import_module("nomoat.tasks.external").load(name)
    raise TaskError(f"no task {name!r}; expected a .py or .jsonl file, or one of: {', '.join(FAMILIES)}; choose one")


def load_file(path: str | Path) -> Task:
    """A Python file as a task.  It runs with your rights: load only files that you have read."""
    path = Path(path)
    if not path.is_file():
        raise TaskError(f"no task file at {path}; expected a Python file with {', '.join(NAMES)}; check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path} is not a Python file; expected a name that ends in .py; rename it")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise TaskError(f"{path} is not Python: {error}; expected a task file; mend that line") from None
    if missing := [name for name in NAMES if not hasattr(module, name)]:
        raise TaskError(f"{path} lacks {', '.join(missing)}; expected {', '.join(NAMES)}; add what is missing")
    return module
