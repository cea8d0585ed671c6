"""The runs of a directory, read again only as far as their logs have grown."""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from nomoat.config import DataError, JsonObject, UserError
from nomoat.report import course, snapshot
from nomoat.report.leaves import Leaves
from nomoat.run.directory import Run
from nomoat.run.lock import holder
from nomoat.run.log import Event, Log, mark_redone, of_kinds
from nomoat.run.tidy import size
from nomoat.serve.refusal import Refusal

MOST_LOGS = 4  # that stay in memory
MOST_RUNS = 500  # in a list


class Grown(Log):
    """A log that another process writes: what was read stays in memory, as long as it is the same file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reading = threading.Lock()
        self._forget(None)

    def _forget(self, inode: int | None) -> None:
        self._inode = inode
        self._offset = 0
        self._known: list[Event] = []

    def events(self, *kinds: str) -> list[Event]:
        with self._reading:
            stat = self.path.stat() if self.path.exists() else None
            is_same = stat is not None and stat.st_ino == self._inode
            if not is_same or stat.st_size < self._offset:
                self._forget(stat and stat.st_ino)
            if stat is not None and stat.st_size > self._offset:
                self._read()
            return of_kinds(self._known, kinds)

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        try:
            events = json.loads(b"[%b]" % b",".join(lines))  # at once: equal keys are one object then
        except ValueError:
            events = []
        if len(events) != len(lines) or not all(isinstance(e, dict) and "kind" in e for e in events):
            first = len(self._known) + 1
            events = [self._event(line, number) for number, line in enumerate(lines, first)]
        self._known = [*self._known, *events]  # a list that somebody reads does not change
        self._offset += len(whole)
        mark_redone(self._known)


class Runs:
    """The runs in a directory, and others by their own paths."""

    def __init__(self, root: Path | None, others: Iterable[Path] = ()) -> None:
        self.root = root
        self.others = [path.resolve() for path in others]
        self._open: OrderedDict[Path, tuple[Grown, dict[str, Leaves]]] = OrderedDict()
        self._rows: dict[Path, tuple[object, JsonObject]] = {}
        self._mutex = threading.Lock()

    def places(self) -> dict[str, Path]:
        """name -> directory; no link leads out of the directory, no name into another one."""
        found: dict[str, Path] = {}
        for folder in folders(self.root):
            if (folder / "recipe.json").is_file():
                found[folder.name] = folder.resolve()
        for path in self.others:
            if path not in found.values():
                number = sum(name.partition("~")[0] == path.name for name in found)
                found[f"{path.name}~{number + 1}" if number else path.name] = path
        return found

    def path(self, name: str, param: str = "name") -> Path:
        """The directory of a run by its name; Refusal, with `param`, where there is none."""
        path = self.places().get(name)
        if path is None:
            raise Refusal(f"no run `{name[:100]}`; /api/runs lists them", param, status=404, code="no_run")
        return path

    def run(self, name: str, param: str = "name") -> Run:
        """A run to read; Refusal, with `param`, for what is damaged."""
        path = self.path(name, param)
        try:
            run = Run.open(path)
        except UserError as error:
            raise Refusal(str(error), param, status=409, code="damaged") from None
        run.lines = self._kept(path)[0]
        return run

    def stage(self, name: str, stage: str) -> Run:
        """A run that has this stage; Refusal for a name that is none of its recipe."""
        run = self.run(name)
        if stage not in [course.name_of(each) for each in run.recipe.get("stages", [])]:
            raise Refusal(f"no stage `{stage[:100]}` in {name}", "stage", status=404, code="no_stage")
        return run

    def leaves(self, name: str, stage: str) -> Leaves:
        """The rollouts of a stage; Refusal for a name that is none of the run's recipe."""
        run = self.stage(name, stage)
        return self._kept(run.root)[1].setdefault(
            stage, Leaves(run.stage_dir(stage) / "rollouts.jsonl")
        )

    def rows(self) -> list[JsonObject]:
        """A row for each run, those first that were worked on last."""
        rows = [self._row(name, path) for name, path in self.places().items()]
        return sorted(rows, key=lambda row: -(row["updated"] or 0.0))[:MOST_RUNS]

    def _row(self, name: str, path: Path) -> JsonObject:
        log = path / "events.jsonl"
        stat = log.stat() if log.exists() else None
        grown = stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        key = (name, holder(path / "lock"), grown)
        known, row = self._rows.get(path, (None, None))
        if row is None or known != key:
            row = self._read_row(name, path)
            self._rows[path] = (key, row)
        return row

    def _read_row(self, name: str, path: Path) -> JsonObject:
        try:
            return snapshot.row(self.run(name), name, size(path))
        except (Refusal, DataError, OSError) as error:
            return {"name": name, "state": "damaged", "why": str(error), "updated": None, "stages": []}

    def _kept(self, path: Path) -> tuple[Grown, dict[str, Leaves]]:
        with self._mutex:
            if path not in self._open:
                self._open[path] = (Grown(path / "events.jsonl"), {})
            self._open.move_to_end(path)
            while len(self._open) > MOST_LOGS:
                self._open.popitem(last=False)
            return self._open[path]


def folders(root: Path | None) -> list[Path]:
    """Directories in a directory, by name; links are none."""
    if root is None or not root.is_dir():
        return []
    return sorted(Path(entry) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
