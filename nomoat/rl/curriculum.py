"""Which problems come next."""

import random
from collections.abc import Mapping, Sequence

from nomoat.parallel.mesh import Mesh
from nomoat.tasks import base, find

FLOOR = 0.02  # weight of a level without any news, against 0.25 for one that is right half of the time


class Choice:
    """Which problems come next: each level as often as it has been informative, p (1 - p), and seldom if it was not.

    `success` is each level's running success rate, saved and restored with the weights; `memory` is the share of the
    past in it.  A level that is all right or all wrong teaches nothing, but is looked at now and then.
    """

    def __init__(self, tasks: Mapping[str, Sequence[int]], n: int, memory: float = 0.8):
        self.tasks, self.n, self.memory = tasks, n, memory
        self.success = {f"{family}/{level}": 0.5 for family, levels in tasks.items() for level in levels}

    def draw(self, seed: int, n: int | None = None) -> list[tuple[str, base.Task, int, base.Problem]]:
        """`n` problems, each with its place family/level."""
        rng = random.Random(f"choose/{seed}")
        chances = [rate * (1 - rate) + FLOOR for rate in self.success.values()]
        chosen = []
        for slot, place in enumerate(rng.choices(list(self.success), chances, k=n or self.n)):
            family, _, level = place.rpartition("/")
            task = find.find(family)
            stream = base.problems(task, int(level), split="train", seed=seed + slot)
            chosen.append((place, task, int(level), next(stream)))
        return chosen

    def learn(self, mesh: Mesh, places: Sequence[str], rewards: Sequence[Sequence[float]]) -> None:
        """Take in the rewards of all ranks."""
        mine = [(place, sum(r) / len(r)) for place, r in zip(places, rewards) if r]
        for place, rate in (entry for rank in mesh.gather(mine) for entry in rank):
            self.success[place] = self.memory * self.success[place] + (1 - self.memory) * rate
