"""A model in one piece, of one whose weights lie in parts or in stages: what samples and what is saved.

Every rank that samples holds all of it, in float32 or as the model computes; the parts that learn stay
parts.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from nomoat.model.lora import attach, outline, share
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.train.optim import Optimizer


@torch.no_grad()
def in_one_piece(model: Transformer, optimizer: Optimizer, *, kept: bool = True) -> Transformer:
    """Another model with the float32 masters, and what doesn't learn, as its weights; collective.

    A rank that doesn't keep it gets one without values.
    """
    with torch.device("meta"):
        plain = Transformer(model.spec, model.kernels)
    adapters = optimizer.pipeline.adapters if optimizer.pipeline else outline(model)
    if adapters:
        attach(plain, adapters)
    values = {name: tensor.clone() for name, tensor in _whole(model, optimizer) if kept}
    if kept:
        share(plain, values, values)
    return plain.eval()


class Follower:
    """`model` is one that lies in parts or stages in one piece, on every rank, as of the last `renew`."""

    def __init__(self, parted: Transformer, optimizer: Optimizer, dtype: torch.dtype = torch.float32):
        self.parted, self.optimizer = parted, optimizer
        self.model = in_one_piece(parted, optimizer)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    @torch.no_grad()
    def renew(self) -> None:
        """Collective: every rank calls it."""
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        for name, tensor in _whole(self.parted, self.optimizer):
            own[name].copy_(tensor)


def _whole(model: Transformer, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer in one piece, one after the other."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def value(name: str) -> Tensor:
        learns = name in optimizer.master
        return optimizer.whole(name) if learns else fsdp.whole(held[name].detach())

    if optimizer.pipeline:
        yield from optimizer.pipeline.everywhere(value)
    else:
        yield from ((name, value(name)) for name in held)
