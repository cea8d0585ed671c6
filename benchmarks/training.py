"""Training side by side: ours against transformers' DeepseekV3 and, with its checkout, minimind's MoE.

    python -m benchmarks.training --threads 2
    python -m benchmarks.training --minimind PATH_TO_ITS_CHECKOUT --json

A step is forward, backward, clipping and the optimiser, on the same random tokens for every side, from the
weights that a run starts from.  Ours is the step of `nomoat pretrain`: packed-document mask, sequence-wise
balance loss, telemetry, float32 master weights, bias balancing.  transformers starts from the same weights
(through the export) and gets the fastest of its settings: bf16 weights or autocast, eager or grouped experts,
sdpa or eager attention, always with fused AdamW.  minimind's model has other attention (grouped queries), so
it is held to the same number of active parameters, with its own routing (1 of 4 experts) and with ours (2 of
16).  The allocator keeps freed memory for every side.
"""

import argparse
import importlib.util
import itertools
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.common import (
    PLAIN,
    SPEC,
    Row,
    compare,
    environment,
    interleave,
    matmul_peak,
    quiet,
    report,
    sizes,
    start_weights,
    to_transformers,
)
from nomoat.data.packing import Batch
from nomoat.model.counts import flops_train, params_active
from nomoat.parallel.process import settle_memory
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

Step = Callable[[], object]
LEARNING_RATE = 1e-3
SETTINGS = list(itertools.product(("bf16 weights", "autocast"), ("grouped_mm", "eager"), ("sdpa", "eager")))


class Batches:
    """Four batches in turn: routing, and so the shapes of the experts' products, changes at each step."""

    def __init__(self, rows: int, T: int):
        generator = torch.Generator().manual_seed(1)
        ids = [torch.randint(8, SPEC.vocab_size, (rows, T + 1), generator=generator) for _ in range(4)]
        self.pairs = [(i[:, :-1].contiguous(), i[:, 1:].contiguous()) for i in ids]
        self.tokens = rows * T

    def __iter__(self):
        return itertools.cycle(self.pairs)

    def rates(self, seconds: list[float]) -> list[float]:
        return [self.tokens / s for s in seconds]


def ours(batches: Batches, dtype: torch.dtype, matrices: str) -> Step:
    model, stream = start_weights(SPEC, PLAIN), iter(batches)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    optimizer = Optimizer(model, OptimConfig(matrices=matrices, adam_lr=LEARNING_RATE))
    config = ObjectiveConfig()

    def step() -> None:
        ids_BT, targets_BT = next(stream)
        left = gradient(model, Batch(ids_BT, targets_BT, torch.zeros_like(ids_BT, dtype=torch.int32)), config)
        optimizer.step(1.0, float(optimizer.grad_norm()))
        left.after()

    return step


def theirs(batches: Batches, dtype: torch.dtype, precision: str, experts: str, attention: str) -> Step:
    weights = dtype if precision == "bf16 weights" else torch.float32
    model = to_transformers(start_weights(SPEC), weights, attention, experts).train()

    def loss_of(model: torch.nn.Module, ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        return model(ids_BT, labels=targets_BT, shift_labels=targets_BT, use_cache=False).loss

    return peer_step(model, batches, precision == "autocast", loss_of)


def peer_step(
    model: torch.nn.Module, batches: Batches, autocast: bool, loss_of: Callable[..., torch.Tensor]
) -> Step:
    how = {"lr": LEARNING_RATE, "betas": (0.9, 0.95), "weight_decay": 0.0, "fused": True}
    optimizer = torch.optim.AdamW(model.parameters(), **how)
    stream = iter(batches)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(model, *next(stream))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def load_minimind(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_minimind", checkout / "model" / "model_minimind.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def minimind_model(
    module: ModuleType, n_experts: int, n_active: int, width: int
) -> tuple[torch.nn.Module, int]:
    """The model and its active parameters."""
    config = module.MiniMindConfig(
        hidden_size=SPEC.d_model,
        num_hidden_layers=SPEC.n_layers,
        num_attention_heads=SPEC.attention.n_heads,
        use_moe=True,
        vocab_size=SPEC.vocab_size,
        num_experts=n_experts,
        num_experts_per_tok=n_active,
        moe_intermediate_size=width,
        tie_word_embeddings=False,
        max_position_embeddings=SPEC.context,
    )
    model = module.MiniMindForCausalLM(config)
    idle = SPEC.n_layers * (n_experts - n_active) * 3 * SPEC.d_model * width
    return model, sum(p.numel() for p in model.parameters()) - idle


def minimind_width(module: ModuleType, n_experts: int, n_active: int) -> int:
    """The experts' width that makes its active parameters equal ours."""
    per_width = SPEC.n_layers * n_active * 3 * SPEC.d_model
    _, active = minimind_model(module, n_experts, n_active, 8)
    return round((params_active(SPEC) - active) / per_width + 8)


def minimind(
    module: ModuleType, batches: Batches, dtype: torch.dtype, n_experts: int, n_active: int, precision: str
) -> Step:
    width = minimind_width(module, n_experts, n_active)
    model, _ = minimind_model(module, n_experts, n_active, width)
    model = model.to(dtype if precision == "bf16 weights" else torch.float32).train()

    def loss_of(model: torch.nn.Module, ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        out = model(ids_BT)
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), targets_BT.flatten())
        return loss + out.aux_loss

    return peer_step(model, batches, precision == "autocast", loss_of)


def minimind_size(module: ModuleType, n_experts: int, n_active: int) -> str:
    width = minimind_width(module, n_experts, n_active)
    model, active = minimind_model(module, n_experts, n_active, width)
    total = sum(p.numel() for p in model.parameters())
    return f"{total / 1e6:.1f}M, {active / 1e6:.2f}M active, experts {width} wide"


def fastest(candidates: dict[str, Callable[[], Step]]) -> tuple[str, Step]:
    """The candidate with the shortest of two steps behind a first one, built anew."""
    seconds: dict[str, float] = {}
    for name, build in candidates.items():
        seconds[name] = min(interleave({name: build()}, rounds=2, warmup=1)[name])
    best = min(seconds, key=seconds.get)
    return best, candidates[best]()


def transformers_side(batches: Batches, dtype: torch.dtype, wanted: str | None) -> tuple[str, Step]:
    """The setting `wanted`, or the fastest of all."""
    candidates: dict[str, Callable[[], Step]] = {}
    for setting in SETTINGS:
        name = "/".join(setting)
        possible = dtype != torch.float32 or setting[0] == "bf16 weights"
        if possible and wanted in (None, name):
            candidates[name] = partial(theirs, batches, dtype, *setting)
    return fastest(candidates)


def minimind_sides(checkout: Path, batches: Batches, dtype: torch.dtype) -> dict[str, tuple[str, Step]]:
    """By label: its fastest precision with its size, and the step."""
    module = load_minimind(checkout)
    sides = {}
    for n, k in ((4, 1), (16, 2)):
        build = partial(minimind, module, batches, dtype, n, k)
        candidates = {"bf16 weights": partial(build, "bf16 weights")}
        if dtype != torch.float32:
            candidates["autocast"] = partial(build, "autocast")
        setting, step = fastest(candidates)
        size = minimind_size(module, n, k)
        sides[f"minimind MoE, {k} of {n} experts"] = (f"{setting} ({size})", step)
    return sides


def measure(dtype: torch.dtype, args: argparse.Namespace) -> list[Row]:
    """All sides in turn, ours with either optimiser."""
    batches = Batches(args.rows, args.length)
    peers = {"transformers": transformers_side(batches, dtype, args.peer)}
    if args.minimind:
        peers |= minimind_sides(args.minimind, batches, dtype)
    steps = {matrices: ours(batches, dtype, matrices) for matrices in ("adamw", "muon")}
    steps |= {label: step for label, (_, step) in peers.items()}
    seconds = interleave(steps, args.rounds)
    name = str(dtype).removeprefix("torch.")
    rows = []
    pairs = [("muon", "transformers"), *(("adamw", label) for label in peers)]
    for matrices, label in pairs:
        what = f"{name}, ours with {matrices} : {label}"
        setting, _ = peers[label]
        rates = (batches.rates(seconds[side]) for side in (matrices, label))
        rows.append(compare(what, "tokens/s", *rates, setting))
    return rows


def floor_note(dtype: torch.dtype, rows: list[Row], T: int) -> str:
    """How far the best row is from what the matrix products alone would take."""
    peak = matmul_peak(dtype)
    flops = flops_train(SPEC, (T + 1) / 2)
    best = max(row.ours for row in rows)
    peer = statistics.median(row.peer for row in rows if "transformers" in row.what)
    most = peak / flops
    name = str(dtype).removeprefix("torch.")
    return (
        f"{name}: {flops / 1e6:.1f} MFLOP a token (model FLOPs), products at {peak / 1e9:.0f} GFLOP/s: "
        f"at most {most:.0f} tokens/s; ours reaches {100 * best / most:.0f} %, "
        f"transformers {100 * peer / most:.0f} %."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=16, help="sequences in a batch")
    parser.add_argument("--length", type=int, default=256, help="tokens in a sequence")
    parser.add_argument("--minimind", type=Path, help="its checkout; without it the rows are left out")
    parser.add_argument("--peer", help='one setting instead of a search, such as "autocast/grouped_mm/sdpa"')
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settle_memory()
    quiet()
    rows: list[Row] = []
    notes: list[str] = []
    for dtype in (getattr(torch, name) for name in args.dtype):
        measured = measure(dtype, args)
        rows += measured
        notes.append(floor_note(dtype, measured, args.length))
    title = (
        f"Training: {sizes(SPEC)}; {args.rows} x {args.length} tokens a step, forward, backward and optimiser"
    )
    report(title, rows, environment(args.threads, "transformers"), notes, args.json)


if __name__ == "__main__":
    main()
