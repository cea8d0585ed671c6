"""The problems of the transfer report: rings about what was trained.

R0 trained tasks, unseen instances; R1 harder; R2 reworded; R3 unseen families; R4 from outside; R5 instructions; R7
questions that lost what they ask about.  (R6 is open text and has no problems.)
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from nomoat.config import Strict, TaskError
from nomoat.evals.problems import Question
from nomoat.rl import reward
from nomoat.tasks import base, find

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
REFUSAL = r"""(?ix)\b(can(?:no|')t | not\ (?:enough|given|known|possible) | undetermined | unknown | missing |
kann\ (?:nicht|man\ nicht) | nicht\ (?:genug|bekannt|bestimmbar|möglich) | unbekannt | fehlt | fehlen)\b"""
FRAMES = {
    "en": ["Please solve: {}", "Question: {} Answer?"],
    "de": ["Bitte löse: {}", "Frage: {} Antwort?"],
}
ASIDES = {
    "en": ["The garden is green. {}", "{} The window is open.", "The bread is fresh. {}", "{} The street is quiet."],
    "de": ["Der Garten ist grün. {}", "{} Das Fenster ist offen.", "Das Brot ist frisch. {}", "{} Die Straße ist ruhig."],
}  # fmt: skip


class Config(Strict):
    """`before` and `after` are stages; `controls` further ones, measured on R0, R1, R3 and open text.

    `problems` are drawn per family and level of R0, half as many elsewhere; each is answered once greedily and
    `samples` times at temperature 1.  pass@k: `deep_samples` of `deep_problems` per cell.  `external` names tasks as
    find.find does.  Sizes that are None depend on `quick`; the suite's seed is no training seed.
    """

    before: str
    after: str
    controls: list[str] = []
    quick: bool = False
    external: list[str] = []
    unseen: list[str] | None = None  # by default find.UNSEEN
    problems: int | None = None
    samples: int | None = None
    deep_problems: int | None = None
    deep_samples: int | None = None
    steps_up: int = 3  # levels above the trained ones
    max_new_tokens: int | None = (
        None  # by default half as many again as in training: harder chains are longer
    )
    texts: int = 64  # free continuations
    heldout_bytes: int | None = None
    seed: int = 1

    def sized(self) -> "Config":
        """With every size set."""
        sizes = {key: quick if self.quick else full for key, (quick, full) in SIZES.items()}
        return self.model_copy(update={key: n for key, n in sizes.items() if getattr(self, key) is None})


@dataclass(frozen=True)
class Taught:
    """What a recipe teaches: the levels that the stage `after` trains, and every level that any stage shows."""

    trained: Mapping[str, Sequence[int]]
    shown: frozenset[tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class Item(Question):
    """One problem of one part of a ring; equal `cluster` is the same computation, however worded."""

    ring: str
    part: str
    up: int = 0  # levels above the highest trained one

    @property
    def cluster(self) -> str:
        return f"{self.family}/{self.level}/{self.problem.key}"


@dataclass(frozen=True)
class Suite:
    """Every problem of a report, and notes on what had to be left out; `config` has every size set."""

    config: Config
    items: Sequence[Item]
    notes: Sequence[str]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over problems, sizes, seed, rewordings and the files that judge: fixed before training, it can't be
        tuned.
        """
        words = {"given": GIVEN, "refusal": REFUSAL, "sizes": SIZES, "frames": FRAMES, "asides": ASIDES}
        digest = hashlib.sha256(json.dumps(words).encode())
        asked = ("problems", "samples", "deep_problems", "deep_samples")
        sizes = (*asked, "max_new_tokens", "texts", "heldout_bytes", "seed")
        digest.update(json.dumps([getattr(self.config, name) for name in sizes]).encode())
        for item in self.items:
            problem = (item.ring, item.part, item.family, item.level, item.problem.key, item.problem.prompt)
            digest.update(repr(problem).encode())
        judges = {getattr(item.task, "__file__", None) for item in self.items} - {None}
        judges |= {base.__file__, reward.__file__, str(Path(reward.__file__).with_suffix(".toml"))}
        for file in sorted(judges, key=lambda f: Path(f).name):
            digest.update(Path(file).read_bytes())
        return digest.hexdigest()


def suite(config: Config, taught: Taught) -> Suite:
    """The problems about what was trained, the same ones every time."""
    sizes = config.sized()
    items: list[Item] = []
    for family, levels in taught.trained.items():
        task = find.find(family)
        for level in levels:
            items += _about(sizes, family, level, task)
        items += _harder(sizes, taught, family, task)
    unseen = find.UNSEEN if config.unseen is None else config.unseen
    fresh = [name for name in unseen if name not in {family for family, _ in taught.shown}]
    notes = []
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


def _about(sizes: Config, family: str, level: int, task: base.Task) -> Iterator[Item]:
    """R0, R2 and R7 of one trained level."""
    trained = draw(task, level, sizes.problems, sizes.seed)
    half = -(-sizes.problems // 2)
    parts = {("R0", "trained tasks"): trained}
    if any("lang" in problem.facts for problem in trained):
        for lang, name in (("en", "English"), ("de", "German")):
            parts["R2", name] = draw(task, level, half, sizes.seed, lang)
    for texts, name in ((ASIDES, "beside the point"), (FRAMES, "framed")):
        parts["R2", name] = [reworded(problem, texts, i) for i, problem in enumerate(trained[:half])]
    parts["R7", "unanswerable"] = [q for p in trained[:half] if (q := blanked(p)) is not p]
    for (ring, part), problems in parts.items():
        for problem in problems:
            yield Item(ring=ring, part=part, family=family, level=level, task=task, problem=problem)


def _harder(sizes: Config, taught: Taught, family: str, task: base.Task) -> Iterator[Item]:
    """R1 of one trained family."""
    higher = [level for level in task.levels if level > max(taught.trained[family])]
    for up, level in enumerate(higher[: sizes.steps_up], 1):
        part = "harder, shown worked" if (family, level) in taught.shown else "harder, never shown"
        for problem in draw(task, level, -(-sizes.problems // 2), sizes.seed):
            yield Item(ring="R1", part=part, family=family, level=level, up=up, task=task, problem=problem)


def _elsewhere(sizes: Config, ring: str, task: base.Task) -> Iterator[Item]:
    """The lowest two levels of a task that was not trained."""
    family = base.short(task)
    part = {"R3": "unseen families", "R4": family, "R5": "instructions"}[ring]
    n = sizes.problems * 4 if ring == "R4" else sizes.problems
    for level in task.levels[:2]:
        for problem in draw(task, level, n, sizes.seed):
            yield Item(ring=ring, part=part, family=family, level=level, task=task, problem=problem)


def draw(task: base.Task, level: int, n: int, seed: int, lang: str | None = None) -> list[base.Problem]:
    """`n` problems of different keys from the evaluation split, or as many as the level has to offer."""
    problems: dict[str, base.Problem] = {}
    for problem in islice(base.problems(task, level, split="eval", seed=seed, lang=lang), 8 * n):
        if len(problems) == n:
            break
        problems.setdefault(problem.key, problem)
    return list(problems.values())


def reworded(problem: base.Problem, texts: Mapping[str, Sequence[str]], index: int) -> base.Problem:
    """The same problem with something about it, in its own language."""
    options = texts.get(problem.facts.get("lang"), texts["en"])
    return replace(problem, prompt=options[index % len(options)].format(problem.prompt))


def blanked(problem: base.Problem) -> base.Problem:
    """The question without what it asks about; the same object where it gives no numbers and letters to drop."""
    prompt = re.sub(r"…(?:[ ,]+…)+", "…", re.sub(GIVEN, "…", problem.prompt))
    return problem if prompt == problem.prompt else replace(problem, prompt=prompt)


def modal_share(items: Sequence[Item]) -> float | None:
    """How many of the items the most frequent answer of their cell's training split gets right: what a model scores
    that knows nothing but that.  None where the machine can't judge.
    """
    if not items:
        return None
    tasks = {(item.family, item.level): item.task for item in items}
    try:
        modal = {cell: _modal_answer(task, cell[1]) for cell, task in tasks.items()}
        right = [item.task.check(item.problem, modal[item.family, item.level]) for item in items]
    except (base.Undecided, TaskError):
        return None
    return sum(right) / len(right)


def _modal_answer(task: base.Task, level: int) -> str:
    drawn = islice(base.problems(task, level, split="train", seed=0), 200)
    return Counter(problem.witness.strip() for problem in drawn).most_common(1)[0][0]
