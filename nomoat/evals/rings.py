"""The problems of the transfer report: rings about what was trained.

R0 trained tasks, unseen instances; R1 harder; R2 reworded; R3 unseen families; R4 from outside; R5
instructions; R7 questions that lost what they ask about.  (R6 is open text and has no problems.)
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from nomoat.config import Count, JsonObject, Seed, Strict, TaskError, Whole
from nomoat.data.documents import Levels
from nomoat.rl import reward
from nomoat.rl.rollout import Exercise
from nomoat.tasks import answers, base, find, verdicts

INSTRUCTIONS = ("instruct", "fields")
EVERYONE = ("R0", "R1", "R3")  # the rings that controls are measured on
SIZES = {  # quick, full
    "problems": (12, 64),
    "samples": (4, 8),
    "deep_problems": (2, 4),
    "deep_samples": (32, 128),
    "heldout_bytes": (40_000, 400_000),
}
GIVEN = r"\d+|(?<!\w)[a-z](?!\w)"  # what a question needs: numbers, single letters
REFUSAL = r"""(?ix)\b(
can(?:no|')t | not\ (?:enough|given|known|possible) | undetermined | unknown | missing |
kann\ (?:nicht|man\ nicht) | nicht\ (?:genug|bekannt|bestimmbar|möglich) | unbekannt | fehlt | fehlen)\b"""
FRAMES = {
    "en": ["Please solve: {}", "Question: {} Answer?"],
    "de": ["Bitte löse: {}", "Frage: {} Antwort?"],
}
ASIDES = {
    "en": [
        "The garden is green. {}",
        "{} The window is open.",
        "The bread is fresh. {}",
        "{} The street is quiet.",
    ],
    "de": [
        "Der Garten ist grün. {}",
        "{} Das Fenster ist offen.",
        "Das Brot ist frisch. {}",
        "{} Die Straße ist ruhig.",
    ],
}


class Config(Strict):
    """`before` and `after` are stages; `controls` further ones, measured on R0, R1, R3 and open text.

    `problems` are drawn per family and level of R0, half as many elsewhere; each is answered once greedily
    and `samples` times at temperature 1.  pass@k: `deep_samples` of `deep_problems` per cell.  `external`
    names tasks as find.find does, `unseen` families (by default find.UNSEEN).  R1 goes `steps_up` levels
    above the trained.  By default `max_new_tokens` is half as many again as in training, since harder chains
    are longer.  `texts` are free continuations.  Sizes that are None depend on `quick`; the suite's seed is
    no training seed.
    """

    before: str
    after: str
    controls: list[str] = []
    quick: bool = False
    external: list[str] = []
    unseen: list[str] | None = None
    problems: Count | None = None
    samples: Count | None = None
    deep_problems: Count | None = None
    deep_samples: Count | None = None
    steps_up: Count = 3
    max_new_tokens: Count | None = None
    texts: Count = 64
    heldout_bytes: Whole | None = None
    seed: Seed = 1

    def sized(self) -> "Config":
        """With every size set."""
        sizes = {key: quick if self.quick else full for key, (quick, full) in SIZES.items()}
        return self.model_copy(update={key: n for key, n in sizes.items() if getattr(self, key) is None})

    @property
    def half(self) -> int:
        """As many problems as anything but R0, R3 and R5 has."""
        return -(-self.problems // 2)


@dataclass(frozen=True)
class Taught:
    """What a recipe teaches: the levels that the stage `after` trains, and those that any stage shows."""

    trained: Levels
    shown: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Item:
    """One problem of one part of a ring; `up` counts levels above the highest trained one."""

    ring: str
    part: str
    exercise: Exercise
    up: int = 0

    @property
    def cluster(self) -> str:
        """The same computation, however worded."""
        return f"{self.exercise.place}/{self.exercise.problem.key}"

    def to_json(self) -> JsonObject:
        where = {"family": self.exercise.family, "level": self.exercise.level}
        return {"ring": self.ring, "part": self.part, **where, "up": self.up, "cluster": self.cluster}


@dataclass(frozen=True)
class Suite:
    """Every problem of a report, and notes on what had to be left out; `config` has every size set."""

    config: Config
    items: Sequence[Item]
    notes: Sequence[str]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over problems, sizes, seed and what judges: fixed before training, it can't be tuned."""
        asked = self.config.model_dump(include={*SIZES, "max_new_tokens", "texts", "seed"})
        digest = hashlib.sha256()
        digest.update(repr((REFUSAL, asked)).encode())
        for item in self.items:
            described = (item.to_json(), item.exercise.problem.prompt)
            digest.update(repr(described).encode())
        judges = {item.exercise.task for item in self.items} | {answers, base, verdicts, reward}
        files = {Path(judge.__file__) for judge in judges if hasattr(judge, "__file__")}
        words = Path(reward.__file__).with_suffix(".toml")
        for file in sorted({*files, words}, key=lambda file: file.name):
            digest.update(file.read_bytes())
        return digest.hexdigest()


def suite(config: Config, taught: Taught) -> Suite:
    """The problems about what was trained, the same ones every time."""
    sizes = config.sized()
    items, notes = [], []
    for family, levels in taught.trained.items():
        for level in levels:
            items += _about(sizes, family, level)
        items += _harder(sizes, taught, family)
    families = {family for family, _ in taught.shown}
    unseen = find.UNSEEN if config.unseen is None else config.unseen
    fresh = [name for name in unseen if name not in families]
    if not fresh:
        notes.append("R3: the recipe trains on every family there is; no unseen ones to measure")
    outside = [("R3" if name.startswith("rg:") else "R4", name) for name in config.external]
    for ring, name in [*(("R3", n) for n in fresh), *outside, *(("R5", n) for n in INSTRUCTIONS)]:
        try:
            items += _elsewhere(sizes, ring, find.find(name))
        except TaskError as error:
            if not name.startswith("rg:"):
                raise
            notes.append(f"R3: {name} left out: {error}")
    return Suite(sizes, items, notes)


def _about(sizes: Config, family: str, level: int) -> Iterator[Item]:
    """R0, R2 and R7 of one trained level."""
    task = find.find(family)
    trained = draw(task, level, sizes.problems, sizes.seed)
    parts = {"trained tasks": trained}
    if any("lang" in problem.facts for problem in trained):
        parts["English"] = draw(task, level, sizes.half, sizes.seed, "en")
        parts["German"] = draw(task, level, sizes.half, sizes.seed, "de")
    some = trained[: sizes.half]
    parts["beside the point"] = reworded(some, ASIDES)
    parts["framed"] = reworded(some, FRAMES)
    parts["unanswerable"] = list(filter(None, map(blanked, some)))
    rings = {"trained tasks": "R0", "unanswerable": "R7"}
    for part, problems in parts.items():
        for problem in problems:
            yield Item(rings.get(part, "R2"), part, Exercise(family, level, task, problem))


def _harder(sizes: Config, taught: Taught, family: str) -> Iterator[Item]:
    """R1 of one trained family."""
    task = find.find(family)
    highest = max(taught.trained[family])
    higher = [level for level in task.levels if level > highest]
    for up, level in enumerate(higher[: sizes.steps_up], 1):
        shown = (family, level) in taught.shown
        part = "harder, shown worked" if shown else "harder, never shown"
        for problem in draw(task, level, sizes.half, sizes.seed):
            exercise = Exercise(family, level, task, problem)
            yield Item("R1", part, exercise, up)


def _elsewhere(sizes: Config, ring: str, task: base.Task) -> Iterator[Item]:
    """The lowest two levels of a task that was not trained."""
    family = base.short(task)
    part = {"R3": "unseen families", "R4": family, "R5": "instructions"}[ring]
    n = sizes.problems * 4 if ring == "R4" else sizes.problems
    for level in task.levels[:2]:
        for problem in draw(task, level, n, sizes.seed):
            exercise = Exercise(family, level, task, problem)
            yield Item(ring, part, exercise)


def draw(task: base.Task, level: int, n: int, seed: int, lang: str | None = None) -> list[base.Problem]:
    """`n` problems of different keys from the evaluation split, or as many as the level has to offer."""
    problems = {}
    for problem in islice(base.problems(task, level, split="eval", seed=seed, lang=lang), 8 * n):
        if len(problems) == n:
            break
        problems.setdefault(problem.key, problem)
    return list(problems.values())


def reworded(problems: Sequence[base.Problem], texts: Mapping[str, Sequence[str]]) -> list[base.Problem]:
    """The same problems with something about them, each in its own language."""
    out = []
    for i, problem in enumerate(problems):
        lang = problem.facts.get("lang")
        options = texts.get(lang, texts["en"])
        prompt = options[i % len(options)].format(problem.prompt)
        out.append(saying(problem, prompt))
    return out


def saying(problem: base.Problem, prompt: str) -> base.Problem:
    """The problem in other words, which stand for all turns that it had."""
    facts = {name: fact for name, fact in problem.facts.items() if name != "messages"}
    return replace(problem, prompt=prompt, facts=facts)


def blanked(problem: base.Problem) -> base.Problem | None:
    """The question without what it asks about; None where it gives no numbers and letters to drop."""
    prompt = re.sub(r"…(?:[ ,]+…)+", "…", re.sub(GIVEN, "…", problem.prompt))
    return None if prompt == problem.prompt else saying(problem, prompt)


def modal_share(items: Sequence[Item]) -> float | None:
    """How many of the items the most frequent answer of their cell's training split gets right: what a model
    scores that knows nothing but that.  None where the machine can't judge.
    """
    modal = {}
    right = 0
    try:
        for exercise in (item.exercise for item in items):
            if exercise.place not in modal:
                drawn = islice(base.problems(exercise.task, exercise.level, split="train", seed=0), 200)
                modal[exercise.place] = Counter(p.witness.strip() for p in drawn).most_common(1)[0][0]
            right += exercise.task.check(exercise.problem, modal[exercise.place])
    except (base.Undecided, TaskError):
        return None
    return right / len(items) if items else None
