"""A recipe on several ranks that fail: what is left at the end, and how much of the time was of use.

The recipe runs twice with the same ranks, once calm, once under faults that come by a seed, with torchrun's
restarts.  Both must end in the same bits.  Where NaN is among the faults, both are fed it, at the same steps:
it costs a step of learning, whoever is disturbed.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomoat.config import ConfigError, JsonObject, UserError, look_up
from nomoat.lab import afflictions
from nomoat.report.table import Table
from nomoat.run.directory import Run

RESTARTS = 100_000  # as many as there are faults
LOOK_SECONDS = 0.2
WORK = "from nomoat.__main__ import main; raise SystemExit(main())"
GRACE_SECONDS = 40.0  # in which torchrun ends its ranks


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


def run(chaos: Chaos) -> JsonObject:
    """Runs the recipe calm, unless that is done, then under faults; gives what came of it."""
    able = {kind: afflictions.unable(kind) for kind in chaos.kinds}
    for kind, why in able.items():
        if why:
            chaos.tell(f"{kind}: not tried, {why}")
    kinds = [kind for kind, why in able.items() if not why]
    poison = _poisoned(chaos) if "nan" in kinds else ()
    injected = [kind for kind in kinds if kind != "nan"]
    calm, faulty = chaos.out / "calm", chaos.out / "faults"
    chaos.tell(f"{calm}: undisturbed")
    calm_seconds, _ = _launch(chaos, calm, poison, ())
    chaos.tell(f"{faulty}: {chaos.n_faults} faults of {', '.join(kinds) or 'no kind'}")
    seconds, faults = _launch(chaos, faulty, poison, injected)
    left = {root.name: _weights(root) for root in (calm, faulty)}
    return {
        "recipe": str(chaos.recipe),
        "ranks": chaos.n_ranks,
        "seed": chaos.seed,
        "faults": faults,
        "nan_steps": list(poison),
        "not_tried": {kind: why for kind, why in able.items() if why},
        "equal": left["calm"] == left["faults"],
        "weights": left,
        "seconds": {"calm": calm_seconds, "faults": seconds},
        "useful": {root.name: _useful(root) for root in (calm, faulty)},
    }


def _poisoned(chaos: Chaos) -> tuple[int, ...]:
    """The steps whose loss is NaN; none beside another, since three in a row roll back."""
    rng = random.Random(f"chaos/{chaos.seed}/nan")
    return tuple(sorted({3 + 5 * rng.randrange(5) for _ in range(2)}))


def _launch(
    chaos: Chaos, out: Path, poison: Sequence[int], kinds: Sequence[str]
) -> tuple[float, list[JsonObject]]:
    """The recipe in `out` to its end: seconds, and the faults that it met.  UserError where it got stuck."""
    argv = ["run", str(chaos.recipe), "--out", str(out)]
    argv += ["--set", *chaos.changes] if chaos.changes else []
    work = f"from nomoat.lab.afflictions import poison; poison({list(poison)}); {WORK}"
    torchrun = f"-m torch.distributed.run --standalone --nproc-per-node {chaos.n_ranks}".split()
    torchrun += f"--max-restarts {RESTARTS} --monitor-interval {LOOK_SECONDS} --no-python".split()
    command = [sys.executable, *torchrun, sys.executable, "-c", work, *argv]
    chaos.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(chaos.out / f"{out.name}.log", "ab") as log, _started(command, log, "net" in kinds) as launcher:
        faults = list(_inject(chaos, launcher, kinds)) if kinds else []
        code = launcher.wait()
    if code:
        raise UserError(
            f"{out} did not come to its end (exit code {code}); expected a recipe that runs on "
            f"{chaos.n_ranks} ranks; its last words are in {chaos.out / (out.name + '.log')}"
        )
    return time.monotonic() - start, faults


@contextmanager
def _started(command: Sequence[str], log: Any, apart: bool) -> Iterator[subprocess.Popen]:
    """The launcher, in a network of its own if that is to be cut; ended with its ranks, whatever comes."""
    if apart:
        command = [*afflictions.APART, *command]
    launcher = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield launcher
    finally:
        ranks = afflictions.ranks_of(launcher.pid)
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
            try:
                launcher.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                launcher.kill()
                launcher.wait()
        for pid in ranks.values():
            afflictions.signalled(pid, signal.SIGKILL)


def _inject(chaos: Chaos, launcher: subprocess.Popen, kinds: Sequence[str]) -> Iterator[JsonObject]:
    """The faults, one after another, as long as there is somebody to meet them."""
    rng = random.Random(f"chaos/{chaos.seed}")
    start = time.monotonic()
    for n in range(chaos.n_faults):
        kind = kinds[rng.randrange(len(kinds))]
        rank = rng.randrange(chaos.n_ranks)
        pid = _at(launcher, rank, start + chaos.every * (n + rng.random()))
        if pid is None:
            return
        seconds = round(time.monotonic() - start, 1)
        afflictions.KINDS[kind](pid)
        chaos.tell(f"{n + 1} of {chaos.n_faults}: {kind} on rank {rank}")
        yield {"kind": kind, "rank": rank, "seconds": seconds}


def _at(launcher: subprocess.Popen, rank: int, due: float) -> int | None:
    """The process of a rank once it is time and there is one; None where all came to their end before."""
    while launcher.poll() is None:
        pid = afflictions.ranks_of(launcher.pid).get(rank)
        if pid is not None and time.monotonic() >= due:
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
    """What a person reads."""
    rows = [_row(name, results) for name in results["useful"]]
    header = ("run", "faults", "useful s", "redone s", "elapsed s", "effective share")
    return [Table(f"{results['recipe']} on {results['ranks']} ranks, seed {results['seed']}", header, rows)]


def _row(name: str, results: JsonObject) -> tuple[str, ...]:
    times = results["useful"][name]
    n_faults = len(results["faults"]) if name == "faults" else 0
    seconds = [f"{times[key]:.0f}" for key in ("useful", "redone", "elapsed")]
    share = times["useful"] / max(times["elapsed"], 1e-9)
    return name, str(n_faults), *seconds, f"{share:.2f}"


def verdict(results: JsonObject) -> str:
    """One sentence: the same bits, or which stages differ."""
    if results["equal"]:
        return f"final weights of {len(results['weights']['calm'])} stages: equal to the bit"
    theirs = results["weights"]["faults"]
    differ = [name for name, digest in results["weights"]["calm"].items() if theirs.get(name) != digest]
    return f"final weights DIFFER in {', '.join(differ)}"
