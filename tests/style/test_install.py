"""What an installation holds: recipes, an extra for each optional package, no words about the untried."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nomoat.config import ConfigError, read_recipe, shipped_recipes

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {  # of modules that are called otherwise, or that come with another package
    "pynvml": "nvidia-ml-py",
    "fsspec": "datasets",
    "huggingface_hub": "tokenizers",
    "pydantic_core": "pydantic",
    "prometheus_client": "prometheus-client",
}


def imported() -> set[str]:
    """Modules from outside that the package imports anywhere."""
    found = set()
    for path in (ROOT / "nomoat").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found |= {name.partition(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"nomoat"}


def test_every_package_that_is_imported_can_be_asked_for():
    asked = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    names = {re.split(r"[^\w-]", line)[0].lower() for line in asked}
    assert {DISTRIBUTIONS.get(module, module) for module in imported()} <= names
    assert {"pynvml", "pyarrow"} <= imported()


def test_recipes_go_by_name_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(shipped_recipes()) == {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    for name in shipped_recipes():
        assert read_recipe(name) == read_recipe(ROOT / "recipes" / f"{name}.toml")
    (tmp_path / "cpu").write_text("name = 'mine'")
    assert read_recipe("cpu") == {"name": "mine"}  # a file goes first
    (tmp_path / "smoke").mkdir()
    assert read_recipe("smoke")["name"] == "smoke"
    for typed in ("spu", "recipes/cpu.toml", "cpu.tml"):
        with pytest.raises(ConfigError, match="did you mean `cpu`"):
            read_recipe(typed)


@pytest.mark.check
def test_the_wheel_runs_a_recipe_by_name(tmp_path):
    pytest.importorskip("setuptools")
    ours = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = ("nomoat", "recipes", "pyproject", "README", "LICENSE")
    for name in ours.stdout.split("\0"):
        if name.startswith(parts) and (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name, follow_symlinks=False)
    asked = ["wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q", "-w", "dist", "."]
    subprocess.run([sys.executable, "-m", "pip", *asked], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    web = {path.relative_to(ROOT) for path in (ROOT / "nomoat/serve/pages/web").rglob("*.*")}
    assert not [path for path in web if not (tmp_path / "site" / path).is_file()]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "nomoat", "run", "cpu", "--plan"]
    done = subprocess.run(command, cwd=tmp_path / "dist", env=env, capture_output=True, text=True)
    assert (done.returncode, "Plan for 2 x cpu" in done.stdout) == (0, True), done.stderr


def test_nothing_is_said_to_open_in_what_was_never_tried():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "nomoat").rglob("*.py")]
    naming = [path for path in pages if "vllm" in path.read_text().lower()]
    assert naming == [ROOT / "docs" / "cluster.md"]
    assert "tried as 0.32 on a processor" in naming[0].read_text()
