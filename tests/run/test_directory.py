"""A run directory keeps what was logged, knows its recipe, and lets one process in."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import ConfigError, DataError, UserError
from nomoat.run.directory import Run, difference, identity
from nomoat.run.stop import Stop

RECIPE = {
    "name": "x",
    "seed": 3,
    "models": {"main": {"n_layers": 2, "lr": 1.0}},
    "stages": [{"kind": "pretrain", "steps": 10}, {"kind": "rl", "name": "rl1"}, {"kind": "rl", "name": "rl2"}],
}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", RECIPE)


def log_steps(run, steps, stage="s"):
    for step in steps:
        run.log("step", stage=stage, step=step, seconds=1)


# --- the log ---


def test_events_come_back_in_order_with_kind_and_time(run):
    run.log("stage_start", stage="a", config={"x": 1})
    run.log("score", stage="a", name="bpb/en", value=np.float32(0.5), n=np.int64(7), low=float("nan"), path=run.root)
    run.log("note", stage="b", text="ümlaut\nand a line")
    assert [e["kind"] for e in run.events()] == ["stage_start", "score", "note"]
    score = run.events("score")[0]
    assert (score["value"], score["n"], score["low"], score["path"]) == (0.5, 7, None, str(run.root))
    assert run.events(stage="b")[0]["text"] == "ümlaut\nand a line"
    assert all(e["t"] > 1e9 for e in run.events())
    assert (run.root / "events.jsonl").read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("torn", [b"{", b'{"kind": "step", "st', b"\x00" * 5000, b'{"kind":"note"}', b"x" * 200_000])
def test_a_torn_last_line_was_never_a_record(run, torn):
    log_steps(run, [1, 2])
    path = run.root / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert len(Run.open(run.root).events()) == 2
    assert path.read_bytes() == whole + torn  # looking changes nothing
    log_steps(Run.create(run.root, RECIPE), [3])
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


def test_finished_is_the_last_word(run):
    assert run.finished("s") is None
    run.log("stage_start", stage="s", config={})
    run.log("stage_end", stage="s", outputs={"a": 1})
    assert run.finished("s")["outputs"] == {"a": 1}
    assert run.finished("other") is None
    run.log("stage_start", stage="s", config={})
    assert run.finished("s") is None


@pytest.mark.parametrize("short", [None, 0, 7])
def test_a_full_disk_loses_no_line(run, short):
    log_steps(run, [1])
    before = (run.root / "events.jsonl").read_bytes()

    def full(fd, data):
        if short is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[:short])

    run.write = full
    log_steps(run, [2, 3])
    assert (run.root / "events.jsonl").read_bytes() == before
    assert [e["step"] for e in run.events()] == [1, 2, 3]
    with pytest.raises(OSError, match="2 lines") as caught:
        run.sync()
    assert caught.value.errno == errno.ENOSPC
    run.write = os.write
    log_steps(run, [4])
    run.sync()
    assert [e["step"] for e in Run.open(run.root).events()] == [1, 2, 3, 4]


def test_lines_that_never_found_space_are_told_of(run):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    run.write = full
    with pytest.raises(UserError, match=r"no space left .*1 lines"), run.locked():
        log_steps(run, [1])


def test_another_failure_of_the_disk_is_raised(run):
    def broken(fd, data):
        raise OSError(errno.EIO, "Input/output error")

    run.write = broken
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


# --- the recipe ---


def reordered(value):
    if isinstance(value, dict):
        return {k: reordered(value[k]) for k in reversed(value)}
    return [reordered(v) for v in value] if isinstance(value, list) else value


def test_the_same_recipe_in_another_order_reopens(run):
    log_steps(run, [1])
    again = Run.create(run.root, reordered(RECIPE) | {"seed": 3.0})
    assert (again.seed, len(again.events())) == (3, 1)
    record = json.loads((run.root / "recipe.json").read_text())
    assert record["recipe"] == RECIPE
    assert {"nomoat", "commit", "libraries"} < record.keys()
    assert record["libraries"]["torch"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["models"]["main"].update(n_layers=3), "models.main.n_layers: the run has 2, the recipe now has 3"),
        (lambda r: r["stages"][0].pop("steps"), "pretrain.steps: the run has 10, the recipe now has no such key"),
        (lambda r: r["stages"][2].update(lr=0.1), "stages.rl2.lr: the run has no such key, the recipe now has 0.1"),
        (lambda r: r["stages"].pop(), "stages: the run has [pretrain, rl1, rl2], the recipe now has [pretrain, rl1]"),
        (lambda r: r["stages"].reverse(), "the recipe now has [rl2, rl1, pretrain]"),
        (lambda r: r.update(seed="3"), 'seed: the run has 3, the recipe now has "3"'),
        (lambda r: r.update(seed=True), "seed: the run has 3, the recipe now has true"),
    ],
)
def test_a_changed_recipe_is_refused_with_the_difference(run, change, line):
    changed = json.loads(json.dumps(RECIPE))
    change(changed)
    before = (run.root / "recipe.json").read_bytes()
    with pytest.raises(ConfigError) as caught:
        Run.create(run.root, changed)
    assert line in str(caught.value)
    assert "another --out" in str(caught.value)
    assert (run.root / "recipe.json").read_bytes() == before
    assert len(difference(RECIPE, changed)) <= 2 or "stages" in line


def test_foreign_missing_and_broken_directories_are_clear_errors(tmp_path, run):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        Run.create(tmp_path / "foreign", RECIPE)
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    for place in (tmp_path / "nowhere", tmp_path / "foreign", tmp_path / "foreign" / "thesis.tex"):
        with pytest.raises(DataError, match="no run directory"):
            Run.open(place)
    with pytest.raises(DataError, match="cannot make a run"):
        Run.create(tmp_path / "foreign" / "thesis.tex", RECIPE)
    for text in ("", "[1]", "{", '{"recipe": 1}'):
        (run.root / "recipe.json").write_text(text)
        with pytest.raises(DataError, match="recipe"):
            Run.create(run.root, RECIPE)


def test_a_half_made_directory_can_be_made_again(tmp_path):
    for name in ("lock", ".recipe.json.1"):
        (tmp_path / name).write_text("{")
    assert Run.create(tmp_path, RECIPE).recipe == RECIPE


def test_a_run_opened_to_look_writes_nothing(run):
    look = Run.open(run.root)
    before = sorted(run.root.iterdir())
    with pytest.raises(DataError, match="opened to read"):
        look.log("note", stage=None, text="x")
    assert look.stage_dir("pretrain") == run.root / "pretrain"
    assert look.events() == []
    assert sorted(run.root.iterdir()) == before
    assert Run.open(run.root, write=True).stage_dir("pretrain").is_dir()


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/etc", "lock", "recipe.json", "events.jsonl", "a\n", "x" * 99])
def test_no_stage_name_leaves_the_directory(run, name):
    with pytest.raises(DataError, match="cannot be a stage's name"):
        run.stage_dir(name)


# --- lock and signals, with real processes ---

CHILD = """
import sys
from nomoat.run import Run, Stop, Interrupted
run = Run.open(sys.argv[1], write=True)
with run.locked(), Stop() as stop:
    print("ready", flush=True)
    for line in sys.stdin:
        run.log("step", stage="s", step=int(line))
        print("requested" if stop.requested else "running", flush=True)
print("saved", flush=True)
sys.exit(75)
"""


@pytest.fixture
def child(run, request):
    command = [sys.executable, "-c", getattr(request, "param", CHILD), str(run.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_trains_here(run, child):
    with pytest.raises(UserError) as caught, run.locked():
        pass
    assert str(child.pid) in str(caught.value)
    assert socket.gethostname() in str(caught.value)
    assert len(Run.open(run.root).events()) == 0  # looking is free
    child.kill()
    child.wait(timeout=60)
    assert str(child.pid) in (run.root / "lock").read_text()  # stale
    with run.locked():
        assert (run.root / "lock").read_text() == identity()
        with pytest.raises(UserError), Run.create(run.root, RECIPE).locked():
            pass
    with run.locked():
        pass


PARENT = """
import os, sys
from nomoat.run import Run
with Run.open(sys.argv[1], write=True).locked():
    if os.fork():
        sys.stdin.read()
    else:
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)
"""


@pytest.mark.parametrize("child", [PARENT], indirect=True)
def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_parent(run, child):
    child.kill()
    child.wait(timeout=60)
    with run.locked():
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_asks_and_the_stage_saves(run, child, number):
    child.stdin.write("1\n")
    assert child.stdout.readline() == "running\n"
    child.send_signal(number)
    child.stdin.write("2\n")
    assert child.stdout.readline() == "requested\n"
    child.stdin.close()
    assert child.stdout.readline() == "saved\n"
    assert child.wait(timeout=60) == 75
    assert [e["step"] for e in run.curve("s")] == [1, 2]


def test_a_second_signal_ends_at_once_and_the_log_stays_whole(run, child):
    child.send_signal(signal.SIGINT)
    child.stdin.write("1\n")
    assert child.stdout.readline() == "requested\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == -signal.SIGTERM
    assert [e["step"] for e in run.curve("s")] == [1]


def test_a_place_that_cannot_be_written_is_a_clear_error(run):
    (run.root / "lock").unlink()
    (run.root / "lock").mkdir()
    with pytest.raises(DataError, match="cannot write"), run.locked():
        pass


def test_handlers_are_put_back_and_other_threads_take_none():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before

    def elsewhere():
        with Stop() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM) == before))

    seen = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_a_run_under_other_libraries_says_so(run):
    record = json.loads((run.root / "recipe.json").read_text())
    record["libraries"]["torch"] = "0.0"
    (run.root / "recipe.json").write_text(json.dumps(record))
    with Run.create(run.root, RECIPE).locked():
        pass
    assert "0.0" in run.events("note")[0]["text"]
