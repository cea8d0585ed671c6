"""What may be faster on a card, each beside what it has to equal: by how much it differs, and its speed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import grouped, laws
from benchmarks.gpu.laws import gap
from benchmarks.gpu.measure import (
    Place,
    Result,
    model_on,
    random_batch,
    random_ids,
    shapes,
    small_spec,
    spend,
)
from nomoat.lab import fp8
from nomoat.model.kernels import PlainAttention
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.train.objective import ObjectiveConfig, gradient

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "composed": SDPBackend.MATH,
}
DENSE = {"kind": "dense", "d_hidden": 128}
HEADS = 16, 128 + 64, 128  # heads, widths of a query and of a value, as in V3
WARM = 3  # steps on a stream of their own, before one is captured


# --- attention of latent heads ---


def heads(
    device: torch.device, rows: int, T: int, shape: tuple[int, int, int], dtype: torch.dtype
) -> list[Tensor]:
    H, d_query, d_value = shape
    widths = (d_query, d_query, d_value)
    made = [laws.leaf(device, rows, H, T, width).detach().to(dtype) for width in widths]
    return [one.requires_grad_() for one in made]


def attention(q: Tensor, k: Tensor, v: Tensor, *, padded: bool) -> Tensor:
    """Causal; `padded`: values filled up to the width of queries, which some kernels ask for."""
    width = v.shape[-1]
    if padded:
        v = F.pad(v, (0, q.shape[-1] - width))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., :width]


def attention_as_plain(device: torch.device, padded: bool = False) -> float:
    """Output and gradients, beside the formula."""
    T = 40
    inputs = heads(device, 2, T, (4, 24, 16), torch.float32)
    closed = torch.full((1, 1, T, T), float("-inf"), device=device)
    plain = PlainAttention.apply(*inputs, closed.triu(1), 24**-0.5)
    return laws.gap_of_gradients(attention(*inputs, padded=padded), plain, inputs)


def padded_attention_as_plain(device: torch.device) -> float:
    return attention_as_plain(device, padded=True)


def attention_speed(place: Place) -> Iterator[Result]:
    """Every backend, values as they are and filled up, forward and backward in bf16."""
    rows, T, shape = (2, 64, (4, 24, 16)) if place.dry else (4, 4096, HEADS)
    H, d_query, d_value = shape
    flops = 3.5 * 2 * rows * H * (T * T / 2) * (d_query + d_value)
    for padded in (False, True):
        for name, backend in BACKENDS.items():
            what = f"attention, {name}{', values filled up' if padded else ''}"
            inputs = heads(place.device, rows, T, shape, torch.bfloat16)

            def both(backend=backend, inputs=inputs, padded=padded) -> None:
                with sdpa_kernel(backend):
                    out = attention(*inputs, padded=padded)
                torch.autograd.grad(out, inputs, torch.ones_like(out))

            yield timed(place, what, both, flops)


def timed(place: Place, what: str, call: Callable[[], object], flops: float) -> Result:
    """TFLOP/s of a call; what a device does not take is a line that says so."""
    try:
        seconds = shortly(place, call)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        complaint = " ".join(str(error).split())
        return Result("kernels", what, "not taken", "", complaint[:160])
    speed = flops / seconds / 1e12
    return Result("kernels", what, speed, "TFLOP/s", f"{1e3 * seconds:.3f} ms")


def shortly(place: Place, call: Callable[[], object]) -> float:
    """Seconds of a call that has been made before, from a quarter of a measurement."""
    call()
    part = replace(place, seconds=place.seconds / 4)
    return spend(part, call).median


# --- experts ---


def grouped_as_sorted(device: torch.device, **changes: object) -> float:
    """All gradients in bf16, the experts' products grouped and in padded groups: one less the cosine."""
    spec = small_spec(**changes)
    pair = []
    for change in (grouped.with_grouped, unchanged):
        model = model_on(device, spec, torch.bfloat16, Kernels(experts="sorted"))
        pair.append(gradients(change(model)))
    return 1 - float(F.cosine_similarity(*pair, 0))


def unchanged(model: Transformer) -> Transformer:
    return model


def gradients(model: Transformer) -> Tensor:
    """All of a packed batch."""
    batch = random_batch(model.spec, 3, 48)
    gradient(model, batch, ObjectiveConfig())
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return laws.flat(found)


def grouped_of_odd_widths_as_sorted(device: torch.device) -> float:
    ffn = small_spec().ffn.model_dump()
    return grouped_as_sorted(device, ffn={**ffn, "d_expert": 30})


def rows_behind_the_last_group(device: torch.device) -> float:
    """They are zero, forward and backward, and the others what each matrix alone gives."""
    ends_E = torch.tensor([3, 3, 8], dtype=torch.int32, device=device)
    rows, matrices = (laws.leaf(device, *shape).bfloat16() for shape in ((12, 16), (3, 16, 24)))
    pair = [tensor.detach().requires_grad_() for tensor in (rows, matrices)]
    parts = [pair[0][:3] @ pair[1][0], pair[0][3:8] @ pair[1][2], pair[0][8:] @ pair[1][2] * 0]
    return laws.gap_of_gradients(grouped.grouped_product(*pair, ends_E), torch.cat(parts), pair)


def experts_speed(place: Place) -> Iterator[Result]:
    """Forward and backward of one layer's routed experts in bf16, 124M-active shape."""
    spec = shapes(place.dry)["124M active"].spec.changed(n_layers=2)
    tokens = 64 if place.dry else 2**15
    model = model_on(place.device, spec, torch.bfloat16, Kernels(experts="sorted"))
    layer = model.blocks[-1].ffn
    h_MD = laws.leaf(place.device, tokens, spec.d_model).detach().bfloat16().requires_grad_()
    flops = 3 * 6 * tokens * spec.ffn.n_active * spec.d_model * spec.ffn.d_expert
    routing = layer.route(h_MD.detach())
    ways = {"padded groups": layer.multiply, "one grouped kernel": partial(grouped.grouped, layer)}
    for name, way in ways.items():

        def both(way=way) -> None:
            out = way(h_MD, routing.expert_MK, routing.gate_MK.detach())
            out.backward(torch.ones_like(out))

        what = f"experts, {name}"
        yield timed(place, what, both, flops)


# --- FP8 ---


def operands(device: torch.device, M: int, K: int, N: int) -> list[Tensor]:
    return [laws.leaf(device, *shape).detach().bfloat16() for shape in ((M, K), (N, K), (M, N))]


@torch.no_grad()
def block_scaled_as_emulated(device: torch.device) -> float:
    """The three products, beside those of numbers that went through E4M3 and back (lab/fp8.py)."""
    x_MK, w_NK, grad_MN = operands(device, 256, 384, 128)
    expected = {
        "forward": (x_MK, w_NK, fp8.BLOCK),
        "by the input": (grad_MN, w_NK.t(), fp8.BLOCK),
        "by the weight": (grad_MN.t(), x_MK.t(), fp8.ALONG_ROW),
    }
    gaps = []
    for name, pair in grouped.products_of(x_MK, w_NK, grad_MN).items():
        a, b, tile = expected[name]
        a_8 = fp8.rounded(a, fp8.ALONG_ROW)
        b_8 = fp8.rounded(b, tile)
        found = grouped.scaled_product(*pair())
        gaps.append(gap(found, a_8 @ b_8.mT))
    return max(gaps)


@torch.no_grad()
def fp8_speed(place: Place) -> Iterator[Result]:
    """The three products of the dense 1B shape's widest matrix, in bf16, in FP8 with and without rounding."""
    M, K, N = (128, 256, 128) if place.dry else (16384, 2048, 5632)
    x_MK, w_NK, grad_MN = operands(place.device, M, K, N)
    flops = 2 * M * K * N
    plain = partial(torch.matmul, x_MK, w_NK.t())
    yield timed(place, "a product in bf16", plain, flops)
    for name, pair in grouped.products_of(x_MK, w_NK, grad_MN).items():
        what = f"in FP8, {name}"
        operands_8 = pair()
        made = partial(grouped.scaled_product, *operands_8)
        yield timed(place, what, made, flops)
        whole = partial(rounded_product, pair)
        what = f"{what}, rounding included"
        yield timed(place, what, whole, flops)


def rounded_product(pair: grouped.Operands) -> Tensor:
    return grouped.scaled_product(*pair())


# --- compiled and captured ---


def compiled(model: Transformer, device: torch.device) -> Transformer:
    """Its blocks compiled one by one; off a card without a compiler, only traced."""
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)
    return model


def compiled_as_written(device: torch.device) -> float:
    """All gradients of a packed batch, dense layers."""
    spec = small_spec(ffn=DENSE)
    found = compiled(model_on(device, spec), device)
    expected = model_on(device, spec)
    return gap(gradients(found), gradients(expected))


class Captured:
    """A call that is recorded once on a card and then replayed; elsewhere it is called."""

    def __init__(self, call: Callable[[], None], device: torch.device) -> None:
        self.call, self.graph = call, None
        if device.type != "cuda":
            return
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                call()
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            call()

    def __call__(self) -> None:
        if self.graph is None:
            self.call()
        else:
            self.graph.replay()


def whole_step(model: Transformer, ids_BT: Tensor) -> Callable[[], None]:
    """Forward and backward of a model, gradients written in place: what a graph can hold."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for p in parameters:
        p.grad = torch.zeros_like(p)

    def step() -> None:
        h_BTD, _ = model.hidden(ids_BT)
        loss = model.logits(h_BTD).float().square().mean()
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        for p, grad in zip(parameters, grads):
            if grad is not None:
                p.grad.copy_(grad)

    return step


def captured_as_written(device: torch.device) -> float:
    """Gradients of other ids than those that were there when the step was captured."""
    spec = small_spec(ffn=DENSE, n_mtp=0)
    first, second = (random_ids(spec, 2, 48, seed=seed).to(device) for seed in (0, 1))
    flats = []
    for capture in (partial(Captured, device=device), lambda step: step):
        model = model_on(device, spec, kernels=Kernels(attention="fused"))
        ids_BT = first.clone()
        step = capture(whole_step(model, ids_BT))
        ids_BT.copy_(second)
        step()
        flats.append(laws.flat([p.grad for p in model.parameters()]))
    return gap(*flats)


def steps_speed(place: Place) -> Iterator[Result]:
    """A small step, where starting kernels is what takes time: as written, captured, compiled."""
    spec = small_spec(ffn=DENSE, n_mtp=0)
    if not place.dry:
        ffn = {"kind": "dense", "d_hidden": 1536}
        spec = spec.changed(ffn=ffn, n_layers=8, d_model=512, vocab_size=8192)
    ids_BT = random_ids(spec, 4, 64 if place.dry else 256)
    ids_BT = ids_BT.to(place.device)
    for name in ("as written", "captured", "compiled"):
        model = model_on(place.device, spec, torch.bfloat16)
        if name == "compiled":
            compiled(model, place.device)
        step = whole_step(model, ids_BT)
        if name == "captured":
            step = Captured(step, place.device)
        seconds = shortly(place, step)
        rate = ids_BT.numel() / seconds
        note = f"{1e3 * seconds:.3f} ms"
        yield Result("kernels", f"a small step, {name}", rate, "tokens/s", note)


LAWS: dict[Callable[..., float], float] = {  # each with what rounding may cost
    attention_as_plain: 1e-4,
    padded_attention_as_plain: 1e-4,
    grouped_as_sorted: 1e-3,
    grouped_of_odd_widths_as_sorted: 1e-3,
    rows_behind_the_last_group: 0.02,
    block_scaled_as_emulated: 0.02,  # the result is bf16, and tensor cores sum with fewer bits
    compiled_as_written: 1e-4,
    captured_as_written: 1e-5,
}
SPEEDS = (attention_speed, experts_speed, fp8_speed, steps_speed)


def kernels(place: Place) -> Iterator[Result]:
    yield from laws.checked("kernels", LAWS, place)
    for speed in SPEEDS:
        yield from speed(place)
