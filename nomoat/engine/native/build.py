"""Compiling step.c with the machine's own C compiler: once, into the user's cache."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from nomoat.config import DataError
from nomoat.engine.blocks import BLOCK
from nomoat.files import user_cache, write_whole

HERE = Path(__file__).parent
FLAGS = ("-O2", "-march=native", "-shared", "-fPIC", "-fno-math-errno", "-ffp-contract=fast")
SECONDS = 900  # some 20 of a processor, which others may be busy on


@cache
def library() -> ctypes.CDLL | None:
    """The compiled step, or None where there is no C compiler that makes it."""
    compiler = os.environ.get("CC") or next(
        filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None
    )
    if compiler is None:
        return None
    sources = sorted(path for path in HERE.iterdir() if path.suffix in (".c", ".h"))
    text = b"".join(path.read_bytes() for path in sources)
    identity = "\n".join((compiler, *FLAGS, platform.machine(), _processor()))
    digest = hashlib.sha256(text + identity.encode()).hexdigest()[:16]
    name = f"step-{digest}.so"
    try:
        try:
            found = _loaded(compiler, user_cache() / name)
        except (OSError, DataError):  # nothing can be kept there, or nothing of it be executed
            with tempfile.TemporaryDirectory() as scratch:
                found = _loaded(compiler, Path(scratch) / name)
    except (OSError, DataError, subprocess.SubprocessError):
        return None
    return found if found.block() == BLOCK else None


def tiles() -> bool:
    """Whether precision = "bf16" is fast here: the processor multiplies tiles of bfloat16 (AMX), and the
    system lets this process.
    """
    made = library()
    return made is not None and bool(made.tiles())


def _loaded(compiler: str, path: Path) -> ctypes.CDLL:
    """The library at a path, compiled where it isn't whole there."""
    if not _intact(path):
        _compile(compiler, path)
    return ctypes.CDLL(str(path))


def _compile(compiler: str, path: Path) -> None:
    """Whole or not at all, also where two processes do it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        command = [*shlex.split(compiler), *FLAGS, str(HERE / "step.c"), "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        made.replace(path)
        write_whole(path.with_suffix(".sha256"), digest)


def _intact(path: Path) -> bool:
    """Whether it is what was compiled: a file that was cut would end the process."""
    known = path.with_suffix(".sha256")
    if not (path.is_file() and known.is_file()):
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == known.read_text("utf-8").strip()


def _processor() -> str:
    """What -march=native looks at."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    )
