"""Tasks by name, and the door: a task is one file; for a family of the package, one row more."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nomoat
from nomoat.config import TaskError
from nomoat.stages import recipe
from nomoat.tasks import authoring, find

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
    with pytest.raises(TaskError, match="lacks make, check, near_misses, work"):
        find.load_file(path)
    path.write_text("def make(:\n")
    with pytest.raises(TaskError, match="is not Python"):
        find.load_file(path)
