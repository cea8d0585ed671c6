"""Where a recipe runs: by hardware.toml, or as a probe measured it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from nomoat.config import ConfigError
from nomoat.plan.hardware import Mfu, read_hardware, share
from nomoat.plan.rates import Rates, error, measured
from nomoat.run.directory import Run
from nomoat.stages.recipe import Recipe

UNMEASURED = 0.5  # standard deviation, as a share, of what hardware.toml says of another machine


class Part(NamedTuple):
    """Seconds of one kind of work, and their standard deviation as a share."""

    kind: str
    seconds: float
    error: float


@dataclass(frozen=True)
class Machine:
    """Where a recipe runs: how many of a class of prices.toml, FLOP/s of all, and where these are from; what
    a probe measured goes before."""

    device: str
    units: int
    train_flops: float
    sample_flops: float
    source: str
    rates: Rates | None = None

    def part(self, stage: str, kind: str, amount: float) -> Part:
        """A stage's work of one kind on the clock."""
        rate = self.rates.of(stage, kind) if self.rates else None
        if rate is not None:
            return Part(kind, amount * rate.seconds, error(kind, rate.spread, self.rates.taken))
        flops = {"trained": self.train_flops, "sampled": self.sample_flops, "host": 1.0}
        return Part(kind, amount / flops.get(kind, 2 * self.sample_flops), UNMEASURED)


def machine_of(
    recipe: Recipe, gpu: str | None = None, gpus: int | None = None, mfu: float | None = None
) -> Machine:
    """Where a recipe says that it runs, or on cards of another name; one core samples as fast as several, and
    cuda is an h100.  `mfu` is the share of the peak in training, if it is not the one of hardware.toml.
    """
    on_cpu = recipe.device == "cpu" if gpu is None else gpu == "cpu"
    if on_cpu and gpus is not None:
        raise ConfigError(
            f"--gpus {gpus}, but recipe {recipe.name} runs on the processor; add --gpu, such as h100"
        )
    if gpus is not None and gpus < 1:
        raise ConfigError(f"--gpus {gpus}; expected one or more")
    device, units = ("cpu", recipe.threads) if on_cpu else ("h100" if gpu is None else gpu, gpus or 1)
    hardware, kind = read_hardware(), "cpu" if on_cpu else "cuda"
    train, sample = hardware.mfu[f"{kind}-executed"], hardware.mfu[f"{kind}-sampling"]
    if mfu is not None:
        train = Mfu(value=share(mfu), source="given")
    train_source = f"{100 * train.value:.0f} % of the peak in training ({train.source})"
    sample_source = f"{100 * sample.value:.0f} % of the peak in sampling, of one unit's ({sample.source})"
    peak = hardware.device(device).flops_bf16
    return Machine(
        device=device,
        units=units,
        train_flops=peak * units * train.value,
        sample_flops=peak * sample.value,
        source=f"{train_source}, {sample_source}",
    )


def with_rates(machine: Machine, rates: Rates | None) -> Machine:
    """The machine, by what was measured on it."""
    if rates is None:
        return machine
    had = f"with {rates.busy:.1f} of {rates.threads} processors"
    return replace(machine, rates=rates, source=f"rates measured here in {rates.took:.1f} s, {had}")


def machine_of_run(recipe: Recipe, run: Run) -> Machine:
    """Where a run runs, by the rates that its log says it was planned with."""
    return with_rates(machine_of(recipe), measured(run.events()))
