"""Laws that hold on any device, each a function that gives by how much it is broken: a share of the largest value."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.measure import Place, Result, model_on, random_batch, random_ids, small_spec
from nomoat.engine.decoder import Decoder
from nomoat.engine.engine import sample
from nomoat.engine.sampling import choose, uniforms
from nomoat.lab import fp8
from nomoat.model.cache import LatentCache
from nomoat.model.loss import cross_entropy, divergence
from nomoat.model.norm import rms_norm
from nomoat.model.spec import ModelSpec
from nomoat.train import checkpoint
from nomoat.train.objective import ObjectiveConfig, document_mask, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.weights import directory as weights

B, T, SPLIT = 3, 48, 29
PROCESSOR = torch.device("cpu")
GROUPED = {"mixer": "gqa", "n_kv_heads": 2, "d_nope": 0, "d_kv_latent": 0, "d_q_latent": None, "d_rope": 16}


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value; inf where something is not finite."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    largest = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    return float(largest) if torch.isfinite(largest) else float("inf")


# --- attention and cache ---


@torch.no_grad()
def behind_cache(device: torch.device, spec: ModelSpec, sizes: list[int]) -> float:
    """Logits of a row that is read piece by piece behind a cache, beside those of the whole row."""
    model, ids_BT = model_on(device, spec), random_ids(spec, B, T).to(device)
    cache = LatentCache(spec, B, T, device=device)
    pieces = [model(piece, cache=cache) for piece in ids_BT.split(sizes, 1)]
    return gap(torch.cat(pieces, 1), model(ids_BT))


def cached_as_full(device: torch.device) -> float:
    return behind_cache(device, small_spec(), [SPLIT, *[1] * (T - SPLIT)])


def absorbed_as_naive(device: torch.device) -> float:
    return behind_cache(device, small_spec(), [SPLIT, T - SPLIT])


def grouped_cached_as_full(device: torch.device) -> float:
    return behind_cache(device, small_spec(**GROUPED), [SPLIT, *[1] * (T - SPLIT)])


@torch.no_grad()
def decoded_as_full(device: torch.device, **changes: object) -> float:
    """The engine's columns for rows of unequal prompts, beside a forward pass of each row alone."""
    spec = small_spec(**changes)
    model, ids_BT = model_on(device, spec), random_ids(spec, B, T)
    starts = [SPLIT, SPLIT - 7, SPLIT - 16]
    with torch.inference_mode():
        decoder = Decoder(model)
        logits = [decoder.prefill([row[:n].tolist() for row, n in zip(ids_BT, starts)], 8, 0)]
        for step in range(8):
            next_B = torch.stack([row[n + step] for row, n in zip(ids_BT, starts)])
            logits.append(decoder.step(next_B.to(device)))
    full = [model(row[None, : n + 8].to(device))[0, n - 1 : n + 8] for row, n in zip(ids_BT, starts)]
    return gap(torch.stack(logits, 1), torch.nn.utils.rnn.pad_sequence([row[:9] for row in full], True))


def grouped_decoded_as_full(device: torch.device) -> float:
    return decoded_as_full(device, **GROUPED)


@torch.no_grad()
def packed_as_apart(device: torch.device) -> float:
    """Two documents in one row, beside each alone: they don't see each other, and positions count only as distances."""
    spec = small_spec()
    model, ids_BT = model_on(device, spec), random_ids(spec, 2, T // 2).to(device)
    doc_BT = torch.arange(2, device=device).repeat_interleave(T // 2)[None]
    h_BTD, _ = model.hidden(ids_BT.view(1, T), mask=document_mask(doc_BT))
    return gap(model.logits(h_BTD).view(2, T // 2, -1), model(ids_BT))


def batched_as_alone(device: torch.device) -> float:
    """The share of sampled ids that differ when a prompt stands alone."""
    spec = small_spec()
    model = model_on(device, spec).eval()
    prompts = [row[: 12 + 5 * i].tolist() for i, row in enumerate(random_ids(spec, 4, T))]
    how = {"n_per_prompt": 2, "max_new_tokens": 16, "seed": 3, "stop_ids": (9,), "pad_id": 0}
    together = sample(model, prompts, **how)
    alone = [sample(model, [prompt], keys=[i], **how)[0] for i, prompt in enumerate(prompts)]
    same = [torch.equal(a.ids_T, b.ids_T) for pair in zip(together, alone) for a, b in zip(*pair)]
    return 1 - sum(same) / len(same)


# --- two ways to compute the same ---


def gradients(device: torch.device, **changes: object) -> Tensor:
    """Loss and all gradients of one packed batch, end to end."""
    spec = small_spec(**changes)
    model = model_on(device, spec)
    left = gradient(model, random_batch(spec, B, T), ObjectiveConfig())
    parts = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return torch.cat([torch.tensor([left.loss]), *parts])


def sorted_as_wide(device: torch.device) -> float:
    return gap(gradients(device, experts="sorted"), gradients(device, experts="wide"))


def plain_as_fused(device: torch.device) -> float:
    return gap(gradients(device, attention="plain", context=160), gradients(device, attention="fused"))


def grouped_plain_as_fused(device: torch.device) -> float:
    return gap(gradients(device, attention="plain", **GROUPED), gradients(device, attention="fused", **GROUPED))


def loss_in_chunks(device: torch.device) -> float:
    """More rows than one chunk holds, beside torch's cross entropy, gradients included."""
    generator = torch.Generator().manual_seed(0)
    h_MD, head_VD = (torch.randn(n, 32, generator=generator).to(device).requires_grad_() for n in (9001, 300))
    targets_M = torch.randint(300, (9001,), generator=generator).to(device)
    targets_M[::7] = -100
    ours, _ = cross_entropy(h_MD, head_VD, targets_M)
    theirs = F.cross_entropy(h_MD @ head_VD.T, targets_M, ignore_index=-100)
    pairs = [(ours, theirs)]
    inputs = (h_MD, head_VD)
    pairs += zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs))
    return max(gap(a, b) for a, b in pairs)


def divergence_of_itself(device: torch.device) -> float:
    """KL of a distribution to itself, in nats: zero, forward and reverse."""
    generator = torch.Generator().manual_seed(0)
    h_MD, head_VD = (torch.randn(n, 16, generator=generator).to(device) for n in (700, 90))
    return max(abs(float(divergence(h_MD, head_VD, h_MD, head_VD, reverse=reverse))) for reverse in (False, True))


def norm_as_written(device: torch.device) -> float:
    """x / sqrt(mean(x^2) + eps) * weight and its gradients, from a slice that doesn't lie dense."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, 96, generator=generator).to(device).requires_grad_()
    weight = torch.randn(48, generator=generator).to(device).requires_grad_()
    part = x[..., 20:68]
    ours = rms_norm(part, weight, 1e-6)
    theirs = part * torch.rsqrt(part.square().mean(-1, keepdim=True) + 1e-6) * weight
    factor = torch.arange(48, device=device)
    a, b = (torch.autograd.grad((y * factor).sum(), (x, weight), retain_graph=True) for y in (ours, theirs))
    return max(gap(ours, theirs), *(gap(*pair) for pair in zip(a, b)))


# --- as on the processor ---


def gradients_as_on_the_processor(device: torch.device) -> float:
    return gap(gradients(device), gradients(PROCESSOR))


def optimiser_as_on_the_processor(device: torch.device, matrices: str = "adamw") -> float:
    """Master weights after three steps from the same gradients, clipping included."""
    ends = []
    for place in (PROCESSOR, device):
        model = model_on(place, small_spec())
        before = torch.cat([p.detach().flatten().cpu() for p in model.parameters()])
        optimizer = Optimizer(model, OptimConfig(matrices=matrices, weight_decay=0.1))
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator).to(place)
            optimizer.step(1.0, float(optimizer.grad_norm()))
        ends.append(torch.cat([optimizer.master[name].flatten().cpu() for name in optimizer.params]) - before)
    return gap(ends[1], ends[0])


def muon_as_on_the_processor(device: torch.device) -> float:
    return optimiser_as_on_the_processor(device, "muon")


def draws_as_on_the_processor(device: torch.device) -> float:
    """The share of ids that differ for the same logits and the same uniform numbers."""
    logits_BV = 3 * torch.randn(4096, 1000, generator=torch.Generator().manual_seed(0))
    uniform_B = uniforms(0, [(i, 0) for i in range(4096)], 1)[:, 0]
    there, _ = choose(logits_BV.to(device), uniform_B.to(device))
    return float((there.cpu() != choose(logits_BV, uniform_B)[0]).double().mean())


def fp8_as_on_the_processor(device: torch.device) -> float:
    found = []
    for place in (device, PROCESSOR):
        model = model_on(place, small_spec(n_routed=0, n_groups=1, n_active_groups=1, n_dense_layers=3, n_mtp=0))
        with torch.no_grad(), fp8.emulated(model):
            found.append(model(random_ids(model.spec, B, T).to(place)))
    return gap(*found)


# --- files ---


@torch.no_grad()
def saved_weights_as_loaded(device: torch.device) -> float:
    spec = small_spec()
    model, ids_BT = model_on(device, spec), random_ids(spec, B, T).to(device)
    with tempfile.TemporaryDirectory() as directory:
        weights.save(model, directory)
        again = weights.load(directory)
    return gap(again.to(device)(ids_BT), model(ids_BT))


def resumed_as_undisturbed(device: torch.device) -> float:
    """Weights after four steps, and after two, a checkpoint, and two of a new optimiser that loaded it."""
    spec = small_spec()

    def steps(model: torch.nn.Module, optimizer: Optimizer, seeds: range) -> None:
        for seed in seeds:
            gradient(model, random_batch(spec, B, T, seed), ObjectiveConfig())
            optimizer.step(1.0, float(optimizer.grad_norm()))

    models = [model_on(device, spec) for _ in range(2)]
    optimizers = [Optimizer(model, OptimConfig()) for model in models]
    steps(models[0], optimizers[0], range(2))
    with tempfile.TemporaryDirectory() as directory:
        path = checkpoint.save(Path(directory), 2, {"optimizer": optimizers[0].tensors()}, {})
        optimizers[1].load(checkpoint.load(path)[0]["optimizer"])
    for model, optimizer in zip(models, optimizers):
        steps(model, optimizer, range(2, 4))
    return gap(*(torch.cat([p.flatten() for p in model.parameters()]) for model in models))


LAWS: dict[Callable[..., float], float] = {  # each with what rounding may cost
    cached_as_full: 1e-4,
    absorbed_as_naive: 1e-4,
    grouped_cached_as_full: 1e-4,
    decoded_as_full: 1e-4,
    grouped_decoded_as_full: 1e-4,
    packed_as_apart: 1e-4,
    batched_as_alone: 0.13,  # one row of eight may part where rounding decides
    sorted_as_wide: 1e-4,
    plain_as_fused: 1e-4,
    grouped_plain_as_fused: 1e-4,
    loss_in_chunks: 1e-4,
    divergence_of_itself: 1e-5,
    norm_as_written: 1e-4,
    gradients_as_on_the_processor: 1e-3,
    optimiser_as_on_the_processor: 1e-4,
    muon_as_on_the_processor: 3e-2,  # Newton-Schulz is in bf16
    draws_as_on_the_processor: 1e-3,
    fp8_as_on_the_processor: 5e-2,  # a rounding that falls the other way is worth a sixteenth
    saved_weights_as_loaded: 1e-5,
    resumed_as_undisturbed: 1e-5,
}


def laws(place: Place) -> Iterator[Result]:
    """Each law's breach; a law that raises is one line like the others."""
    for law, allowed in LAWS.items():
        name = law.__name__.replace("_", " ")
        try:
            breach = law(place.device)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            yield Result("laws", name, "FAILED", "", " ".join(str(error).split())[:200])
            continue
        holds = "holds" if breach <= allowed else "BROKEN"
        yield Result("laws", name, breach, "", f"{holds}, {allowed:g} allowed")
