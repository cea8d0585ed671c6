"""A model in one piece, of one whose weights lie in parts or in stages: what samples and what is saved.

Every rank that samples holds all of it, in float32 or as the model computes; the parts that learn stay
parts.  What is saved is gathered a block at a time.
"""

import torch
from torch import Tensor

from nomoat.model.lora import attach, outline, share
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.train.optim import Optimizer


class Whole:
    """The whole parameters and buffers of a model in parts or stages, by name: the float32 masters, and what
    doesn't learn.

    Collective: every rank asks for the same, in the same order.
    """

    def __init__(self, model: Transformer, optimizer: Optimizer):
        self.model, self.optimizer, self.pipeline = model, optimizer, optimizer.pipeline
        self.held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.names = list(self.pipeline.holders if self.pipeline else self.held)

    def __call__(self, name: str) -> Tensor:
        return self.pipeline.everywhere(name, self._here) if self.pipeline else self._here(name)

    def _here(self, name: str) -> Tensor:
        learns = name in self.optimizer.master
        return self.optimizer.whole(name) if learns else fsdp.whole(self.held[name].detach())

    def plain(self) -> Transformer:
        """The model without values, on this rank alone."""
        with torch.device("meta"):
            plain = Transformer(self.model.spec, self.model.kernels)
        adapters = self.pipeline.adapters if self.pipeline else outline(self.model)
        if adapters:
            attach(plain, adapters)
        return plain.eval()


class Blockwise:
    """The same by a block at a time, of which one is held."""

    def __init__(self, whole: Whole):
        self.whole = whole
        self.block, self.held = "", {}

    @torch.no_grad()
    def __call__(self, name: str) -> Tensor:
        block = _block_of(name)
        if block != self.block:
            self.block, self.held = block, {}
            self.held = {each: self.whole(each) for each in self.whole.names if _block_of(each) == block}
        return self.held[name]


def _block_of(name: str) -> str:
    """What a parameter is held with: its block, or nothing else."""
    first, number, *_ = name.split(".")
    return f"{first}.{number}." if first in ("blocks", "depths") else name


@torch.no_grad()
def in_one_piece(model: Transformer, optimizer: Optimizer, *, kept: bool = True) -> Transformer:
    """Another model with the whole values as its weights; collective.

    A rank that doesn't keep it gets one without values.
    """
    whole = Whole(model, optimizer)
    plain = whole.plain()
    values = {}
    for name in whole.names:
        tensor = whole(name)
        if kept:
            values[name] = tensor.clone()
    if kept:
        share(plain, values, values)
    return plain


class Follower:
    """`model` is one that lies in parts in one piece, on every rank, as of the last `renew`."""

    def __init__(self, parted: Transformer, optimizer: Optimizer, dtype: torch.dtype = torch.float32):
        self.whole = Whole(parted, optimizer)
        self.model = in_one_piece(parted, optimizer)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    @torch.no_grad()
    def renew(self) -> None:
        """Collective: every rank calls it."""
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        for name in self.whole.names:
            own[name].copy_(self.whole(name))
