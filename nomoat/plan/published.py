"""Published training runs, to fit the planner on and to hold it against."""

from functools import cache
from typing import Literal

from nomoat.config import Amount, Count, Positive, Strict, look_up, parse
from nomoat.files import shipped
from nomoat.model.spec import PRESETS, Spec
from nomoat.plan.parts import Counted


class Axes(Strict):
    """How a published run was laid out; the rest of its devices is data-parallel."""

    tensor: Count
    pipeline: Count
    expert: Count


class Published(Strict):
    """One published run, in the words of published.toml; what nobody published is None."""

    name: str
    shape: Spec
    params: Positive | None = None
    tokens: Positive
    context: Count
    batch: Positive | None = None
    activation_bytes: Count = 2
    dualpipe: bool = True
    layout: Axes | None = None
    gpu: str = "h100"
    gpus: Count = 1024  # assumed where nobody published it
    gpu_hours: Positive | None = None
    tokens_per_second: Positive | None = None  # of one device; hours follow where they are not given
    flops: Positive | None = None
    counted: Counted = "causal"
    flops_source: str | None = None
    use: Literal["fit", "predict", "shown"]
    mfu_class: str | None = None
    source: str
    note: str = ""


class Training(Strict):
    tokens: Positive
    context: Count


class LaterStage(Strict):
    """A stage of V3 or R1: what was trained, and sampled at a rate per device, where that is published."""

    what: str  # as in prices.toml, which has its hours
    trained: list[Training] = []
    sampled_tokens: Amount = 0.0
    sampled_per_second: Amount = 0.0
    source: str


@cache
def read_published() -> tuple[Published, ...]:
    """The runs of published.toml; a shape that is only named is a preset, and a rate makes hours."""
    runs = []
    for row in shipped(__file__)["runs"]:
        row = {**row, "shape": PRESETS.get(str(row["shape"]), row["shape"])}
        if "tokens_per_second" in row:
            row["gpu_hours"] = row["tokens"] / row["tokens_per_second"] / 3600
        runs.append(parse(Published, row, "published"))
    return tuple(runs)


def read_later_stages() -> list[LaterStage]:
    return [parse(LaterStage, row, "published.stages") for row in shipped(__file__)["stages"]]


def named() -> dict[str, Published]:
    """The published runs by their names on the command line (`llama-2-70b`)."""
    return {run.name.lower().replace(" ", "-"): run for run in read_published()}


def find_published(name: str) -> Published:
    """The published run of a name on the command line."""
    return look_up(name, named(), f"no model `{name}` in published.toml")
