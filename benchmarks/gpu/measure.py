"""What the parts share: a result, the place where they run, models, a clock with joules."""

import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import nomoat
from benchmarks.common import start_weights
from nomoat.data.packing import Batch
from nomoat.model.spec import Dense, Kernels, Latent, Routed, Spec
from nomoat.model.transformer import Transformer
from nomoat.run.energy import Energy

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Result:
    """One line of the table.  `value` is a number, or words where there is none."""

    part: str
    what: str
    value: float | str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Place:
    """Where a part runs; `dry`: all of it small, to see that it runs at all; `seconds` of one measurement."""

    device: torch.device
    dry: bool
    seconds: float

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)

    def device_class(self) -> str | None:
        """The class of prices.toml and hardware.toml, or None for a card that they don't know."""
        if not self.on_card:
            return "cpu"
        card = torch.cuda.get_device_name(self.device).lower()
        return next((name for name in sheets() if name in card), None)

    def sheet(self) -> dict | None:
        """The entry of hardware.toml that this device is, or None."""
        return sheets().get(self.device_class())


def sheets() -> dict[str, dict]:
    path = Path(nomoat.__file__).parent / "plan" / "hardware.toml"
    return tomllib.loads(path.read_text("utf-8"))["devices"]


@dataclass(frozen=True)
class Spent:
    """What a call took: the seconds of each round, joules of all of them and where the joules come from."""

    seconds: list[float]
    joules: float
    source: str

    @property
    def total(self) -> float:
        return sum(self.seconds)

    @property
    def median(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2]

    @property
    def watts(self) -> float:
        return self.joules / self.total

    def energy(self) -> str:
        return f"{self.watts:.0f} W, {self.source}"


def spend(place: Place, call: Callable[[], object], *, rounds: int = 3) -> Spent:
    """`call` again and again for `place.seconds`, three times or more; it has been called once before."""
    meter = Energy(place.device_class() or "h100")
    seconds: list[float] = []
    place.wait()
    while len(seconds) < (1 if place.dry else rounds) or sum(seconds) < (0 if place.dry else place.seconds):
        start = time.perf_counter()
        call()
        place.wait()
        seconds.append(time.perf_counter() - start)
    return Spent(seconds, *meter.read())


def small_spec(**changes: object) -> Spec:
    """Every part of V3's architecture, small enough for a processor to train in seconds."""
    spec = Spec(
        vocab_size=512,
        n_layers=3,
        d_model=64,
        attention=Latent(
            kind="latent", n_heads=4, d_nope=16, d_rope=8, d_value=16, d_kv_latent=32, d_q_latent=48
        ),
        ffn=Routed(
            kind="routed", d_dense=128, n_routed=8, n_active=2, d_expert=32, n_groups=2, n_active_groups=1
        ),
        n_mtp=1,
        context=160,
    )
    return spec.changed(**changes)


def large_spec(dry: bool) -> Spec:
    """Shaped as V3: 116M parameters, 66M active, and a further prediction depth; or the small one."""
    if dry:
        return small_spec()
    return Spec(
        vocab_size=16384,
        n_layers=8,
        d_model=768,
        attention=Latent(
            kind="latent", n_heads=12, d_nope=64, d_rope=32, d_value=64, d_kv_latent=256, d_q_latent=384
        ),
        ffn=Routed(kind="routed", d_dense=2048, n_routed=16, n_active=4, d_expert=256),
        n_mtp=1,
        context=1024,
    )


@dataclass(frozen=True)
class Shape:
    """A model that is trained beside its peer, and the share of the card's peak that it should reach."""

    spec: Spec
    target: float | None = None


def shapes(dry: bool) -> dict[str, Shape]:
    """30M and 124M active parameters in experts, 1B in dense layers, all with latent heads; or small ones."""
    small = middle = small_spec(n_mtp=0, n_layers=2, context=64)
    large = small.changed(ffn={"kind": "dense", "d_hidden": 128})
    if not dry:
        small = of_width(384, 8, latent(6, 64, 32, 128, 192), experts(1024, 304), 1024)
        middle = of_width(768, 12, latent(12, 64, 32, 256, 384), experts(2048, 360), 2048)
        dense = Dense(kind="dense", d_hidden=5632)
        large = of_width(2048, 20, latent(16, 128, 64, 512, 1024), dense, 2048)
    return {
        "30M active": Shape(small),
        "124M active": Shape(middle, 0.25),
        "dense 1B": Shape(large, 0.40),
    }


def of_width(d_model: int, n_layers: int, attention: Latent, ffn: Dense | Routed, context: int) -> Spec:
    return Spec(
        vocab_size=32768 if d_model > 500 else 16384,
        n_layers=n_layers,
        d_model=d_model,
        attention=attention,
        ffn=ffn,
        context=context,
    )


def latent(n_heads: int, d_head: int, d_rope: int, d_kv_latent: int, d_q_latent: int) -> Latent:
    return Latent(
        kind="latent",
        n_heads=n_heads,
        d_nope=d_head,
        d_rope=d_rope,
        d_value=d_head,
        d_kv_latent=d_kv_latent,
        d_q_latent=d_q_latent,
    )


def experts(d_dense: int, d_expert: int) -> Routed:
    return Routed(kind="routed", d_dense=d_dense, n_routed=16, n_active=4, d_expert=d_expert)


def raw_model(place: Place, spec: Spec, dtype: torch.dtype, kernels: Kernels | None = None) -> Transformer:
    """Normal weights, made where they are needed: for speed alone."""
    with torch.device(place.device):
        model = Transformer(spec, kernels)
        for parameter in model.parameters():
            parameter.data = torch.ones(parameter.shape, dtype=dtype)
            if parameter.ndim > 1:
                parameter.data.normal_(std=parameter.shape[-1] ** -0.5)
    return model


def model_on(
    device: torch.device, spec: Spec, dtype: torch.dtype = torch.float32, kernels: Kernels | None = None
) -> Transformer:
    """The same weights on every device, routing biases in float32 as everywhere."""
    model = start_weights(spec, kernels)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device, dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(device))
    return model


def random_ids(spec: Spec, *shape: int, seed: int = 0) -> Tensor:
    """On the processor, the same everywhere."""
    return torch.randint(8, spec.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def random_batch(spec: Spec, rows: int, T: int, seed: int = 0) -> Batch:
    """Two documents a row, every token trained but the last of each."""
    ids_BT = random_ids(spec, rows, T + 1, seed=seed)
    doc_BT = (torch.arange(T) >= T // 2).int().expand(rows, T).contiguous()
    targets_BT = ids_BT[:, 1:].clone()
    targets_BT[:, [T // 2 - 1, T - 1]] = -100
    return Batch(ids_BT[:, :-1].contiguous(), targets_BT, doc_BT)
