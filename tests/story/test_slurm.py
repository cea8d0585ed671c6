"""scripts/cluster/slurm.sh on a real Slurm of two nodes: whatever stops it, it goes on to the same bits."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import slurm as slurms

from nomoat.run.directory import Run
from nomoat.tokenizer import bpe

pytestmark = pytest.mark.check
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "cluster" / "slurm.sh"
STEPS = 40


@pytest.fixture(scope="module")
def cluster():
    if lacking := slurms.missing():
        pytest.skip(f"no {lacking}: Debian's slurm-wlm and munge have them")
    with slurms.started() as cluster:
        yield cluster


class Job:
    """A training of the smoke recipe's shape on two nodes."""

    def __init__(self, cluster: slurms.Slurm, root: Path):
        self.cluster, self.root = cluster, root
        root.mkdir()
        stages = (ROOT / "recipes" / "smoke.toml").read_text("utf-8").split("[[stages]]")
        (root / "recipe.toml").write_text("[[stages]]".join(stages[:3]), "utf-8")
        self.out, self.log = root / "run", root / "log"
        self.start()

    def start(self) -> None:
        sets = ("--set", "save_seconds=0.5", f"pretrain.steps={STEPS}", "pretrain.ramp_steps=0")
        env = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        run = (self.root / "recipe.toml", "--out", self.out, *sets)
        self.number = self.cluster.submit(
            f"--output={self.log}", SCRIPT, *run, MASTER_ADDR="127.0.0.1", **env
        )

    def trains(self, step: int) -> None:
        """Waits until it has done a step."""

        def there() -> bool:
            return (self.out / "recipe.json").exists() and any(
                event["step"] >= step for event in Run.open(self.out).events("step")
            )

        slurms.until(there, self.says)

    def says(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else "no log"

    def weights(self) -> str:
        return hashlib.sha256((self.out / "pretrain/model/model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def calm(cluster, tmp_path_factory):
    """The weights of a job that nothing disturbed."""
    job = Job(cluster, tmp_path_factory.mktemp("calm") / "job")
    facts = cluster.ends(job.number, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["NumNodes"]) == ("COMPLETED", "2"), job.says()
    assert len(Run.open(job.out).events("step")) == STEPS
    return job.weights()


def told(cluster, job):
    """What Slurm sends to the batch shell before the time is over."""
    cluster.ask("scancel", "--batch", "--signal=USR1", job.number)


def preempted(cluster, job):
    cluster.submit("--partition=urgent", "--nodes=2", "--output=/dev/null", "--wrap=true")


def killed(cluster, job):
    """A rank dies at once."""
    ranks = [
        int(place.parent.name)
        for place in Path("/proc").glob("[0-9]*/cmdline")
        if f"\0--out\0{job.out}\0".encode() in _read(place) and b"-m\0nomoat\0run" in _read(place)
    ]
    os.kill(max(ranks), signal.SIGKILL)


def _read(place: Path) -> bytes:
    try:
        text = place.read_bytes()
    except OSError:  # it ended just now
        return b""
    return b"" if text.startswith((b"bash", b"srun")) else text


@pytest.mark.parametrize("stop", [told, preempted, killed])
def test_a_job_that_is_stopped_queues_again_and_ends_in_the_same_bits(cluster, calm, tmp_path, stop):
    job = Job(cluster, tmp_path / "job")
    job.trains(5)
    stop(cluster, job)
    slurms.until(lambda: "again: yes" in job.says(), job.says)
    facts = cluster.ends(job.number, "COMPLETED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), job.says()
    assert "goes on from step" in job.says()
    assert job.weights() == calm


def test_a_cancelled_job_saves_and_stays_away_until_it_is_submitted_again(cluster, calm, tmp_path):
    job = Job(cluster, tmp_path / "job")
    job.trains(5)
    cluster.ask("scancel", job.number)
    facts = cluster.ends(job.number, "CANCELLED", "COMPLETED", "PENDING")
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")
    slurms.until(lambda: "again: no" in job.says(), job.says)
    assert "saved" in job.says()
    job.start()
    assert cluster.ends(job.number, "COMPLETED", "FAILED")["JobState"] == "COMPLETED", job.says()
    assert job.weights() == calm


def test_an_error_in_what_was_asked_is_told_once(cluster, tmp_path):
    out = tmp_path / "log"
    env = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1"}
    job = cluster.submit(f"--output={out}", SCRIPT, "smoke", "--out", tmp_path / "run", "--set", "a=1", **env)
    facts = cluster.ends(job, "FAILED", "COMPLETED")
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "2:0")
    assert "unknown key `a`" in out.read_text("utf-8")
    assert not (tmp_path / "run").exists()


SMALL = """import sys
from nomoat.cli.main import main
from nomoat.data import units

if __name__ == "__main__":
    units.UNIT_BYTES = 20_000
    sys.exit(main(sys.argv[1:]))
"""
SHARE = """#!/bin/bash
exec {python} {small} {asked} --out {out} --machine $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
"""


def test_an_array_of_jobs_prepares_what_one_machine_does(cluster, tmp_path):
    small, source, out, log = (tmp_path / name for name in ("small.py", "texts.jsonl", "out", "log-%a"))
    small.write_text(SMALL)
    source.write_text("".join(f'{{"text": "{n} and so on"}}\n' for n in range(9000)))
    bpe.train(["and so on"], bpe.SMALLEST_VOCAB).save(tmp_path / "tokenizer")
    asked = f"data prepare {source} --tokenizer {tmp_path / 'tokenizer'} --workers 1"
    script = tmp_path / "share.sh"
    script.write_text(SHARE.format(python=sys.executable, small=small, asked=asked, out=out))
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    cluster.submit(f"--output={log}", "--array=1-2", script, **env)
    slurms.until((out / "manifest.json").exists, lambda: [p.read_text() for p in tmp_path.glob("log-*")])
    alone = [sys.executable, small, *asked.split(), "--out", tmp_path / "alone"]
    subprocess.run(alone, env={**os.environ, **env}, check=True, capture_output=True)
    made, expected = (
        {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("[!.]*.*") if file.is_file()}
        for root in (out, tmp_path / "alone")
    )
    assert len(expected) > 20
    assert made == expected
