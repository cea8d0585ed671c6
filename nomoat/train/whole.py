"""A model in one piece, of one whose weights lie in parts: what samples and what is saved.

Every rank that samples holds all of it, in float32 or as the model computes; the parts that learn stay
parts.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from nomoat.model.lora import Pair, Part, adapted, attach, share
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
        parts = {name: {own: _like(m.parts()[own]) for own in m.firsts} for name, m in adapted(model)}
        if parts:
            attach(plain, parts)
    values = ((name, tensor) for name, tensor in _whole(model, optimizer) if kept)
    parameters = {name: tensor.clone() for name, tensor in values}
    if kept:
        share(plain, parameters, dict(model.named_buffers()))
    return plain.eval()


class Follower:
    """`model` is a sharded one in one piece, on every rank, as of the last `renew`."""

    def __init__(self, sharded: Transformer, optimizer: Optimizer, dtype: torch.dtype = torch.float32):
        self.sharded, self.optimizer = sharded, optimizer
        self.model = in_one_piece(sharded, optimizer)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    @torch.no_grad()
    def renew(self) -> None:
        """Collective: every rank calls it."""
        own = dict(self.model.named_parameters())
        for name, tensor in _whole(self.sharded, self.optimizer):
            own[name].copy_(tensor)


def _whole(model: Transformer, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Every weight in one piece, one after the other."""
    for name, parameter in model.named_parameters():
        learns = name in optimizer.master
        yield name, optimizer.whole(name) if learns else fsdp.whole(parameter.detach())


def _like(part: Part) -> Part:
    down, up = (torch.empty(tensor.shape) for tensor in (part.pair.down, part.pair.up))
    return Part(part.first, Pair(down, up, part.pair.scale))
