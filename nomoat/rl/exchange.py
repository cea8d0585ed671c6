"""The rollouts of a step among ranks: each samples and judges its share, and all know all of them.

So what follows, advantages, refills, minibatches, is computed everywhere alike; the update is parted anew.
What a rank draws is keyed by the number of the exercise: who draws it makes no difference.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nomoat.parallel.mesh import Mesh
from nomoat.rl.reward import Group, Judged
from nomoat.rl.rollout import Exercise, Rollout

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Drawn:
    """All groups in the order of their exercises; the numbers of those that this rank has drawn; how long
    each rank took."""

    groups: list[Group]
    own: range
    seconds: tuple[float, ...]


def draw(mesh: Mesh, exercises: Sequence[Exercise], work: Callable[[range], Sequence[Group]]) -> Drawn:
    """`work(numbers)` samples and judges the exercises with these numbers; this rank's are every world-th.

    A UserError of one rank is raised on all.
    """
    own = range(mesh.rank, len(exercises), mesh.world)

    groups: list[Group] = []

    def timed() -> float:
        start = time.perf_counter()
        groups.extend(work(own) if own else [])
        return time.perf_counter() - start

    seconds = mesh.gather(mesh.together(timed))
    if mesh.world == 1:
        return Drawn([*groups], own, tuple(seconds))
    told = [[_plain(judged) for judged in group] for group in groups]
    everyones = mesh.gather(told)
    of_all = []
    for number, exercise in enumerate(exercises):
        turn, rank = divmod(number, mesh.world)
        theirs = everyones[rank][turn]
        group = [_judged(exercise, *facts) for facts in theirs]
        of_all.append(tuple(group))
    return Drawn(of_all, own, tuple(seconds))


def idle_share(rounds: Sequence[Drawn]) -> float:
    """The share of the ranks' time in which they wait for the one that takes longest."""
    longest = sum(max(drawn.seconds) for drawn in rounds)
    busy = sum(sum(drawn.seconds) / len(drawn.seconds) for drawn in rounds)
    return 1 - busy / longest if longest else 0.0


def deal(rows: Sequence[Row], width: Callable[[Row], int], mesh: Mesh) -> list[Row]:
    """This rank's rows, about as wide together as any other's."""
    return sorted(rows, key=width, reverse=True)[mesh.data_rank :: mesh.data_world]


def _plain(judged: Judged) -> tuple:
    """What another rank can't know; the exercise, whose task is a module, it can."""
    r = judged.rollout
    return (r.prompt_T, r.ids_T, r.logp_T, r.text, r.stop), judged.score, judged.reward


def _judged(exercise: Exercise, rollout: tuple, score: object, reward: float) -> Judged:
    return Judged(Rollout(exercise, *rollout), score, reward)
