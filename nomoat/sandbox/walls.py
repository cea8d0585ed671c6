"""What stands around a program: which files it sees, which limits it has, which system calls it may make."""

import os
import platform
import shutil
import struct
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from nomoat.config import UserError
from nomoat.files import shipped

SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
READ_FILE, READ_DIR = 4, 8
LOAD, EQUAL, AT_LEAST, MASK, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
REFUSE, ABSENT, KILL, ALLOW = 0x00050001, 0x00050026, 0x80000000, 0x7FFF0000  # EPERM, ENOSYS, the whole process


@lru_cache
def readable() -> tuple[str, list[str], list[str]]:
    """(the interpreter itself, what it needs to read, what stays hidden in there: installed packages)."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    libraries = [path for name in ("lib", "lib64") if (path := Path(sys.base_prefix).resolve() / name).is_dir()]
    hidden = {str(path) for library in libraries for path in library.glob("python3*/*-packages") if path.is_dir()}
    needed = dict.fromkeys([*SYSTEM, python, *map(str, libraries)])
    return python, [path for path in needed if os.path.exists(path)], sorted(hidden)


@lru_cache
def rules() -> list[tuple[str, int]]:
    """`readable` for Landlock, which can't take back what it gave: folders on the way to a hidden one in pieces."""
    _, places, hidden = readable()
    found: dict[str, int] = {}

    def allow(path: str) -> None:
        if not os.path.isdir(path):
            found[path] = READ_FILE
        elif not any(h.startswith(path + "/") for h in hidden):
            found[path] = READ_FILE | READ_DIR
        else:
            found[path] = READ_DIR
            below = [os.path.join(path, name) for name in os.listdir(path)]
            for inner in set(below).difference(hidden, found, filter(os.path.islink, below)):
                allow(inner)

    for place in map(os.path.realpath, places):
        allow(place)
    return list(found.items())


def settings(backend: str, limits: Any) -> dict[str, Any]:
    """What jail.py is told before anything else."""
    with open("/proc/loadavg") as file:  # all tasks of the machine: RLIMIT_NPROC counts those of the user outside, too
        n_tasks = int(file.read().split()[3].partition("/")[2])
    bare = backend == "landlock"
    return {
        "rules": rules() if bare else [], "filter": program(bare, platform.machine()),
        "limits": {
            "CPU": limits.cpu_seconds, "AS": limits.memory_bytes, "FSIZE": 0 if bare else limits.scratch_bytes,
            "NOFILE": 64, "NPROC": n_tasks + 64, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0, "RTPRIO": 0,
        },
    }  # fmt: skip


def command(backend: str, limits: Any) -> list[str]:
    """How jail.py is started.  The hash seed is fixed, so `-I`, which ignores it, is spelt out without `-E`."""
    python, places, hidden = readable()
    jail = [python, "-s", "-P", "-S", "-B", "-X", "utf8", "-c", text("jail.py")]
    if backend == "landlock":
        return jail
    if not (bwrap := shutil.which("bwrap")):
        raise UserError("bwrap is not installed; expected bubblewrap 0.8 or newer; install it")
    walls = [bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--cap-drop", "ALL"]
    for place in places:
        if os.path.islink(place):
            walls += ["--symlink", os.readlink(place), place]
        elif not any(place.startswith(other + "/") for other in places):
            walls += ["--ro-bind", place, place]
    for place in hidden:
        walls += ["--size", "4096", "--tmpfs", place, "--remount-ro", place]
    walls += ["--size", str(limits.scratch_bytes), "--tmpfs", "/tmp", "--dev-bind", "/dev/null", "/dev/null"]
    return [*walls, "--remount-ro", "/", "--chdir", "/tmp", "--hostname", "box", "--", *jail]


@lru_cache
def text(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


@lru_cache
def program(bare: bool, machine: str) -> bytes:
    """seccomp.toml as a BPF program; `bare` where Landlock is the only other wall."""
    table = shipped(__file__, "seccomp.toml")
    if machine not in table or platform.system() != "Linux":
        raise UserError(f"{platform.system()} on {machine}; expected Linux on x86_64 or aarch64; use such a machine")
    number = table[machine]
    out = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, number["audit"]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    out += [(AT_LEAST, 0, 1, table["newest"]), (RETURN, 0, 0, ABSENT)]  # x32's numbers, too
    for name in table["deny"] + table["absent"] + (table["bare"] if bare else []):
        if name in number:
            out += [(EQUAL, 0, 1, number[name]), (RETURN, 0, 0, ABSENT if name in table["absent"] else REFUSE)]
    only = table["only"] + (table["bare_only"] if bare else [])
    for rule in only + table["never"]:
        name, argument, mask, value = rule
        test = []
        for shift in (0, 32) if mask >> 32 else (0,):
            place, half, want = 16 + 8 * argument + shift // 8, mask >> shift & 0xFFFFFFFF, value >> shift & 0xFFFFFFFF
            skip = (1, 0) if rule in only else (0, 1)
            test += [(LOAD, 0, 0, place), (MASK, 0, 0, half), (EQUAL, *skip, want), (RETURN, 0, 0, REFUSE)]
        if name in number:
            out += [(EQUAL, 0, len(test) + 1, number[name]), *test, (LOAD, 0, 0, 0)]
    return b"".join(struct.pack("HBBI", *line) for line in [*out, (RETURN, 0, 0, ALLOW)])
