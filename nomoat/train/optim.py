"""Muon for matrices, AdamW for the rest; float32 master weights behind a model of any precision."""

import math
from collections import defaultdict
from typing import Literal

import torch
from torch import Tensor, nn

from nomoat.config import Strict
from nomoat.model.linear import roles
from nomoat.parallel.process import fast_bf16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon": steepest at zero, singular values end in 0.7 … 1.2


class OptimConfig(Strict):
    """Learning rates are peaks; the schedule multiplies them."""

    matrices: Literal["muon", "adamw"] = "muon"
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    gain_lr: float | None = None  # of the norms' gains, absent: adam_lr
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    newton_schulz_steps: int = 5


def orthogonalise(g: Tensor, steps: int) -> Tensor:
    """The nearest (semi-)orthogonal matrices to a stack (n, r, c), by Newton-Schulz in bf16.

    In float32 where bf16 is slow.
    """
    a, b, c = NEWTON_SCHULZ
    x = g.bfloat16() if fast_bf16(g.device) else g.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Optimizer:
    """Updates a model in place from its .grad fields; everything it knows is in `tensors()`."""

    def __init__(self, model: nn.Module, config: OptimConfig):
        self.config = config
        self.params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.master = {name: p.detach().float().clone() for name, p in self.params.items()}
        self.first = {name: torch.zeros_like(m) for name, m in self.master.items()}
        role = roles(model)
        self.muon = [n for n in self.params if config.matrices == "muon" and role.get(n) == "hidden"]
        self.adam = [n for n in self.params if n not in set(self.muon)]
        self.second = {name: torch.zeros_like(self.master[name]) for name in self.adam}
        self.steps = 0
        self.stacks: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name in self.muon:
            self.stacks[tuple(self.params[name].shape[-2:])].append(name)

    def grad_norm(self) -> Tensor:
        norms = [torch.linalg.vector_norm(p.grad.float()) for p in self.params.values() if p.grad is not None]
        return torch.linalg.vector_norm(torch.stack(norms))

    @torch.no_grad()
    def step(self, factor: float, grad_norm: float) -> None:
        """One update with the learning rates times `factor`; gradients are clipped to `clip_norm` and cleared."""
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
        c = self.config
        updates = []
        for name in names:
            grad = self.params[name].grad
            grad = torch.zeros_like(self.first[name]) if grad is None else grad.float() * scale
            self.first[name].lerp_(grad, 1 - c.momentum)
            updates.append(grad.lerp(self.first[name], c.momentum).view(-1, *shape))  # Nesterov
        stack = orthogonalise(torch.cat(updates), c.newton_schulz_steps)
        lr = c.muon_lr * factor * math.sqrt(max(1.0, shape[0] / shape[1]))
        for name, update in zip(names, stack.split([len(u) for u in updates])):
            master = self.master[name]
            if c.weight_decay:
                master.mul_(1 - c.weight_decay * c.muon_lr * factor)
            master.sub_(update.view_as(master), alpha=lr)
            self.params[name].copy_(master)

    def _adam(self, factor: float, scale: float) -> None:
        """PyTorch's fused kernel on the master weights; of these only matrices decay."""
        c, present = self.config, [n for n in self.adam if self.params[n].grad is not None]
        gain_lr = c.adam_lr if c.gain_lr is None else c.gain_lr
        for matrices, lr, decay in ((True, c.adam_lr, c.weight_decay), (False, gain_lr, 0.0)):
            names = [n for n in present if (self.params[n].ndim >= 2) == matrices]
            if not names:
                continue
            master, first, second = ([d[n] for n in names] for d in (self.master, self.first, self.second))
            step = torch.tensor(float(self.steps), device=master[0].device)
            torch._fused_adamw_(
                master, [self.params[n].grad.float() for n in names], first, second, [], [step] * len(names),
                lr=lr * factor, beta1=c.betas[0], beta2=c.betas[1], weight_decay=decay, eps=c.eps, amsgrad=False,
                maximize=False, grad_scale=None if scale == 1.0 else torch.tensor(1 / scale, device=step.device),
            )  # fmt: skip
            torch._foreach_copy_([self.params[n].data for n in names], master)

    def flops(self) -> int:
        """FLOPs of one step's Newton-Schulz iterations: per m x n matrix, m <= n, 2 (2 m^2 n + m^3) each."""
        total = 0
        for shape, names in self.stacks.items():
            m, n = sorted(shape)
            count = sum(self.params[name].numel() // (m * n) for name in names)
            total += count * self.config.newton_schulz_steps * 2 * (2 * m * m * n + m**3)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name; `load` puts it back bit for bit."""
        kinds = {"master": self.master, "first": self.first, "second": self.second}
        out = {f"{kind}.{name}": tensor for kind, table in kinds.items() for name, tensor in table.items()}
        return out | {"steps": torch.tensor(self.steps)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        self.steps = int(tensors["steps"])
        for kind, table in (("master", self.master), ("first", self.first), ("second", self.second)):
            for name, tensor in table.items():
                tensor.copy_(tensors[f"{kind}.{name}"])
        with torch.no_grad():
            for name, p in self.params.items():
                p.copy_(self.master[name])
