"""PAPERS.md in step with the code: each citation has its row, each row a function that cites it and its test.

What counts as a citation, in a comment at the line or in the docstring of a function or class: an equation's
number, `(16)`, `YaRN (22)` or, of a formula written out in the file's own docstring, `(K1)`; a paper, `arXiv
2402.03300` with `, eq. 4`, `, section 3.1` or `, table 2`, or `V3 report, section 4.2`; and, older than that,
`Wilson 1927`.  What the docstring of a file or class cites is meant for all of it and needs no row.
"""

import ast
import collections
import dataclasses
import functools
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import nomoat

PACKAGE = Path(nomoat.__file__).parent
ROOT = PACKAGE.parent
NUMBER = re.compile(r"(YaRN )?(?<!\w)\((\d+|[A-Z]\d)\)")
REPORT = re.compile(r"(V[23]) report, (section [\d.]*\d)")
PAPER = re.compile(r"arXiv \d{4}\.\d{4,5}(?:, (?:eq\.|section|table|algorithm) [\d.]*\d)?")
YEAR = re.compile(r"\b[A-Z][A-Za-z]+ (?:and [A-Z][A-Za-z]+ |et al\. )?(?:1[89]|20)\d\d\b")
EQUATIONS = ("model/", "engine/", "train/objective.py")  # where a bare number is the V3 report's
Place = tuple[str, str]  # file in nomoat/ or of the tests, qualified name in it


@dataclass(frozen=True)
class Row:
    room: str
    source: str
    functions: tuple[Place, ...]
    tests: tuple[Place, ...]


def rows(text: str) -> list[Row]:
    """The rows of every table, with the heading that they stand under."""
    out, room = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            room = line.removeprefix("## ").partition(":")[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[0] != "Source" and cells[0].strip("-"):
            out.append(Row(room, cells[0], places(cells[2]), places(cells[3])))
    return out


def places(cell: str) -> tuple[Place, ...]:
    return tuple(tuple(item.split(":")) for item in re.findall(r"`(.+?:.+?)`", cell))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def definitions(path: Path) -> dict[str, ast.AST]:
    """Qualified name -> node of each function, class and constant of the module, outer ones first."""
    out: dict[str, ast.AST] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.expr):  # defines nothing
                continue
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}".lstrip(".")
                out[name] = child
            elif isinstance(child, ast.Assign) and not prefix:
                out[ast.unparse(child.targets[0])] = child
            walk(child, name)

    walk(parsed(path), "")
    return out


def sources(file: str, text: str) -> Iterator[str]:
    """What a comment or docstring cites."""
    yield from PAPER.findall(text)
    yield from YEAR.findall(text)
    yield from map(", ".join, REPORT.findall(text))
    for paper, number in NUMBER.findall(text):
        if not number.isdigit():
            yield f"({number})"
        elif paper or file.startswith(EQUATIONS):
            yield f"{paper or 'V3 '}({number})"


def remarks(path: Path) -> Iterator[tuple[str, str]]:
    """(qualified name, text) of each comment and docstring; the name is "" outside of everything."""
    text = path.read_text("utf-8")
    inside = definitions(path)
    yield "", " ".join((ast.get_docstring(parsed(path)) or "").split())
    for name, node in inside.items():
        if not isinstance(node, ast.Assign):
            yield name, " ".join((ast.get_docstring(node) or "").split())
    behind = [line[line.index("#") :] for line in text.splitlines() if "#" in line]
    if not any(source for line in behind for source in sources(str(path.relative_to(PACKAGE)), line)):
        return  # reading a file's tokens takes longer than all else here
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            around = [name for name, n in inside.items() if n.lineno <= token.start[0] <= n.end_lineno]
            yield around[-1] if around else "", token.string


@functools.cache
def cited() -> dict[str, set[Place]]:
    """Source -> where it is cited."""
    out: dict[str, set[Place]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        for name, text in remarks(path):
            for source in sources(file, text):
                out.setdefault(source, set()).add((file, name))
    return out


TEXT = (ROOT / "PAPERS.md").read_text("utf-8")
ROWS = rows(TEXT)


def within(name: str, scope: str) -> bool:
    return scope in ("", name) or name.startswith(f"{scope}.")


def uncited(row: Row) -> list[Place]:
    """The functions of a row that don't cite its source, nor does the class or file that they are in."""
    where = cited().get(row.source, set())
    return [
        (file, name)
        for file, name in row.functions
        if not any(file == other and within(name, scope) for other, scope in where)
    ]


def untabled(table: list[Row]) -> list[str]:
    """Citations of functions and constants that no row follows."""
    known = {(row.source, place) for row in table for place in row.functions}
    out = []
    for source, where in cited().items():
        for file, name in where:
            scope = definitions(PACKAGE / file).get(name)
            if (
                scope is not None
                and not isinstance(scope, ast.ClassDef)
                and (source, (file, name)) not in known
            ):
                out.append(f"{file}:{name} cites {source}")
    return sorted(out)


def test_every_equation_of_section_2_has_its_row():
    assert {f"V3 ({n})" for n in range(1, 26)} <= {row.source for row in ROWS}


def test_every_citation_has_its_row():
    assert not untabled(ROWS)


def test_every_source_of_a_file_stands_on_the_page():
    """Its paper, or the formula that is written out in it."""
    names = {source.split(",")[0]: where for source, where in cited().items()}
    assert not {name: where for name, where in names.items() if name not in TEXT}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.room}: {row.source}")
def test_every_row_leads_to_a_function_that_cites_it_and_to_a_test(row):
    assert row.functions
    assert row.tests
    assert {Path(file).parts[0].removesuffix(".py") for file, _ in row.functions} == {row.room}
    assert not [(file, name) for file, name in row.functions if name not in definitions(PACKAGE / file)]
    assert not uncited(row)
    assert not [(file, name) for file, name in row.tests if name not in definitions(ROOT / file)]


def test_every_function_of_the_table_is_used_by_the_package():
    """Somewhere outside itself: an equation that nothing calls is no equation of this program."""
    used = collections.Counter()
    for path in PACKAGE.rglob("*.py"):
        used.update(mentions(parsed(path)))
    idle = []
    for file, name in {place for row in ROWS for place in row.functions}:
        own, short = definitions(PACKAGE / file)[name], name.rpartition(".")[2]
        if not short.startswith("__") and used[short] <= mentions(own)[short]:
            idle.append(f"{file}:{name}")
    assert not idle


def mentions(tree: ast.AST) -> collections.Counter[str]:
    names = [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    return collections.Counter(
        names + [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    )


@pytest.mark.check
def test_every_test_of_the_table_enters_its_functions(tmp_path):
    """All of them run once under a profile hook; stories run in other processes, constructors in fixtures."""
    table = [row for row in ROWS if not any(file.startswith("tests/story") for file, _ in row.tests)]
    tests = sorted({f"{file}::{name}" for row in table for file, name in row.tests})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.style.entered", *tests]
    env = {**os.environ, "ENTERED": str(tmp_path / "entered.json")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    entered = json.loads((tmp_path / "entered.json").read_text("utf-8"))
    missed = []
    for row in table:
        seen = {place for file, name in row.tests for place in entered[f"{file}::{name}"]}
        called = [f"{file}:{name}" for file, name in row.functions if is_called(file, name)]
        missed += [f"{row.source}: {place}" for place in called if place not in seen]
    assert not missed


def is_called(file: str, name: str) -> bool:
    return not name.endswith("__init__") and isinstance(definitions(PACKAGE / file)[name], ast.FunctionDef)


def test_the_rules_find_what_they_forbid():
    row = next(row for row in ROWS if row.source == "(K1)")
    assert untabled([other for other in ROWS if other != row])
    assert uncited(dataclasses.replace(row, source="(K9)")) == list(row.functions)
    assert list(sources("rl/wrong.py", "by (16) and YaRN (22), f(3)")) == ["YaRN (22)"]
    assert list(sources("model/wrong.py", "# (3) (8), the key")) == ["V3 (3)", "V3 (8)"]
