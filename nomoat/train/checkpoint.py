"""Checkpoints: directories of safetensors and JSON under a sha256 manifest, there whole or not at all.

    step_000123/  rank_0000.safetensors …  state.json  manifest.json {"format", "step", "files"}

Each rank writes one file with its share of the tensors, named `group/tensor`; the manifest lists bytes and
sha256 of every file.  Any number of ranks may read what any other number wrote.  A save writes beside
(`step_000123.tmp`), makes every file and the directory durable, renames, makes the rename durable, and only
then removes older ones.  Whatever moment a kill or a power cut hits, `newest` finds the old or the new
checkpoint.  Nothing is ever unpickled.
"""

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from nomoat.config import JsonObject, WeightsError
from nomoat.parallel.mesh import ALONE, Mesh

FORMAT = 2
Groups = Mapping[str, Mapping[str, Tensor]]


class FS:
    """Every file-system call that a save makes; tests put a failing disk here."""

    mkdir = staticmethod(os.makedirs)
    listdir = staticmethod(os.listdir)
    exists = staticmethod(os.path.exists)
    write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)
    close = staticmethod(os.close)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    rmdir = staticmethod(os.rmdir)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free


DISK = FS()


def save(
    directory: str | Path,
    step: int,
    tensors: Groups,
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    mesh: Mesh = ALONE,
    fs: FS = DISK,
) -> Path:
    """directory/step_<step>, durable when this returns; older ones but the last `keep`, and steps after it,
    are gone.

    Every rank of the mesh calls it with the same tensors and writes its share of them.  A step after this one
    belongs to a course that was given up.  OSError, on every rank, for a disk that is full or fails; older
    ones are untouched.
    """
    directory = Path(directory)
    target = directory / f"step_{step:06d}"
    beside = target.with_name(f"{target.name}.tmp")
    share = _share(tensors, mesh)
    text = json.dumps(state, default=lambda v: v.item() if hasattr(v, "item") else str(v)).encode()
    try:
        _on_all(
            mesh, (lambda: _prepare(directory, beside, tensors, len(text), fs)) if mesh.rank == 0 else None
        )
        name = f"rank_{mesh.rank:04d}.safetensors"
        files = dict(_on_all(mesh, lambda: (name, _put(beside / name, pack_tensors(share), fs))))
        manifest = {"format": FORMAT, "step": step, "files": files}
        _on_all(mesh, (lambda: _finish(target, beside, manifest, text, fs)) if mesh.rank == 0 else None)
    except OSError:
        if mesh.rank == 0:
            with contextlib.suppress(OSError):
                _remove(beside, fs)
        raise
    if mesh.rank == 0:
        with contextlib.suppress(OSError):  # what stays is removed by the next save
            _prune(directory, target, keep, fs)
    return target


def _on_all(mesh: Mesh, work: Callable[[], Any] | None = None) -> list[Any]:
    """What each rank's work gave, in the order of ranks; an OSError of one is raised on all, once all have
    tried.
    """
    result, error = None, None
    try:
        result = work() if work else None
    except OSError as caught:
        error = caught
    outcomes = mesh.gather((result, error and (error.errno, error.strerror, error.filename)))
    if error is not None:
        raise error
    for _, failure in outcomes:
        if failure is not None:
            raise OSError(*failure)
    return [outcome for outcome, _ in outcomes]


def _share(tensors: Groups, mesh: Mesh) -> dict[str, Tensor]:
    """This rank's tensors, about equally many bytes as every other's; dense, on the CPU, each with a storage
    of its own.
    """
    named = {}
    for group, table in tensors.items():
        named |= {f"{group}/{name}": tensor for name, tensor in table.items()}
    bytes_of_rank = [0] * mesh.world
    mine = {}
    for name in sorted(named, key=lambda name: (-named[name].nbytes, name)):
        rank = bytes_of_rank.index(min(bytes_of_rank))
        bytes_of_rank[rank] += named[name].nbytes
        if rank == mesh.rank:
            mine[name] = named[name].detach().to("cpu", copy=True).contiguous()
    return mine


def _prepare(directory: Path, beside: Path, tensors: Groups, n_more: int, fs: FS) -> None:
    """An empty place to write into, once there is room; what earlier saves left unfinished is gone."""
    fs.mkdir(directory, exist_ok=True)
    if not _listed(directory):
        fs.fsync_dir(directory.parent)
    for name in sorted(fs.listdir(directory)):
        if fnmatch.fnmatch(name, "step_*.tmp*"):
            with contextlib.suppress(OSError):  # what cannot be removed is no reason not to save
                _remove(directory / name, fs)
    need = sum(t.nbytes for group in tensors.values() for t in group.values()) + n_more
    free = fs.free_bytes(directory)
    if free < need * 1.1 + 65536:
        raise OSError(
            errno.ENOSPC, f"no space for a checkpoint: {free:,} bytes free, {need:,} to write", str(beside)
        )
    fs.mkdir(beside)


def _finish(target: Path, beside: Path, manifest: JsonObject, state: bytes, fs: FS) -> None:
    """State and manifest beside the ranks' files, then all of them under the name of the checkpoint."""
    manifest["files"]["state.json"] = _put(beside / "state.json", state, fs)
    _put(beside / "manifest.json", json.dumps(manifest, indent=1).encode(), fs)
    fs.fsync_dir(beside)
    was = target.with_name(
        target.name + ".was"
    )  # one of the same name stands aside until the new one is durable
    if fs.exists(target):
        _remove(was, fs)
        fs.rename(target, was)
    fs.rename(beside, target)
    fs.fsync_dir(target.parent)
    if fs.exists(was):
        with contextlib.suppress(OSError):
            _remove(was, fs)


def _prune(directory: Path, target: Path, keep: int, fs: FS) -> None:
    present = _listed(directory)
    older = [p for p in present if _step(p) <= _step(target) and p != target]
    for old in [*older[max(0, keep - 1) :], *(p for p in present if _step(p) > _step(target))]:
        _remove(old, fs)


def newest(directory: str | Path, note: Callable[[str], object]) -> Path | None:
    """The newest checkpoint that verifies, or None; `note` hears of each damaged one on the way."""
    for path in _listed(Path(directory)):
        damage = verify(path)
        if damage is None:
            return path
        note(f"checkpoint {path} is damaged ({damage}); it is not used, the one before it is")
    return None


def load(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], JsonObject]:
    """(tensors by group and name, state) of a verified checkpoint, on the CPU.  WeightsError if it is
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
    for file in sorted(path.glob("*.safetensors")):
        for whole, tensor in parse_tensors(file.read_bytes()).items():
            group, _, name = whole.partition("/")
            groups.setdefault(group, {})[name] = tensor
    return groups, json.loads((path / "state.json").read_bytes())


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint directory, in words, or None.  Reads every byte of it."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']!r}, this version reads {FORMAT}"
        named = re.fullmatch(r"step_(\d+)(\.was)?", path.name)
        if named and manifest["step"] != int(named[1]):
            return f"its manifest belongs to step {manifest['step']!r}"
        unlisted = {"state.json", *(p.name for p in path.glob("*.safetensors"))} - set(manifest["files"])
        if unlisted:
            return f"its manifest does not list {', '.join(sorted(unlisted))}"
        for name, expected in manifest["files"].items():
            size = (path / name).stat().st_size
            if size != expected["bytes"]:
                return f"{name} has {size} bytes of {expected['bytes']}"
            with open(path / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            if digest.hexdigest() != expected["sha256"]:
                return f"{name} differs from its sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest is no manifest"
    return None


def _put(path: Path, data: bytes, fs: FS) -> JsonObject:
    """Write one file durably; gives its entry in the manifest."""
    fd, rest = fs.open(path), memoryview(data)
    try:
        while rest:
            rest = rest[fs.write(fd, rest) :]
        fs.fsync(fd)
    finally:
        fs.close(fd)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _listed(directory: Path) -> list[Path]:
    """Checkpoints by name alone, newest first."""
    found = directory.glob("step_*") if directory.is_dir() else ()
    named = [p for p in found if re.fullmatch(r"step_\d+(\.was)?", p.name)]
    return sorted(named, key=lambda p: (_step(p), p.suffix == ""), reverse=True)


def _step(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def _remove(path: Path, fs: FS) -> None:
    """Take a checkpoint out of sight in one step, then file by file."""
    if not fs.exists(path):
        return
    if ".tmp" not in path.name:
        hidden = path.with_name(f"{path.name}.tmp-gone")
        _remove(hidden, fs)
        fs.rename(path, hidden)
        fs.fsync_dir(path.parent)
        path = hidden
    _delete(path, fs)


def _delete(path: Path, fs: FS) -> None:
    for name in fs.listdir(path):
        inner = path / name
        if inner.is_dir() and not inner.is_symlink():
            _delete(inner, fs)
        else:
            fs.unlink(inner)
    fs.rmdir(path)
