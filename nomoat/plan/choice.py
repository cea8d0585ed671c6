"""Which mesh a run takes where its recipe names none.

Where a device holds all of it, copies, as without a mesh.  Else of all meshes of as many ranks that divide
the experts, leave each stage a block and each rank a row: the fastest of those that fit, with a twentieth of
the memory left; of equally fast ones, within a hundredth, that with the most copies, then the fewest stages.
Where none fits, the one that holds least.  Time and memory are those of layout.py, for what this package
runs: FSDP2 over shard x expert ranks, that gather weights twice for each row; copies of them, whose gradients
are summed once a step; experts' all-to-all that nothing hides; stages under 1F1B.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.config import ConfigError
from nomoat.model import counts
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
from nomoat.plan.parts import parts
from nomoat.run.ledger import short
from nomoat.stages.limits import SAMPLES
from nomoat.stages.recipe import Recipe

EQUAL = 1.01
FLOAT = 4


@dataclass(frozen=True)
class Laid:
    """A mesh with the bytes that a rank holds, and the device-seconds of a token."""

    shard: int
    expert: int
    pipeline: int
    replicate: int
    held_bytes: float
    fits: bool
    seconds: float
    policy_bytes: float = 0.0  # of these, a whole model that is sampled while what learns lies in parts

    @property
    def mesh(self) -> MeshConfig:
        axes = ("shard", "expert", "pipeline", "replicate")
        return MeshConfig(**{axis: getattr(self, axis) for axis in axes})

    def says(self) -> str:
        fits = "" if self.fits else ", which does not fit"
        return f"{self.mesh.says()} ({short(self.held_bytes, 'B')} a rank{self._sampled()}{fits})"

    def _sampled(self) -> str:
        """What stages that sample from what they train do otherwise."""
        if not self.policy_bytes:
            return ""
        stages = f", shard = {self.shard * self.pipeline}" if self.pipeline > 1 else ""
        whole = short(self.policy_bytes, "B")
        return f", {whole} of it to sample from whole models in {' and '.join(SAMPLES)}{stages}"


def choose(recipe: Recipe, world: int, device: str) -> Laid:
    """The mesh that `world` ranks of a recipe's run take on devices of that name: as the recipe says, or else
    by the rule above; for its largest model, and the fewest rows and longest context of a training."""
    specs = list(recipe.models.values())
    work = workload_of(recipe, max(specs, key=counts.params_total), world, device)
    how = {"recompute": recipe.kernels.recompute, "policy_bytes": _policy_bytes(recipe)}
    if recipe.mesh is not None:
        return lay(recipe.mesh.on(world), work, **how)
    samples = any(stage.kind in SAMPLES for stage in recipe.stages)
    most_stages = 1 if samples else min(spec.n_layers for spec in specs)
    return chosen(work, world, specs, most_stages, **how)


def _policy_bytes(recipe: Recipe) -> float:
    """Of the largest model that is sampled while it learns, as far as the recipe knows their shapes."""
    sizes = [0]
    for stage in recipe.stages:
        if stage.kind in SAMPLES:
            with contextlib.suppress(ConfigError):  # what another run has done
                sizes.append(counts.params_total(recipe.shape(stage)))
    return FLOAT * max(sizes)


def workload_of(recipe: Recipe, spec: Spec, world: int, device: str) -> Workload:
    """Steps on devices of one kind, at the share of the peak that recipes are planned with."""
    stages = [stage for stage in recipe.stages if hasattr(stage, "context") and hasattr(stage, "rows")]
    context = max((stage.context for stage in stages), default=spec.context)
    hardware, kind = read_hardware(), "cpu" if device == "cpu" else "cuda"
    return Workload(
        model=parts(spec, context),
        device=hardware.device(device),
        share=hardware.mfu[f"{kind}-executed"].value,
        sequences=min((stage.rows for stage in stages), default=world),
        context=context,
    )


def chosen(work: Workload, world: int, specs: Sequence[Spec], most_stages: int, **how: Any) -> Laid:
    """By the rule; copies, where no mesh leaves each rank a row.

    `how` is what lay takes besides.
    """
    copies = lay(MeshConfig(replicate=world), work, **how)
    if copies.fits:
        return copies
    n_routed = [spec.ffn.n_routed for spec in specs if isinstance(spec.ffn, Routed)]
    found = meshes(work, world, n_routed, most_stages)
    laid = [lay(mesh, work, **how) for mesh in found] or [copies]
    fitting = [each for each in laid if each.fits]
    if not fitting:
        return min(laid, key=lambda each: each.held_bytes)
    fastest = min(each.seconds for each in fitting)
    equal = [each for each in fitting if each.seconds <= EQUAL * fastest]
    return max(equal, key=_copies_first)


def _copies_first(laid: Laid) -> tuple[int, int, int]:
    """The most copies, then the fewest stages, then the fewest parts of the experts."""
    return laid.replicate, -laid.pipeline, -laid.expert


def meshes(work: Workload, world: int, n_routed: Sequence[int], most_stages: int) -> Iterator[MeshConfig]:
    """Those that divide the ranks and the experts, with a block for each stage, and for each rank as many
    rows as there are stages."""
    for pipeline in divisors(world):
        data = world // pipeline
        if pipeline > most_stages or data * pipeline > work.sequences:
            continue
        for expert in divisors(data):
            if expert > 1 and (not n_routed or any(n % expert for n in n_routed)):
                continue
            for shard in divisors(data // expert):
                replicate = data // expert // shard
                yield MeshConfig(shard=shard, expert=expert, pipeline=pipeline, replicate=replicate)


def divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def lay(mesh: MeshConfig, work: Workload, recompute: bool = False, policy_bytes: float = 0.0) -> Laid:
    """A mesh, `replicate` written out, with its memory and its time; what lies in parts is also held whole,
    in float32, where it is sampled."""
    n_parts = mesh.shard * mesh.expert
    layout = Layout(n_parts * mesh.replicate, 1, mesh.pipeline, mesh.expert, zero=3, recompute=recompute)
    stage = stage_of(layout, work.model)
    sharded = (stage.params_shared + stage.params_routed * mesh.expert) / n_parts
    gathered = 2 * stage.params / stage.n_layers * BYTES_PER_PARAM["weights"] if n_parts > 1 else 0.0
    policy = policy_bytes if n_parts * mesh.pipeline > 1 else 0.0
    held = sharded * sum(BYTES_PER_PARAM.values()) + gathered + activation_bytes(layout, work, stage) + policy
    busy = arithmetic_seconds(layout, work, stage) + traffic_seconds(work)
    hidden = exchange_seconds(mesh, work, stage, sharded) + handover_seconds(layout, work, stage)
    seconds = max(busy, hidden) + all_to_all_seconds(layout, work)
    return Laid(
        shard=mesh.shard,
        expert=mesh.expert,
        pipeline=mesh.pipeline,
        replicate=mesh.replicate,
        held_bytes=held,
        fits=held <= (1 - RESERVED) * work.device.memory_bytes,
        seconds=seconds * (1 + bubble(layout, work, stage)),
        policy_bytes=policy,
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
