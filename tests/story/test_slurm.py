"""scripts/cluster/slurm.sh on a real Slurm of two nodes: whatever stops it, it goes on to the same bits."""

import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest
import slurm as slurms

from nomoat.run.directory import Run

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
    assert "expected" in out.read_text("utf-8")
    assert not (tmp_path / "run").exists()
