"""What was measured of each model, pooled over levels."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nomoat import stats
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import Event
from nomoat.run.log import last_scores
from nomoat.stats import Accuracy, grouped

CONVERSATION = {  # what was measured, in words
    "talk/first": "talk, first turn",
    "talk/later": "talk, later turn",
    "talk/free": "talk, written apart",
    "common/talk": "talk, of any model",
    "common/facts": "facts, untouched",
    "turn/1": "problems, turn 1",
    "turn/2": "problems, turn 2",
    "turn/4": "problems, turn 4",
}
ByModel = Mapping[str, Mapping[str, Accuracy]]  # model -> family, or "mean"


@dataclass(frozen=True)
class Scores:
    """What was measured: accuracy[how][model][family] with "mean" beside the families, bits[model][lang],
    conversation[what][model]."""

    families: tuple[str, ...]
    accuracy: Mapping[str, ByModel]
    bits: Mapping[str, Mapping[str, float]]
    conversation: Mapping[str, Mapping[str, Accuracy]] = field(default_factory=dict)  # what -> model
    constant: Mapping[str, Accuracy] = field(default_factory=dict)  # family -> its most frequent right answer


def scores_of(events: Iterable[Event]) -> Scores:
    """The last measurement of each thing, its levels pooled."""
    bits = defaultdict(dict)
    accuracy = {"greedy": {}, "sampled": {}}
    levels = []
    conversation = defaultdict(dict)
    events = list(events)
    for e in last_scores(events):
        model, value = e.get("model"), e.get("value")
        what, _, detail = e["name"].partition("/")
        if model is None or value is None:
            continue
        if what == "bpb":
            bits[model][detail] = value
        elif what == "accuracy" and detail in accuracy:
            lenient = e.get("lenient") or 0.0
            level = Accuracy(value, e["low"], e["high"], lenient, e["n"])
            levels.append(((detail, model), (e.get("family"), level)))
        elif e["name"] in CONVERSATION:
            conversation[e["name"]][model] = Accuracy(value, e["low"], e["high"], e["lenient"], e["n"])
    for (how, model), of_model in grouped(levels).items():
        accuracy[how][model] = pooled(grouped(of_model), how)
    families = dict.fromkeys(family for by_family in accuracy["sampled"].values() for family in by_family)
    families.pop("mean", None)
    return Scores(tuple(families), accuracy, bits, conversation, constants_of(events))


def constants_of(events: Iterable[Event]) -> dict[str, Accuracy]:
    """What the one answer that is right most often would be worth, of each family and their mean."""
    last = {(e["family"], e["level"]): e for e in events if e["kind"] == "constant"}
    levels = []
    for e in last.values():
        levels.append((e["family"], Accuracy(e["value"], e["low"], e["high"], e["value"], e["n"])))
    return pooled(grouped(levels), "greedy") if levels else {}


def pooled(by_family: Mapping[str, Sequence[Accuracy]], how: str) -> dict[str, Accuracy]:
    """Each family with all its levels, a problem being a problem, and their mean, each family counting alike.

    Greedy levels are pooled by Wilson; of sampled ones the log has no problems, so that half-widths are.
    """
    families = {}
    for family, levels in by_family.items():
        n = sum(level.n for level in levels)
        families[family] = combined(levels, [level.n / n for level in levels])
        if how == "greedy":
            low, high = stats.wilson(round(families[family].value * n), n)
            families[family] = replace(families[family], low=low, high=high)
    k = len(families)
    return {**families, "mean": combined(list(families.values()), [1 / k] * k)}


def combined(parts: Sequence[Accuracy], weights: Sequence[float]) -> Accuracy:
    """The weighted mean, its half-widths the root of the summed squares of the weighted ones."""
    value = lenient = 0.0
    down = up = 0.0
    for weight, part in zip(weights, parts):
        value += weight * part.value
        lenient += weight * part.lenient
        down += (weight * (part.value - part.low)) ** 2
        up += (weight * (part.high - part.value)) ** 2
    low = max(0.0, value - math.sqrt(down))
    high = min(1.0, value + math.sqrt(up))
    n = sum(part.n for part in parts)
    return Accuracy(value, low, high, lenient, n)


def measurable(run: Run, stage: str) -> dict[str, float]:
    """The models that a stage of kind eval can measure by now, and when each came to be: of those that it
    names, or of all before it.
    """
    ended = {event["stage"]: event["t"] for event in run.events("stage_end")}
    stages = run.recipe.get("stages", [])
    names = [other.get("name") or other["kind"] for other in stages]
    wanted = stages[names.index(stage)].get("models") or names[: names.index(stage)]
    left = run.all_weights()
    return {name: ended[name] for name in wanted if name in left}


def unmeasured(run: Run, stage: str) -> list[str]:
    """The models that a stage of kind eval has not measured as they are now."""
    models = measurable(run, stage)
    end = run.finished(stage)
    if end is None:
        return list(models)
    outputs = end["outputs"]
    if "measured" in outputs:
        seen = outputs["measured"]
        return [name for name, when in models.items() if name not in seen or seen[name] != when]
    labels = [*outputs.get("means", ()), *outputs.get("controls", ())]  # in runs of earlier versions
    return [name for name in models if name not in {label.partition(",")[0] for label in labels}]


def is_done(run: Run, stage: str) -> bool:
    """Whether a stage has finished: where it measures models, as they are now; where it exports some, they
    are there.
    """
    kinds = {other.get("name") or other["kind"]: other["kind"] for other in run.recipe.get("stages", [])}
    finished = run.finished(stage)
    if finished is None:
        return False
    exports = finished["outputs"].get("exports", ()) if kinds.get(stage) == "export" else ()
    there = all((run.root / place).is_dir() for place in exports)
    return there and (kinds.get(stage) != "eval" or not unmeasured(run, stage))


def score_tables(scores: Scores) -> list[Table]:
    """Accuracy by family and model, greedy and sampled, and bits per byte beside the n-gram models."""
    tables = []
    always = {"constant": scores.constant} if scores.constant else {}
    if greedy := scores.accuracy.get("greedy"):
        n = next(iter(greedy.values()))["mean"].n
        note = f"95 % intervals in brackets; strict format; {n} problems that no stage trained on."
        if always:
            note += " constant: at each level the one answer that is right most often; it is no knowledge."
        tables.append(_accuracy_table("Greedy accuracy, %", {**greedy, **always}, scores.families, note))
    if sampled := scores.accuracy.get("sampled"):
        means = ", ".join(f"{model} {100 * found['mean'].lenient:.0f}" for model, found in sampled.items())
        note = f"At temperature 1. In a lenient reading the means are {means}."
        tables.append(_accuracy_table("Sampled accuracy, %", {**sampled, **always}, scores.families, note))
    if scores.conversation:
        tables.append(_conversation_table(scores.conversation))
    if scores.bits:
        langs = dict.fromkeys(lang for by_lang in scores.bits.values() for lang in by_lang)
        rows = [
            (model, *(f"{bits[lang]:.3f}" if lang in bits else "" for lang in langs))
            for model, bits in scores.bits.items()
        ]
        title = "Bits per byte of held-out prose"
        tables.append(Table(title, ("model", *langs), rows, "Lower is better."))
    return tables


def _conversation_table(scores: Mapping[str, Mapping[str, Accuracy]]) -> Table:
    models = dict.fromkeys(model for by_model in scores.values() for model in by_model)
    rows = [
        (said, *(str(scores[what].get(model, "")) for model in models))
        for what, said in CONVERSATION.items()
        if what in scores
    ]
    note = "Greedy. Small talk counts as answered if it says what a sensible answer to its question says."
    return Table("Conversation, %", ("what", *models), rows, note)


def _accuracy_table(title: str, by_model: ByModel, families: Sequence[str], note: str) -> Table:
    rows = [
        (family, *(str(found.get(family, "")) for found in by_model.values()))
        for family in (*families, "mean")
    ]
    return Table(title, ("family", *by_model), rows, note, total=True)
