"""Attacks the sandbox as attacks.toml says, and looks at this machine, not at the program's word, for what
they did."""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.files import shipped
from nomoat.sandbox import walls

LIMITS = sandbox.Limits(wall_seconds=1.5, cpu_seconds=2)
SLACK_SECONDS = 5.0  # for starting and ending on a busy machine
KINDS = (("AF_INET", "SOCK_STREAM"), ("AF_INET", "SOCK_DGRAM"), ("AF_UNIX", "SOCK_STREAM"))
TABLE = lambda: shipped(__file__)


@contextmanager
def target(token: str) -> Iterator[tuple[dict, Iterator[str]]]:
    """(what an attack is told about files, sockets and a process of ours, what has become of them when asked)."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        secret, made, name = Path(folder, "secret"), Path(folder, "made"), f"nomoat-{os.urandom(8).hex()}"
        secret.write_text(token)
        sibling = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"SECRET": token},
        )  # fmt: skip
        stack.callback(lambda: (sibling.kill(), sibling.wait(), sibling.stdin.close()))
        sockets = [stack.enter_context(socket.socket(*(getattr(socket, part) for part in kind))) for kind in KINDS]
        for each, address in zip(sockets, (("127.0.0.1", 0), ("127.0.0.1", 0), "\0" + name)):
            each.setblocking(False)
            each.bind(address)
            if each.type == socket.SOCK_STREAM:
                each.listen()

        def effects() -> Iterator[str]:
            if not secret.is_file() or secret.read_text() != token or secret.stat().st_mode & 0o111:
                yield "a file was changed"
            if made.exists():
                yield "a file was made"
            if sibling.poll() is not None:
                yield "another process was killed"
            for each in sockets:
                with suppress(BlockingIOError):
                    each.accept()[0].close() if each.type == socket.SOCK_STREAM else each.recv(1)
                    yield "a connection was made"

        tcp, udp = (each.getsockname()[1] for each in sockets[:2])
        facts = {"secret": str(secret), "target": str(made), "tcp": tcp, "udp": udp, "abstract": name}
        yield facts | {"pid": sibling.pid, "parent": os.getpid(), "scratch": LIMITS.scratch_bytes}, effects()


def jails() -> set[tuple[str, str]]:
    """(pid, start time) of each process that runs jail.py."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if walls.text("jail.py")[:200].encode() in (place / "cmdline").read_bytes():
                found.add((place.name, (place / "stat").read_text().rpartition(")")[2].split()[19]))
    return found


def attack(code: str, name: str) -> tuple[bool, str]:
    """(held, what it did or how it ended)."""
    token, before = os.urandom(12).hex(), jails()
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with target(token) as (facts, effects):
        verdict = sandbox.confined(code, [facts], LIMITS, name)
        seconds = time.monotonic() - start
        found = list(effects)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak > 32 << 10 or len(repr(verdict)) > 1 << 20
    signs = {
        "it was not run": verdict.status == "infra",
        "a secret was read": token in repr(verdict),
        f"it gained {verdict.outputs!r:.60}": verdict.status == "pass" and any(verdict.outputs),
        f"it ran for {seconds:.1f} s": seconds > LIMITS.wall_seconds + SLACK_SECONDS,
        "it filled this process": grown,
        "a process was left": bool(jails() - before),
    }
    found += [sign for sign, seen in signs.items() if seen]
    return not found, "; ".join(found) or f"{verdict.status} {verdict.detail}".strip()


def self_test(name: str) -> list[tuple[str, bool, str]]:
    """[(attack, held, detail)]; nothing holds where a benign program doesn't run."""
    table = TABLE()
    benign = sandbox.confined("def f(x): return x", [[1, "a"]], LIMITS, name)
    if benign.outputs != [[1, "a"]]:
        return [(one["name"], False, f"not run: {benign.detail}") for one in table["attack"]]
    return [(one["name"], *attack(table["prelude"] + one["code"], name)) for one in table["attack"]]


def layers() -> list[tuple[str, bool, str]]:
    """[(layer, active, detail)]: each backend, then what a program under the chosen one finds around itself."""
    found = []
    for name in sandbox.BACKENDS:
        try:
            found.append((sandbox.probe(name), True, "works"))
        except UserError as error:
            found.append((name, False, str(error)))
    chosen = next((n for n, works, _ in found if works and n == os.environ.get(sandbox.VARIABLE, n)), None)
    verdict = sandbox.confined(TABLE()["layers"], [0], LIMITS, chosen) if chosen else sandbox.Verdict("infra")
    seccomp, privileges, memory = verdict.outputs[0] if verdict.outputs else (0, 0, 0)
    found += [("seccomp filter", seccomp == 2, f"mode {seccomp}"), ("no new privileges", privileges == 1, "")]
    return [*found, ("resource limits", memory == LIMITS.memory_bytes, f"{memory >> 20} MiB of address space")]
