"""Tasks by name, and the door: a task is one file; for a family of the package, one row more."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nomoat
from nomoat.config import ConfigError, TaskError
from nomoat.stages import recipe
from nomoat.tasks import authoring, base, contract, find

PACKAGE = Path(nomoat.__file__).parent
OWN_TASK = PACKAGE.parent / "recipes" / "own-task.toml"
LAMP = (PACKAGE / "tasks/families/lamp.py").read_text("utf-8")
CHANGED = LAMP.replace("A lamp with one switch is", "The light is").replace('f"lamp ', 'f"light ')


@pytest.mark.parametrize("text", [LAMP, CHANGED], ids=["copied", "changed"])
def test_a_family_copied_is_a_task(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text, "utf-8")
    complaints, shown = authoring.check(path)
    assert complaints == []
    assert shown.startswith("mine: levels 4, 6, 8, 12, 16")
    table = tomllib.loads(OWN_TASK.read_text("utf-8"))
    for stage in table["stages"]:
        stage["tasks"] = {str(path): [4, 6]}
    assert all(stage.tasks == {str(path): [4, 6]} for stage in recipe.resolve(table).stages)


ASK = """
from nomoat.tasks import contract, find
assert list(find.families())[:2] == ["lamp", "light"]
assert contract.contract(find.find("light"), 20) == []
print(next(iter(find.find("light").WORDINGS["en"])))
"""


def test_a_family_of_the_package_is_one_file_and_one_row(tmp_path):
    """The package as it is, by links, but for the new file and the row."""
    package = tmp_path / "nomoat"
    shutil.copytree(PACKAGE, package, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    family, table = package / "tasks/families/light.py", package / "tasks/find.py"
    family.write_text(CHANGED, "utf-8")
    row = table.read_text("utf-8").replace('    "lamp",\n', '    "lamp",\n    "light",\n')
    table.unlink()
    table.write_text(row, "utf-8")
    assert {path for path in package.rglob("*.*") if path.is_file() and not path.is_symlink()} == {
        family,
        table,
    }
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The light is{state}")


def test_an_unknown_task_says_what_is_known():
    with pytest.raises(TaskError, match="no task 'lamb'.*lamp"):
        find.find("lamb")
    with pytest.raises(TaskError, match="no task 'vf:gsm8k'.*rg:NAME"):
        find.find("vf:gsm8k")


def test_a_file_that_is_no_task_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(TaskError, match="no task file at"):
        find.load_file(path)
    path.write_text("levels = (1,)\n")
    with pytest.raises(TaskError, match="lacks make, check, near_misses;"):
        find.load_file(path)


RAISING = {
    "def make(:": r"fails \(SyntaxError: .*broken_task.py, line 1\)",
    "x = 1\nimport nowhere_at_all": r"broken_task.py, line 2: ModuleNotFoundError: No module",
    "import sys\nsys.exit(3)": "line 2: SystemExit: 3",
    "raise RuntimeError('no key')": "line 1: RuntimeError: no key",
    "assert False": "line 1: AssertionError",
    "open('/nowhere/at/all')": "line 1: FileNotFoundError",
}


@pytest.mark.parametrize("text", RAISING)
def test_a_file_that_raises_is_told_with_its_line(tmp_path, text):
    path = tmp_path / "broken_task.py"
    path.write_text(text)
    with pytest.raises(TaskError, match=RAISING[text]):
        find.load_file(path)
    assert "broken_task" not in sys.modules


@pytest.mark.parametrize("levels", ["None", "'ab'", "()", "(2, 1)", "(1, 1)", "(1.0,)", "(True,)"])
def test_levels_that_are_none_are_told(tmp_path, levels):
    path = tmp_path / "mine.py"
    path.write_text(LAMP.replace("levels = (", f"levels = {levels}\n_ = (", 1))
    with pytest.raises(TaskError, match="has levels = .*whole numbers that ascend"):
        find.load_file(path)


ERRORS = ["AssertionError()", "RuntimeError('x')", "OSError('x')", "re.error('x')", "SystemExit(1)"]


@pytest.mark.parametrize("error", ERRORS)
def test_a_check_that_raises_is_told_and_takes_nothing_down(tmp_path, error):
    path = tmp_path / "raises.py"
    path.write_text(f"{LAMP}\nimport re\ndef check(problem, answer):\n    raise {error}\n", "utf-8")
    task = find.load_file(path)
    problem = task.make(base.Rng("0"), task.levels[0])
    with pytest.warns(UserWarning, match=r"raises.py: check raises \(.*line \d+: .*counts as wrong"):
        assert task.check(problem, "on") is False
    assert task.check(problem, "off") is False  # warned of once
    assert any("check raises" in complaint for complaint in contract.contract(task, 4))


def test_a_check_that_gives_no_truth_value_is_told(tmp_path):
    path = tmp_path / "vague.py"
    path.write_text(f"{LAMP}\ndef check(problem, answer):\n    return 1\n", "utf-8")
    task = find.load_file(path)
    with pytest.warns(UserWarning, match="check gives 1; the answer counts as wrong"):
        assert task.check(task.make(base.Rng("0"), task.levels[0]), "on") is False


@pytest.mark.parametrize("function", ["make: 1 / 0", "make: None", "near_misses: []", "work: 7"])
def test_the_other_functions_of_a_file_are_told_too(tmp_path, function):
    name, body = function.split(": ")
    path = tmp_path / "mine.py"
    path.write_text(f"{LAMP}\ndef {name}(*args):\n    return {body}\n", "utf-8")
    with pytest.raises(TaskError, match=rf"mine.py: {name} fails \(.*expected a"):
        authoring.check(path)


def test_a_task_without_work_is_for_models_that_need_none(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LAMP[: LAMP.index("def work(")], "utf-8")
    assert authoring.check(path)[0] == []
    table = tomllib.loads(OWN_TASK.read_text("utf-8"))
    for stage in table["stages"]:
        stage["tasks"] = {str(path): [4, 6]}
    with pytest.raises(ConfigError, match="shows worked examples, and .* has no `work`"):
        recipe.resolve(table)
    for stage in table["stages"]:
        if "shares" in stage:
            stage["chains"] = 0.0
    assert recipe.resolve(table).stages


def test_a_file_may_import_its_neighbour_and_hold_records(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("RIGHT = True\n")
    path = tmp_path / "mine.py"
    record = "from dataclasses import dataclass\n@dataclass\nclass Kept:\n    n: int\n"
    late = "def late():\n    import another_neighbour\n    return another_neighbour.RIGHT\n"
    future = "from __future__ import annotations\nfrom neighbour_of_mine import RIGHT\n"
    path.write_text(future + record + late + LAMP.partition('"""\n')[2], "utf-8")
    (tmp_path / "another_neighbour.py").write_text("RIGHT = 7\n")
    before = list(sys.path)
    try:
        task = find.load_file(path)
        assert task.RIGHT
        assert task.late() == 7
    finally:
        sys.path[:] = before
        for name in ("mine", "neighbour_of_mine", "another_neighbour"):
            sys.modules.pop(name, None)
