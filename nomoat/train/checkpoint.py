"""Checkpoints: directories of safetensors and JSON under a sha256 manifest, there whole or not at all.

    step_000123/  rank_0000.safetensors …  state.json  manifest.json {"format", "step", "files"}

Each rank writes one file with its share of the tensors: `group/tensor`, or of a sharded one its part,
`group/tensor@row,column`.  The manifest lists bytes and sha256 of every file.  Any number of ranks may read
what any other number wrote, each what it needs (parts.py).  A save writes beside (`step_000123.tmp`), makes
every file and the directory durable, renames, makes the rename durable, and only then removes older ones.
Whatever moment a kill or a power cut hits, `newest` finds the old or the new checkpoint.

Not torch.distributed.checkpoint: its index is a pickle, which executes what a file says, and it knows neither
sums nor durable renames.  Nothing here is ever unpickled.
"""

import contextlib
import errno
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from nomoat.config import JsonObject, WeightsError
from nomoat.parallel.mesh import ALONE
from nomoat.train.disk import DISK, FS, put, remove
from nomoat.train.parts import Groups, Part, parts_of, shares
from nomoat.weights import header

FORMAT = 4
READ = (2, 4)  # in 2 every tensor is whole; a bit that flips makes no 2 of a 4


class Ranks(Protocol):
    """Processes that save or read together: a Mesh, or the same ranks in a group of their own."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, thing: Any) -> list[Any]:
        """Every rank's thing, in the order of ranks, on every rank."""


class Share:
    """What this rank writes of some tensors; the same ones at every save, so they are parted once.

    `n_bytes` are those of all ranks.  Collective.
    """

    def __init__(self, tensors: Groups, ranks: Ranks = ALONE):
        parts = ranks.gather([part for part, _ in parts_of(tensors)])
        every = shares(parts)
        self.keys = every[ranks.rank]
        self.n_bytes = sum(
            part.n_bytes for keys, held in zip(every, parts) for part in held if part.key in keys
        )

    def copies(self, tensors: Groups, *, own: bool = True) -> dict[str, Tensor]:
        """By key, dense, on the CPU, each with a storage of its `own`: what follows may change the tensors.
        """
        mine = ((part.key, memory) for part, memory in parts_of(tensors) if part.key in self.keys)
        return {key: memory.to("cpu", copy=own).contiguous() for key, memory in mine}


def save(
    directory: str | Path,
    step: int,
    tensors: Groups,
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    mesh: Ranks = ALONE,
    fs: FS = DISK,
) -> Path:
    """directory/step_<step>, durable when this returns; older ones but the last `keep`, and steps after it,
    are gone.

    Every rank of the mesh calls it with its tensors and writes its share of them.  A step after this one
    belongs to a course that was given up.  OSError, on every rank, for a disk that is full or fails; older
    ones are untouched.
    """
    share = Share(tensors, mesh)
    return write(
        Path(directory), step, share, share.copies(tensors), as_text(state), keep=keep, ranks=mesh, fs=fs
    )


def as_text(state: Mapping[str, Any]) -> bytes:
    """JSON of what is saved beside the tensors."""
    return json.dumps(state, default=lambda v: v.item() if hasattr(v, "item") else str(v)).encode()


def write(
    directory: Path,
    step: int,
    share: Share,
    copies: Mapping[str, Tensor],
    state: bytes,
    *,
    keep: int = 2,
    ranks: Ranks = ALONE,
    fs: FS = DISK,
    refused: OSError | None = None,
) -> Path:
    """`save`, of what was copied before; `refused` is an error that this rank met on the way."""
    target = directory / f"step_{step:06d}"
    beside = target.with_name(f"{target.name}.tmp")
    n_bytes, name = share.n_bytes + len(state), f"rank_{ranks.rank:04d}.safetensors"
    leads = ranks.rank == 0
    try:
        _on_all(ranks, (lambda: _prepare(directory, beside, n_bytes, fs)) if leads else None, refused)
        files = dict(_on_all(ranks, lambda: (name, put(beside / name, _file_of(copies), fs))))
        manifest = {"format": FORMAT, "step": step, "files": files}
        _on_all(ranks, (lambda: _finish(target, beside, manifest, state, fs)) if leads else None)
    except OSError:
        if leads:
            with contextlib.suppress(OSError):
                remove(beside, fs)
        raise
    if leads:
        with contextlib.suppress(OSError):  # what stays is removed by the next save
            _prune(directory, target, keep, fs)
    return target


def _on_all(ranks: Ranks, work: Callable[[], Any] | None = None, error: OSError | None = None) -> list[Any]:
    """What each rank's work gave, in the order of ranks; an OSError of one is raised on all, once all have
    tried.  A rank that comes with an error doesn't try.
    """
    result = None
    try:
        result = work() if work and error is None else None
    except OSError as caught:
        error = caught
    outcomes = ranks.gather((result, error and (error.errno, error.strerror, error.filename)))
    if error is not None:
        raise error
    for _, failure in outcomes:
        if failure is not None:
            raise OSError(*failure)
    return [outcome for outcome, _ in outcomes]


def _file_of(copies: Mapping[str, Tensor]) -> Iterable[bytes | memoryview]:
    """A safetensors file, piece by piece."""
    outgoing = {}
    for key, copy in copies.items():
        outgoing[key] = header.Outgoing(copy.dtype, tuple(copy.shape), lambda copy=copy: copy)
    return header.file_of(outgoing)


def _prepare(directory: Path, beside: Path, need: int, fs: FS) -> None:
    """An empty place to write into, once there is room; what earlier saves left unfinished is gone."""
    fs.mkdir(directory, exist_ok=True)
    if not _listed(directory):
        fs.fsync_dir(directory.parent)
    for name in sorted(fs.listdir(directory)):
        if fnmatch.fnmatch(name, "step_*.tmp*"):
            with contextlib.suppress(OSError):  # what cannot be removed is no reason not to save
                remove(directory / name, fs)
    free = fs.free_bytes(directory)
    if free < need * 1.1 + 65536:
        raise OSError(
            errno.ENOSPC, f"no space for a checkpoint: {free:,} bytes free, {need:,} to write", str(beside)
        )
    fs.mkdir(beside)


def _finish(target: Path, beside: Path, manifest: JsonObject, state: bytes, fs: FS) -> None:
    """State and manifest beside the ranks' files, then all of them under the name of the checkpoint."""
    manifest["files"]["state.json"] = put(beside / "state.json", [state], fs)
    put(beside / "manifest.json", [json.dumps(manifest, indent=1).encode()], fs)
    fs.fsync_dir(beside)
    was = target.with_name(
        target.name + ".was"
    )  # one of the same name stands aside until the new one is durable
    if fs.exists(target):
        remove(was, fs)
        fs.rename(target, was)
    fs.rename(beside, target)
    fs.fsync_dir(target.parent)
    if fs.exists(was):
        with contextlib.suppress(OSError):
            remove(was, fs)


def _prune(directory: Path, target: Path, keep: int, fs: FS) -> None:
    present = _listed(directory)
    older = [p for p in present if _step(p) <= _step(target) and p != target]
    for old in [*older[max(0, keep - 1) :], *(p for p in present if _step(p) > _step(target))]:
        remove(old, fs)


def newest(directory: str | Path, note: Callable[[str], object], mesh: Ranks = ALONE) -> Path | None:
    """The newest checkpoint that verifies, the same one on every rank, or None; `note` hears of each damaged
    one on the way.
    """
    for path in mesh.gather(_listed(Path(directory)))[0]:
        damages = [damage for damage in mesh.gather(verify(path, mesh)) if damage is not None]
        if not damages:
            return path
        note(f"checkpoint {path} is damaged ({damages[0]}); it is not used, the one before it is")
    return None


def load(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], JsonObject]:
    """(tensors by group and name, state) of a verified checkpoint, whole, on the CPU.  WeightsError if it is
    damaged.
    """
    path = Path(path)
    was = path.with_name(path.name + ".was")  # there if a kill fell between a replacement's two renames
    path = was if was.exists() and not path.exists() else path
    damage = verify(path)
    if damage is not None:
        raise WeightsError(
            f"{path} cannot be loaded ({damage}); expected an undamaged checkpoint; use an older one"
        )
    groups = {}
    for whole, saved in _table(path).items():
        group, _, name = whole.partition("/")
        shape = tuple(map(max, zip(*(part.whole for _, _, part in saved))))
        groups.setdefault(group, {})[name] = torch.empty(shape, dtype=saved[0][1].dtype)
    return groups, restore(path, groups)


def restore(path: Path, tensors: Groups) -> JsonObject:
    """Fills tensors, in place, with what a verified checkpoint has under their names; gives its state.

    Each rank reads what it holds.  WeightsError where a tensor is not there, or there in another shape.
    """
    table, files = _table(path), {}
    with torch.no_grad(), contextlib.ExitStack() as stack:
        for part, memory in parts_of(tensors):
            left = memory.numel()
            for key, entry, saved in table.get(part.name, ()):
                boxes = part.common(saved)
                if boxes is None or len(saved.shape) != len(part.shape):
                    continue
                if entry.path not in files:
                    files[entry.path] = stack.enter_context(safe_open(entry.path, "pt"))
                file, (mine, theirs) = files[entry.path], boxes
                piece = file.get_slice(key)[theirs] if theirs else file.get_tensor(key)
                memory[mine].copy_(piece)
                left -= piece.numel()
            if left:
                raise WeightsError(
                    f"{path} has not all of {part.name}, {list(part.whole)}; expected a checkpoint of this "
                    "model; use the recipe that it was saved under"
                )
    return json.loads((path / "state.json").read_bytes())


def _table(path: Path) -> dict[str, list[tuple[str, header.Entry, Part]]]:
    """What was saved of each tensor: the key, where that is, which part it is."""
    table = {}
    for file in sorted(path.glob("*.safetensors")):
        for key, entry in header.read(file).items():
            part = Part.of_key(key, entry.shape)
            table.setdefault(part.name, []).append((key, entry, part))
    return table


def verify(path: Path, mesh: Ranks = ALONE) -> str | None:
    """What is wrong with a checkpoint directory, in words, or None.  Reads every byte of it; of several
    ranks each reads some of the files.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest["format"] not in READ:
            return f"format {manifest['format']!r}, this version reads {' and '.join(map(str, READ))}"
        named = re.fullmatch(r"step_(\d+)(\.was)?", path.name)
        if named and manifest["step"] != int(named[1]):
            return f"its manifest belongs to step {manifest['step']!r}"
        unlisted = {"state.json", *(p.name for p in path.glob("*.safetensors"))} - set(manifest["files"])
        if unlisted:
            return f"its manifest does not list {', '.join(sorted(unlisted))}"
        for name in sorted(manifest["files"])[mesh.rank :: mesh.world]:
            damage = _damage(path / name, manifest["files"][name])
            if damage is not None:
                return damage
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest is no manifest"
    return None


def _damage(file: Path, expected: JsonObject) -> str | None:
    size = file.stat().st_size
    if size != expected["bytes"]:
        return f"{file.name} has {size} bytes of {expected['bytes']}"
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
    return f"{file.name} differs from its sha256" if digest.hexdigest() != expected["sha256"] else None


def _listed(directory: Path) -> list[Path]:
    """Checkpoints by name alone, newest first."""
    found = directory.glob("step_*") if directory.is_dir() else ()
    named = [p for p in found if re.fullmatch(r"step_\d+(\.was)?", p.name)]
    return sorted(named, key=lambda p: (_step(p), p.suffix == ""), reverse=True)


def _step(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))
