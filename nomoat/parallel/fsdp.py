"""Weights, gradients and optimiser in parts, one a rank: PyTorch's fully_shard, from outside.

A block's weights are gathered before it computes, in the precision that it computes in, and let go behind it;
its gradients are summed over the ranks in float32, each rank keeping its part.  Parts are rows.  What is
outside of blocks, the embedding and a head that may be tied to it, is gathered together.  Where everything
learns, the parameters are the optimiser's float32 masters themselves.
"""

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from nomoat.model.transformer import Transformer
from nomoat.parallel.experts import split_layers
from nomoat.parallel.mesh import Mesh


def shard(model: Transformer, mesh: Mesh) -> Transformer:
    """The model, each rank with its part of every parameter; as it is, where the mesh has but one part.

    Experts that are split among ranks already (experts.py) are parted among those that have the same ones.
    It computes in the precision that it has now.  Of a model with frozen weights the parts stay in it, so
    that its gradients are rounded to it.
    """
    if mesh.dense is None:
        return model
    policy = MixedPrecisionPolicy(model.dtype, torch.float32, cast_forward_inputs=False)
    if all(parameter.requires_grad for parameter in model.parameters()):
        model.float()
    routed = mesh.dims["replicate", "shard"] if mesh.size("replicate") > 1 else mesh.dims["shard"]
    for layer in split_layers(model):
        fully_shard([layer.w_gate_up, layer.w_down], mesh=routed, mp_policy=policy)
    for block in (*model.blocks, *(depth.block for depth in model.depths)):
        fully_shard(block, mesh=mesh.dense, mp_policy=policy)
    fully_shard(model, mesh=mesh.dense, mp_policy=policy, reshard_after_forward=False)
    register_fsdp_forward_method(model, "hidden")
    for module in model.modules():
        if isinstance(module, FSDPModule):  # losses are divided by global counts, so gradients are sums
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


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
