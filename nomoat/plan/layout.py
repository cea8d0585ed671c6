"""How a model is laid over devices: data x tensor x pipeline x expert, each layout with its memory and its time.

A step takes (max(arithmetic + memory traffic, hidden) + exposed) (1 + bubble).  Hidden: gradients, gathered weights,
pipeline hand-overs and, under DualPipe, the experts' all-to-all; exposed: that all-to-all elsewhere, tensor parallelism.
Bubbles, with B = 2F and W = F: 1F1B (PP - 1)(F + B), over the stages of a device where they are interleaved; DualPipe
(PP/2 - 1)(F&B + B - 3W), with twice the parameters.  The head fills stages that have fewer layers.  Not modelled:
context parallelism, latency, congestion, uneven experts, faster arithmetic in fp8.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import product

from nomoat.config import Strict
from nomoat.plan.shape import Dense, Parts, Shape, flops_per_token, parts

BYTES_PER_PARAM = {"weights": 2, "gradients": 4, "optimiser": 12}  # bf16; float32; float32 master and two moments
NODE = 8  # devices that NVLink joins
RESERVED = 0.05  # of a device's memory, for contexts, buffers and fragments
PASSES = 6  # how often a kept number crosses the memory bus: written, read, recomputed, and its gradient likewise
DISPATCH, COMBINE = 1, 2  # bytes of a number on its way to an expert (fp8) and back (bf16)


class Device(Strict):
    """What one device can do: dense bf16 FLOP/s, bytes, bytes/s; links one way."""

    generation: str
    name: str
    flops_bf16: float
    memory_bytes: float
    bytes_per_second: float
    nvlink_bytes_per_second: float
    network_bytes_per_second: float
    source: str


@dataclass(frozen=True)
class Layout:
    """One way to lay out a model; `memory_bytes` is one device's, `seconds` its time for the whole of one token."""

    data: int
    tensor: int
    pipeline: int
    expert: int
    zero: int = 1  # 1: the optimiser is sharded over the data axis; 3: weights and gradients too
    schedule: str = "1F1B"
    recompute: bool = False  # the whole forward pass again, only layer inputs kept
    memory_bytes: dict[str, float] = field(default_factory=dict)
    all_bytes: float = math.inf
    fits: bool = False
    seconds: float = math.inf
    bubble: float = 0.0
    network: float = 0.0  # communication as a share of the arithmetic and memory traffic
    limit: str = ""

    def __str__(self) -> str:
        axes = (("DP", self.data), ("TP", self.tensor), ("PP", self.pipeline), ("EP", self.expert))
        words = [" x ".join(f"{axis}{n}" for axis, n in axes if n > 1 or axis == "DP"), f"ZeRO-{self.zero}"]
        return ", ".join([*words, *[self.schedule] * (self.pipeline > 1), *["recompute"] * self.recompute])


def priced(p: Parts, x: Layout, device: Device, share: float, sequences: float, context: int, act_bytes: int) -> Layout:
    """The layout with its memory and time at a step of `sequences`; `share` of the peak while it multiplies."""
    dp, tp, pp, ep, link = x.data, x.tensor, x.pipeline, x.expert, device.network_bytes_per_second
    nvlink, wide, two, D = device.nvlink_bytes_per_second, dp * tp * pp > NODE, x.schedule == "DualPipe", p.shape.d_model
    micro, layers, kept = sequences / dp, math.ceil(p.n_layers / pp), 2 * D if x.recompute else act_bytes * p.kept
    shared = (p.params_shared * layers / p.n_layers + p.params_embedding / min(pp, 2)) / tp  # the ends: first, last stage
    routed = p.params_routed * layers / p.n_layers / ep / tp
    local, sharded = (shared + routed) * (2 if two else 1), shared / dp + routed * ep / dp
    chunks, held = layers if x.schedule == "interleaved" else 1, sharded if x.zero == 3 else local
    flight = 1 if pp == 1 else pp + 1 if two else pp + (pp - 1) / chunks if chunks > 1 else pp
    memory = {part: (sharded if part == "optimiser" else held) * n for part, n in BYTES_PER_PARAM.items()}
    memory["weights"] += 4 * local / layers if x.zero == 3 else 0.0  # two layers gathered at a time
    memory["activations"] = context / tp * (layers * flight * kept + act_bytes * p.kept * x.recompute)
    tokens = sequences * context / (dp * tp * pp)  # a device's share of one step, in whole tokens
    heads = 6 * D * p.shape.vocab_size * (1 + p.n_layers - p.shape.n_layers) / p.flops
    stage = max(1.0, layers * pp / p.n_layers * (1 - heads))  # the fullest stage against the mean
    arithmetic = tokens * p.flops * stage * (4 / 3 if x.recompute else 1) / (device.flops_bf16 * share)
    moved = PASSES * (1 + act_bytes / 2) * (p.kept * p.n_layers + p.shape.vocab_size)
    busy = arithmetic + (traffic := tokens * moved / device.bytes_per_second)
    collective = min(nvlink, link * NODE / tp) if wide else nvlink  # the cards of a node share its adapters
    gathered = 8 * (shared + routed * (dp > ep)) * micro if x.zero == 3 else 6 * local
    hidden = gathered / collective if dp > 1 else 0.0
    hidden += 4 * D * tokens * pp * chunks / (link if wide else nvlink) if pp > 1 else 0.0
    exposed = 16 * D * p.n_layers * tokens * (tp - 1) / nvlink
    sent = 2 * p.n_moe * D * (DISPATCH + COMBINE) * tokens  # there and back, forward and backward
    nodes = min(p.reach, ep / NODE) if ep > NODE else 0
    all_to_all = max(sent * min(p.copies, ep) / nvlink, sent * nodes / link) if ep > 1 else 0.0
    hidden, exposed = (hidden + all_to_all, exposed) if two else (hidden, exposed + all_to_all)
    bubble = 0.0 if pp == 1 else (pp / 2 - 1) * 2 / 3 / micro if two else (pp - 1) / micro / chunks
    limit = "network" if hidden + exposed > busy else "memory bandwidth" if traffic > arithmetic else "compute"
    seconds, need = (max(busy, hidden) + exposed) * (1 + bubble) / tokens, sum(memory.values())
    fits, network = need <= (1 - RESERVED) * device.memory_bytes, (hidden + exposed) / busy
    return replace(x, memory_bytes=memory, all_bytes=need, fits=fits, seconds=seconds, bubble=bubble, network=network,
                   limit=limit)  # fmt: skip


def search(
    shape: Shape, device: Device, share: float, n: int, batch: float, context: int, dualpipe: bool, act_bytes: int
) -> tuple[list[Layout], bool]:
    """The layouts that fit, fastest first (all of them, smallest first, where none does); whether memory slows the best."""
    p, sequences, found = parts(shape, flops_per_token(shape, context)), max(batch / context, 1), []
    powers = lambda top, n: [2**i for i in range(max(1, top).bit_length()) if n % 2**i == 0]  # axes divide what they split
    experts = p.n_moe and shape.ffn.n_routed
    for tp in powers(NODE, math.gcd(n, shape.n_heads if isinstance(shape, Dense) else shape.attention.n_heads)):
        for pp in (s for s in powers(min(64, p.n_layers), n // tp) if n // tp // s <= sequences):
            dp = n // tp // pp  # each data-parallel group has a row of the batch
            two = ["DualPipe"] if dualpipe and sequences / dp >= 2 * pp else []
            axes = product(powers(experts, math.gcd(dp, experts)), ["1F1B", "interleaved", *two] if pp > 1 else ["1F1B"])
            for (ep, schedule), again, zero in product(axes, (False, True), (1, 3) if pp == 1 < dp else (1,)):
                found.append(Layout(dp, tp, pp, ep, zero, schedule, again))
    found = [priced(p, x, device, share, sequences, context, act_bytes) for x in found]
    fit = sorted((x for x in found if x.fits), key=lambda x: x.seconds)
    slower = not fit or fit[0].seconds > 1.02 * min(x.seconds for x in found)
    return fit or sorted(found, key=lambda x: x.all_bytes), slower
