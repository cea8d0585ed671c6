"""Runs on a disk: which there are, how large they are, and what of them can go."""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import DataError, UserError
from nomoat.run.directory import REBUILT, Run
from nomoat.run.lock import exclusive

DEEPEST = 3  # folders below the one that is searched


@dataclass(frozen=True)
class Kept:
    """A run on the disk; `removable` are directories that no finished stage needs again."""

    run: Run
    n_bytes: int
    removable: tuple[Path, ...]
    removable_bytes: int


def found(root: Path, depth: int = DEEPEST) -> Iterator[Run]:
    """The run in `root`, or all runs in the folders below; with a warning for what can't be read as one."""
    if (root / "recipe.json").is_file():
        try:
            yield Run.open(root)
        except DataError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    elif depth and root.is_dir():
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from found(folder, depth - 1)


def size(path: Path) -> int:
    """Bytes of the files below, links not followed."""
    files = [file for file in path.rglob("*") if not file.is_symlink()]
    return sum(file.stat().st_size for file in files if file.is_file())


def kept(run: Run) -> Kept:
    """What a run takes on the disk: checkpoints, encoded text and reference weights of finished stages can
    go, weights, scores, rollouts and the log can't.
    """
    removable = []
    for stage in run.recipe.get("stages", []):
        name = stage.get("name") or stage["kind"]
        if run.finished(name):
            places = [run.root / name / part for part in REBUILT]
            removable += [place for place in places if place.is_dir() and not place.is_symlink()]
    removable_bytes = sum(map(size, removable))
    return Kept(run, size(run.root), tuple(removable), removable_bytes)


def clean(run: Run) -> Kept:
    """Removes what can go; what it was.  UserError where a process works in the run, or a file can't go."""
    with exclusive(run.root / "lock"):
        before = kept(run)
        try:
            for place in before.removable:
                shutil.rmtree(place)
        except OSError as error:
            raise UserError(
                f"cannot remove {error.filename} ({error.strerror}); expected permission; remove it by hand"
            ) from None
    return before
