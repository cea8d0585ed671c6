"""Finding tasks: families of the package, task files, and what other projects made."""

import functools
import importlib
import importlib.util
from pathlib import Path

from nomoat.config import TaskError
from nomoat.tasks import gym, jsonl
from nomoat.tasks.base import NAMES, Task

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
FOREIGN = "FILE.jsonl[:checker], FILE.jsonl:FILE.py:function or rg:NAME"


def families() -> dict[str, Task]:
    """Every family of the package by name, easiest to reproduce first; imported at the call."""
    return {name: find(name) for name in FAMILIES}


@functools.cache
def find(name: str) -> Task:
    """The family of that name, the task in a Python file, or what `jsonl` or `gym` make of the name."""
    if name in FAMILIES:
        return importlib.import_module(f"nomoat.tasks.families.{name}")
    if name.endswith(".py"):
        return load_file(name)
    if name.partition(":")[0].endswith(".jsonl"):
        return jsonl.load(name)
    if name.startswith("rg:"):
        return gym.load(name.removeprefix("rg:"))
    expected = FOREIGN if ":" in name else f"a .py or .jsonl file, or one of: {', '.join(FAMILIES)}"
    raise TaskError(f"no task {name!r}; expected {expected}; choose one")


def files(name: str) -> list[Path]:
    """The files of a task of that name; none of a family of the package."""
    return [Path(part) for part in name.split(":") if Path(part).is_file()]


def load_file(path: str | Path) -> Task:
    """A Python file as a task.  It runs with your rights: load only files that you have read."""
    path, names = Path(path), ", ".join(NAMES)
    if not path.is_file():
        raise TaskError(f"no task file at {path}; expected a Python file with {names}; check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path} is not a Python file; expected a name that ends in .py; rename it")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise TaskError(f"{path} is not Python: {error}; expected a task file; mend that line") from None
    if missing := [name for name in NAMES if not hasattr(module, name)]:
        raise TaskError(f"{path} lacks {', '.join(missing)}; expected {names}; add what is missing")
    module.named = str(path)
    return module
