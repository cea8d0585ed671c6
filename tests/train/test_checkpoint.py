"""Kill a save at any file-system call, damage any file: `newest` finds the old or the new one, whole."""

import errno
import inspect
import json
import os
import shutil
import signal

import pytest
import torch

from nomoat.config import WeightsError
from nomoat.train.checkpoint import FS, load, newest, save, verify

CALLS = [name for name, _ in inspect.getmembers(FS, callable) if not name.startswith("_")]


class Killed(BaseException):
    """Stands for the end of the process: nothing may run after it."""


class Watched(FS):
    """Counts calls and ends everything at a given point: 2n is before call n, 2n + 1 after it.

    With `power_cut`, what was not made durable by then is lost: unsynced bytes, then unsynced renames.
    """

    def __init__(self, point=None, end=None):
        self.calls, self.point, self.dead, self.fds = [], point, False, {}
        self.end = end or self.kill
        self.unsynced, self.renames = set(), []

    def kill(self):
        raise Killed

    def __getattribute__(self, name):
        real = super().__getattribute__(name)
        return self._counted(name, real) if name in CALLS else real

    def _counted(self, name, real):
        def call(*args, **kwargs):
            if self.dead:
                raise Killed
            n = len(self.calls)
            self.calls.append(name)
            self._stop_at(2 * n)
            result = real(*args, **kwargs)
            self._remember(name, args, result)
            self._stop_at(2 * n + 1)
            return result

        return call

    def _stop_at(self, here):
        if self.point == here:
            self.dead = True
            self.end()

    def _remember(self, name, args, result):
        if name == "open":
            self.fds[result] = args[0]
            self.unsynced.add(args[0])
        elif name == "fsync":
            self.unsynced.discard(self.fds[args[0]])
        elif name == "close":
            del self.fds[args[0]]
        elif name == "rename":
            self.renames.append(args)
        elif name == "fsync_dir":
            self.renames = [pair for pair in self.renames if pair[1].parent != args[0]]

    def close_all(self):
        for fd in self.fds:
            os.close(fd)

    def cut_power(self):
        for path in self.unsynced:
            if path.exists():
                os.truncate(path, 0)
        for old, new in reversed(self.renames):
            if new.exists():
                new.rename(old)


def tensors(seed):
    g = torch.Generator().manual_seed(seed)
    return {
        "model": {"w": torch.randn(5, 7, generator=g), "b": torch.randn(3, generator=g).bfloat16()},
        "optim": {"steps": torch.tensor([seed]), "mask": torch.tensor(True)},
    }


def same(left, right):
    return left.keys() == right.keys() and all(
        left[g].keys() == right[g].keys() and all(torch.equal(left[g][n], right[g][n]) for n in left[g])
        for g in left
    )


def no_note(text):
    raise AssertionError(f"nothing is damaged, yet: {text}")


# Each scenario: what is there before, the step that is saved, the seeds that may be found afterwards.
SCENARIOS = {
    "first": ([], 10, 7),
    "next": ([(10, 1)], 20, 7),
    "prunes": ([(10, 1), (20, 2)], 30, 7),
    "same step again": ([(10, 1), (20, 2)], 20, 7),
    "after leftovers": ([(10, 1), (20, 2)], 30, 7),
    "after a rollback": ([(10, 1), (20, 2)], 15, 7),
}


def prepare(root, name):
    before, step, seed = SCENARIOS[name]
    for at, old in before:
        save(root, at, tensors(old), {"seed": old})
    if name == "after leftovers":
        shutil.copytree(root / "step_000020", root / "step_000030.tmp-1")
        (root / "step_000030.tmp-1" / "manifest.json").unlink()
    return step, seed, {old for _, old in before[-1:]} or {None}


def found(root):
    path = newest(root, no_note)
    if path is None:
        return None
    groups, state = load(path)
    assert same(groups, tensors(state["seed"]))
    return state["seed"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_call_leaves_the_old_or_the_new_checkpoint(tmp_path, name):
    template = tmp_path / "template"
    step, seed, old = prepare(template, name)
    whole = Watched()
    if template.exists():
        shutil.copytree(template, tmp_path / "whole")
    save(tmp_path / "whole", step, tensors(seed), {"seed": seed}, fs=whole)
    assert found(tmp_path / "whole") == seed
    whole.cut_power()
    assert found(tmp_path / "whole") == seed  # durable once save returns
    assert {"open", "write", "fsync", "close", "rename", "fsync_dir"} <= set(whole.calls)
    outcomes = set()
    for point in range(2 * len(whole.calls)):
        for power_cut in (False, True):
            root = tmp_path / "killed"
            if template.exists():
                shutil.copytree(template, root)
            fs = Watched(point)
            with pytest.raises(Killed):
                save(root, step, tensors(seed), {"seed": seed}, fs=fs)
            fs.close_all()
            if power_cut:
                fs.cut_power()
            outcome = found(root)
            assert outcome in old | {seed}, (point, power_cut, fs.calls)
            outcomes.add(outcome)
            save(root, step + 100, tensors(9), {"seed": 9})  # the next save works and leaves no rubbish
            assert found(root) == 9
            assert not list(root.glob("*.tmp-*"))
            assert all(not (root / p.stem).exists() for p in root.glob("*.was"))
            shutil.rmtree(root)
    assert outcomes == old | {seed}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_real_kill_of_a_real_process_too(tmp_path):
    save(tmp_path / "template", 10, tensors(1), {"seed": 1})
    fs = Watched()
    shutil.copytree(tmp_path / "template", tmp_path / "whole")
    save(tmp_path / "whole", 20, tensors(2), {"seed": 2}, keep=1, fs=fs)
    outcomes = set()
    for point in range(0, 2 * len(fs.calls), 3):
        root = tmp_path / str(point)
        shutil.copytree(tmp_path / "template", root)
        child = os.fork()
        if child == 0:
            try:
                dying = Watched(point, lambda: os.kill(os.getpid(), signal.SIGKILL))
                save(root, 20, tensors(2), {"seed": 2}, keep=1, fs=dying)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        outcomes.add(found(root))
    assert outcomes == {1, 2}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def swap(path):
    a, b = path / "rank_0000.safetensors", path / "state.json"
    a.rename(path / "x")
    b.rename(a)
    (path / "x").rename(b)


def edit(path, change):
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def replace_by(path, other):
    shutil.rmtree(path)
    shutil.copytree(other, path)


DAMAGES = {
    "a bit of the weights flipped": lambda p: flip(p / "rank_0000.safetensors", 2001),
    "a bit of their header flipped": lambda p: flip(p / "rank_0000.safetensors", 99),
    "a bit of the state flipped": lambda p: flip(p / "state.json", 20),
    "weights cut short": lambda p: os.truncate(p / "rank_0000.safetensors", 100),
    "weights empty": lambda p: os.truncate(p / "rank_0000.safetensors", 0),
    "weights grown": lambda p: os.truncate(
        p / "rank_0000.safetensors", (p / "rank_0000.safetensors").stat().st_size + 1
    ),
    "weights zeroed": lambda p: (p / "rank_0000.safetensors").write_bytes(
        bytes((p / "rank_0000.safetensors").stat().st_size)
    ),
    "weights missing": lambda p: (p / "rank_0000.safetensors").unlink(),
    "state missing": lambda p: (p / "state.json").unlink(),
    "state empty": lambda p: os.truncate(p / "state.json", 0),
    "two files swapped": swap,
    "a file of another step": lambda p: shutil.copy(p.parent / "step_000010" / "rank_0000.safetensors", p),
    "the manifest of another step": lambda p: shutil.copy(p.parent / "step_000010" / "manifest.json", p),
    "all of another step": lambda p: replace_by(p, p.parent / "step_000010"),
    "manifest missing": lambda p: (p / "manifest.json").unlink(),
    "manifest empty": lambda p: os.truncate(p / "manifest.json", 0),
    "manifest cut short": lambda p: os.truncate(p / "manifest.json", 60),
    "manifest of other JSON": lambda p: (p / "manifest.json").write_text("[1]"),
    "manifest binary": lambda p: (p / "manifest.json").write_bytes(b"\xff\x00\x80"),
    "manifest of another format": lambda p: edit(p, lambda m: m.update(format=1)),
    "manifest without a file": lambda p: edit(p, lambda m: m["files"].pop("rank_0000.safetensors")),
    "a stray rank": lambda p: shutil.copy(p / "rank_0000.safetensors", p / "rank_0001.safetensors"),
    "a directory for a file": lambda p: ((p / "state.json").unlink(), (p / "state.json").mkdir()),
    "everything gone": lambda p: [f.unlink() for f in p.iterdir()],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_seen_said_and_survived(tmp_path, name):
    save(tmp_path, 10, tensors(1), {"seed": 1})
    path = save(tmp_path, 20, tensors(2), {"seed": 2})
    assert verify(path) is None
    DAMAGES[name](path)
    notes = []
    assert newest(tmp_path, notes.append) == tmp_path / "step_000010"
    assert len(notes) == 1
    assert "step_000020" in notes[0]
    assert "damaged" in notes[0]
    with pytest.raises(WeightsError, match="step_000020"):
        load(path)
    save(tmp_path, 20, tensors(3), {"seed": 3})  # the step is reached again
    assert found(tmp_path) == 3
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step_000010", "step_000020"]


def test_every_single_bit_of_a_manifest_counts(tmp_path):
    path = save(tmp_path, 20, {"model": {"w": torch.ones(2)}}, {})
    manifest = path / "manifest.json"
    data = manifest.read_bytes()
    for bit in range(8 * len(data)):
        flip(manifest, bit)
        try:
            equal = json.loads(manifest.read_bytes()) == json.loads(data)  # white space to other white space
        except ValueError:
            equal = False
        assert equal or verify(path) is not None, bit
        manifest.write_bytes(data)


def test_nothing_left_is_none_and_said_for_each(tmp_path):
    notes = []
    assert newest(tmp_path / "nowhere", notes.append) is None
    assert notes == []
    for step in (1, 2):
        (save(tmp_path, step, tensors(1), {}) / "state.json").unlink()
    assert newest(tmp_path, notes.append) is None
    assert len(notes) == 2


@pytest.mark.parametrize("name", ["mkdir", "open", "write", "fsync", "close", "rename", "fsync_dir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_an_error_and_leaves_the_older_checkpoint(tmp_path, name, code):
    save(tmp_path, 10, tensors(1), {"seed": 1})

    class Failing(FS):
        def fail(self, *args, **kwargs):
            raise OSError(code, os.strerror(code))

    setattr(Failing, name, Failing.fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        save(tmp_path, 20, tensors(2), {"seed": 2}, fs=Failing())
    assert found(tmp_path) in ({1, 2} if name == "fsync_dir" else {1})
    save(tmp_path, 20, tensors(2), {"seed": 2})
    assert found(tmp_path) == 2


def test_too_little_space_is_known_before_anything_is_written(tmp_path):
    save(tmp_path, 10, tensors(1), {"seed": 1})

    class Full(Watched):
        def free_bytes(self, path):
            return 1000

    fs = Full()
    with pytest.raises(OSError, match="1,000 bytes free") as caught:
        save(tmp_path, 20, tensors(2), {"seed": 2}, fs=fs)
    assert caught.value.errno == errno.ENOSPC
    assert "open" not in fs.calls
    assert found(tmp_path) == 1


def test_short_writes_are_completed(tmp_path):
    class Slow(FS):
        def write(self, fd, data):
            return os.write(fd, data[:7])

    save(tmp_path, 1, tensors(1), {"seed": 1}, fs=Slow())
    assert found(tmp_path) == 1


def test_equal_state_gives_equal_bytes(tmp_path):
    one, two = save(tmp_path / "a", 1, tensors(1), {"s": 1}), save(tmp_path / "b", 1, tensors(1), {"s": 1})
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_keep_counts_and_a_later_course_is_given_up(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, tensors(step), {"seed": step}, keep=3)
    assert sorted(p.name[-1] for p in tmp_path.iterdir()) == ["2", "3", "4"]
    save(tmp_path, 3, tensors(7), {"seed": 7}, keep=3)
    assert sorted(p.name[-1] for p in tmp_path.iterdir()) == ["2", "3"]
    assert found(tmp_path) == 7
