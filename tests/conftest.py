"""What the tests share: a forge that runs commands quickly, and one undisturbed run of the smoke recipe."""

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import interop
import pytest

from nomoat.run.directory import Run

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "recipes" / "smoke.toml"
TIMED = {
    "t",
    "seconds",
    "joules",
    "joules_source",
    "tokens_per_second",
    "sample_seconds",
    "update_seconds",
    "redone",
}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Beside a failure of a test that docs/interop.md names: the sentences that may be true no longer."""
    report = (yield).get_result()
    if report.failed:
        for sentence in interop.sentences_of(item.nodeid):
            report.sections.append(("docs/interop.md says", sentence))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Forge:
    """Runs `nomoat` commands in forked children of one process that has torch imported; see forge.py."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.count = scratch, 0
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NO_COLOR", "FORCE_COLOR"):
            env.pop(name, None)
        command = [sys.executable, "-W", "error", str(Path(__file__).with_name("forge.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def start(self, *argv, trap=None, env=None, cwd=None, stdin="", code="") -> tuple[int, Path]:
        self.count += 1
        place = self.scratch / f"{self.count:04d}"
        place.mkdir()
        (place / "in").write_text(stdin, newline="")
        order = {"argv": [str(a) for a in argv], "env": env or {}, "cwd": str(cwd or place), "trap": trap or {},
                 "code": code, "stdin": str(place / "in"), "stdout": str(place / "out"),
                 "stderr": str(place / "err")}  # fmt: skip
        return self._ask(order), place

    def wait(self, started: tuple[int, Path]) -> Done:
        pid, place = started
        code = self._ask({"wait": pid})
        return Done(code, (place / "out").read_text(), (place / "err").read_text())

    def __call__(self, *argv, **how) -> Done:
        return self.wait(self.start(*argv, **how))

    def _ask(self, order: dict):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def forge(tmp_path_factory):
    it = Forge(tmp_path_factory.mktemp("forge"))
    yield it
    it.close()


@dataclass(frozen=True)
class Smoke:
    """A finished run of recipes/smoke.toml, and how its command ended.  Nobody may write into it."""

    root: Path
    done: Done


@pytest.fixture(scope="session")
def smoke(forge, tmp_path_factory):
    root = tmp_path_factory.mktemp("smoke") / "run"
    done = forge("run", SMOKE, "--out", root, env={"NO_COLOR": "1"})
    assert done.code == 0, done.err
    return Smoke(root, done)


@pytest.fixture(scope="session")
def recipe():
    return SMOKE


@pytest.fixture(scope="session")
def weights():
    """sha256 of the weights that a stage left."""
    return lambda root, stage: hashlib.sha256(
        (Path(root) / stage / "model" / "model.safetensors").read_bytes()
    ).hexdigest()


@pytest.fixture(scope="session")
def curve():
    """A stage's curve without what the clock says."""

    def read(root, stage):
        return [{k: v for k, v in e.items() if k not in TIMED} for e in Run.open(root).curve(stage)]

    return read


@pytest.fixture
def full_disk():
    """`with full_disk(n_bytes):` no file can grow larger, which Python reports as it does a full disk."""

    @contextlib.contextmanager
    def limit(n_bytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
