"""Workers: killed at any moment, alone or with their parent, what is there goes on to the same bytes."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nomoat.config import DataError
from nomoat.data import units, workers
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

TEXT = "It is 12.5 degrees, and so on.\n"
SMALL = "from nomoat.data import units; units.UNIT_BYTES = 20_000; "
COMMAND = "import sys; from nomoat.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def tokenizer():
    return bpe.train([TEXT], bpe.SMALLEST_VOCAB)


def write(path, n):
    path.write_text("".join(json.dumps({"text": f"{i} {TEXT * 9}"}) + "\n" for i in range(n)))
    return path


def content(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}  # fmt: skip


def begun(out, n, process):
    """Waits until `n` shards are there, or the process is gone."""
    while process.poll() is None and len(list(out.glob("shards/*/shard.json"))) < n:
        time.sleep(0.01)


def children(pid):
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(file.parent.name))
    return found


@contextlib.contextmanager
def command(out, source, tokenizer):
    asked = ["data", "prepare", source, "--tokenizer", tokenizer, "--out", out, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL + COMMAND, *map(str, asked)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.check
def test_killed_and_interrupted_it_goes_on_to_the_same_bytes(tmp_path, tokenizer):
    source = write(tmp_path / "texts.jsonl", 3000)
    tokenizer.save(tmp_path / "tokenizer")
    with command(tmp_path / "calm", source, tmp_path / "tokenizer") as process:
        process.communicate()
    assert process.returncode == 0
    out = tmp_path / "cut"
    for n, number in ((2, signal.SIGKILL), (9, signal.SIGINT), (18, signal.SIGKILL)):
        with command(out, source, tmp_path / "tokenizer") as process:
            begun(out, n, process)
            alive = children(process.pid)
            process.send_signal(number)
            _, err = process.communicate()
        assert process.returncode == (75 if number == signal.SIGINT else -signal.SIGKILL), err
        assert "To go on" in err or number == signal.SIGKILL
        assert alive
        while any(Path(f"/proc/{pid}").exists() for pid in alive):  # a test that hangs here has found orphans
            time.sleep(0.01)
        assert not (out / "manifest.json").exists()
    with command(out, source, tmp_path / "tokenizer") as process:
        said, _ = process.communicate()
    assert "3,000 documents" in said
    assert content(out) == content(tmp_path / "calm")


@pytest.mark.check
def test_a_worker_that_dies_is_said_and_leaves_no_half_shard(tmp_path, tokenizer):
    source = write(tmp_path / "texts.jsonl", 3000)
    plan = units.begin(tmp_path / "out", [source], tokenizer, Choices())

    def kill(progress):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    small = plan.model_copy(update={"units": plan.units * 2})
    with pytest.raises(DataError, match="ended with -9 .*run the same command again"):
        workers.run(tmp_path / "out", small, [0, 0, 0], 1, kill)
    assert (tmp_path / "out" / "shards" / "00000" / "shard.json").is_file()


MEASURED = """
import multiprocessing, os, re, sys
from pathlib import Path
from nomoat.data import preparing, workers
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

def peak(pid):  # of ru_maxrss a child's begins with that of its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path(f"/proc/{pid}/status").read_text())[1])

def say(progress):  # behind the last unit, too, the workers are there
    for child in multiprocessing.active_children():
        peaks[child.pid] = peak(child.pid)

peaks = {}
source, out, shortest = sys.argv[1:]
asked = preparing.Asked([Path(source)], bpe.train(["a"], bpe.SMALLEST_VOCAB), Path(out),
                        Choices(min_chars=int(shortest)), 1)
preparing._Line = lambda _: say
preparing.prepared(asked, say)
print(peak(os.getpid()), *peaks.values())
"""


@pytest.mark.check
def test_memory_is_bounded_however_large_a_file(tmp_path):
    """200 MB, of which a fiftieth is long enough, with all high-water marks below 200 MB."""
    source = tmp_path / "texts.jsonl"
    rows = "".join(json.dumps({"text": TEXT * (100 if n == 0 else 99)}) + "\n" for n in range(50))
    with source.open("w") as file:
        for _ in range(1300):
            file.write(rows)
    assert source.stat().st_size > 200e6
    asked = [source, tmp_path / "out", 100 * len(TEXT)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, asked)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    peaks = [int(kilobytes) for kilobytes in done.stdout.split()]
    assert len(peaks) == 2
    assert max(peaks) < 200_000
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["n_documents"] == 1300


def test_progress_says_what_is_left():
    said = str(workers.Progress(4, 1, 4_000_000, 1_000_000, 2.0))
    assert said == "1 of 4 units, 1 of 4 MB, 0.50 MB/s, 6 s left"
