"""docs/interop.md: every test that it names exists, every row has a version, a failure shows its sentence."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import interop

ROOT = Path(__file__).parents[2]
NAMED = sorted({name for row in interop.rows() for name in row.tests})


@pytest.mark.parametrize("name", NAMED)
def test_every_named_test_exists(name):
    path, _, rest = name.partition("::")
    function, _, case = rest.partition("[")
    source = (ROOT / path).read_text()
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    parts = case.rstrip("]").split("-") if case else []
    spelled = source + (ROOT / "tests" / "ggufs.py").read_text()
    assert [part for part in parts if f'"{part}"' not in spelled] == []


def test_every_row_has_a_version_and_a_test_or_says_by_hand():
    text = interop.PAGE.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line for line in lines if line.count(" | ") != 2] == []
    assert [row for row in interop.rows() if not re.search(r"\d+\.\d+", row.seen_with)] == []
    body = [line for line in lines if not line.startswith(("| what it does", "| ---"))]
    assert len(body) == len(interop.rows()) > 40
    unseen = [line for line, row in zip(body, interop.rows()) if not row.tests and "by hand" not in line]
    assert unseen == []


def test_a_named_test_has_its_sentences_and_no_other_has_any():
    row = next(row for row in interop.rows() if row.tests)
    assert any(row.sentence in sentence for sentence in interop.sentences_of(row.tests[0]))
    plain = next(name for name in NAMED if "[" not in name)
    assert interop.sentences_of(f"{plain}[any]") == interop.sentences_of(plain) != []
    assert interop.sentences_of(f"{plain}_or_not") == []
    assert interop.sentences_of("tests/style/test_interop.py::test_every_named_test_exists") == []


def test_a_failure_shows_its_sentences(tmp_path):
    """The hook of conftest.py in a project of its own, with a page of one row."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs").mkdir()
    row = "| Blanks are dropped | tool 1.2 | `tests/test_it.py::test_one` |"
    (tmp_path / "docs" / "interop.md").write_text(row)
    (tmp_path / "tests" / "test_it.py").write_text(
        "def test_one():\n    assert 0\ndef test_two():\n    assert 0\n"
    )
    for name in ("conftest.py", "interop.py"):
        (tmp_path / "tests" / name).write_text((ROOT / "tests" / name).read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "tests"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    said = done.stdout.count("docs/interop.md says"), done.stdout.count("Blanks are dropped (tool 1.2)")
    assert said == (1, 1), done.stdout + done.stderr
