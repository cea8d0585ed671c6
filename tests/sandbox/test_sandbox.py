"""The sandbox: honest programs are answered, the others are held, and nothing is paid for but answers."""

import errno
import os
import struct
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from nomoat import sandbox
from nomoat.config import ConfigError, UserError
from nomoat.sandbox import attacks, walls

HERE = Path(__file__).parent
HACKS = tomllib.loads((HERE / "hacks.toml").read_text("utf-8"))
EXTRAS = tomllib.loads((HERE / "extras.toml").read_text("utf-8"))["program"]
SHORT = sandbox.Limits(wall_seconds=2.0, cpu_seconds=2)
PLAIN = """
import sys
from nomoat import sandbox
from nomoat.sandbox import attacks
held = attacks.self_test(sandbox.backend())
assert sandbox.judge("def f(x): return x + 1", [1], [2]).status == "pass"
print(len(held), [row for row in held if not row[1]])
"""


@pytest.fixture(params=sandbox.BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv(sandbox.VARIABLE, request.param)
    try:
        return sandbox.backend()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def either():
    try:
        return sandbox.backend()
    except UserError as error:
        pytest.skip(f"NO SANDBOX HERE, code tasks can't run: {error}")


def ordinary_user(*command: str, **env: str) -> subprocess.CompletedProcess:
    """A command as nobody, by a Python that nobody may read; skips where there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the rest of the suite ran as an ordinary user")
    paths = os.pathsep.join([str(HERE.parents[1]), *(p for p in sys.path if p.endswith("site-packages"))])
    become = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
    ]
    variables = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **env}
    become += [f"{name}={value}" for name, value in variables.items()]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        probe = subprocess.run([*become, python, "-c", "import nomoat.sandbox"], capture_output=True, cwd="/")
        if probe.returncode == 0:
            return subprocess.run([*become, python, *command], capture_output=True, text=True, cwd="/")
    pytest.skip("no interpreter that an ordinary user may read")


# --- what it answers ----------------------------------------------------------------------------------------


def test_an_honest_program_passes(backend):
    verdict = sandbox.judge("def f(x): return x + 1", [1, 2], [2, 3])
    assert verdict == sandbox.Verdict("pass", [2, 3], "", backend)


def test_a_program_may_use_the_standard_library(backend):
    code = """
import asyncio, collections, ctypes, dataclasses, decimal, fractions, functools, hashlib, heapq, itertools
import json, math, random, re, statistics, string, threading, typing
from concurrent.futures import ThreadPoolExecutor
@dataclasses.dataclass
class Point:
    x: "int"
async def later(x): return x
def f(x):
    print("thinking aloud")
    with ThreadPoolExecutor(8) as pool:
        doubled = list(pool.map(lambda n: 2 * n, range(x)))
    words = {"ä€😀": Point(3).x, "none": None, "yes": True, "half": 0.5, "tuple": (1, -2), "big": 10**30}
    drawn = random.Random(1).random()
    return [doubled, words, asyncio.run(later(x)), json.loads('[1]'), math.comb(5, 2), drawn < 1]
"""
    words = {"ä€😀": 3, "none": None, "yes": True, "half": 0.5, "tuple": [1, -2], "big": 10**30}
    verdict = sandbox.judge(code, [3], [[[0, 2, 4], words, 3, [1], 10, True]])
    assert verdict.status == "pass", verdict


def test_inputs_arrive_whole_and_as_json(backend):
    inputs = [None, True, 1, -0.5, "ä\n\x00'\"", [1, [2]], {"a": {"b": []}}, (1, 2), "x" * 300_000]
    verdict = sandbox.run("def f(x): return x if len(str(x)) < 99 else len(x)", inputs)
    assert verdict.outputs == [*inputs[:7], [1, 2], 300_000]
    assert type(verdict.outputs[2]) is int


def test_the_hash_seed_is_fixed(backend):
    runs = [sandbox.run("def f(x): return list({'a', 'b', 'c', 'd', 'e'})", [0]).outputs for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("wrong", "def f(x): return x"),
        ("error", "def f(x): return 1 / 0"),
        ("error", "def g(x): return x"),
        ("error", "def f(x) return x"),
        ("timeout", "def f(x):\n while True: pass"),
        ("memory", "def f(x): return len(bytes(1 << 32))"),
        ("forbidden", "import socket\ndef f(x): socket.socket()"),
        ("forbidden", "import os\ndef f(x): os.fork()"),
    ],
)
def test_every_verdict_has_its_program(either, status, code):
    limits = sandbox.Limits(wall_seconds=0.5)
    verdict = sandbox.judge(code, [5], [6], limits)
    assert verdict.status == status, verdict
    assert verdict.detail
    assert sandbox.run(code, [5], limits).status == ("pass" if status == "wrong" else status)


def test_cpu_time_is_bounded(backend):
    limits = sandbox.Limits(wall_seconds=30, cpu_seconds=1)
    assert sandbox.run("def f(x):\n while True: pass", [0], limits).status == "timeout"


def test_answers_come_as_far_as_they_came(either):
    verdict = sandbox.run("def f(x): return 6 // x", [3, 2, 0, 1])
    assert (verdict.status, verdict.outputs) == ("error", [2, 3])
    assert verdict.detail.startswith("input 2: ZeroDivisionError")


def test_details_are_harmless(either):
    verdict = sandbox.run("def f(x): raise ValueError('\\x1b[2J\\u202e\\n\\0' * 99)", [0])
    assert verdict.detail.isprintable()
    assert len(verdict.detail) < 1000


def test_the_program_never_sees_the_next_input(either):
    code = HACKS["programs"]["reads_ahead"].replace("return len(got)", "return got.decode()")
    code = code.replace("  except", "  except BlockingIOError: os.set_blocking(fd, True)\n  except")
    assert sandbox.run(code, [1, 2, 3]).outputs == ["", "", ""]


def test_what_is_not_json_is_a_bug_of_the_caller(either):
    for inputs in ([float("nan")], [object()]):
        with pytest.raises((TypeError, ValueError)):
            sandbox.run("def f(x): return x", inputs)
    with pytest.raises(ValueError, match="expected as many"):
        sandbox.judge("def f(x): return x", [1], [])


def test_threads_may_run_programs(either):
    outputs: dict[int, object] = {}

    def one(n: int) -> None:
        outputs[n] = sandbox.run("def f(x): return x * x", [n]).outputs

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    before = set(os.listdir("/proc/self/fd"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {n: [n * n] for n in range(8)}
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_it_always_ends_and_leaves_nothing(backend):
    for name in ("closes_and_sleeps", "closes_pipes", "thread_exits", "os_exit_as_killed", "stops_itself"):
        start = time.monotonic()
        verdict = sandbox.run(HACKS["programs"][name], [0], sandbox.Limits(wall_seconds=0.5))
        assert verdict.status in ("error", "timeout", "forbidden"), (name, verdict)
        assert time.monotonic() - start < 20
    assert not {pid for pid, _ in attacks.jails() if parent(pid) == os.getpid()}


def parent(pid: str) -> int | None:
    try:
        return int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def refusal(error: Exception):
    def refuse(*args, **options):
        raise error

    return refuse


# --- infra: never the program's fault -----------------------------------------------------------------------


def test_no_backend_is_a_refusal(monkeypatch):
    monkeypatch.setenv(sandbox.VARIABLE, "none")
    with pytest.raises(ConfigError, match="expected one of: bubblewrap, landlock"):
        sandbox.run("def f(x): return x", [1])
    monkeypatch.delenv(sandbox.VARIABLE)
    monkeypatch.setattr(sandbox, "probe", refusal(UserError("broken")))
    with pytest.raises(UserError, match=r"bubblewrap: broken; landlock: broken.*expected.*install"):
        sandbox.run("def f(x): return x", [1])


@pytest.mark.parametrize(
    "fault", ["descriptors", "processes", "bubblewrap", "landlock", "filter", "interpreter"]
)
def test_a_fault_of_the_machine_is_infra(either, monkeypatch, fault):
    name = fault if fault in sandbox.BACKENDS else either
    command, settings = walls.command, walls.settings
    if fault == "descriptors":
        monkeypatch.setattr(os, "pipe", refusal(OSError(errno.EMFILE, "no descriptors")))
    elif fault == "processes":
        monkeypatch.setattr(subprocess, "Popen", refusal(BlockingIOError(errno.EAGAIN, "no processes")))
    elif fault == "bubblewrap":
        monkeypatch.setattr(walls, "command", lambda *a: ["/bin/sh", "-c", "echo uid map >&2; exit 1"])
    elif fault == "landlock":
        monkeypatch.setattr(walls, "settings", lambda *a: {**settings(*a), "rules": [("/nowhere", 4)]})
        monkeypatch.setattr(walls, "command", lambda _, limits: command("landlock", limits))
    elif fault == "filter":
        monkeypatch.setattr(walls, "settings", lambda *a: {**settings(*a), "filter": b"\xff" * 16})
    else:
        monkeypatch.setattr(walls, "command", lambda *a: ["/nowhere/python"])
    verdict = sandbox.confined("def f(x): return x", [1], SHORT, name)
    assert verdict.status == "infra", verdict
    assert verdict.detail


def test_the_filter_is_a_program_for_both_machines():
    for machine in ("x86_64", "aarch64"):
        for bare in (False, True):
            assert 0 < len(walls.program(bare, machine)) // 8 < 4096
    with pytest.raises(UserError, match="expected Linux on x86_64 or aarch64"):
        walls.program(True, "riscv64")


# --- hacks and attacks --------------------------------------------------------------------------------------


def unpaid(names) -> None:
    for name in names:
        verdict = sandbox.judge(HACKS["programs"][name], HACKS["inputs"], HACKS["expected"], SHORT)
        assert verdict.status not in ("pass", "infra"), (name, verdict)


def test_no_hack_is_paid(either):
    unpaid(
        ["os_exit_in_f", "eq_int", "frame_walk", "forged_lines", "spray_in_f", "two_answers", "patched_jail"]
    )
    for case in HACKS["case"][:4]:
        assert sandbox.judge(case["code"], case["inputs"], case["expected"], SHORT).status != "pass", case


def test_the_task_of_the_hacks_can_be_solved(either):
    assert sandbox.judge("def f(x): return 31 * x + 7", HACKS["inputs"], HACKS["expected"]).status == "pass"
    assert len(HACKS["programs"]) >= 40


def test_the_self_test_sees_what_succeeds(either, monkeypatch):
    """The same attacks without walls: those that can do no harm must be seen."""
    open_door = struct.pack("HBBI", walls.RETURN, 0, 0, walls.ALLOW)
    monkeypatch.setattr(
        attacks, "LIMITS", replace(attacks.LIMITS, wall_seconds=30.0)
    )  # a busy machine is no wall
    monkeypatch.setattr(walls, "settings", lambda *_: {"rules": [], "limits": {}, "filter": open_door})
    monkeypatch.setattr(walls, "command", lambda name, limits, bare=walls.command: bare("landlock", limits))
    table = tomllib.loads(walls.text("attacks.toml"))
    code = {one["name"].partition(" ")[0]: table["prelude"] + one["code"] for one in table["attack"]}
    seen = {
        number: attacks.attack(code[number], either)
        for number in ("1", "2", "3", "6", "7", "8", "9", "21", "24")
    }
    assert not [number for number, (held, _) in seen.items() if held], seen


def test_layers(either):
    found = {name: active for name, active, _ in attacks.layers()}
    assert found[either]
    assert found["seccomp filter"]
    assert found["no new privileges"]
    assert found["resource limits"]


@pytest.mark.check
def test_all_attacks_are_held(backend):
    rows = attacks.self_test(sandbox.backend())
    assert len(rows) == 24
    assert not [row for row in rows if not row[1]]


@pytest.mark.check
def test_all_attacks_of_an_ordinary_user_are_held(backend):
    done = ordinary_user("-c", PLAIN, **{sandbox.VARIABLE: backend})
    assert (done.stdout, done.stderr) == ("24 []\n", "")


@pytest.mark.check
def test_no_hack_of_the_whole_list_is_paid(backend):
    unpaid(HACKS["programs"])
    for case in HACKS["case"]:
        verdict = sandbox.judge(case["code"], case["inputs"], case["expected"], SHORT)
        assert verdict.status == case.get("status", "wrong"), (case, verdict)


@pytest.mark.check
@pytest.mark.parametrize("program", EXTRAS, ids=[p["name"] for p in EXTRAS])
def test_programs_that_break_things(backend, program):
    verdict = sandbox.run(program["code"], [0], SHORT)
    assert verdict.status in program["statuses"], verdict
    assert verdict.detail.isprintable()
    if "outputs" in program:
        assert verdict.outputs == program["outputs"]
