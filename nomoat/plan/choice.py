"""Which mesh a run takes where its recipe names none.

Of all meshes of as many ranks that divide the experts, leave each stage a block and each rank a row: the
fastest of those that fit, with a twentieth of the memory left; of equally fast ones, within a hundredth, that
with the most copies, then the fewest stages.  Where none fits, the one that holds least.  So a model that
fits on a device is copied to all, as without a mesh.  Time and memory are those of layout.py, for what this
package runs: FSDP2 over shard x expert ranks, that gather weights twice for each row; copies of them, whose
gradients are summed once a step; experts' all-to-all that nothing hides; stages under 1F1B.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nomoat.model.spec import Routed, Spec
from nomoat.parallel.axes import MeshConfig
from nomoat.plan.hardware import read_hardware
from nomoat.plan.layout import (
    BYTES_PER_PARAM,
    NODE,
    RESERVED,
    Layout,
    Stage,
    Workload,
    activation_bytes,
    all_to_all_seconds,
    arithmetic_seconds,
    bubble,
    handover_seconds,
    stage_of,
    traffic_seconds,
)
from nomoat.plan.machine import Machine
from nomoat.plan.parts import parts
from nomoat.stages.recipe import Recipe

EQUAL = 1.01


@dataclass(frozen=True)
class Laid:
    """A mesh with the bytes that a rank holds, and the device-seconds of a token."""

    mesh: MeshConfig
    held_bytes: float
    fits: bool
    seconds: float


def choose(recipe: Recipe, world: int, machine: Machine) -> Laid:
    """The mesh that `world` ranks of a recipe's run take: as the recipe says, or else by the rule above; for
    its largest model, and the fewest rows and longest context of a training."""
    spec = max(recipe.models.values(), key=lambda spec: parts(spec, 1).flops)
    training = [stage for stage in recipe.stages if hasattr(stage, "context") and hasattr(stage, "rows")]
    context = max((stage.context for stage in training), default=spec.context)
    rows = min((stage.rows for stage in training), default=world)
    work = workload_of(spec, machine.device, rows, context)
    if recipe.mesh is not None:
        return lay(recipe.mesh.on(world), work)
    n_routed = [s.ffn.n_routed for s in recipe.models.values() if isinstance(s.ffn, Routed)]
    return chosen(work, world, n_routed, min(s.n_layers for s in recipe.models.values()))


def workload_of(spec: Spec, device: str, rows: float, context: int) -> Workload:
    """Steps of so many rows on devices of one kind, at the share of the peak that recipes are planned with."""
    hardware = read_hardware()
    share = hardware.mfu["cpu-executed" if device == "cpu" else "cuda-executed"].value
    return Workload(parts(spec, context), hardware.device(device), share, rows, context, dualpipe=False)


def chosen(work: Workload, world: int, n_routed: list[int], n_layers: int) -> Laid:
    """By the rule; copies alone, where no mesh leaves each rank a row."""
    copies = lay(MeshConfig(replicate=world), work)
    laid = [lay(mesh, work) for mesh in meshes(work, world, n_routed, n_layers)] or [copies]
    if not any(each.fits for each in laid):
        return min(laid, key=lambda each: each.held_bytes)
    fitting = [each for each in laid if each.fits]
    fastest = min(each.seconds for each in fitting)
    equal = [each for each in fitting if each.seconds <= EQUAL * fastest]
    return max(equal, key=lambda each: (each.mesh.replicate, -each.mesh.pipeline, -each.mesh.expert))


def meshes(work: Workload, world: int, n_routed: list[int], n_layers: int) -> Iterator[MeshConfig]:
    """Those that divide the ranks and the experts, with a block for each stage, and for each rank as many
    rows as there are stages."""
    for pipeline in divisors(world):
        data = world // pipeline
        if pipeline > n_layers or data * pipeline > work.sequences:
            continue
        for expert in divisors(data):
            if expert > 1 and (not n_routed or any(n % expert for n in n_routed)):
                continue
            for shard in divisors(data // expert):
                replicate = data // expert // shard
                yield MeshConfig(shard=shard, expert=expert, pipeline=pipeline, replicate=replicate)


def divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def lay(mesh: MeshConfig, work: Workload) -> Laid:
    """A mesh, `replicate` written out, with its memory and its time."""
    n_parts = mesh.shard * mesh.expert
    layout = Layout(n_parts * mesh.replicate, 1, mesh.pipeline, mesh.expert, zero=3)
    stage = stage_of(layout, work.model)
    sharded = (stage.params_shared + stage.params_routed * mesh.expert) / n_parts
    gathered = 2 * stage.params / stage.n_layers * BYTES_PER_PARAM["weights"] if n_parts > 1 else 0.0
    held = sharded * sum(BYTES_PER_PARAM.values()) + gathered + activation_bytes(layout, work, stage)
    busy = arithmetic_seconds(layout, work, stage) + traffic_seconds(work)
    hidden = exchange_seconds(mesh, work, stage, sharded) + handover_seconds(layout, work, stage)
    seconds = max(busy, hidden) + all_to_all_seconds(layout, work)
    return Laid(
        mesh=mesh,
        held_bytes=held,
        fits=held <= (1 - RESERVED) * work.device.memory_bytes,
        seconds=seconds * (1 + bubble(layout, work, stage)),
    )


def exchange_seconds(mesh: MeshConfig, work: Workload, stage: Stage, sharded: float) -> float:
    """Of a token: parts gathered in bf16 twice a row and their gradients summed in float32 (arXiv 1910.02054,
    section 7), within a node where they lie in one; gradients of copies summed once a step, 8 bytes."""
    device, n_parts = work.device, mesh.shard * mesh.expert
    n_data = n_parts * mesh.replicate
    within = device.nvlink_bytes_per_second if n_parts <= NODE else device.network_bytes_per_second
    between = device.nvlink_bytes_per_second if mesh.world <= NODE else device.network_bytes_per_second
    seconds = 0.0
    if n_parts > 1:
        routed = stage.params_routed if mesh.shard > 1 else 0.0
        seconds += 8 * (stage.params_shared + routed) * work.sequences / n_data / within
    if mesh.replicate > 1:
        seconds += 8 * sharded / between
    return seconds * mesh.world / (work.sequences * work.context)
