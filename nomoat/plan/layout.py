"""How a model is laid over devices: data x tensor x pipeline x expert, each layout with its memory and time.

A token takes (max(arithmetic + memory traffic, hidden) + exposed) (1 + bubble) device-seconds.  Hidden
communication: gradients, gathered weights, pipeline hand-overs and, under DualPipe, the experts' all-to-all;
exposed: the latter elsewhere, and tensor parallelism.  Not modelled: context parallelism, latency,
congestion, uneven experts, faster arithmetic in fp8.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nomoat.config import Positive, Strict
from nomoat.plan.parts import Parts

BYTES_PER_PARAM = {"weights": 2, "gradients": 4, "optimiser": 12}  # bf16; float32; its master and two moments
NODE = 8  # devices that NVLink joins
RESERVED = 0.05  # of a device's memory, for contexts, buffers and fragments
PASSES = 6  # of a kept number over the memory bus: written, read, recomputed, and its gradient likewise
DISPATCH, COMBINE = 1, 2  # bytes of a number on its way to an expert (fp8) and back (bf16)
MOST_STAGES = 64


class Device(Strict):
    """What one device can do: dense bf16 FLOP/s, bytes, bytes/s; links one way."""

    generation: str
    name: str
    flops_bf16: Positive
    memory_bytes: Positive
    bytes_per_second: Positive
    nvlink_bytes_per_second: Positive
    network_bytes_per_second: Positive
    source: str


@dataclass(frozen=True)
class Workload:
    """What is laid out: a model, devices of one kind, and steps of `sequences` rows of `context` tokens."""

    model: Parts
    device: Device
    share: float  # of the peak that a device reaches while it multiplies
    sequences: float
    context: int
    activation_bytes: int = 2
    dualpipe: bool = True  # whether there is an engine for it


@dataclass(frozen=True)
class Layout:
    """One way to lay out a model: how many parts along each axis.  The experts lie along the data axis."""

    data: int
    tensor: int
    pipeline: int
    expert: int
    zero: Literal[1, 3] = 1  # 1: the optimiser is sharded over the data axis; 3: weights and gradients too
    schedule: Literal["1F1B", "interleaved", "DualPipe"] = "1F1B"
    recompute: bool = False  # the whole forward pass again, only layer inputs kept

    @property
    def n_devices(self) -> int:
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        axes = {"DP": self.data, "TP": self.tensor, "PP": self.pipeline, "EP": self.expert}
        parallel = " x ".join(f"{axis}{n}" for axis, n in axes.items() if n > 1 or axis == "DP")
        words = [parallel, f"ZeRO-{self.zero}"]
        if self.pipeline > 1:
            words.append(self.schedule)
        if self.recompute:
            words.append("recompute")
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class PricedLayout(Layout):
    """A layout with one device's memory, and the device-seconds of one token."""

    memory_bytes: dict[str, float]
    all_bytes: float
    fits: bool
    seconds: float
    bubble: float
    network: float  # communication as a share of the arithmetic and memory traffic
    limit: str


@dataclass(frozen=True)
class Ranking:
    """Layouts that fit, fastest first; where none does, all of them, smallest first."""

    layouts: tuple[PricedLayout, ...]
    memory_binds: bool  # the fastest would need more memory, and is faster by more than 2 %


def search(work: Workload, n_devices: int) -> Ranking:
    """The layouts of `n_devices`, ranked."""
    priced = [price(layout, work) for layout in layouts(work, n_devices)]
    fitting = sorted((x for x in priced if x.fits), key=lambda x: x.seconds)
    if not fitting:
        return Ranking(tuple(sorted(priced, key=lambda x: x.all_bytes)), memory_binds=True)
    return Ranking(tuple(fitting), fitting[0].seconds > 1.02 * min(x.seconds for x in priced))


def layouts(work: Workload, n_devices: int) -> Iterator[Layout]:
    """Every layout whose axes divide what they split, with a row of the batch for each data-parallel rank."""
    model = work.model
    for tensor in powers_of_two(NODE, math.gcd(n_devices, model.n_heads)):
        for pipeline in powers_of_two(min(MOST_STAGES, model.n_layers), n_devices // tensor):
            data = n_devices // tensor // pipeline
            if data > work.sequences:
                continue
            zeros = (1, 3) if pipeline == 1 < data else (1,)
            for expert in powers_of_two(model.n_routed, math.gcd(data, model.n_routed)):
                for schedule in schedules(work, data, pipeline):
                    for recompute in (False, True):
                        for zero in zeros:
                            yield Layout(data, tensor, pipeline, expert, zero, schedule, recompute)


def powers_of_two(most: int, divide: int) -> list[int]:
    """1, 2, 4, … up to `most`, as far as they divide a number."""
    return [2**i for i in range(max(1, most).bit_length()) if divide % 2**i == 0]


def schedules(work: Workload, data: int, pipeline: int) -> list[str]:
    """DualPipe feeds both ends, and so takes two microbatches for each stage."""
    if pipeline == 1:
        return ["1F1B"]
    fills_both_ends = work.sequences / data >= 2 * pipeline
    return ["1F1B", "interleaved", *(["DualPipe"] if work.dualpipe and fills_both_ends else [])]


@dataclass(frozen=True)
class Stage:
    """What one device holds: layers and parameters, embedding and head in the first and last stage."""

    n_layers: int
    n_chunks: int  # that an interleaved schedule runs one after the other
    params_shared: float
    params_routed: float
    params: float  # of two stages under DualPipe
    params_sharded: float  # its part of them where the data axis shards them


def stage_of(layout: Layout, model: Parts) -> Stage:
    n_layers = math.ceil(model.n_layers / layout.pipeline)
    share = n_layers / model.n_layers
    shared = (model.params_shared * share + model.params_embedding / min(layout.pipeline, 2)) / layout.tensor
    routed = model.params_routed * share / layout.expert / layout.tensor
    return Stage(
        n_layers=n_layers,
        n_chunks=n_layers if layout.schedule == "interleaved" else 1,
        params_shared=shared,
        params_routed=routed,
        params=(shared + routed) * (2 if layout.schedule == "DualPipe" else 1),
        params_sharded=(shared + routed * layout.expert) / layout.data,
    )


def memory_bytes(layout: Layout, work: Workload, stage: Stage) -> dict[str, float]:
    """Of one device, by what it is for (arXiv 1910.02054, section 5); ZeRO-3 gathers two layers at a time."""
    held, gathered = stage.params, 0.0
    if layout.zero == 3:
        held, gathered = stage.params_sharded, 2 * stage.params / stage.n_layers
    return {
        "weights": (held + gathered) * BYTES_PER_PARAM["weights"],
        "gradients": held * BYTES_PER_PARAM["gradients"],
        "optimiser": stage.params_sharded * BYTES_PER_PARAM["optimiser"],
        "activations": activation_bytes(layout, work, stage),
    }


def activation_bytes(layout: Layout, work: Workload, stage: Stage) -> float:
    """A microbatch is one row; a device of the first stage holds PP of them.

    Where stages are interleaved (PP - 1) / chunks more (arXiv 2104.04473, section 2.2), under DualPipe one
    more (arXiv 2412.19437, table 2).
    """
    rows = layout.pipeline
    if layout.schedule == "DualPipe":
        rows += 1
    elif stage.n_chunks > 1:
        rows += (layout.pipeline - 1) / stage.n_chunks
    layer = work.activation_bytes * work.model.kept
    kept = stage.n_layers * rows * layer
    if layout.recompute:  # layer inputs in bf16, and what one layer makes anew
        kept = stage.n_layers * rows * 2 * work.model.d_model + layer
    return work.context / layout.tensor * kept


def arithmetic_seconds(layout: Layout, work: Workload, stage: Stage) -> float:
    """At the share of the peak, in the fullest stage; the head fills stages that have fewer layers."""
    model = work.model
    fullest = max(1.0, stage.n_layers * layout.pipeline / model.n_layers * (1 - model.head_share))
    flops = model.flops * fullest * (4 / 3 if layout.recompute else 1)
    return flops / (work.device.flops_bf16 * work.share)


def traffic_seconds(work: Workload) -> float:
    """Kept numbers and logits over the memory bus, half of the passes in bf16."""
    numbers = work.model.kept * work.model.n_layers + work.model.vocab_size
    return PASSES * (1 + work.activation_bytes / 2) * numbers / work.device.bytes_per_second


def gather_seconds(layout: Layout, work: Workload, stage: Stage) -> float:
    """Bytes of gradients and weights over the slowest link (arXiv 1910.02054, section 7).

    ZeRO-1: gradients are summed (4) and weights gathered (2) once a step.  ZeRO-3: weights are gathered twice
    and gradients summed for each row, but of experts that one device alone has.
    """
    if layout.data == 1:
        return 0.0
    if layout.zero == 3:
        routed = stage.params_routed if layout.data > layout.expert else 0.0
        moved = 8 * (stage.params_shared + routed) * work.sequences / layout.data
    else:
        moved = 6 * stage.params
    node = work.device.network_bytes_per_second * NODE / layout.tensor  # its devices share its adapters
    rate = link(layout, work.device, min(work.device.nvlink_bytes_per_second, node))
    return moved / rate * layout.n_devices / (work.sequences * work.context)


def handover_seconds(layout: Layout, work: Workload, stage: Stage) -> float:
    """Layer inputs to the next stage and their gradients back, in bf16."""
    if layout.pipeline == 1:
        return 0.0
    rate = link(layout, work.device, work.device.network_bytes_per_second)
    return 4 * work.model.d_model * layout.pipeline * stage.n_chunks / rate


def link(layout: Layout, device: Device, between_nodes: float) -> float:
    """Bytes a second: of NVLink, or as given where the layout is larger than a node."""
    return between_nodes if layout.n_devices > NODE else device.nvlink_bytes_per_second


def tensor_seconds(layout: Layout, work: Workload) -> float:
    """Four all-reduces a layer, each 2 (TP - 1) / TP of a bf16 row (arXiv 1909.08053, section 3)."""
    numbers = work.model.d_model * work.model.n_layers
    return 16 * numbers * (layout.tensor - 1) / work.device.nvlink_bytes_per_second


def all_to_all_seconds(layout: Layout, work: Workload) -> float:
    """To the experts and back, forward and backward: over the network once a node, over NVLink to each expert
    (arXiv 2412.19437, section 3.2.2)."""
    if layout.expert == 1:
        return 0.0
    model, device = work.model, work.device
    copy_bytes = 2 * model.n_moe_layers * model.d_model * (DISPATCH + COMBINE)
    n_nodes = min(model.n_nodes, layout.expert / NODE) if layout.expert > NODE else 0
    within = min(model.n_copies, layout.expert) / device.nvlink_bytes_per_second
    return copy_bytes * max(within, n_nodes / device.network_bytes_per_second)


def bubble(layout: Layout, work: Workload, stage: Stage) -> float:
    """Idle time over the work of a step, with B = 2F and W = F (arXiv 2412.19437, table 2).

    1F1B (PP - 1)(F + B), over the chunks where they are interleaved (arXiv 2104.04473, section 2.2); DualPipe
    (PP/2 - 1)(F&B + B - 3W).
    """
    if layout.schedule == "DualPipe":
        idle = (layout.pipeline / 2 - 1) * 2 / 3
    else:
        idle = (layout.pipeline - 1) / stage.n_chunks
    return idle * layout.data / work.sequences


def price(layout: Layout, work: Workload) -> PricedLayout:
    """The layout with its memory and its time."""
    stage = stage_of(layout, work.model)
    memory = memory_bytes(layout, work, stage)
    arithmetic, traffic = arithmetic_seconds(layout, work, stage), traffic_seconds(work)
    hidden = gather_seconds(layout, work, stage) + handover_seconds(layout, work, stage)
    exposed = tensor_seconds(layout, work)
    if layout.schedule == "DualPipe":
        hidden += all_to_all_seconds(layout, work)
    else:
        exposed += all_to_all_seconds(layout, work)
    busy, idle = arithmetic + traffic, bubble(layout, work, stage)
    return PricedLayout(
        **vars(layout),
        memory_bytes=memory,
        all_bytes=sum(memory.values()),
        fits=sum(memory.values()) <= (1 - RESERVED) * work.device.memory_bytes,
        seconds=(max(busy, hidden) + exposed) * (1 + idle),
        bubble=idle,
        network=(hidden + exposed) / busy,
        limit=limit(arithmetic, traffic, hidden + exposed),
    )


def limit(arithmetic: float, traffic: float, communication: float) -> str:
    """What binds."""
    if communication > arithmetic + traffic:
        return "network"
    return "memory bandwidth" if traffic > arithmetic else "compute"
