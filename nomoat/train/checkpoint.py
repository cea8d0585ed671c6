"""Checkpoints: directories of safetensors and JSON under a sha256 manifest, there whole or not at all.

    step_000123/  <group>.safetensors …  state.json  manifest.json {"format", "step", "files": {name: {bytes, sha256}}}

A save writes beside (`step_000123.tmp-<pid>`), makes every file and the directory durable, renames, makes the rename
durable, and only then removes older ones.  Whatever moment a kill or a power cut hits, `newest` finds the old or the
new checkpoint.  Nothing is ever unpickled.  One process writes (see `Run.locked`); sharded saving is not done here.
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

from nomoat.config import WeightsError

FORMAT = 1
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


def save(directory: str | Path, step: int, tensors: Groups, state: Mapping[str, Any], *, keep: int = 2, fs: FS = DISK) -> Path:
    """directory/step_<step>, durable when this returns; older ones but the last `keep`, and steps after it, are gone.

    A step after this one belongs to a course that was given up.  Full disk: OSError (ENOSPC), older ones untouched.
    """
    directory = Path(directory)
    fs.mkdir(directory, exist_ok=True)
    if not _listed(directory):
        fs.fsync_dir(directory.parent)
    for name in sorted(fs.listdir(directory)):
        if fnmatch.fnmatch(name, "step_*.tmp-*"):
            with contextlib.suppress(OSError):  # what cannot be removed is no reason not to save
                _remove(directory / name, fs)
    path = _write(directory / f"step_{step:06d}", step, tensors, state, fs)
    with contextlib.suppress(OSError):  # what stays is removed by the next save
        found = _listed(directory)
        older = [p for p in found if _step(p) <= step and p != path]
        for old in [*older[max(0, keep - 1) :], *(p for p in found if _step(p) > step)]:
            _remove(old, fs)
    return path


def newest(directory: str | Path, note: Callable[[str], object]) -> Path | None:
    """The newest checkpoint that verifies, or None; each damaged one on the way is reported through `note`."""
    for path in _listed(Path(directory)):
        damage = verify(path)
        if damage is None:
            return path
        note(f"checkpoint {path} is damaged ({damage}); it is not used, the one before it is")
    return None


def load(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """(tensors by group and name, state) of a verified checkpoint, on the CPU.  WeightsError if it is damaged."""
    path = Path(path)
    was = path.with_name(path.name + ".was")  # stands where a kill fell between the two renames of a replacement
    path = was if was.exists() and not path.exists() else path
    damage = verify(path)
    if damage is not None:
        raise WeightsError(f"{path} cannot be loaded ({damage}); expected an undamaged checkpoint; use an older one")
    groups = {file.stem: parse_tensors(file.read_bytes()) for file in sorted(path.glob("*.safetensors"))}
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


def _write(target: Path, step: int, tensors: Groups, state: Mapping[str, Any], fs: FS) -> Path:
    text = json.dumps(state, default=lambda v: v.item() if hasattr(v, "item") else str(v)).encode()
    need = sum(t.nbytes for group in tensors.values() for t in group.values()) + len(text)
    free = fs.free_bytes(target.parent)
    if free < need * 1.1 + 65536:
        raise OSError(errno.ENOSPC, f"no space for a checkpoint: {free:,} bytes free, {need:,} to write", str(target))
    beside = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    try:
        fs.mkdir(beside)
        files = {}
        for name, group in tensors.items():  # dense, on the CPU, each tensor with a storage of its own
            own = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in group.items()}
            files[f"{name}.safetensors"] = _put(beside / f"{name}.safetensors", pack_tensors(own), fs)
        files["state.json"] = _put(beside / "state.json", text, fs)
        manifest = {"format": FORMAT, "step": step, "files": files}
        _put(beside / "manifest.json", json.dumps(manifest, indent=1).encode(), fs)
        fs.fsync_dir(beside)
    except OSError:
        with contextlib.suppress(OSError):
            _remove(beside, fs)
        raise
    was = target.with_name(target.name + ".was")  # one of the same name stands aside until the new one is durable
    if fs.exists(target):
        _remove(was, fs)
        fs.rename(target, was)
    fs.rename(beside, target)
    fs.fsync_dir(target.parent)
    if fs.exists(was):
        with contextlib.suppress(OSError):
            _remove(was, fs)
    return target


def _put(path: Path, data: bytes, fs: FS) -> dict[str, Any]:
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
    if ".tmp-" not in path.name:
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
