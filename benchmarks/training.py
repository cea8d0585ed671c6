"""Training side by side: a step of ours against transformers' DeepseekV3 and, where its checkout is given, minimind's MoE.

    python -m benchmarks.training --threads 2
    python -m benchmarks.training --minimind PATH_TO_ITS_CHECKOUT --json

A step is forward, backward, clipping and the optimiser, on the same random tokens for every side, from the weights that
a run starts from.  Ours is the step of `nomoat pretrain`: packed-document mask, sequence-wise balance loss, telemetry,
float32 master weights, bias balancing.  transformers starts from the same weights (through the export) and gets the
fastest of its settings: bf16 weights or autocast, eager or grouped experts, sdpa or eager attention, always with fused
AdamW.  minimind's model has other attention (grouped queries), so it is held to the same number of active parameters,
with its own routing (1 of 4 experts) and with ours (2 of 16).  The allocator keeps freed memory for every side.
"""

import argparse
import importlib.util
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.common import (
    SPEC,
    Row,
    compare,
    environment,
    interleave,
    matmul_peak,
    quiet,
    report,
    start_weights,
    to_transformers,
)  # fmt: skip
from nomoat.data.packing import Batch
from nomoat.model.spec import Spec
from nomoat.parallel.process import keep_freed_memory
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

Step = Callable[[], object]
LEARNING_RATE = 1e-3
SETTINGS = list(itertools.product(("bf16 weights", "autocast"), ("grouped_mm", "eager"), ("sdpa", "eager")))


class Batches:
    """Four batches in turn: routing, and so the shapes of the experts' products, changes from step to step."""

    def __init__(self, spec: Spec, rows: int, T: int):
        generator = torch.Generator().manual_seed(1)
        ids = [torch.randint(8, spec.vocab_size, (rows, T + 1), generator=generator) for _ in range(4)]
        self.pairs = [(i[:, :-1].contiguous(), i[:, 1:].contiguous()) for i in ids]
        self.tokens = rows * T

    def __iter__(self):
        return itertools.cycle(self.pairs)


def ours(batches: Batches, spec: Spec, dtype: torch.dtype, matrices: str) -> Step:
    model, stream = start_weights(spec), iter(batches)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    optimizer = Optimizer(model, OptimConfig(matrices=matrices, adam_lr=LEARNING_RATE))
    config = ObjectiveConfig()

    def step() -> None:
        ids_BT, targets_BT = next(stream)
        found = gradient(model, Batch(ids_BT, targets_BT, torch.zeros_like(ids_BT, dtype=torch.int32)), config)
        optimizer.step(1.0, float(optimizer.grad_norm()))
        found.after()

    return step


def theirs(batches: Batches, spec: Spec, dtype: torch.dtype, precision: str, experts: str, attention: str) -> Step:
    weights = dtype if precision == "bf16 weights" else torch.float32
    model = to_transformers(start_weights(spec), weights, attention, experts).train()
    return peer_step(model, batches, precision == "autocast", lambda model, ids, targets: model(
        ids, labels=targets, shift_labels=targets, use_cache=False).loss)  # fmt: skip


def peer_step(model: torch.nn.Module, batches: Batches, autocast: bool, loss_of: Callable[..., torch.Tensor]) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
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


def minimind(
    module: ModuleType, batches: Batches, spec: Spec, dtype: torch.dtype, n_experts: int, n_active: int, precision: str
) -> tuple[Step, str]:
    """Its step and its size.  The experts' width is what makes its active parameters equal ours."""

    def build(width: int) -> tuple[torch.nn.Module, int]:
        config = module.MiniMindConfig(
            hidden_size=spec.d_model, num_hidden_layers=spec.n_layers, num_attention_heads=spec.n_heads, use_moe=True,
            vocab_size=spec.vocab_size, num_experts=n_experts, num_experts_per_tok=n_active, moe_intermediate_size=width,
            tie_word_embeddings=False, max_position_embeddings=spec.context,
        )  # fmt: skip
        model = module.MiniMindForCausalLM(config)
        idle = spec.n_layers * (n_experts - n_active) * 3 * spec.d_model * width
        return model, sum(p.numel() for p in model.parameters()) - idle

    per_width = spec.n_layers * n_active * 3 * spec.d_model
    width = round((spec.params_active() - build(8)[1] + 8 * per_width) / per_width)
    model, active = build(width)
    model = model.to(dtype if precision == "bf16 weights" else torch.float32).train()

    def loss_of(model, ids_BT, targets_BT):
        out = model(ids_BT)
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), targets_BT.flatten())
        return loss + out.aux_loss

    size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M, {active / 1e6:.2f}M active, experts {width} wide"
    return peer_step(model, batches, precision == "autocast", loss_of), size


def fastest(candidates: dict[str, Callable[[], Step]], what: str) -> tuple[str, Step]:
    """The candidate with the shortest of two steps behind a first one."""
    found: dict[str, float] = {}
    for name, build in candidates.items():
        found[name] = min(interleave({name: build()}, rounds=2, warmup=1)[name])
    best = min(found, key=found.get)
    return f"{what}{best}", candidates[best]()


def measure(spec: Spec, dtype: torch.dtype, args: argparse.Namespace) -> list[Row]:
    batches = Batches(spec, args.rows, args.length)
    low = dtype != torch.float32
    settings = [s for s in SETTINGS if low or s[0] == "bf16 weights"]
    name = str(dtype).removeprefix("torch.")
    chosen, their_step = fastest(
        {f"{(p + ', ') if low else ''}{e}, {a} attention": lambda p=p, e=e, a=a: theirs(batches, spec, dtype, p, e, a)
         for p, e, a in settings if args.peer in (None, f"{p}/{e}/{a}")}, "",
    )  # fmt: skip
    sides = {"adamw": ours(batches, spec, dtype, "adamw"), "muon": ours(batches, spec, dtype, "muon"), "peer": their_step}
    small: dict[str, str] = {}
    if args.minimind:
        module = load_minimind(args.minimind)
        for n, k in ((4, 1), (16, 2)):
            label = f"minimind MoE, {k} of {n} experts"
            options = {p: lambda p=p, n=n, k=k: minimind(module, batches, spec, dtype, n, k, p)[0]
                       for p in (("bf16 weights", "autocast") if low else ("bf16 weights",))}  # fmt: skip
            setting, sides[label] = fastest(options, "")
            small[label] = f"{setting if low else ''} ({minimind(module, batches, spec, dtype, n, k, 'bf16 weights')[1]})"
    seconds = interleave(sides, args.rounds)
    rates = {key: [batches.tokens / s for s in taken] for key, taken in seconds.items()}
    rows = [
        compare(f"{name}, ours with AdamW : transformers", "tokens/s", rates["adamw"], rates["peer"], chosen),
        compare(f"{name}, ours with Muon : transformers", "tokens/s", rates["muon"], rates["peer"], chosen),
    ]
    for label, setting in small.items():
        rows.append(compare(f"{name}, ours with AdamW : {label}", "tokens/s", rates["adamw"], rates[label], setting.strip()))
    return rows


def floor_note(spec: Spec, dtype: torch.dtype, rows: list[Row], T: int) -> str:
    """How far the best row is from what the matrix products alone would take."""
    peak = matmul_peak(dtype)
    flops = spec.flops_train((T + 1) / 2)
    name = str(dtype).removeprefix("torch.")
    best = max(r.ours for r in rows if r.what.startswith(name))
    peer = statistics.median(r.peer for r in rows if r.what.startswith(name) and "transformers" in r.what)
    return (
        f"{name}: {flops / 1e6:.1f} MFLOP a token (model FLOPs), matrix products at {peak / 1e9:.0f} GFLOP/s: at most "
        f"{peak / flops:.0f} tokens/s; ours reaches {100 * best * flops / peak:.0f} %, "
        f"transformers {100 * peer * flops / peak:.0f} %."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=16, help="sequences in a batch")
    parser.add_argument("--length", type=int, default=256, help="tokens in a sequence")
    parser.add_argument("--minimind", type=Path, help="its checkout; without it the rows are left out")
    parser.add_argument("--peer", help='one setting of transformers instead of a search, such as "autocast/grouped_mm/sdpa"')
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    quiet()
    rows: list[Row] = []
    notes: list[str] = []
    for dtype in (getattr(torch, name) for name in args.dtype):
        found = measure(SPEC, dtype, args)
        rows += found
        notes.append(floor_note(SPEC, dtype, found, args.length))
    sizes = f"{SPEC.params_total() / 1e6:.2f}M parameters, {SPEC.params_active() / 1e6:.2f}M active"
    title = f"Training: {sizes}; {args.rows} x {args.length} tokens a step, forward, backward and optimiser"
    report(title, rows, environment(args.threads, "transformers"), notes, args.json)


if __name__ == "__main__":
    main()
