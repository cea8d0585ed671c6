"""A run with faults, lived through once, and many of them: what faults.py says in a formula, by drawing."""

import math
import statistics
from dataclasses import dataclass
from random import Random

from nomoat.plan.faults import (
    DAY,
    Hazard,
    best_spares,
    effective,
    hazard_of,
    read_rates,
    young,
)
from nomoat.plan.layout import NODE
from nomoat.run.ledger import duration

N_REPLAYS = 200


@dataclass(frozen=True)
class Replay:
    """One run: seconds on the clock, of which so many went into starting again and waiting for machines."""

    seconds: float
    restarting: float
    waiting: float
    n_faults: int


def replay(hazard: Hazard, interval: float, spares: int, work_seconds: float, key: str) -> Replay:
    """The run of a key, the same for the same key; all machines are there and up when it begins."""
    random = Random(f"replay/{key}")
    clock = restarting = waiting = start = 0.0
    n_faults, back = 0, []  # when machines come back
    while True:
        up = random.expovariate(1 / hazard.mtbf_seconds)
        needed = start + to_do(hazard, interval, work_seconds)
        if up >= needed:
            return Replay(clock + needed, restarting + start, waiting, n_faults)
        clock += up
        n_faults += 1
        restarting += min(up, start)
        work_seconds -= interval * n_saved(hazard, interval, up - start)
        start = hazard.restart_seconds
        back = [then for then in back if then > clock]
        if random.random() < hazard.hardware:
            back.append(clock + hazard.repair_seconds)
        if len(back) > spares:
            waiting += min(back) - clock
            clock = min(back)


def to_do(hazard: Hazard, interval: float, work_seconds: float) -> float:
    """Seconds that work takes with its saves; the last piece needs none."""
    return work_seconds + hazard.save_seconds * max(math.ceil(work_seconds / interval) - 1, 0)


def n_saved(hazard: Hazard, interval: float, up: float) -> int:
    """Pieces that are written after so many seconds of work and saves."""
    return max(math.floor((up - hazard.write_seconds) / (interval + hazard.save_seconds)), 0)


@dataclass(frozen=True)
class Spread:
    """Seconds on the clock of many replays: nine of ten lie between `low` and `high`."""

    low: float
    mean: float
    high: float


def replays(hazard: Hazard, interval: float, spares: int, work_seconds: float) -> Spread:
    """Mean and edges of N_REPLAYS runs."""
    clocks = [replay(hazard, interval, spares, work_seconds, str(i)).seconds for i in range(N_REPLAYS)]
    cuts = statistics.quantiles(clocks, n=20, method="inclusive")
    return Spread(cuts[0], statistics.fmean(clocks), cuts[-1])


@dataclass(frozen=True)
class Endured:
    """A run of several machines with the faults of faults.toml: how often to save, spare machines, and what
    the whole takes by replays; `effective` is its effective training time, `in_the_long_run` that of the
    formula."""

    hazard: Hazard
    interval_seconds: float
    n_machines: int
    spares: int
    effective: float
    in_the_long_run: float
    replayed: Spread
    source: str

    @property
    def machine_share(self) -> float:
        """Times the device-hours of a run without faults and spares."""
        return (1 + self.spares / self.n_machines) / self.effective

    def says(self) -> str:
        """The same in a sentence."""
        return (
            f"With a fault every {duration(self.hazard.mtbf_seconds)} ({self.source}): save every "
            f"{duration(self.interval_seconds)}, keep {self.spares} spare machines to {self.n_machines}; "
            f"effective time {100 * self.effective:.1f} %, {duration(self.replayed.mean)} in all."
        )

    def cells(self) -> list[tuple[str, str, str, str]]:
        """Rows of a plan's table: what, estimate, published, by."""
        hazard, spread = self.hazard, self.replayed
        stands = f"stands still {hazard.save_seconds:.2g} s, written {hazard.write_seconds:.2g} s later"
        by_young = young(hazard.save_seconds, hazard.mtbf_seconds)
        days = " to ".join(f"{seconds / DAY:,.1f}" for seconds in (spread.low, spread.high))
        away = f"{hazard.in_repair:.1f} away on average, {hazard.repair_seconds / DAY:.0f} days each"
        past, long_run = read_rates().interruptions, f"{100 * self.in_the_long_run:.1f} % in the long run"
        return [
            ("a fault every", duration(hazard.mtbf_seconds), "", self.source),
            ("save every", duration(self.interval_seconds), "", f"{stands}; to first order {by_young:.0f} s"),
            ("spare machines", f"{self.spares} of {self.n_machines}", "", away),
            (
                "effective time",
                f"{100 * self.effective:.1f} %",
                "",
                f"{long_run}; {past.effective} in that run",
            ),
            ("time with faults", f"{spread.mean / DAY:,.1f} days", "", f"{days} in nine of ten replays"),
        ]


def endured(n_params: float, n_devices: int, seconds: float, *, planned: bool = False) -> Endured | None:
    """What faults make of a run that takes so many seconds without any, `planned` as in hazard_of; None on
    one machine."""
    if n_devices <= NODE:
        return None
    hazard, past = hazard_of(n_params, n_devices, planned=planned), read_rates().interruptions
    n_machines, interval = math.ceil(n_devices / NODE), min(hazard.interval, seconds)
    spares = best_spares(hazard, n_machines)
    spread = replays(hazard, interval, spares, seconds)
    rate = f"{past.unexpected} in {past.days:.0f} days on {past.devices:,} devices"
    return Endured(
        hazard=hazard,
        interval_seconds=interval,
        n_machines=n_machines,
        spares=spares,
        effective=seconds / spread.mean,
        in_the_long_run=effective(hazard, interval, spares),
        replayed=spread,
        source=f"{rate}: {past.source.partition(':')[0]}",
    )
