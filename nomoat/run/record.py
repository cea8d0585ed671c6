"""RUN/recipe.json: what a run is and under which conditions it began, enough to repeat it.

    {"format", "recipe", "sha256", "nomoat", "commit", "libraries"}

The digest is the recipe's: one that was changed by hand is no longer what the run was made of.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nomoat
from nomoat.config import DataError, JsonObject

FORMAT = 3  # of run directories
LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers")


def new_record(recipe: JsonObject) -> JsonObject:
    """The record of a run that begins now."""
    return {
        "format": FORMAT,
        **of_recipe(plain(recipe)),
        "nomoat": nomoat.__version__,
        "commit": _commit(),
        "libraries": libraries(),
    }


def of_recipe(recipe: JsonObject) -> JsonObject:
    """The part of a record that says the recipe."""
    spelled = json.dumps(recipe, sort_keys=True)
    return {"recipe": recipe, "sha256": hashlib.sha256(spelled.encode()).hexdigest()}


def read_record(root: Path) -> JsonObject:
    """The record of the run in `root`; DataError where there is none, or one of another format."""
    path = root / "recipe.json"
    if not path.is_file():
        raise DataError(
            f"{root} is no run directory (no recipe.json found); expected one that `nomoat run` made"
        )
    try:
        record = json.loads(path.read_text("utf-8"))
        stages = record["recipe"].get("stages", [])
        is_record = isinstance(stages, list) and all(isinstance(stage["kind"], str) for stage in stages)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_record = False
    if not is_record:
        raise DataError(
            f"{path} is not the record of a run; expected JSON with a recipe; restore it or use another --out"
        )
    if record.get("format", 1) != FORMAT:
        made_by = f"nomoat {record.get('commit') or record.get('nomoat')}"
        raise DataError(
            f"{root} holds a run of format {record.get('format', 1)}, which {made_by} made; "
            f"expected format {FORMAT}; start a new run in another --out, "
            f"or export this one with {made_by}: exported weights open here"
        )
    digest = of_recipe(record["recipe"])["sha256"]
    if record.get("sha256", digest) != digest:
        raise DataError(
            f"{path} was changed by hand: its recipe has sha256 {digest[:12]}, expected "
            f"{record['sha256'][:12]}; restore it; a run goes on under another recipe by `nomoat run RECIPE "
            f"--out {root} --continue`"
        )
    return record


def libraries() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def program() -> dict[str, str]:
    """The version of this program, and a digest of its files: a version is many states of a checkout."""
    root, digest = Path(nomoat.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".toml"):
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return {"nomoat": f"{nomoat.__version__} ({digest.hexdigest()[:12]})"}


def changes(one: JsonObject, other: JsonObject) -> list[tuple[str, str, str]]:
    """Each key in which two recipes differ, and both values; key order does not count, the order of the
    stages does.
    """
    left, right = dict(_leaves(one)), dict(_leaves(other))
    differing = []
    for key in dict.fromkeys([*left, *right]):
        has, wants = left.get(key, "no such key"), right.get(key, "no such key")
        if has != wants:
            differing.append((key, has, wants))
    return differing


def difference(found: JsonObject, expected: JsonObject) -> list[str]:
    """One line per key in which two recipes differ."""
    differing = changes(found, expected)
    return [f"{key}: the run has {has}, the recipe now has {wants}" for key, has, wants in differing]


def plain(value: Any) -> Any:
    """What JSON can hold: scalars of numpy and torch as numbers, no NaN, anything unknown as text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is not None and not isinstance(value, bool | int | float | str):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _commit() -> str | None:
    """The commit of this package, if it is a checkout."""
    root = Path(nomoat.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as text)."""
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        value = _named(value)
        yield key, f"[{', '.join(value)}]"
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
        return
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 3.0 is 3
    yield key, json.dumps(value)


def _named(tables: list[JsonObject]) -> dict[str, JsonObject]:
    """The tables of a list by their `name` or `kind`, numbered from the second of a name on."""
    named = {}
    seen = Counter()
    for place, table in enumerate(tables):
        name = str(table.get("name", table.get("kind", place)))
        seen[name] += 1
        if seen[name] > 1:
            name += f"#{seen[name]}"
        named[name] = table
    return named
