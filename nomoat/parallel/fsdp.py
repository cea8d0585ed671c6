"""Weights, gradients and optimiser in parts, one a rank: PyTorch's fully_shard, from outside.

A block's weights are gathered before it computes, in the precision that it computes in, and let go behind it;
its gradients are summed over the ranks in float32, each rank keeping its part.  Parts are rows.  What is
outside of blocks, the embedding and a head that may be tied to it, is gathered together.  Where everything
learns, the parameters are the optimiser's float32 masters themselves.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from nomoat.model.transformer import Block, Transformer
from nomoat.parallel.experts import Splitter, split_layers
from nomoat.parallel.mesh import Mesh
from nomoat.parallel.process import release_memory

Ready = Callable[[str], object]


def already(name: str) -> None:
    """Of a model that has its values."""


def spread(
    model: Transformer,
    mesh: Mesh,
    ready: Ready = already,
    *,
    dtype: torch.dtype | None = None,
    root: nn.Module | None = None,
    summed: bool = False,
) -> Transformer:
    """The model, each rank with its part of every parameter; all of it, where the mesh has but one part.

    A block is made ready, parted and let go before the next one, so that no rank ever holds the whole model:
    `ready(name)` gives values to what is of the module of that name and has none yet, "" for what is outside
    of blocks.  Its routed experts are parted among the ranks of their axis first.
    It computes in `dtype`, by default the precision that it has now.  Of a model with frozen weights the
    parts stay in it, so that its gradients are rounded to it.  `root` is what is called in the place of the
    model (a stage, in pipeline.py).  `summed`: gradients are added up over passes, which takes float32, as
    summing over ranks does.
    """
    learns = all(parameter.requires_grad for parameter in model.parameters())
    policy = MixedPrecisionPolicy(dtype or model.dtype, torch.float32, cast_forward_inputs=False)
    part = _Parts(mesh, policy, learns) if mesh.dense is not None else None
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, Block)}
    for name, block in blocks.items():
        ready(name)
        if part:
            part.block(block)
    ready("")
    if part:
        part.rest(model, root)
    elif summed or mesh.data_world > 1:
        for parameter in model.parameters():
            parameter.grad_dtype = torch.float32
    return model


class _Parts:
    """What parts a module among the ranks; `learns`: as float32 masters."""

    def __init__(self, mesh: Mesh, policy: MixedPrecisionPolicy, learns: bool):
        self.mesh, self.policy, self.learns = mesh, policy, learns
        copies = mesh.size("replicate") > 1
        self.routed = mesh.dims["replicate", "shard"] if copies else mesh.dims["shard"]
        self.experts = Splitter(mesh)

    def block(self, block: Block) -> None:
        self.experts(block)
        if self.learns:
            block.float()
        for layer in split_layers(block):
            fully_shard([layer.w_gate_up, layer.w_down], mesh=self.routed, mp_policy=self.policy)
        fully_shard(block, mesh=self.mesh.dense, mp_policy=self.policy)
        release_memory()  # parts of it lie between what was freed, where the next block doesn't fit

    def rest(self, model: Transformer, root: nn.Module | None) -> None:
        if self.learns:
            for module in model.modules():
                for parameter in module._parameters.values():
                    if parameter is not None and not is_part(parameter):
                        parameter.data = parameter.data.float()
        whole = root or model
        fully_shard(whole, mesh=self.mesh.dense, mp_policy=self.policy, reshard_after_forward=False)
        if root is None:
            register_fsdp_forward_method(model, "hidden")
        for module in whole.modules():
            if isinstance(module, FSDPModule):  # losses are divided by global counts, so gradients are sums
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)


def is_part(tensor: Tensor) -> bool:
    """Whether it is sharded."""
    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, without a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(part: Tensor, whole: Tensor) -> Tensor:
    """A rank's part as the tensor that it is of; `whole` lies the same."""
    if not isinstance(whole, DTensor):
        return part
    lies = {"shape": whole.shape, "stride": whole.stride(), "run_check": False}
    return DTensor.from_local(part, whole.device_mesh, whole.placements, **lies)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every rank; collective where it is sharded.

    Gathered axis by axis, the one that parted it last first: torch warns where it has to find that order.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    for axis in range(tensor.device_mesh.ndim):
        left = tensor.placements[axis + 1 :]
        tensor = tensor.redistribute(placements=[Replicate()] * (axis + 1) + [*left])
    return tensor.to_local()


@torch.no_grad()
def fill(target: Tensor, source: Tensor) -> None:
    """Writes into each rank's part of `target` what it is in `source`, which lies the same or is whole."""
    if isinstance(target, DTensor) and not isinstance(source, DTensor):
        source = source.to(target.device)
        source = distribute_tensor(source, target.device_mesh, target.placements, src_data_rank=None)
    here, there = local(target), local(source)
    if here.data_ptr() != there.data_ptr():
        here.copy_(there)


def n_copies(tensor: Tensor, mesh: Mesh) -> int:
    """On how many ranks that read rows of their own each number of a parameter is."""
    if not isinstance(tensor, DTensor):
        return mesh.data_world
    sizes = zip(tensor.device_mesh.shape, tensor.placements)
    copies = 1
    for size, placement in sizes:
        copies *= size if isinstance(placement, Replicate) else 1
    return copies
