"""The files of scripts/cluster are what their systems take; test_slurm.py tells that one starts something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.check
FILES = Path(__file__).parents[2] / "scripts" / "cluster"
LAUNCHERS = Path(os.environ.get("NOMOAT_LAUNCHERS", Path(sys.prefix) / "launchers"))  # `make launchers`
SKY = """\
import sys
import sky
task = sky.Task.from_yaml(sys.argv[1])
print(task.num_nodes, task.run)
"""


def read(tmp_path: Path, program: str, *argv: str) -> subprocess.CompletedProcess:
    """What a program of the launchers' venv says; its home is a directory of the test."""
    found = shutil.which(program, path=LAUNCHERS / "bin")
    if found is None:
        pytest.skip(f"no {program} in {LAUNCHERS}: `make launchers` installs it")
    env = {**os.environ, "HOME": str(tmp_path)}
    return subprocess.run([found, *argv], capture_output=True, text=True, env=env, timeout=300)


def spoiled(tmp_path: Path, name: str, right: str, wrong: str) -> str:
    text = (FILES / name).read_text("utf-8")
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong), "utf-8")
    return str(tmp_path / name)


def test_kubernetes_takes_the_job_and_its_service(tmp_path):
    said = read(tmp_path, "kubernetes-validate", "--strict", str(FILES / "kubernetes.yaml"))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "service/nomoat" in said.stdout + said.stderr
    assert "job/nomoat" in said.stdout + said.stderr
    wrong = spoiled(tmp_path, "kubernetes.yaml", "completions: 2", "completions: two")
    assert read(tmp_path, "kubernetes-validate", "--strict", wrong).returncode != 0


def test_skypilot_takes_the_task(tmp_path):
    said = read(tmp_path, "python", "-c", SKY, str(FILES / "sky.yaml"))
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("2 ")
    assert "-m nomoat run $RECIPE" in said.stdout
    wrong = spoiled(tmp_path, "sky.yaml", "num_nodes:", "n_nodes:")
    assert read(tmp_path, "python", "-c", SKY, wrong).returncode != 0


def test_the_shell_takes_the_batch_script():
    said = subprocess.run(["bash", "-n", str(FILES / "slurm.sh")], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
