"""Muon for matrices, AdamW for the rest; float32 master weights behind a model of any precision.

What a checkpoint asks of an optimiser, whatever the mesh:

    tensors()  "master.NAME", "first.NAME", "second.NAME" -> Tensor, "steps" -> one number; NAME as the whole
               model calls the parameter.  A sharded one is a DTensor of the whole shape, whose local part is
               the optimiser's own memory: what is written into it in place is loaded.
    load(t)    The same names, each a DTensor like ours, ours itself, or whole on every rank; then the model
               has the masters.  In a pipeline a rank has the names of its own layers alone.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from nomoat.config import Positive, Rate, Strict, Weight
from nomoat.model.linear import roles
from nomoat.parallel import fsdp, owners
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.parallel.pipeline import Pipeline
from nomoat.parallel.process import fast_bf16

# Jordan et al. 2024, "Muon": steepest at zero, singular values end in 0.7 … 1.2
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
IN_CACHE = 2**16  # numbers
AT_ONCE = 2**24  # numbers whose gradients AdamW takes at a time
Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Strict):
    """Learning rates are peaks; the schedule multiplies them."""

    matrices: Literal["muon", "adamw"] = "muon"
    muon_lr: Rate = 0.02
    adam_lr: Rate = 3e-3
    gain_lr: Rate | None = None  # of the norms' gains, absent: adam_lr
    momentum: Momentum = 0.95
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0, le=1)
    weight_decay: Weight = 0.0
    clip_norm: Positive = 1.0
    newton_schulz_steps: int = Field(5, ge=1, le=100)


def orthogonalise(g: Tensor, steps: int) -> Tensor:
    """The nearest (semi-)orthogonal matrices to a stack (n, r, c), by Newton-Schulz in bf16.

    In float32 where bf16 is slow.
    """
    a, b, c = NEWTON_SCHULZ
    x = g.to(muon_dtype(g.device))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def muon_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if fast_bf16(device) else torch.float32


class Optimizer:
    """Updates a model in place from its .grad fields; everything it knows is in `tensors()`.

    `master`, `first` and `second` are this rank's parts, of a model that isn't sharded all of it.
    """

    def __init__(
        self, model: nn.Module, config: OptimConfig, mesh: Mesh = ALONE, pipeline: Pipeline | None = None
    ):
        self.config = config
        self.pipeline = pipeline
        self.mesh = mesh
        self.steps = 0
        params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.params = params

        # Who is updated by which; a stack is what Newton-Schulz takes at once.
        role = roles(model) if config.matrices == "muon" else {}
        self.muon = [name for name in params if role.get(name) == "hidden"]
        self.adam = [name for name in params if name not in self.muon]
        self.stacks = defaultdict(list)
        for name in self.muon:
            rows_and_columns = params[name].shape[-2:]
            self.stacks[tuple(rows_and_columns)].append(name)

        # Weights and moments in float32; of a float32 model the weights are its own.
        self.master = {name: fsdp.local(p.detach()).float() for name, p in params.items()}
        self.first = {name: torch.zeros_like(m) for name, m in self.master.items()}
        self.second = {name: torch.zeros_like(self.master[name]) for name in self.adam}

    def grads(self) -> dict[str, Tensor]:
        """This rank's parts of the gradients that there are."""
        present = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        return {name: fsdp.local(grad) for name, grad in present.items()}

    def grad_norm(self) -> float:
        """Of the whole model, summed in float64 and then float32, so that the parts it is summed in make no
        difference."""
        squares = torch.zeros((), dtype=torch.float64, device=self.mesh.device)
        for name, grad in self.grads().items():
            ends = 2 if self.pipeline and name in self.pipeline.shared else 1
            squares += sum_of_squares(grad) / (ends * fsdp.n_copies(self.params[name], self.mesh))
        if self.mesh.world > 1:
            dist.all_reduce(squares)
        return squares.sqrt().float().item()

    @torch.no_grad()
    def step(self, factor: float, grad_norm: float) -> None:
        """One update with the learning rates times `factor`; gradients are clipped to `clip_norm` and
        cleared.
        """
        self.steps += 1
        scale = min(1.0, self.config.clip_norm / (grad_norm + 1e-6))
        for shape, names in self.stacks.items():
            self._muon(shape, names, factor, scale)
        self._adam(factor, scale)
        self.clear()

    def clear(self) -> None:
        for p in self.params.values():
            p.grad = None

    def _muon(self, shape: tuple[int, ...], names: list[str], factor: float, scale: float) -> None:
        """Muon (Jordan et al. 2024), on a stack of matrices W (r, c) of one shape:

        m = mu m + (1 - mu) g;  u = mu m + (1 - mu) g;  W = (1 - lr decay) W - lr sqrt(max(1, r / c)) NS(u)
        """
        c = self.config
        params = [self.params[name] for name in names]
        dtype = muon_dtype(self.mesh.device)
        steep = [self._nesterov(name, scale).to(dtype) for name in names]
        turn = self.muon.index(names[0])
        updates = owners.once(params, steep, self._orthogonal, self.mesh, turn)
        lr = c.muon_lr * factor * math.sqrt(max(1.0, shape[0] / shape[1]))
        for name, update in zip(names, updates):
            master = self.master[name]
            if c.weight_decay:
                master.mul_(1 - c.weight_decay * c.muon_lr * factor)
            master.sub_(update.view_as(master), alpha=lr)
        self._show(names)

    def _orthogonal(self, stack: Tensor) -> Tensor:
        return orthogonalise(stack, self.config.newton_schulz_steps)

    def _nesterov(self, name: str, scale: float) -> Tensor:
        """Moves the momentum of a matrix; gives where its update points."""
        momentum, first, grad = self.config.momentum, self.first[name], self.params[name].grad
        grad = torch.zeros_like(first) if grad is None else fsdp.local(grad).float() * scale
        first.lerp_(grad, 1 - momentum)
        return grad.lerp(first, momentum)

    def _adam(self, factor: float, scale: float) -> None:
        """Embeddings, head and routers; gains have a rate of their own and don't decay."""
        c = self.config
        gain_lr = c.adam_lr if c.gain_lr is None else c.gain_lr
        matrices, gains = [], []
        for name in self.adam:
            p = self.params[name]
            if p.grad is not None:
                (matrices if p.ndim >= 2 else gains).append(name)
        for some in self._few(matrices):
            self._adamw(some, c.adam_lr * factor, c.weight_decay, scale)
        self._adamw(gains, gain_lr * factor, 0.0, scale)

    def _few(self, names: list[str]) -> Iterator[list[str]]:
        """The names in groups of AT_ONCE numbers or one tensor: their gradients are copied to float32."""
        group, held = [], 0
        for name in names:
            n = self.master[name].numel()
            if group and held + n > AT_ONCE:
                yield group
                group, held = [], 0
            group.append(name)
            held += n
        if group:
            yield group

    def _adamw(self, names: list[str], lr: float, decay: float, scale: float) -> None:
        """AdamW (arXiv 1711.05101, algorithm 2), by PyTorch's fused kernel, on master weights w:

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        w = (1 - lr decay) w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
        """
        if not names:
            return
        c = self.config
        master, first, second = ([d[n] for n in names] for d in (self.master, self.first, self.second))
        device = master[0].device
        torch._fused_adamw_(
            master,
            [fsdp.local(self.params[n].grad).float() for n in names],
            first,
            second,
            [],
            [torch.tensor(float(self.steps), device=device)] * len(names),
            lr=lr,
            beta1=c.betas[0],
            beta2=c.betas[1],
            weight_decay=decay,
            eps=c.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=None if scale == 1.0 else torch.tensor(1 / scale, device=device),
        )
        self._show(names)

    @torch.no_grad()
    def _show(self, names: Iterable[str]) -> None:
        """The model has the masters, rounded, where they aren't its own."""
        for name in names:
            p, master = fsdp.local(self.params[name]), self.master[name]
            if p.data_ptr() != master.data_ptr():
                p.copy_(master)

    def flops(self) -> int:
        """FLOPs of this rank's share of a step's Newton-Schulz iterations: per m x n matrix, m <= n,
        2 (2 m^2 n + m^3) each."""
        total = 0
        for shape, names in self.stacks.items():
            m, n = sorted(shape)
            count = sum(self.params[name].numel() // (m * n) for name in names)
            total += count * self.config.newton_schulz_steps * 2 * (2 * m * m * n + m**3)
        return total // self.mesh.data_world

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name; `load` puts it back bit for bit."""
        return {**self._named(), "steps": torch.tensor(self.steps)}

    def _named(self) -> dict[str, Tensor]:
        kinds = {"master": self.master, "first": self.first, "second": self.second}
        return {
            f"{kind}.{name}": fsdp.like(part, self.params[name])
            for kind, table in kinds.items()
            for name, part in table.items()
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        self.steps = int(tensors["steps"])
        for name, tensor in self._named().items():
            fsdp.fill(tensor, tensors[name])
        self._show(self.params)

    def whole(self, name: str) -> Tensor:
        """A master weight in one piece, on every rank; collective where it is sharded."""
        return fsdp.whole(fsdp.like(self.master[name], self.params[name]))


def sum_of_squares(x: Tensor) -> Tensor:
    """In float64, a piece at a time, on a processor small enough for its cache.  In float32 a large tensor's
    norm is too small there (findings/torch-vector-norm-on-cpu.sh).
    """
    pieces = x.flatten().split(IN_CACHE if x.device.type == "cpu" else AT_ONCE)
    norms = [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in pieces]
    return torch.stack(norms).square().sum() if norms else x.new_zeros((), dtype=torch.float64)
