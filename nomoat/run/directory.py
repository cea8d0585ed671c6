"""A run directory: the resolved recipe, the event log (the only truth), the lock, the way to stop.  No torch here.

    RUN/recipe.json     {"recipe", "nomoat", "commit", "libraries"}: enough to repeat the run
    RUN/events.jsonl    append-only, one write per line; curves, receipts and finished stages are read from it
    RUN/lock            pid, host and boot id of the process that trains here
    RUN/<stage>/        what a stage leaves
"""

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import nomoat
from nomoat.config import ConfigError, DataError, UserError
from nomoat.files import write_whole
from nomoat.run.log import mark_redone as _mark_redone
from nomoat.run.log import open_log as _open_log

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OURS = {"recipe.json", "events.jsonl", "lock"}


class Run:
    """One run directory.  `create` for work (then `locked()` around it), `open` to look."""

    def __init__(self, root: Path, record: dict[str, Any], *, writable: bool) -> None:
        self.root = root
        self.record = record
        self.recipe: dict[str, Any] = record["recipe"]
        self.seed: int = self.recipe.get("seed", 0)
        self.writable = writable
        self.write: Callable[[int, bytes], int] = os.write
        self.observe: Callable[[dict[str, Any]], None] | None = None  # sees every event after it was logged
        self._log_fd: int | None = None
        self._pending: list[bytes] = []
        self._mutex = threading.Lock()

    # --- making and finding ---

    @classmethod
    def create(cls, root: str | Path, recipe: Mapping[str, Any]) -> Self:
        """A new run in `root`, or the run that is already there if its recipe is the same (key order aside).

        Raises ConfigError with the difference for another recipe, DataError for a place that cannot hold a run.
        """
        root, wanted = Path(root), _plain(recipe)
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not (root / "recipe.json").exists():
                foreign = sorted(p.name for p in root.iterdir() if p.name[0] != "." and p.name not in OURS - {"events.jsonl"})
                if foreign:
                    raise DataError(
                        f"{root} is not empty and has no recipe.json (found {', '.join(foreign[:5])}); "
                        "expected a new, an empty or a run directory; use another --out"
                    )
                record = {"recipe": wanted, **environment()}
                with cls(root, record, writable=True)._exclusive():
                    if not (root / "recipe.json").exists():  # nobody was quicker
                        write_whole(root / "recipe.json", json.dumps(record, indent=1).encode() + b"\n")
        except OSError as error:
            raise DataError(
                f"cannot make a run in {root} ({error.strerror}); expected space and permission; use another --out"
            ) from None
        run = cls(root, _read_record(root), writable=True)
        changes = difference(run.recipe, wanted)
        if changes:
            raise ConfigError(
                "\n  ".join([f"{root} holds a run of another recipe:", *changes])
                + "\nuse another --out, or restore the recipe to go on with this run"
            )
        return run

    @classmethod
    def open(cls, root: str | Path, *, write: bool = False) -> Self:
        """The run in `root`, to read; with `write=True` to add to it under the recipe that it has.  Else DataError."""
        return cls(Path(root), _read_record(Path(root)), writable=write)

    @classmethod
    def fork(cls, source: Self, root: str | Path, recipe: Mapping[str, Any], then: Mapping[str, Any] | None = None) -> Self:
        """A new run in `root` under another recipe, with the finished stages of `source` that both recipes share.

        A stage is shared if it, what it starts from and the models are the same; its cost stays in the new log.  `then`
        is the recipe of `source` with the defaults of today, where those are known.
        """
        root = Path(root)
        run = cls.create(root, recipe)
        if (root / "events.jsonl").exists():
            return run
        kept = source.shared(recipe, then)
        for name in kept:
            leave = shutil.ignore_patterns("checkpoints", "data", "reference")
            shutil.copytree(source.root / name, run.root / name, ignore=leave, dirs_exist_ok=True)
        with open(source.root / "events.jsonl", encoding="utf-8") as log, run._exclusive():
            lines = "".join(line for line in log if line.endswith("\n") and json.loads(line).get("stage") in kept)
            write_whole(run.root / "events.jsonl", lines.encode())
        return run

    def shared(self, recipe: Mapping[str, Any], then: Mapping[str, Any] | None = None) -> list[str]:
        """The finished stages that would come out the same under another resolved recipe."""
        then, now = _plain(then or self.recipe), _plain(recipe)
        if any(then.get(key) != now.get(key) for key in ("seed", "device", "threads")):
            return []
        before = {stage["name"]: stage for stage in then["stages"]}
        kept: list[str] = []
        for stage in now["stages"]:
            name, model = stage["name"], stage.get("model")
            read = stage.get("samples")  # a number in other kinds of stages
            sources = {stage.get("from"), stage.get("start"), *(read if isinstance(read, list) else ())} - {None}
            same = before.get(name) == stage and (model is None or then["models"].get(model) == now["models"].get(model))
            fed = sources <= set(kept)
            encoded = stage["kind"] == "tokenizer" or kept  # nothing is the same under another tokenizer
            if same and fed and encoded and stage["kind"] not in ("eval", "export") and self.finished(name):
                kept.append(name)
        return kept

    def stage_dir(self, name: str) -> Path:
        """RUN/<name>, made if this run is writable.  DataError for a name that could leave the directory."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name) or name in OURS:
            raise DataError(f"`{name}` cannot be a stage's name; use letters, digits, '-', '_' and '.'")
        path = self.root / name
        if self.writable:
            path.mkdir(exist_ok=True)
        return path

    # --- the log ---

    def log(self, kind: str, /, **fields: Any) -> None:
        """Append one event: one write, whole or not at all.

        On a full disk the line waits in memory and goes out, in order, before the next one (see `sync`).
        NaN and infinities are written as null.  Log a step before the checkpoint that contains it is saved.
        """
        if not self.writable:
            raise DataError(f"{self.root} was opened to read; nothing is logged into it")
        event = {"kind": kind, "t": round(time.time(), 3), **_plain(fields)}
        with self._mutex:
            self._pending.append(json.dumps(event, allow_nan=False).encode() + b"\n")
            self._flush()
        self.tell(event)

    def tell(self, event: dict[str, Any]) -> None:
        """Show something to the observer alone: what begins, which the log has no use for."""
        if self.observe is not None:
            self.observe(event)

    def sync(self) -> None:
        """Make the log durable; call it before saving a checkpoint.  OSError (ENOSPC) while lines still wait."""
        with self._mutex:
            self._flush()
            if self._pending:
                raise OSError(errno.ENOSPC, f"{len(self._pending)} lines of the log wait for space", str(self.root))
            if self._log_fd is not None:
                os.fsync(self._log_fd)

    def _flush(self) -> None:
        while self._pending:
            line = self._pending[0]
            try:
                if self._log_fd is None:
                    self._log_fd = _open_log(self.root / "events.jsonl")
                whole = os.fstat(self._log_fd).st_size
                if self.write(self._log_fd, line) < len(line):
                    os.ftruncate(self._log_fd, whole)
                    return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return
            del self._pending[0]

    def events(self, kind: str | None = None, stage: str | None = None) -> list[dict[str, Any]]:
        """Every event in the order of the log; a torn last line was never one.

        Records of a stage whose work was done again after a resume carry `"redone": True`: they cost what they cost,
        but they are no points of a curve.
        """
        path = self.root / "events.jsonl"
        data = path.read_bytes() if path.exists() else b""
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1] + [line[:-1] for line in self._pending]
        found = []
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                event["kind"]
            except (ValueError, TypeError, KeyError):
                raise DataError(
                    f"{path}, line {number} is no event (found {line[:60]!r}); expected a JSON object with a kind; "
                    "the file was damaged from outside: restore it, or delete that line"
                ) from None
            found.append(event)
        _mark_redone(found)
        return [e for e in found if kind in (None, e["kind"]) and stage in (None, e.get("stage"))]

    def curve(self, stage: str) -> list[dict[str, Any]]:
        """The stage's "step" records as if it had never been interrupted: each step once, in order."""
        return [e for e in self.events("step", stage) if not e.get("redone")]

    def finished(self, stage: str) -> dict[str, Any] | None:
        """The stage's "stage_end" record, unless the stage was started again after it."""
        ends = [e for e in self.events(stage=stage) if e["kind"] in ("stage_start", "stage_end")]
        return ends[-1] if ends and ends[-1]["kind"] == "stage_end" else None

    # --- the lock ---

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """Only one process at a time trains into a directory; the kernel frees the lock of a killed one.

        Raises UserError with the pid and host of the process that holds it.  On the way out, lines that a full disk
        held back are written, or a UserError says that they are lost.
        """
        with self._exclusive():
            if _read_record(self.root)["recipe"] != self.recipe:
                raise ConfigError(f"the recipe in {self.root} changed just now; run the command again")
            then, now = self.record.get("libraries"), libraries()
            if then != now:
                self.log("note", stage=None, text=f"begun under {then}, goes on under {now}: bits may differ")
            try:
                yield self
                self._flush()
                if self._pending:
                    raise UserError(
                        f"no space left in {self.root}: {len(self._pending)} lines of its log could not be written; "
                        "free some and run the same command, it goes on from the last checkpoint"
                    )
            finally:
                if self._log_fd is not None:
                    os.close(self._log_fd)
                self._log_fd = None

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        path = self.root / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)  # stays: removing it would race with the next process
        except OSError as error:
            raise DataError(f"cannot write {path} ({error.strerror}); make it writable or use another --out") from None
        held = [fd]
        let_go = lambda: held and os.close(held.pop())
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = path.read_text() or "a process that just started"
                raise UserError(
                    f"{self.root} is in use by {owner}; only one process can train into a directory; "
                    "wait for it, or use another --out"
                ) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, identity().encode(), 0)
            os.register_at_fork(after_in_child=let_go)  # a forked worker must not keep a dead parent's lock
            yield
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            let_go()


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """One line per key in which two recipes differ; key order does not count, the order of the stages does."""
    left, right = dict(_leaves(found)), dict(_leaves(expected))
    return [
        f"{key}: the run has {left.get(key, 'no such key')}, the recipe now has {right.get(key, 'no such key')}"
        for key in [*left, *(k for k in right if k not in left)]
        if left.get(key) != right.get(key)
    ]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as text); tables in a list are named by their `name` or `kind`."""
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        names = [str(item.get("name", item.get("kind", i))) for i, item in enumerate(value)]
        names = [f"{n}#{names[:i].count(n) + 1}" if n in names[:i] else n for i, n in enumerate(names)]
        yield key, f"[{', '.join(names)}]"
        value = dict(zip(names, value))
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    else:
        whole = isinstance(value, float) and value.is_integer()
        yield key, json.dumps(int(value) if whole else value)


def environment() -> dict[str, Any]:
    """What the recipe alone does not say: this package's version and commit (if it is a checkout), the libraries."""
    root = Path(nomoat.__file__).resolve().parents[1]
    commit = None
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return {"nomoat": nomoat.__version__, "commit": commit, "libraries": libraries()}


def libraries() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def identity() -> str:
    """Who this process is: its pid, its host, and the boot that the pid belongs to."""
    file = Path("/proc/sys/kernel/random/boot_id")
    boot = file.read_text().strip() if file.exists() else "?"
    return f"process {os.getpid()} on {socket.gethostname()} (boot {boot})"


def _read_record(root: Path) -> dict[str, Any]:
    path = root / "recipe.json"
    if not path.is_file():
        raise DataError(f"{root} is no run directory (no recipe.json found); expected one that `nomoat run` made")
    try:
        record = json.loads(path.read_text("utf-8"))
        if isinstance(record["recipe"], dict):
            return record
    except (ValueError, TypeError, KeyError):
        pass
    raise DataError(f"{path} is not the record of a run; expected JSON with a recipe; restore it or use another --out")


def _plain(value: Any) -> Any:
    """What JSON can hold: scalars of numpy and torch as numbers, no NaN, anything unknown as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is not None and not isinstance(value, bool | int | float | str):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
