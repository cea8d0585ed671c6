"""What faults cost a run of many machines: how often to save, how many spares, the share of time that counts.

Faults are independent, M seconds apart on average (exponential), also while the run starts again.  Work goes
on in pieces of `interval` seconds; after each, training stands still for `save_seconds`, and the state counts
as saved `write_seconds` after the piece, while training goes on.  A fault throws away what is not saved yet
and takes `restart_seconds`; where a machine broke, it is away for `repair_seconds`, and the run waits when
more are away than there are spares.  Not modelled: faults that come together, machines that get slow, runs
that go on with fewer, a save that waits for the end of a step.
"""

import math
from dataclasses import dataclass

from nomoat.config import Count, Positive, Strict, parse
from nomoat.files import shipped
from nomoat.plan.layout import BYTES_PER_PARAM, NODE

DAY = 86400.0


class Interruptions(Strict):
    """Those of one published run."""

    unexpected: Count
    planned: Count
    days: Positive
    devices: Count
    hardware: Positive
    effective: str
    source: str


class Delays(Strict):
    detection: Positive
    restart: Positive
    repair: Positive
    source: str


class Speeds(Strict):
    host: Positive
    storage: Positive
    source: str


class Rates(Strict):
    """faults.toml: published interruptions, and what one costs."""

    date: str
    interruptions: Interruptions
    seconds: Delays
    bytes_per_second: Speeds


def read_rates() -> Rates:
    return parse(Rates, shipped(__file__), "faults")


@dataclass(frozen=True)
class Hazard:
    """What a run is exposed to, as the file says; `hardware` is the share of faults that break a machine."""

    mtbf_seconds: float
    save_seconds: float
    write_seconds: float
    restart_seconds: float
    repair_seconds: float = 0.0
    hardware: float = 0.0

    @property
    def in_repair(self) -> float:
        """Machines away on average, if the run never waited."""
        return self.hardware * self.repair_seconds / self.mtbf_seconds

    @property
    def interval(self) -> float:
        """Seconds of work between two saves: as Daly, but no save begins before the last is written."""
        return max(daly(self.save_seconds, self.mtbf_seconds), self.write_seconds - self.save_seconds)


def hazard_of(n_params: float, n_devices: int, *, planned: bool = False) -> Hazard:
    """At the published rate a device, of weights that are saved once with their optimiser; `planned` counts
    planned interruptions as if they were faults, too."""
    rates = read_rates()
    past, delays, speeds = rates.interruptions, rates.seconds, rates.bytes_per_second
    n_interruptions = past.unexpected + (past.planned if planned else 0)
    saved_bytes = n_params * BYTES_PER_PARAM["optimiser"] / n_devices
    return Hazard(
        mtbf_seconds=past.days * DAY * past.devices / n_interruptions / n_devices,
        save_seconds=saved_bytes / speeds.host,
        write_seconds=saved_bytes / speeds.storage,
        restart_seconds=delays.detection + delays.restart,
        repair_seconds=delays.repair,
        hardware=past.hardware * past.unexpected / n_interruptions,
    )


def young(save_seconds: float, mtbf_seconds: float) -> float:
    """The best interval to first order, sqrt(2 save M) (Young 1974)."""
    return math.sqrt(2 * save_seconds * mtbf_seconds)


def daly(save_seconds: float, mtbf_seconds: float) -> float:
    """The best interval to third order, M where a save takes longer than 2 M (Daly 2006):
    sqrt(2 save M) (1 + x / 3 + x^2 / 9) - save, x = sqrt(save / 2 M)."""
    if save_seconds >= 2 * mtbf_seconds:
        return mtbf_seconds
    x = math.sqrt(save_seconds / (2 * mtbf_seconds))
    return young(save_seconds, mtbf_seconds) * (1 + x / 3 + x * x / 9) - save_seconds


def productive(hazard: Hazard, interval: float) -> float:
    """The share of the time that moves the run on, while no machine is lacking.

    A fault comes M exp(R / M) after the one before, restarts R that fail included, and until it comes
    1 / (exp((interval + save) / M) - 1) pieces are done (Daly 2006).  What is not written yet is as lost as
    if the restart took so much longer.
    """
    mtbf = hazard.mtbf_seconds
    lost = (hazard.restart_seconds + hazard.write_seconds) / mtbf
    return interval / mtbf * math.exp(-lost) / math.expm1((interval + hazard.save_seconds) / mtbf)


def waiting(hazard: Hazard, spares: int) -> float:
    """The share of the time that more machines than the spares are away: Erlang's loss formula of spares + 1
    servers, whatever the distribution of repairs (Erlang 1917)."""
    share = 1.0
    for k in range(1, spares + 2):
        share = hazard.in_repair * share / (k + hazard.in_repair * share)
    return share


def effective(hazard: Hazard, interval: float, spares: int) -> float:
    """Effective training time: the share of the time on the clock that moves the run on."""
    return productive(hazard, interval) * (1 - waiting(hazard, spares))


def best_spares(hazard: Hazard, n_machines: int) -> int:
    """How many make the machines' time of the whole run least, their own included."""

    def machine_time(spares: int) -> float:
        return (n_machines + spares) / (1 - waiting(hazard, spares))

    most = 2 * math.ceil(hazard.in_repair) + NODE
    return min(range(most + 1), key=machine_time)
