"""The event log keeps what was logged, whatever interrupts it."""

import errno
import os
import resource
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import DataError, UserError
from nomoat.run.directory import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {"name": "x", "seed": 3})


def log_steps(run, steps, stage="s"):
    for step in steps:
        run.log("step", stage=stage, step=step, seconds=1)


def test_events_come_back_in_order_with_kind_and_time(run):
    run.log("stage_start", stage="a", config={"x": 1})
    run.log(
        "score",
        stage="a",
        name="bpb/en",
        value=np.float32(0.5),
        n=np.int64(7),
        low=float("nan"),
        path=run.root,
    )
    run.log("note", stage="b", text="ümlaut\nand a line")
    assert [e["kind"] for e in run.events()] == ["stage_start", "score", "note"]
    score = run.events("score")[0]
    assert (score["value"], score["n"], score["low"], score["path"]) == (0.5, 7, None, str(run.root))
    assert run.events(stage="b")[0]["text"] == "ümlaut\nand a line"
    assert all(e["t"] > 1e9 for e in run.events())
    assert (run.root / "events.jsonl").read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    "torn", [b"{", b'{"kind": "step", "st', b"\x00" * 5000, b'{"kind":"note"}', b"x" * 200_000]
)
def test_a_torn_last_line_was_never_a_record(run, torn):
    log_steps(run, [1, 2])
    path = run.root / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert len(Run.open(run.root).events()) == 2
    assert path.read_bytes() == whole + torn  # looking changes nothing
    log_steps(Run.open(run.root, write=True), [3])
    assert path.read_bytes().startswith(whole)
    assert [e["step"] for e in run.events()] == [1, 2, 3]


def test_a_log_that_is_one_torn_line_becomes_empty(run):
    (run.root / "events.jsonl").write_bytes(b'{"kind"')
    assert run.events() == []
    log_steps(run, [1])
    assert len(run.events()) == 1


@pytest.mark.parametrize("bad", [b"nonsense\n", b"[1]\n", b'{"stage": "s"}\n', b"\xff\n", b"\n"])
def test_a_line_damaged_from_outside_is_named(run, bad):
    log_steps(run, [1])
    with open(run.root / "events.jsonl", "ab") as file:
        file.write(bad)
    log_steps(run, [2])
    with pytest.raises(DataError, match=r"line 2 .*delete that line"):
        run.events()


def test_a_curve_has_each_step_once_and_the_log_keeps_all_work(run):
    log_steps(run, [1, 2, 3, 4])
    run.log("work", stage="s", what="eval", seconds=1)
    log_steps(run, [1], stage="other")
    run.log("resume", stage="s", step=2)
    log_steps(run, [3])
    run.log("resume", stage="s", step=2)
    log_steps(run, [3, 4, 5])
    assert [e["step"] for e in run.curve("s")] == [1, 2, 3, 4, 5]
    assert [e["step"] for e in run.events("step", "s")] == [1, 2, 3, 4, 3, 3, 4, 5]
    assert [e["step"] for e in run.events() if e.get("redone") and e["kind"] == "step"] == [3, 4, 3]
    assert run.events("work")[0]["redone"]
    assert "redone" not in (run.root / "events.jsonl").read_text()


def test_work_before_the_first_redone_step_stands(run):
    log_steps(run, [1, 2])
    run.log("work", stage="s", what="save", seconds=1)
    log_steps(run, [3])
    run.log("resume", stage="s", step=2)
    assert "redone" not in run.events("work")[0]


def test_a_stage_that_began_again_without_a_checkpoint_has_no_doubled_points(run):
    log_steps(run, [1, 2, 3])
    log_steps(run, [1, 2])
    assert [e["step"] for e in run.curve("s")] == [1, 2]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 6)), max_size=6))
def test_whatever_was_interrupted_the_curve_is_one_of_ascending_steps(tmp_path_factory, courses):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", {})
    done = 0
    for back, steps in courses:
        done = max(0, done - back)
        run.log("resume", stage="s", step=done)
        log_steps(run, range(done + 1, done + steps + 1))
        done += steps
    assert [e["step"] for e in run.curve("s")] == list(range(1, done + 1))
    assert len(run.events("step")) == sum(steps for _, steps in courses)


@pytest.mark.parametrize("short", [None, 0, 7])
def test_a_full_disk_loses_no_line(run, short):
    log_steps(run, [1])
    before = (run.root / "events.jsonl").read_bytes()

    def full(fd, data):
        if short is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[:short])

    run.lines.write = full
    log_steps(run, [2, 3])
    assert (run.root / "events.jsonl").read_bytes() == before
    assert [e["step"] for e in run.events()] == [1, 2, 3]
    with pytest.raises(OSError, match="2 lines") as caught:
        run.sync()
    assert caught.value.errno == errno.ENOSPC
    run.lines.write = os.write
    log_steps(run, [4])
    run.sync()
    assert [e["step"] for e in Run.open(run.root).events()] == [1, 2, 3, 4]


def test_lines_that_never_found_space_are_told_of(run):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    run.lines.write = full
    with pytest.raises(UserError, match=r"no space left .*1 lines"), run.locked():
        log_steps(run, [1])


def test_another_failure_of_the_disk_is_raised(run):
    def broken(fd, data):
        raise OSError(errno.EIO, "Input/output error")

    run.lines.write = broken
    with pytest.raises(OSError, match="Input/output"):
        log_steps(run, [1])


def test_a_real_limit_on_the_size_keeps_older_lines_whole(run):
    log_steps(run, [1, 2, 3])
    size = (run.root / "events.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        log_steps(run, [4])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run.root / "events.jsonl").stat().st_size == size
    log_steps(run, [5])
    assert [e["step"] for e in Run.open(run.root).events()] == [1, 2, 3, 4, 5]


def test_threads_do_not_tear_each_others_lines(run):
    threads = [threading.Thread(target=log_steps, args=(run, range(200), f"t{i}")) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all([e["step"] for e in run.events("step", f"t{i}")] == list(range(200)) for i in range(4))


def test_events_of_a_kind_are_those_of_all(run):
    """Unread lines change nothing: neither the order nor what was done again; nor does another's spacing."""
    for kind, step in (("step", 1), ("step", 2), ("work", 2), ("resume", 1), ("step", 2), ("score", 2)):
        run.log(kind, stage="s", step=step, name="n")
    with open(run.root / "events.jsonl", "ab") as file:
        file.write(b'{"t": 1, "kind":"note"}\n{ "kind" : "step", "stage": "s", "step": 3}\n')
    everything = run.events()
    for kinds in (("step",), ("work",), ("score",), ("note",), ("resume", "note"), ("none",)):
        assert run.lines.events(*kinds) == [event for event in everything if event["kind"] in kinds]
    assert [bool(event.get("redone")) for event in run.lines.events("work", "step")] == [0, 1, 1, 0, 0]
