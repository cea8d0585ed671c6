"""What devices can do, and the share of their peak that runs reach: measured, or fitted on published runs."""

from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

from nomoat.config import ConfigError, Positive, Strict, look_up, parse
from nomoat.files import shipped
from nomoat.plan.layout import Device, Workload, search
from nomoat.plan.parts import parts
from nomoat.plan.published import Published, read_published
from nomoat.stats import grouped

FIT_ROUNDS = 6


class Mfu(Strict):
    """The share of the peak that runs of a kind reach; `arithmetic`: while they multiply, where fitted."""

    value: Positive
    source: str
    arithmetic: Positive | None = None


def share(given: float) -> float:
    """A share of the peak as a person gives it; ConfigError where it can't be one."""
    if not 0 < given <= 1:
        raise ConfigError(f"mfu = {given}; expected a share of the peak above 0 and at most 1")
    return given


class Hardware(Strict):
    """hardware.toml, dated: what devices can do, and the shares of the peak that were measured here."""

    date: str
    devices: dict[str, Device]
    mfu: dict[str, Mfu]

    def device(self, name: str) -> Device:
        return look_up(name, self.devices, f"no device `{name}` in hardware.toml")


@dataclass(frozen=True)
class Fit:
    """The shares of the peak that one published run reached."""

    run: str
    overall: float
    arithmetic: float


@cache
def read_hardware() -> Hardware:
    return parse(Hardware, shipped(__file__), "hardware")


@cache
def classes() -> dict[str, Mfu]:
    """The shares of the peak: those measured in hardware.toml, and those fitted on published.toml."""
    hardware, fits_of = read_hardware(), []
    for run in read_published():
        if run.use == "fit":
            device = hardware.devices[run.gpu]
            fits_of.append((run.mfu_class or device.generation, fit(run, device)))
    fitted = {
        name: Mfu(
            value=fmean(f.overall for f in fits),
            arithmetic=fmean(f.arithmetic for f in fits),
            source="fitted on " + ", ".join(f.run for f in fits),
        )
        for name, fits in grouped(fits_of).items()
    }
    return {**hardware.mfu, **fitted}


def fit(run: Published, device: Device) -> Fit:
    """The share at which the best layout takes the published time; each round is a contraction towards it."""
    seconds = run.gpu_hours * 3600 / run.tokens
    work = workload(run, device, share=1.0)
    overall = work.model.flops / seconds / device.flops_bf16
    work = replace(work, share=overall)
    for _ in range(FIT_ROUNDS):
        best = search(work, run.gpus).layouts[0]
        work = replace(work, share=work.share * best.seconds / seconds)
    return Fit(run.name, overall, work.share)


def workload(run: Published, device: Device, share: float) -> Workload:
    """Without a published batch, in steps of as many tokens as DeepSeek LLM found best."""
    model = parts(run.shape, run.context)
    batch = run.batch or 0.292 * (model.flops * run.tokens) ** 0.3271  # arXiv 2401.02954, section 3.1
    sequences = max(batch / run.context, 1)
    return Workload(model, device, share, sequences, run.context, run.activation_bytes, run.dualpipe)
