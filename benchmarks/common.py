"""What the side-by-side measurements share: one shape, one clock, one table.

Sides take turns, A B A B, in one process: a machine that slows down slows both.  A ratio is taken within each
round, so that the table's median and span are those of the ratio, not of two separate clouds.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import nomoat
from nomoat.engine.generate import products_for
from nomoat.engine.native.layout import Precision
from nomoat.model.counts import params_active, params_total
from nomoat.model.noise import OUTPUTS
from nomoat.model.spec import Kernels, Latent, Routed, Spec
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory as weights

if TYPE_CHECKING:
    import transformers

SPEC = Spec(
    vocab_size=4096,
    n_layers=6,
    d_model=256,
    attention=Latent(
        kind="latent", n_heads=8, d_nope=32, d_rope=16, d_value=32, d_kv_latent=64, d_q_latent=128
    ),
    ffn=Routed(kind="routed", d_dense=768, n_routed=16, n_shared=1, n_active=2, d_expert=48),
    context=256,
)
PLAIN = Kernels(attention="plain")  # the faster one on a processor at this length


def start_weights(spec: Spec, kernels: Kernels | None = None) -> Transformer:
    """Initial weights with live output matrices: zero ones would give half of the network zero gradients."""
    model = Transformer(spec.changed(init_std=spec.d_model**-0.5), kernels).initialise(0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.split(".")[-2] in OUTPUTS:
            std = parameter.shape[-1] ** -0.5 / spec.n_layers
            parameter.data.normal_(std=std, generator=generator)
    return model


def sizes(spec: Spec) -> str:
    return f"{params_total(spec) / 1e6:.2f}M parameters, {params_active(spec) / 1e6:.2f}M active"


@dataclass(frozen=True)
class Row:
    """One comparison: medians of both sides over the rounds, and the ratio of ours to theirs within each."""

    what: str
    unit: str
    ours: float
    peer: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    setting: str


def compare(
    what: str,
    unit: str,
    ours: list[float],
    peer: list[float],
    setting: str = "",
    *,
    lower_is_better: bool = False,
) -> Row:
    ratios = [b / a if lower_is_better else a / b for a, b in zip(ours, peer)]
    median = statistics.median
    return Row(
        what, unit, median(ours), median(peer), median(ratios), min(ratios), max(ratios), len(ratios), setting
    )


def interleave(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every side in every round; the sides take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warmup + rounds):
        for name, step in sides.items():
            start = time.perf_counter()
            step()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def to_transformers(
    model: Transformer, dtype: torch.dtype, attention: str, experts: str, tokenizer: Tokenizer | None = None
) -> "transformers.PreTrainedModel":
    """The same weights as DeepseekV3ForCausalLM, through this project's export."""
    import transformers

    with tempfile.TemporaryDirectory() as directory:
        weights.save(model, directory, tokenizer=tokenizer)
        peer = transformers.DeepseekV3ForCausalLM.from_pretrained(
            directory, dtype=dtype, attn_implementation=attention
        )
    peer.set_experts_implementation(experts)
    return peer


def products_of(model: Transformer) -> Precision:
    """How the engine multiplies for a model of this type."""
    return products_for("bf16" if model.dtype == torch.bfloat16 else "fp32", model.device)


def matmul_peak(dtype: torch.dtype, n: int = 1024, seconds: float = 0.5) -> float:
    """FLOP/s of square matrix products: the floor's unit."""
    a = torch.randn(n, n).to(dtype)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(a, a)
        best = max(best, 8 * n**3 / (time.perf_counter() - start))
    return best


def environment(threads: int, *packages: str) -> dict[str, str | int]:
    """What a figure needs beside it."""
    versions = {name: version(name) for name in ("torch", *packages)}
    machine = {"processor": processor(), "cores": os.cpu_count() or 0, "threads": threads}
    return {**machine, "python": platform.python_version(), "nomoat": nomoat.__version__, **versions}


def processor() -> str:
    """Its name, family and model, as far as the machine tells them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or "unknown"
    if "model" not in fields:
        return name
    return f"{name} (family {fields.get('cpu family')}, model {fields['model']})"


def quiet() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def report(
    title: str, rows: list[Row], surroundings: Mapping[str, str | int], notes: list[str], as_json: bool
) -> None:
    """Prints one JSON object, or a markdown table with what a figure needs around it."""
    if as_json:
        rows_json = [asdict(row) for row in rows]
        print(json.dumps({"title": title, "environment": surroundings, "rows": rows_json, "notes": notes}))
        return
    print(title, ", ".join(f"{key} {value}" for key, value in surroundings.items()), "", sep="\n")
    print("| what | ours | peer | ratio, median (lowest to highest) | peer's setting |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(markdown(row))
    print("", *notes, sep="\n")


def markdown(row: Row) -> str:
    digits = 0 if row.ours >= 100 else 2
    sides = f"{row.ours:.{digits}f} {row.unit} | {row.peer:.{digits}f} {row.unit}"
    ratio = f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f}), {row.rounds} rounds"
    return f"| {row.what} | {sides} | {ratio} | {row.setting} |"
