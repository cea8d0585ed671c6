"""A meter of the joules that a device drew.  No torch here."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nomoat.run.ledger import read_prices

# Of each counter: joules, and joules at which it wraps; none where nothing is measured.
Reader = Callable[[], list[tuple[float, float]]]


class Energy:
    """A meter of the joules that the device drew: RAPL for a CPU, NVML for a GPU, else watts x units x time.

    RAPL counts the whole package, other programs included; NVML the whole card.  Sources: "measured:rapl",
    "measured:nvml", "estimated".  RAPL counters wrap within the hour under load: read at least that often.
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        units: int = 1,
        powercap: str | Path = "/sys/class/powercap",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`device` is a class of prices.toml; of cards, the first `units` visible ones are read."""
        self.watts = read_prices().device(device).watts * units
        self._clock = clock
        kind = "rapl" if device.startswith("cpu") else "nvml"
        self._counters = _rapl(Path(powercap)) if kind == "rapl" else _nvml(units)
        self._before = self._counters()
        self.source = f"measured:{kind}" if self._before else "estimated"
        self._joules = self._lap = 0.0
        self._when = clock()

    def read(self) -> tuple[float, str]:
        """(joules since the meter was made, source).  A counter that can no longer be read goes on as an
        estimate.
        """
        now = self._clock()
        try:
            after = self._counters() if self._before else []
        except (OSError, ValueError):
            after = []
        if not after:
            self.source = "estimated"
            self._joules += self.watts * (now - self._when)
        for (old, _), (new, wrap) in zip(self._before, after):
            self._joules += new - old if new >= old else max(0.0, new - old + wrap)
        self._before, self._when = after, now
        return self._joules, self.source

    def lap(self) -> tuple[float, str]:
        """(joules since the last lap, source): what a record of the log carries."""
        joules, source = self.read()
        spent, self._lap = joules - self._lap, joules
        return spent, source


def _rapl(root: Path) -> Reader:
    """Packages and memory; cores lie inside a package, and the platform's own counter would count all twice.
    """

    def read(domain: Path) -> tuple[float, ...]:
        counters = ("energy_uj", "max_energy_range_uj")
        return tuple(int((domain / name).read_text()) * 1e-6 for name in counters)

    domains = []
    for domain in sorted(root.glob("intel-rapl*")):
        with suppress(OSError, ValueError):
            if (domain / "name").read_text().startswith(("package", "dram")):
                read(domain)
                domains.append(domain)
    return lambda: [read(domain) for domain in domains]


def _nvml(units: int) -> Reader:
    """The energy counters of the first visible cards, none without the optional package or the driver."""
    try:
        import pynvml
    except ImportError:
        return list
    visible = [int(n) for n in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if n.strip().isdigit()]

    def reader() -> list[tuple[float, float]]:
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in (visible or range(units))[:units]]
            return [(pynvml.nvmlDeviceGetTotalEnergyConsumption(h) * 1e-3, 0.0) for h in handles]
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from None

    with suppress(OSError):
        reader()
        return reader
    return list
