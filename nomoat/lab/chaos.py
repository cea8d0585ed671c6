"""A recipe on several ranks that fail: what is left at the end, and how much of the time was of use.

The recipe runs once calm, then under faults that come by a seed, with torchelastic's restarts, as often as it
takes to meet them all.  Each time it must end in the same bits.  Where NaN is among the faults, the calm run
is fed it, too, at the same steps: it costs a step of learning, whoever is disturbed.  What was met is kept in
`chaos.jsonl`, so that the same command goes on.
"""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomoat.config import ConfigError, JsonObject, UserError, look_up
from nomoat.lab import afflictions
from nomoat.parallel.faults import ranks_of
from nomoat.report.table import Table
from nomoat.run.directory import Run

RESTARTS = 100_000  # as many as there are faults
LOOK_SECONDS = 0.05
GRACE_SECONDS = 40.0  # in which the launcher ends its ranks
PATIENCE_SECONDS = 300.0  # without a word in the log: started again from outside
TIMES = ("useful", "redone", "elapsed")
FRUITLESS = 3  # starts in a row that moved nothing on
WRONG = 2  # exit code of a recipe that can't run
WORK = """import functools, sys
from nomoat.cli.ranks import start
from nomoat.lab.afflictions import poison
raise SystemExit(start(sys.argv[1:], functools.partial(poison, {steps})))"""


@dataclass(frozen=True)
class Chaos:
    """`n_faults` of `kinds`, one about every `every` seconds, on `n_ranks` ranks, drawn by the seed."""

    recipe: Path
    out: Path
    n_ranks: int = 4
    n_faults: int = 10
    every: float = 60.0
    kinds: tuple[str, ...] = tuple(afflictions.KINDS)
    seed: int = 0
    changes: tuple[str, ...] = ()
    tell: Callable[[str], object] = field(default=lambda text: None)

    def __post_init__(self):
        for kind in self.kinds:
            look_up(kind, afflictions.KINDS, f"no fault `{kind}`")
        if self.n_ranks < 2 or self.n_faults < 0 or not self.every > 0:
            raise ConfigError(
                f"{self.n_ranks} ranks, {self.n_faults} faults, one in {self.every} s; expected two ranks or "
                "more, no negative number, and a time above zero"
            )

    def fault(self, n: int, kinds: Sequence[str]) -> tuple[str, int, float]:
        """The n-th: its kind, whom it meets, how many seconds after the one before."""
        rng = random.Random(f"chaos/{self.seed}/{n}")
        return kinds[rng.randrange(len(kinds))], rng.randrange(self.n_ranks), 2 * self.every * rng.random()


class Diary:
    """What was met so far: records of faults, of starts that came to nothing, and of runs that ended."""

    def __init__(self, file: Path):
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
        self.records = [json.loads(line) for line in lines if line.endswith("\n")]
        file.write_text("".join(json.dumps(record) + "\n" for record in self.records), "utf-8")

    def note(self, what: str, **fields: Any) -> None:
        self.records.append({"what": what, **fields})
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.records[-1]) + "\n")

    def of(self, what: str) -> list[JsonObject]:
        return [record for record in self.records if record["what"] == what]


def run(chaos: Chaos) -> JsonObject:
    """Runs the recipe calm, and under faults until all are met; gives what came of it.

    UserError where it can't, or where another chaos is in `out`.
    """
    able = {kind: afflictions.unable(kind) for kind in chaos.kinds}
    for kind, why in able.items():
        if why:
            chaos.tell(f"{kind}: not tried, {why}")
    kinds = [kind for kind, why in able.items() if not why]
    poison = _poisoned(chaos) if "nan" in kinds else ()
    diary = Diary(chaos.out / "chaos.jsonl")
    _is_the_same(chaos, kinds, diary)
    calm = chaos.out / "calm"
    if not diary.of("calm"):
        chaos.tell(f"{calm}: undisturbed")
        _run(chaos, calm, poison, (), diary)
        diary.note("calm", weights=_weights(calm), **_useful(calm))
    _under_faults(chaos, poison, [kind for kind in kinds if kind != "nan"], diary)
    return {
        "recipe": str(chaos.recipe),
        "ranks": chaos.n_ranks,
        "seed": chaos.seed,
        "faults": diary.of("fault"),
        "nan_steps": list(poison),
        "not_tried": {kind: why for kind, why in able.items() if why},
        "calm": diary.of("calm")[0],
        "runs": diary.of("run"),
        "started_again": diary.of("again"),
        "equal": all(not run["differ"] for run in diary.of("run")),
    }


def _is_the_same(chaos: Chaos, kinds: Sequence[str], diary: Diary) -> None:
    """The diary's first record says whose it is."""
    mine = {"recipe": str(chaos.recipe), "ranks": chaos.n_ranks, "seed": chaos.seed, "kinds": list(kinds)}
    mine |= {"every": chaos.every, "changes": list(chaos.changes)}
    if not diary.records:
        diary.note("chaos", **mine)
    theirs = {name: diary.records[0].get(name) for name in mine}
    if theirs != mine:
        name = next(name for name in mine if theirs[name] != mine[name])
        raise ConfigError(
            f"{diary.file} is of another chaos: {name} is {theirs[name]}, now {mine[name]}; expected the "
            "same command, to go on; give another --out"
        )


def _poisoned(chaos: Chaos) -> tuple[int, ...]:
    """The steps whose loss is NaN; none beside another, since three in a row roll back."""
    rng = random.Random(f"chaos/{chaos.seed}/nan")
    return tuple(sorted({3 + 5 * rng.randrange(5) for _ in range(2)}))


def _under_faults(chaos: Chaos, poison: Sequence[int], kinds: Sequence[str], diary: Diary) -> None:
    """The recipe from its beginning to its end, until all faults are met or it ends in other bits."""
    calm = diary.of("calm")[0]["weights"]
    differ = []
    while not differ and _is_unmet(chaos, kinds, diary):
        number = len(diary.of("run")) + 1
        out = chaos.out / f"faults-{number:03d}"
        goes_on = out.exists()
        chaos.tell(f"{out}: until {chaos.n_faults} faults are met")
        _run(chaos, out, poison, kinds, diary)
        differ = _differing(_weights(out), calm)
        times = _useful(out)
        diary.note("run", number=number, differ=differ, goes_on=goes_on, **times)


def _is_unmet(chaos: Chaos, kinds: Sequence[str], diary: Diary) -> bool:
    """Whether one more run is to be made; one at least."""
    few = len(diary.of("fault")) < chaos.n_faults and bool(kinds)
    return few or not diary.of("run")


def _differing(left: dict[str, str], calm: dict[str, str]) -> list[str]:
    """The stages whose weights are not the same, or not there."""
    return sorted(name for name in {*left, *calm} if left.get(name) != calm.get(name))


def _run(chaos: Chaos, out: Path, poison: Sequence[int], kinds: Sequence[str], diary: Diary) -> None:
    """The recipe in `out` to its end.  A launcher that gives up or stands still is started again, as a person
    would do; UserError where that moves nothing on."""
    fruitless, last = 0, -1
    while (code := _launch(chaos, out, poison, kinds, diary)) != 0:
        size = _log_bytes(out)
        fruitless, last = fruitless + 1 if size == last else 0, size
        diary.note("again", place=out.name, code=code, log=size)
        chaos.tell(f"{out}: exit code {code}; again")
        if fruitless == FRUITLESS or code == WRONG:
            raise UserError(
                f"{out} did not come to its end (exit code {code}); expected a recipe that runs on "
                f"{chaos.n_ranks} ranks; its last words are in {chaos.out / (out.name + '.log')}"
            )


def _launch(
    chaos: Chaos, out: Path, poison: Sequence[int], kinds: Sequence[str], diary: Diary
) -> int | None:
    """One start of the launcher; its exit code, None where it had to be ended."""
    ranks = f"--standalone --nproc-per-node {chaos.n_ranks} --max-restarts {RESTARTS}"
    work = WORK.format(steps=list(poison))
    command = [sys.executable, "-c", work, *ranks.split()]
    command += ["run", str(chaos.recipe), "--out", str(out)]
    if chaos.changes:
        command += ["--set", *chaos.changes]
    with _started(command, chaos.out / f"{out.name}.log", "net" in kinds) as launcher:
        if kinds:
            _inject(chaos, launcher, kinds, diary, out)
        return _ended(launcher, out)


def _ended(launcher: subprocess.Popen, out: Path) -> int | None:
    """Its exit code; None where its log stood still for too long."""
    size, since = _log_bytes(out), time.monotonic()
    while time.monotonic() - since < PATIENCE_SECONDS:
        try:
            return launcher.wait(1.0)
        except subprocess.TimeoutExpired:
            if (now := _log_bytes(out)) != size:
                size, since = now, time.monotonic()
    return None


def _log_bytes(out: Path) -> int:
    log = out / "events.jsonl"
    return log.stat().st_size if log.exists() else 0


@contextmanager
def _started(command: Sequence[str], log: Path, apart: bool) -> Iterator[subprocess.Popen]:
    """The launcher, in a network of its own if that is to be cut; ended with its ranks, whatever comes."""
    if apart:
        command = [*afflictions.APART, *command]
    with open(log, "ab") as words:
        launcher = subprocess.Popen(command, stdout=words, stderr=words, start_new_session=True)
    try:
        yield launcher
    finally:
        ranks = ranks_of(launcher.pid)
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
            try:
                launcher.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                launcher.kill()
                launcher.wait()
        for who in ranks.values():
            afflictions.signalled(who, signal.SIGKILL)


def _inject(chaos: Chaos, launcher: subprocess.Popen, kinds: Sequence[str], diary: Diary, out: Path) -> None:
    """The faults, one after another, as long as there is somebody to meet them."""
    at = time.monotonic()
    for n in range(len(diary.of("fault")), chaos.n_faults):
        kind, rank, wait = chaos.fault(n, kinds)
        pid = _at(launcher, rank, at + wait)
        if pid is None:
            return
        at = time.monotonic()
        afflictions.KINDS[kind](pid)
        now = round(time.time(), 3)
        diary.note("fault", place=out.name, kind=kind, rank=rank, t=now)
        chaos.tell(f"{n + 1} of {chaos.n_faults}: {kind} on rank {rank}")


def _at(launcher: subprocess.Popen, rank: int, due: float) -> int | None:
    """The process of a rank once it is time and there is one; None where all came to their end before, or
    nobody is there for too long."""
    while launcher.poll() is None and time.monotonic() < due + PATIENCE_SECONDS:
        if time.monotonic() >= due:
            pid = ranks_of(launcher.pid).get(rank)
            if pid is not None:
                return pid
        time.sleep(LOOK_SECONDS)
    return None


def _weights(root: Path) -> dict[str, str]:
    """sha256 of the weights that each stage left."""
    left = {}
    for name, weights in Run.open(root).all_weights().items():
        digest = hashlib.sha256()
        for file in sorted(weights.path.glob("*.safetensors")):
            digest.update(file.read_bytes())
        left[name] = digest.hexdigest()
    return left


def _useful(root: Path) -> JsonObject:
    """Seconds of steps and other work that count, those redone, and from the first record to the last."""
    events = Run.open(root).events()
    spent = [event for event in events if "seconds" in event and event["kind"] in ("step", "work")]
    redone = sum(event["seconds"] for event in spent if event.get("redone"))
    every = sum(event["seconds"] for event in spent)
    return {"useful": every - redone, "redone": redone, "elapsed": events[-1]["t"] - events[0]["t"]}


def tables(results: JsonObject) -> list[Table]:
    """What a person reads; a run that was begun by an earlier command has no time of its own."""
    faults, runs = results["faults"], results["runs"]
    timed = [run for run in runs if not run["goes_on"]]
    summed = Counter()
    for run in timed:
        summed.update({key: run[key] for key in TIMES})
    calm = _row("calm", 1, 0, results["calm"])
    disturbed = _row("under faults", len(runs), len(faults), summed)
    header = ("", "runs", "faults", "useful s", "redone s", "elapsed s", "effective share")
    title = "{recipe} on {ranks} ranks, seed {seed}".format(**results)
    return [Table(title, header, [calm, disturbed]), _met(results)]


def _met(results: JsonObject) -> Table:
    """How many faults of each kind; of NaN, the steps of each run that were told to."""
    met = Counter(fault["kind"] for fault in results["faults"])
    met["nan"] = len(results["nan_steps"]) * len(results["runs"])
    counts = [(kind, str(n)) for kind, n in sorted(met.items()) if n]
    return Table("Faults", ("kind", "met"), counts)


def _row(name: str, n_runs: int, n_faults: int, times: JsonObject) -> tuple[str, ...]:
    seconds = [f"{times[key]:.0f}" for key in TIMES]
    share = f"{times['useful'] / times['elapsed']:.3f}" if times["elapsed"] else "-"
    return name, str(n_runs), str(n_faults), *seconds, share


def verdict(results: JsonObject) -> str:
    """One sentence: the same bits, or which stages differ."""
    n_again = len(results["started_again"])
    again = f"; the launcher gave up {n_again} times and was started again" if n_again else ""
    runs = results["runs"]
    if results["equal"]:
        what = f"{len(results['calm']['weights'])} stages in {len(runs)} runs under {len(results['faults'])}"
        return f"final weights of {what} faults: equal to the bit{again}"
    return f"final weights DIFFER in {', '.join(runs[-1]['differ'])} of run {runs[-1]['number']}{again}"
