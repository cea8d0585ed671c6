"""Laws that hold on any device, each a function that gives by how much it is broken."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from benchmarks.gpu.measure import Place, Result, model_on, random_batch, random_ids, small_spec
from nomoat.engine.generate import sample
from nomoat.engine.sampling import choose, uniforms
from nomoat.lab import fp8
from nomoat.model.loss import IGNORED, cross_entropy, divergence
from nomoat.model.norm import RMSNorm
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.train import checkpoint
from nomoat.train.objective import ObjectiveConfig, document_mask, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.weights import directory as weights

B, T, N_STEPS = 3, 48, 8
PROCESSOR = torch.device("cpu")
GROUPED = {"kind": "grouped", "n_heads": 4, "n_kv_heads": 2, "d_head": 16}


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value; inf where something is not finite."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    largest = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    return float(largest) if torch.isfinite(largest) else float("inf")


# --- attention and cache ---


def absorbed_as_whole_rows(device: torch.device) -> float:
    return decoded_as_whole_rows(device)


def absorbed_without_query_latent_as_whole_rows(device: torch.device) -> float:
    attention = small_spec().attention.model_dump()
    return decoded_as_whole_rows(device, attention={**attention, "d_q_latent": None})


def grouped_as_whole_rows(device: torch.device) -> float:
    return decoded_as_whole_rows(device, attention=GROUPED)


@torch.no_grad()
def decoded_as_whole_rows(device: torch.device, **changes: object) -> float:
    """Log-probabilities of what the engine writes behind unequal prompts, beside whole forward passes."""
    spec = small_spec(**changes)
    model = model_on(device, spec).eval()
    prompts = []
    for i, ids_T in enumerate(random_ids(spec, B, T - N_STEPS)):
        prompts.append(ids_T[7 * i :].tolist())
    groups = sample(model, prompts, max_new_tokens=N_STEPS, seed=0, stop_ids=())
    gaps = []
    for prompt, [written] in zip(prompts, groups):
        row = [*prompt, *written.ids_T.tolist()]
        ids_T = torch.tensor(row, device=device)
        whole = log_probs(model, ids_T)
        gaps.append(gap(written.logp_T.to(device), whole[len(prompt) - 1 :]))
    return max(gaps)


def log_probs(model: Transformer, ids_T: Tensor) -> Tensor:
    """Of each id but the first."""
    logp_TV = model(ids_T[None])[0, :-1].log_softmax(-1)
    return logp_TV.gather(1, ids_T[1:, None])[:, 0]


@torch.no_grad()
def packed_as_apart(device: torch.device) -> float:
    """Two documents in one row, beside each alone: positions count only as distances."""
    spec = small_spec()
    model, ids_BT = model_on(device, spec), random_ids(spec, 2, T // 2).to(device)
    doc_BT = torch.arange(2, device=device).repeat_interleave(T // 2)[None]
    h_BTD, _ = model.hidden(ids_BT.view(1, T), mask=document_mask(doc_BT))
    return gap(model.logits(h_BTD).view(2, T // 2, -1), model(ids_BT))


def batched_as_alone(device: torch.device) -> float:
    """The share of answers that differ when their prompt stands alone."""
    spec = small_spec()
    model = model_on(device, spec).eval()
    prompts = []
    for i, ids_T in enumerate(random_ids(spec, 8, T)):
        prompts.append(ids_T[: 12 + 5 * i].tolist())
    together = answers(model, prompts, range(8))
    differ = 0
    for i in range(8):
        differ += answers(model, [prompts[i]], [i]) != [together[i]]
    return differ / 8


def answers(model: Transformer, prompts: list[list[int]], keys: Sequence[int]) -> list[list[int]]:
    groups = sample(model, prompts, max_new_tokens=16, seed=3, stop_ids=(9,), keys=keys)
    return [one.ids_T.tolist() for (one,) in groups]


# --- two ways to compute the same ---


def gradients(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    kernels: Kernels | None = None,
    **changes: object,
) -> Tensor:
    """Loss and all gradients of one packed batch; rows are long enough for plain attention's halves."""
    spec = small_spec(**changes)
    model = model_on(device, spec, dtype, kernels)
    left = gradient(model, random_batch(spec, B, spec.context), ObjectiveConfig())
    return flat([torch.tensor([left.loss]), *(p.grad for p in model.parameters() if p.grad is not None)])


@contextmanager
def sharded(device: torch.device) -> Iterator[Transformer]:
    """The model under FSDP2 on one rank."""
    how = {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **how)
    try:
        mesh = init_device_mesh(device.type, (1,))
        model = model_on(device, small_spec())
        for part in (*model.blocks, *(depth.block for depth in model.depths), model):
            fully_shard(part, mesh=mesh)
        register_fsdp_forward_method(model, "hidden")
        yield model
    finally:
        dist.destroy_process_group()


def sharded_as_plain(device: torch.device) -> float:
    """Loss and all gradients under FSDP2, beside the model as it is."""
    with sharded(device) as model:
        left = gradient(model, random_batch(model.spec, B, model.spec.context), ObjectiveConfig())
        grads = [p.grad.full_tensor() for p in model.parameters() if p.grad is not None]
        return gap(flat([torch.tensor([left.loss]), *grads]), gradients(device))


def sharded_steps_as_plain(device: torch.device) -> float:
    """All weights after three steps of AdamW under FSDP2, beside the model as it is."""
    with sharded(device) as model:
        stepped(model)
        plain = stepped(model_on(device, small_spec()))
        return gap(flat([p.full_tensor() for p in model.parameters()]), flat(plain.parameters()))


def stepped(model: Transformer) -> Transformer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for seed in range(3):
        gradient(model, random_batch(model.spec, B, T, seed), ObjectiveConfig())
        optimizer.step()
        optimizer.zero_grad()
    return model


def of_kernels(device: torch.device, one: Kernels, other: Kernels, **changes: object) -> float:
    pair = [gradients(device, kernels=kernels, **changes) for kernels in (one, other)]
    return gap(*pair)


def sorted_as_wide(device: torch.device) -> float:
    return of_kernels(device, Kernels(experts="sorted"), Kernels(experts="wide"))


def plain_as_fused(device: torch.device) -> float:
    return of_kernels(device, Kernels(attention="plain"), Kernels(attention="fused"))


def grouped_plain_as_fused(device: torch.device) -> float:
    one, other = Kernels(attention="plain"), Kernels(attention="fused")
    return of_kernels(device, one, other, attention=GROUPED)


def bf16_gradients_as_fp32(device: torch.device) -> float:
    """One less the cosine of the angle between them: some tokens go to other experts."""
    half, whole = gradients(device, torch.bfloat16)[1:], gradients(device)[1:]
    return 1 - float(F.cosine_similarity(half, whole, 0))


def loss_in_chunks(device: torch.device) -> float:
    """More rows than one chunk holds, beside torch's cross entropy, gradients included."""
    M, D, V = 9001, 32, 300
    inputs = [leaf(device, M, D), leaf(device, V, D)]
    targets_M = torch.arange(M, device=device) * 37 % V
    targets_M[::7] = IGNORED
    ours, _ = cross_entropy(*inputs, targets_M)
    theirs = F.cross_entropy(F.linear(*inputs), targets_M, ignore_index=IGNORED)
    return gap_of_gradients(ours, theirs, inputs)


def gap_of_gradients(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> float:
    """Of two results and of their gradients by the inputs."""
    grad = torch.arange(1.0, 1 + ours.numel(), device=ours.device).view_as(ours)
    a, b = (torch.autograd.grad(y, inputs, grad, retain_graph=True) for y in (ours, theirs))
    return max(gap(ours, theirs), *map(gap, a, b))


def leaf(device: torch.device, *shape: int) -> Tensor:
    """Normal numbers, the same on every device."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))
    return numbers.to(device).requires_grad_()


def divergence_of_itself(device: torch.device) -> float:
    """KL of a distribution to itself, in nats: zero, forward and reverse."""
    pair = leaf(device, 700, 16).detach(), leaf(device, 90, 16).detach()
    return max(abs(float(divergence(*pair, *pair, reverse=reverse))) for reverse in (False, True))


def norm_as_written(device: torch.device) -> float:
    """x / sqrt(mean(x^2) + eps) * weight and its gradients, from a slice that doesn't lie dense."""
    x, norm = leaf(device, 5, 7, 96), RMSNorm(48, 1e-6).to(device)
    norm.weight.data.copy_(leaf(device, 48).detach())
    part = x[..., 20:68]
    scale = torch.rsqrt(part.square().mean(-1, keepdim=True) + 1e-6)
    return gap_of_gradients(norm(part), part * scale * norm.weight, [x, norm.weight])


# --- as on the processor ---


def gradients_as_on_the_processor(device: torch.device) -> float:
    return gap(gradients(device), gradients(PROCESSOR))


def optimiser_as_on_the_processor(device: torch.device, matrices: str = "adamw") -> float:
    """Three steps from the same gradients, clipping included."""
    return gap(moved(device, matrices), moved(PROCESSOR, matrices))


def moved(device: torch.device, matrices: str) -> Tensor:
    """How far three steps moved the weights."""
    model = model_on(device, small_spec())
    optimizer = Optimizer(model, OptimConfig(matrices=matrices, weight_decay=0.1))
    before = flat(optimizer.master.values())
    for _ in range(3):
        for p in model.parameters():
            p.grad = leaf(device, *p.shape).detach()
        optimizer.step(1.0, float(optimizer.grad_norm()))
    return flat(optimizer.master.values()) - before


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().float().cpu() for tensor in tensors])


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
        model = model_on(place, small_spec(ffn={"kind": "dense", "d_hidden": 128}))
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
    return gap(*(flat(model.parameters()) for model in models))


LAWS: dict[Callable[..., float], float] = {  # each with what rounding may cost
    absorbed_as_whole_rows: 1e-4,
    absorbed_without_query_latent_as_whole_rows: 1e-4,
    grouped_as_whole_rows: 1e-4,
    packed_as_apart: 1e-4,
    batched_as_alone: 0.13,  # one answer of eight may part where rounding decides
    sharded_as_plain: 1e-6,
    sharded_steps_as_plain: 1e-6,
    sorted_as_wide: 1e-4,
    plain_as_fused: 1e-4,
    grouped_plain_as_fused: 1e-4,
    bf16_gradients_as_fp32: 0.02,
    loss_in_chunks: 1e-4,
    divergence_of_itself: 1e-5,
    norm_as_written: 1e-4,
    gradients_as_on_the_processor: 1e-3,
    optimiser_as_on_the_processor: 1e-4,
    muon_as_on_the_processor: 0.1,  # Newton-Schulz is in bf16
    draws_as_on_the_processor: 1e-3,
    fp8_as_on_the_processor: 0.1,  # a rounding that falls the other way is worth a sixteenth
    saved_weights_as_loaded: 1e-5,
    resumed_as_undisturbed: 1e-5,
}


def laws(place: Place) -> Iterator[Result]:
    yield from checked("laws", LAWS, place)


def checked(part: str, table: Mapping[Callable[..., float], float], place: Place) -> Iterator[Result]:
    """Each law's breach; a law that raises is one line like the others."""
    for law, allowed in table.items():
        name = law.__name__.replace("_", " ")
        try:
            breach = law(place.device)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            yield Result(part, name, "FAILED", "", " ".join(str(error).split())[:200])
            continue
        holds = "holds" if breach <= allowed else "BROKEN"
        yield Result(part, name, breach, "", f"{holds}, {allowed:g} allowed")
