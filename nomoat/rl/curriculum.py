"""Which problems come next."""

import random
from collections.abc import Sequence

from nomoat.data.dialogue import earlier
from nomoat.data.documents import Levels
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise
from nomoat.stats import mean
from nomoat.tasks import base, find
from nomoat.tokenizer.layout import Conversation

FLOOR = 0.02  # weight of a level without any news, against 0.25 for one that is right half of the time


class Curriculum:
    """Which problems come next: each level as often as it has been informative, p (1 - p), and seldom if it
    was not.

    `success` is each level's running success rate, saved and restored with the weights; `memory` is the share
    of the past in it.  A level that is all right or all wrong teaches nothing, but is looked at now and then.
    A share `behind` of the problems stands behind earlier turns of a conversation.
    """

    def __init__(self, tasks: Levels, memory: float = 0.8, behind: float = 0.0):
        self.tasks, self.memory, self.behind = tasks, memory, behind
        self.success = {f"{family}/{level}": 0.5 for family, levels in tasks.items() for level in levels}

    def draw(self, seed: int, n: int) -> list[Exercise]:
        chances = [rate * (1 - rate) + FLOOR for rate in self.success.values()]
        places = random.Random(f"choose/{seed}").choices(list(self.success), chances, k=n)
        return [self._exercise(place, seed + slot) for slot, place in enumerate(places)]

    def learn(self, groups: Sequence[Group]) -> None:
        """Take in how often the groups were right."""
        for group in groups:
            decided = [judged.score for judged in group if not judged.score.undecided]
            if decided:
                place = group[0].rollout.exercise.place
                rate = mean(score.strict for score in decided)
                self.success[place] = self.memory * self.success[place] + (1 - self.memory) * rate

    def _exercise(self, place: str, seed: int) -> Exercise:
        family, _, level = place.rpartition("/")
        task = find.find(family)
        problem = next(base.problems(task, int(level), split="train", seed=seed))
        return Exercise(family, int(level), task, problem, self._before(problem, seed))

    def _before(self, problem: base.Problem, seed: int) -> Conversation:
        """What was said before a problem, which may be nothing."""
        rng = random.Random(f"behind/{seed}")
        if "messages" in problem.facts or rng.random() >= self.behind:
            return ()
        return earlier(self.tasks, rng, "train")
