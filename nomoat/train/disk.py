"""What is written so that a power cut leaves it whole, and the file-system calls that this takes."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from nomoat.config import JsonObject

AT_ONCE = 1 << 20  # bytes: smaller pieces of a file are written together


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


def put(path: Path, pieces: Iterable[bytes | memoryview], fs: FS) -> JsonObject:
    """Write one file durably; gives its entry in the manifest."""
    digest, size, waiting = hashlib.sha256(), 0, bytearray()
    fd = fs.open(path)
    try:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            if len(waiting) + len(piece) < AT_ONCE:
                waiting += piece
                continue
            _write_all(fd, waiting, fs)
            _write_all(fd, piece, fs)
            waiting = bytearray()
        _write_all(fd, waiting, fs)
        fs.fsync(fd)
    finally:
        fs.close(fd)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _write_all(fd: int, data: bytes | memoryview, fs: FS) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[fs.write(fd, rest) :]


def remove(path: Path, fs: FS) -> None:
    """Take a checkpoint out of sight in one step, then file by file."""
    if not fs.exists(path):
        return
    if ".tmp" not in path.name:
        hidden = path.with_name(f"{path.name}.tmp-gone")
        remove(hidden, fs)
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
