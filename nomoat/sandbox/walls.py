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
REFUSE, ABSENT, KILL, ALLOW = (
    0x00050001,
    0x00050026,
    0x80000000,
    0x7FFF0000,
)  # EPERM, ENOSYS, the whole process


@lru_cache
def readable() -> tuple[str, list[str], list[str]]:
    """(the interpreter itself, what it needs to read, what stays hidden in there: installed packages)."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    libraries = [
        path for name in ("lib", "lib64") if (path := Path(sys.base_prefix).resolve() / name).is_dir()
    ]
    hidden = {
        str(path) for library in libraries for path in library.glob("python3*/*-packages") if path.is_dir()
    }
    needed = dict.fromkeys([*SYSTEM, python, *map(str, libraries)])
    places = list(filter(os.path.exists, needed))
    return python, places, sorted(hidden)


@lru_cache
def rules() -> list[tuple[str, int]]:
    """`readable` for Landlock, which can't take back what it gave: folders with a hidden one in pieces."""
    _, places, hidden = readable()
    rights = {}

    def allow(path: str) -> None:
        if not os.path.isdir(path):
            rights[path] = READ_FILE
        elif not any(h.startswith(path + "/") for h in hidden):
            rights[path] = READ_FILE | READ_DIR
        else:
            rights[path] = READ_DIR
            below = [os.path.join(path, name) for name in os.listdir(path)]
            for inner in set(below).difference(hidden, rights, filter(os.path.islink, below)):
                allow(inner)

    for place in map(os.path.realpath, places):
        allow(place)
    return list(rights.items())


def settings(backend: str, limits: Any) -> dict[str, Any]:
    """What jail.py is told before anything else."""
    # All tasks of the machine: RLIMIT_NPROC counts those of the user outside, too.
    n_tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    bare = backend == "landlock"
    forbidden = dict.fromkeys(("CORE", "MEMLOCK", "MSGQUEUE", "RTPRIO"), 0)
    return {
        "rules": rules() if bare else [],
        "filter": program(bare, platform.machine()),
        "limits": {
            "CPU": limits.cpu_seconds,
            "AS": limits.memory_bytes,
            "FSIZE": 0 if bare else limits.scratch_bytes,
            "NOFILE": 64,
            "NPROC": n_tasks + 64,
            **forbidden,
        },
    }


def command(backend: str, limits: Any) -> list[str]:
    """How jail.py is started.  The hash seed is fixed, so `-I`, which ignores it, is spelt out, less `-E`."""
    python, places, hidden = readable()
    jail = [python, "-s", "-P", "-S", "-B", "-X", "utf8", "-c", text("jail.py")]
    if backend == "landlock":
        return jail
    if not (bwrap := shutil.which("bwrap")):
        raise UserError("bwrap is not installed; expected bubblewrap 0.8 or newer; install it")
    walls = [
        bwrap,
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--cap-drop",
        "ALL",
    ]
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
        raise UserError(
            f"{platform.system()} on {machine}; expected Linux on x86_64 or aarch64; use such a machine"
        )
    number = table[machine]
    lines = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, number["audit"]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    lines += [(AT_LEAST, 0, 1, table["newest"]), (RETURN, 0, 0, ABSENT)]  # x32's numbers, too
    calls = dict.fromkeys(table["deny"], REFUSE) | dict.fromkeys(table["absent"], ABSENT)
    only = table["only"]
    if bare:
        calls |= dict.fromkeys(table["bare"], REFUSE)
        only = only + table["bare_only"]
    for name, answer in calls.items():
        if name in number:
            lines += [(EQUAL, 0, 1, number[name]), (RETURN, 0, 0, answer)]
    for rule in only:
        lines += argument(number, rule, skip=(1, 0))
    for rule in table["never"]:
        lines += argument(number, rule, skip=(0, 1))
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def argument(number: dict[str, int], rule: list, skip: tuple[int, int]) -> list[tuple]:
    """Refuses a call by one argument; `skip`: lines to skip if (argument & mask) == value, and if not."""
    name, place, mask, value = rule
    if name not in number:
        return []
    tests = []
    for shift in (0, 32) if mask >> 32 else (0,):
        half, want = mask >> shift & 0xFFFFFFFF, value >> shift & 0xFFFFFFFF
        tests += [
            (LOAD, 0, 0, 16 + 8 * place + shift // 8),
            (MASK, 0, 0, half),
            (EQUAL, *skip, want),
            (RETURN, 0, 0, REFUSE),
        ]
    return [(EQUAL, 0, len(tests) + 1, number[name]), *tests, (LOAD, 0, 0, 0)]
