"""The axes along which the ranks of a run share its work.  No torch here."""

import itertools
import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from nomoat.config import ConfigError, Count, Strict

AXES = (
    "pipeline",
    "replicate",
    "shard",
    "expert",
)  # from the outermost; neighbours differ in the last


class MeshConfig(Strict):
    """How many parts there are along each axis; the ranks are their product.

    `shard`: weights, gradients and optimiser in so many parts.  `expert`: the routed experts in so many
    parts, tokens sent to them.  `pipeline`: the layers in so many stages.  `replicate`: copies of all that;
    absent, as many as there are ranks for.  `schedule`: how the stages take turns (schedules.py).  A rank
    that gives no sign of life for `silence_seconds` is given up, all of them where nothing comes into the
    log, or one waits for the others, for `hang_seconds` (faults.py).
    """

    shard: Count = 1
    expert: Count = 1
    pipeline: Count = 1
    replicate: Count | None = None
    schedule: Literal["1f1b", "zbv", "dualpipev"] = "1f1b"
    silence_seconds: float = Field(120.0, gt=0, le=1e6)
    hang_seconds: float = Field(1800.0, gt=0, le=1e6)

    @property
    def world(self) -> int:
        """Ranks that one copy takes, times the copies where those are given."""
        return self.shard * self.expert * self.pipeline * (self.replicate or 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The parts along AXES; `replicate` has to be there (`on`)."""
        return tuple(getattr(self, axis) for axis in AXES)

    def says(self) -> str:
        axes = ("shard", "expert", "pipeline", "replicate")
        parts = [f"{axis} = {value}" for axis in axes if (value := getattr(self, axis)) not in (1, None)]
        return ", ".join(parts) or "shard = 1"

    def without_stages(self) -> "MeshConfig":
        """The same ranks, but what lay in stages lies in parts."""
        return self.model_copy(update={"pipeline": 1, "shard": self.shard * self.pipeline})

    def on(self, world: int) -> "MeshConfig":
        """The mesh on so many ranks, `replicate` written out; ConfigError where it doesn't divide them."""
        if world % self.world == 0 and self.replicate in (
            None,
            world // (self.world // (self.replicate or 1)),
        ):
            one_copy = self.world // (self.replicate or 1)
            return self.model_copy(update={"replicate": world // one_copy})
        more, verb = ("", "is") if self.replicate else (" or a multiple", "divides")
        raise ConfigError(
            f"[mesh] {self.says()} takes {self.world} ranks{more}, found {world}; expected a mesh whose "
            f"product {verb} the number of ranks; start {self._ranks(world)} ranks (torchrun "
            f"--nproc-per-node …), or set the nearest that fits: {self._nearest(world).says()}"
        )

    def _ranks(self, world: int) -> str:
        """The numbers of ranks next to `world` that this mesh fits."""
        if self.replicate:
            return str(self.world)
        below = world // self.world * self.world
        return " or ".join(str(n) for n in (below, below + self.world) if n)

    def _nearest(self, world: int) -> "MeshConfig":
        """The mesh that fits `world` ranks with the fewest and smallest changes."""

        def apart(other: "MeshConfig") -> tuple[int, float]:
            pairs = [(getattr(self, axis) or 1, getattr(other, axis)) for axis in AXES]
            changed = sum(a != b for a, b in pairs)
            return changed, sum(abs(math.log(a / b)) for a, b in pairs)

        return min(_all_on(world), key=apart)


def _all_on(world: int) -> Iterator[MeshConfig]:
    """Every mesh of exactly `world` ranks."""
    divisors = [n for n in range(1, world + 1) if world % n == 0]
    for shard, expert, pipeline in itertools.product(divisors, repeat=3):
        if world % (shard * expert * pipeline) == 0:
            replicate = world // (shard * expert * pipeline)
            yield MeshConfig(shard=shard, expert=expert, pipeline=pipeline, replicate=replicate)


def divided(n_routed: int, n_ranks: int) -> int:
    """Experts on each of the ranks along `expert`; ConfigError where that is not a whole number."""
    n_held, rest = divmod(n_routed, n_ranks)
    if rest or not n_held:
        divisors = [n for n in range(1, n_routed + 1) if n_routed % n == 0]
        nearest = min(divisors, key=lambda n: (abs(n - n_ranks), n))
        raise ConfigError(
            f"expert = {n_ranks} ranks cannot share {n_routed} experts: expected a divisor of them; "
            f"the nearest is expert = {nearest}"
        )
    return n_held
