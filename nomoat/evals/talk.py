"""Whether a model holds a conversation: small talk in wordings that no training uses, problems in later
turns, and what any chat model may be asked, whoever made it."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import SimpleNamespace

from nomoat import stats
from nomoat.config import JsonObject
from nomoat.data.conversation import accepted, asked, topics
from nomoat.data.dialogue import earlier
from nomoat.files import shipped
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise
from nomoat.stats import Accuracy, grouped
from nomoat.tasks.base import Problem

Levels = Mapping[str, Sequence[int]]
TURNS = (1, 2, 4)  # in which the same problems are asked
FIRST, LATER, FREE = "first", "later", "free"  # how small talk is asked
COMMON_TOKENS = 64  # of a reply to what any model may be asked


def _sensible(problem: Problem, answer: str) -> bool:
    facts = problem.facts
    return any(accepted(topic, facts["lang"], answer) for topic in facts["topics"])


def _says(problem: Problem, answer: str) -> bool:
    words = "|".join(map(re.escape, problem.facts["says"]))
    return re.search(rf"(?<!\w)({words})(?!\w)", answer, re.IGNORECASE) is not None


TALK = SimpleNamespace(__name__="talk", form="line", levels=(1,), check=_sensible)
COMMON = SimpleNamespace(__name__="common", form="line", levels=(1,), check=_says)


def questions(levels: Levels, n: int, seed: int) -> dict[str, list[Exercise]]:
    """`n` questions of small talk as the first turn, the same behind earlier ones, and those of talk.toml,
    which were written apart from every wording that is trained."""
    first, later = [], []
    for i in range(n):
        rng = random.Random(f"talk/{seed}/{i}")
        question = asked(rng, "heldout")
        alone = _exercise(question.text, question.lang, [question.topic])
        first.append(alone)
        later.append(replace(alone, before=earlier(levels, rng, "eval")))
    free = [_exercise(probe["say"], probe["lang"], probe["topics"]) for probe in written_apart()]
    return {FIRST: first, LATER: later, FREE: free}


def written_apart() -> list[dict]:
    """The questions of talk.toml: `say`, `lang`, `topics`."""
    return shipped(__file__)["probe"]


def common() -> dict[str, list[Exercise]]:
    """The questions of common.toml: small talk, and facts."""
    asked = {}
    for what, questions in shipped(__file__, "common.toml").items():
        asked[what] = []
        for say, words in questions.items():
            facts = {"lang": "en", "says": words, "topics": [what]}
            asked[what].append(Exercise("common", 1, COMMON, Problem(say, say, words[0], facts)))
    return asked


def n_common() -> int:
    return sum(map(len, common().values()))


def n_questions(n: int) -> int:
    """How many `questions` gives for `n`, none for 0."""
    return 2 * n + len(written_apart()) if n else 0


def _exercise(text: str, lang: str, about: Sequence[str]) -> Exercise:
    facts = {"lang": lang, "topics": about}
    witness = topics()[about[0]].answers[0][lang]
    return Exercise("talk", 1, TALK, Problem(text, text, witness, facts))


def at_turn(exercises: Iterable[Exercise], turn: int, levels: Levels, seed: int) -> list[Exercise]:
    """The same problems as the `turn`-th question of a conversation."""
    moved = []
    for i, exercise in enumerate(exercises):
        rng = random.Random(f"turn/{turn}/{seed}/{i}")
        whole = "messages" in exercise.problem.facts  # a conversation, which nothing stands before
        before = earlier(levels, rng, "eval", turn - 1) if turn > 1 and not whole else ()
        moved.append(replace(exercise, before=before))
    return moved


def score(name: str, model: str, groups: Sequence[Group]) -> JsonObject:
    """What the log says of greedy answers, one a group: how many are right, with Wilson's interval."""
    rights = [group[0].score for group in groups]
    right, n = sum(s.strict for s in rights), len(rights)
    lenient = sum(s.lenient for s in rights) / n
    return {"name": name, "model": model, **asdict(Accuracy(right / n, *stats.wilson(right, n), lenient, n))}


def missed(groups: Sequence[Group]) -> Iterator[tuple[str, int, int]]:
    """(topic or family, wrong, asked) of those with a wrong answer, the worst first."""
    cells = grouped((_place(group[0].rollout.exercise), group[0].score.strict) for group in groups)
    wrong = [(place, sum(not right for right in rights), len(rights)) for place, rights in cells.items()]
    yield from sorted((cell for cell in wrong if cell[1]), key=lambda cell: -cell[1] / cell[2])


def _place(exercise: Exercise) -> str:
    return exercise.problem.facts["topics"][0] if exercise.task in (TALK, COMMON) else exercise.family
