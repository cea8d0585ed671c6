"""PAPERS.md in step with the code: each citation has a row, each row its function, its citation there and its test."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import nomoat

PACKAGE = Path(nomoat.__file__).parent
ROOT = PACKAGE.parent
ROW = re.compile(r"\| (V3 \(\d+\)|V2 [\d.]+|YaRN \(\d+\)|arXiv [\d.]+[^|]*?) \| (.+?) \| (`.+?`) \| (`.+?`) \|")
Place = tuple[str, str]


def functions(path: Path) -> dict[str, ast.AST]:
    """Qualified name -> node of each function, innermost names last."""
    out: dict[str, ast.AST] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            name = f"{prefix}.{child.name}".lstrip(".") if named else prefix
            if isinstance(child, ast.FunctionDef):
                out[name] = child
            walk(child, name)

    walk(ast.parse(path.read_text("utf-8")), "")
    return out


def cited() -> set[tuple[str, Place]]:
    """(equation, place) of each comment in model/ that names an equation by its number."""
    out = set()
    for path in sorted((PACKAGE / "model").glob("*.py")):
        spans = [(node.lineno, node.end_lineno, name) for name, node in functions(path).items()]
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type == tokenize.COMMENT:
                inside = [name for first, last, name in spans if first <= token.start[0] <= last]
                paper = "YaRN" if "YaRN" in token.string else "V3"
                for number in re.findall(r"\(\d+\)", token.string):
                    out.add((f"{paper} {number}", (f"model/{path.name}", inside[-1] if inside else "")))
    return out


def places(cell: str) -> list[Place]:
    return [tuple(item.split(":")) for item in re.findall(r"`(.+?)`", cell)]


ROWS = {row[1]: row for row in map(ROW.match, (ROOT / "PAPERS.md").read_text("utf-8").splitlines()) if row}


def test_every_equation_of_section_2_has_its_row():
    assert {f"V3 ({n})" for n in range(1, 26)} <= set(ROWS)
    assert "V2 2.1.2" in ROWS


def test_every_citation_in_the_model_is_in_the_table():
    assert cited() <= {(equation, place) for equation, row in ROWS.items() for place in places(row[3])}


@pytest.mark.parametrize("equation", ROWS)
def test_every_row_names_a_function_that_cites_it_and_a_test_that_exists(equation):
    number = equation.partition(" ")[2]
    for file, name in places(ROWS[equation][3]):
        path = PACKAGE / file
        node = functions(path)[name]
        lines = path.read_text("utf-8").splitlines()[node.lineno - 1 : node.end_lineno]
        assert any(number in line for line in lines), f"{file}:{name} doesn't cite {equation}"
        assert not file.startswith("model/") or "." in number or (equation, (file, name)) in cited()
    for file, name in places(ROWS[equation][4]):
        assert name in functions(ROOT / file)
