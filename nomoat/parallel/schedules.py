"""Who does what in a pipeline: its schedules, how long ranks wait in them, which blocks a stage has."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from nomoat.config import ConfigError
from nomoat.model import counts
from nomoat.model.spec import Spec


@dataclass(frozen=True, slots=True)
class Kind:
    """A schedule: its name in torch, how many stages a rank has, and how long a rank waits in a step.

    `idle` counts forward passes of a stage for each rank but one, where B = 2F, W = F and handing over takes
    no time.
    """

    name: str
    n_chunks: int
    idle: int


KINDS = {
    "1f1b": Kind("1F1B", 1, idle=3),
    "zbv": Kind("ZBVZeroBubble", 2, idle=1),
    "dualpipev": Kind("DualPipeV", 2, idle=2),
}


def bubble(schedule: str, n_ranks: int, n_parts: int) -> float:
    """Share of a step in which a rank waits, for p equal ranks and m microbatches.

    1F1B waits (p - 1)(F + B), and DualPipeV, whose PP stages are 2p, (PP/2 - 1)(F&B + B - 3W)
    (arXiv 2412.19437, table 2).  ZB-V never waits between its first and its last action
    (arXiv 2401.10241, section 6); the ranks begin F apart.
    """
    kind = KINDS[schedule]
    idle = (n_ranks - 1) * kind.idle
    return idle / (3 * kind.n_chunks * n_parts + idle)


def check(spec: Spec, schedule: str, n_ranks: int, n_parts: int) -> None:
    """ConfigError where the blocks or the microbatches of a step are fewer than the stages."""
    n_chunks = KINDS[schedule].n_chunks
    n_stages = n_ranks * n_chunks
    if spec.n_layers < n_stages:
        most = spec.n_layers // n_chunks
        raise ConfigError(
            f'pipeline = {n_ranks} with schedule "{schedule}" cuts a model into {n_stages} stages, found one '
            f"of {spec.n_layers} blocks; expected a block for each stage: set pipeline = {max(most, 1)}"
        )
    if n_parts < n_stages:
        raise ConfigError(
            f'pipeline = {n_ranks} with schedule "{schedule}" has {n_stages} stages, found {n_parts} '
            f"microbatches in a step; expected one for each stage at least: {n_stages}; lower micro_rows, or "
            "raise rows"
        )


def split(spec: Spec, n_stages: int, attended: float) -> tuple[range, ...]:
    """The blocks of each stage, one at least, so that the slowest has the fewest counted FLOPs.

    The last one counts with the head and the extra depths.
    """
    costs = [counts.layer_flops(spec, layer, attended) for layer in range(spec.n_layers)]
    costs[-1] += 2 * spec.d_model * spec.vocab_size + counts.flops_mtp(spec, attended)

    @cache
    def best(first: int, n: int) -> tuple[float, tuple[int, ...]]:
        """(cost of the slowest, where each ends) of the blocks from `first` on, in n stages."""
        if n == 1:
            return sum(costs[first:]), (spec.n_layers,)
        options = []
        for end in range(first + 1, spec.n_layers - n + 2):
            slowest, ends = best(end, n - 1)
            own = sum(costs[first:end])
            slowest = max(own, slowest)
            options.append((slowest, (end, *ends)))
        return min(options)

    _, ends = best(0, n_stages)
    return tuple(range(*pair) for pair in pairwise((0, *ends)))
