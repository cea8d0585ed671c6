"""Rows continued behind a cache: what cached computation is compared by."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nomoat.engine.batch import Batch
from nomoat.engine.blocks import n_blocks
from nomoat.engine.runner import Runner, TorchRunner
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer


def batch(ids_BT: Tensor, first: int, tables: np.ndarray, **more: object) -> Batch:
    """T tokens of each row from position `first` on, and logits behind each of them."""
    B, T = ids_BT.shape
    ids_M = ids_BT.flatten().numpy().astype(np.int32)
    pos_M = np.tile(np.arange(first, first + T, dtype=np.int32), B)
    slot_M = np.repeat(np.arange(B, dtype=np.int32), T)
    every = np.arange(B * T, dtype=np.int32)
    plain = np.ones(B * T, np.float32), np.full(B * T, -1, np.float32)
    return Batch(ids_M, pos_M, slot_M, tables, every, *plain, **more)


def told(model: Transformer, ids_BT: Tensor, n_prompt: int, runner: Runner | None = None) -> Tensor:
    """Logits from the last prompt position on: the prompt at once, the rest step by step behind a cache."""
    B, T = ids_BT.shape
    runner = runner or TorchRunner(model, B * n_blocks(T))
    tables = np.arange(B * n_blocks(T), dtype=np.int32).reshape(B, -1)
    logits = runner.run(batch(ids_BT[:, :n_prompt], 0, tables)).logits.view(B, n_prompt, -1)[:, -1:].clone()
    steps = [
        runner.run(batch(ids_BT[:, t : t + 1], t, tables)).logits[:, None].clone() for t in range(n_prompt, T)
    ]
    return torch.cat([logits, *steps], 1)


def in_chunks(attention: torch.nn.Module, h_BTD: Tensor, cis_BTr: Tensor, sizes: Sequence[int]) -> Tensor:
    """One layer alone, so many positions at a time behind those before."""
    behind, past, out, start = attention.behind(), [], [], 0

    def extend(*new: Tensor) -> tuple[Tensor, ...]:
        past.append(new)
        return tuple(torch.cat(parts, 1) for parts in zip(*past))

    for size in sizes:
        end = start + size
        closed = torch.ones(size, end, dtype=torch.bool).triu(start + 1)
        bias = torch.zeros(1, size, 1, end).masked_fill_(closed[:, None], float("-inf"))
        out.append(behind(h_BTD[:, start:end], cis_BTr[:, start:end], extend, bias))
        start = end
    return torch.cat(out, 1)


def random_model(spec: Spec, dtype: torch.dtype = torch.float32) -> Transformer:
    """Random weights large enough that positions, experts and tokens all matter."""
    model = Transformer(spec)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            scale = 0.2 if parameter.ndim < 2 else 1.5 * parameter.shape[-1] ** -0.5
            parameter.copy_(draw * scale + (parameter.ndim < 2))
            if name == "embed.weight":
                parameter.mul_(4)
    return model.to(dtype).eval()
