"""The problems of the transfer report: rings about what was trained, and what a model makes of them.

R0 trained tasks, unseen instances; R1 harder; R2 reworded; R3 unseen families; R4 from outside; R5 instructions; R7
questions that lost what they ask about.  (R6 is open text and has no problems.)
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomoat.config import Strict, TaskError
from nomoat.files import shipped
from nomoat.model.transformer import Transformer
from nomoat.rl import reward
from nomoat.rl.rollout import Exercise, Rollout, account, sample
from nomoat.stages.recipe import Recipe
from nomoat.tasks import answers, base, find, verdicts
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Layout
from nomoat.train.session import Work

INSTRUCTIONS = ("instruct", "fields")
EVERYONE = ("R0", "R1", "R3")  # the rings that controls are measured on


class Config(Strict):
    """`before` and `after` are stages; `controls` further ones, measured on R0, R1, R3 and open text.

    `problems` are drawn per family and level of R0, half as many elsewhere; each is answered once greedily and `samples`
    times at temperature 1.  pass@k: `deep_samples` of `deep_problems` per cell.  `external` names tasks as find.find does.
    Sizes that are None depend on `quick`; the suite's seed is no training seed.
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
    max_new_tokens: int | None = None  # by default half as many again as in training: harder chains are longer
    texts: int = 64  # free continuations
    heldout_bytes: int | None = None
    seed: int = 1

    def sized(self) -> "Config":
        """With every size set."""
        sizes = {key: few if self.quick else full for key, (few, full) in shipped(__file__)["sizes"].items()}
        return self.model_copy(update={key: size for key, size in sizes.items() if getattr(self, key) is None})


@dataclass(frozen=True, slots=True)
class Item:
    """One problem of one part of a ring; equal `cluster` is the same computation, however worded."""

    ring: str
    part: str
    family: str
    level: int
    up: int  # levels above the highest trained one
    task: base.Task
    problem: base.Problem

    @property
    def cluster(self) -> str:
        return f"{self.family}/{self.level}/{self.problem.key}"


def suite(config: Config, recipe: Recipe) -> tuple[list[Item], list[str]]:
    """Every problem, and notes on what had to be left out."""
    config, words = config.sized(), shipped(__file__)
    trained = recipe.stage(config.after).tasks
    shown = {(f, l) for stage in recipe.stages for f, levels in (getattr(stage, "tasks", None) or {}).items() for l in levels}
    items: list[Item] = []
    notes: list[str] = []
    half = -(-config.problems // 2)
    for family, levels in trained.items():
        task = find.find(family)
        for level in levels:
            known = draw(task, level, config.problems, config.seed)
            parts = {("R0", "trained tasks"): known}
            for lang, name in (("en", "English"), ("de", "German")):
                if any("lang" in p.facts for p in known):
                    parts["R2", name] = draw(task, level, half, config.seed, lang)
            for texts, name in (("asides", "beside the point"), ("frames", "framed")):
                parts["R2", name] = [reworded(p, words[texts], i) for i, p in enumerate(known[:half])]
            parts["R7", "unanswerable"] = [q for p in known[:half] if (q := blanked(p)) is not p]
            items += [Item(*where, family, level, 0, task, p) for where, found in parts.items() for p in found]
        higher = [level for level in task.levels if level > max(levels)][: config.steps_up]
        for up, level in enumerate(higher, 1):
            part = "harder, shown worked" if (family, level) in shown else "harder, never shown"
            items += [Item("R1", part, family, level, up, task, p) for p in draw(task, level, half, config.seed)]
    families = {family for family, _ in shown}
    unseen = find.UNSEEN if config.unseen is None else config.unseen
    if not (fresh := [name for name in unseen if name not in families]):
        notes.append("R3: the recipe trains on every family there is; no unseen ones to measure")
    outside = [("R3" if name.startswith("rg:") else "R4", name) for name in config.external]
    for ring, name in [*(("R3", n) for n in fresh), *outside, *(("R5", n) for n in INSTRUCTIONS)]:
        try:
            task = find.find(name)
        except TaskError as error:
            if not name.startswith("rg:"):
                raise
            notes.append(f"R3: {name} left out: {error}")
            continue
        part = {"R3": "unseen families", "R4": base.short(task), "R5": "instructions"}[ring]
        for level in task.levels[:2]:
            n = config.problems * 4 if ring == "R4" else config.problems
            items += [Item(ring, part, base.short(task), level, 0, task, p) for p in draw(task, level, n, config.seed)]
    return items, notes


def draw(task: base.Task, level: int, n: int, seed: int, lang: str | None = None) -> list[base.Problem]:
    """`n` problems of different keys from the evaluation split, or as many as the level has to offer."""
    found: dict[str, base.Problem] = {}
    stream = base.problems(task, level, split="eval", seed=seed, lang=lang)
    for problem, _ in zip(stream, range(8 * n)):
        if len(found) == n:
            break
        found.setdefault(problem.key, problem)
    return list(found.values())


def reworded(problem: base.Problem, texts: dict[str, list[str]], index: int) -> base.Problem:
    """The same problem with something about it, in its own language."""
    options = texts.get(problem.facts.get("lang"), texts["en"])
    return replace(problem, prompt=options[index % len(options)].format(problem.prompt))


def blanked(problem: base.Problem) -> base.Problem:
    """The question without what it asks about; the same object where it gives no numbers and letters to drop."""
    prompt = re.sub(r"…(?:[ ,]+…)+", "…", re.sub(shipped(__file__)["given"], "…", problem.prompt))
    return problem if prompt == problem.prompt else replace(problem, prompt=prompt)


def suite_hash(config: Config, recipe: Recipe, items: Sequence[Item] | None = None) -> str:
    """sha256 over problems, sizes, seed, rewordings and the files that judge: fixed before training, it can't be tuned."""
    config = config.sized()
    items = suite(config, recipe)[0] if items is None else items
    digest = hashlib.sha256(json.dumps(shipped(__file__)).encode())
    sizes = ("problems", "samples", "deep_problems", "deep_samples", "max_new_tokens", "texts", "heldout_bytes", "seed")
    digest.update(json.dumps([getattr(config, name) for name in sizes]).encode())
    for item in items:
        digest.update(repr((item.ring, item.part, item.family, item.level, item.problem.key, item.problem.prompt)).encode())
    judges = {getattr(item.task, "__file__", None) for item in items} - {None}
    judges |= {base.__file__, verdicts.__file__, reward.__file__, str(Path(reward.__file__).with_suffix(".toml"))}
    for file in sorted(judges, key=lambda f: Path(f).name):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def modal_share(items: Sequence[Item]) -> float | None:
    """How many of the items the most frequent answer of their cell's training split gets right: what a model scores that
    knows nothing but that.  None where the machine can't judge.
    """
    answers: dict[tuple[str, int], str] = {}
    try:
        for (family, level), task in {(i.family, i.level): i.task for i in items}.items():
            stream = base.problems(task, level, split="train", seed=0)
            answers[family, level] = Counter(p.witness.strip() for p, _ in zip(stream, range(200))).most_common(1)[0][0]
        return sum(i.task.check(i.problem, answers[i.family, i.level]) for i in items) / len(items) if items else None
    except (base.Undecided, TaskError):
        return None


# --- answers -------------------------------------------------------------------------------------------------------


def answer(
    work: Work, model: Transformer, tokenizer: Tokenizer, items: Sequence[Item], *, samples: int, **how: Any
) -> Iterator[list[tuple[Rollout, reward.Score, str]]]:
    """For each item, its rollouts with their scores and texts; `how` as rl.rollout.sample takes it."""
    exercises = [Exercise(i.family, i.level, i.task, i.problem) for i in items]
    groups = sample(model, tokenizer, exercises, group=samples, max_rows=1024, **how)
    account(work, model, groups)
    for group in reward.judge(groups):
        yield [(j.rollout, j.score, j.rollout.text) for j in group]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is there."""
    found = [v for v in values if v is not None]
    return sum(found) / len(found) if found else None


def record(item: Item, layout: Layout, greedy: Sequence, sampled: Sequence) -> dict[str, Any]:
    """What is kept of one model's answers to one problem.  What the machine failed to judge counts nowhere."""
    (rollout, mark, _), decided = greedy[0], [entry for entry in sampled if not entry[1].undecided]
    form = getattr(item.task, "form", "line")
    votes = Counter(a for r, m, t in decided if (a := answers.strict_answer(t, form) or answers.lenient_answer(t)))
    try:
        majority = bool(votes) and item.task.check(item.problem, votes.most_common(1)[0][0])
    except base.Undecided:
        majority = None
    refuses = [bool(re.search(shipped(__file__)["refusal"], t)) for _, _, t in sampled]
    gave = [r.stop == "end" and answers.strict_answer(t, form) is not None for r, _, t in sampled]
    return {
        "greedy": None if mark.undecided else int(mark.strict),
        "rate": mean([m.strict for _, m, _ in decided]),
        "lenient": mean([m.lenient for _, m, _ in decided]),
        "majority": None if majority is None else int(majority),
        "ended": mean([r.stop == "end" for r, _, _ in sampled]),
        "length": mean([r.length for r, _, _ in sampled]),
        "language": mean([m.language for _, m, _ in decided]),
        "gave": mean([g and not no for g, no in zip(gave, refuses)]),
        "refuses": mean(refuses),
        "confidence": confidence(rollout, layout),
    }  # fmt: skip


def confidence(rollout: Rollout, layout: Layout) -> float | None:
    """exp of the mean log-probability of the answer's own tokens, the thinking left out."""
    ids = rollout.ids_T.tolist()
    start = len(ids) - ids[::-1].index(layout.end_think_id) if layout.end_think_id in ids else 0
    logp = [l for i, l in zip(ids[start:], rollout.logp_T[start:].tolist()) if i not in layout.stop_ids]
    return math.exp(sum(logp) / len(logp)) if logp else None


def calibration(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """(expected calibration error over 15 equally wide bins, Brier score) of pairs (chance, truth)."""
    if not pairs:
        return None, None
    found: dict[int, list[tuple[float, float]]] = {}
    for chance, truth in pairs:
        found.setdefault(min(int(chance * 15), 14), []).append((chance, truth))
    gaps = (abs(sum(c - t for c, t in cell)) for cell in found.values())
    return sum(gaps) / len(pairs), sum((c - t) ** 2 for c, t in pairs) / len(pairs)


def diversity(texts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """(distinct-3: share of different trigrams over all texts; share of a text's 4-grams that it had before)."""
    three = [tuple(t[i : i + 3]) for t in texts for i in range(len(t) - 2)]
    four = [[tuple(t[i : i + 4]) for i in range(len(t) - 3)] for t in texts]
    n = sum(map(len, four))
    return len(set(three)) / max(len(three), 1), sum(len(f) - len(set(f)) for f in four) / max(n, 1)
