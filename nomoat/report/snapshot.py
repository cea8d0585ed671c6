"""All that a page says of a run, as JSON: what the lab asks for and what report.html carries within it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nomoat.config import JsonObject
from nomoat.report import course, diagnosis, transfer
from nomoat.report.course import Course, name_of
from nomoat.report.receipt import kinds_of, receipt_of, shares_of
from nomoat.report.rollouts import parted
from nomoat.report.scores import ByModel, Scores, scores_of
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, Receipt, Row, read_prices
from nomoat.run.log import last_plan
from nomoat.stats import difference, grouped

MOST_PROBES = 60  # looks at the watched prompts
MOST_NOTES = 200


def snapshot(run: Run, name: str | None = None) -> JsonObject:
    """The run under a name; bounded, however long its log is."""
    events = run.events()
    at = course.course_of(run)
    scores, receipt = scores_of(events), receipt_of(run)
    return {
        "name": name or run.root.name,
        "line": len(events),
        **course.as_json(at),
        "record": {key: value for key, value in run.record.items() if key != "recipe"},
        "recipe": run.recipe,
        "given": [model["from"] for model in run.recipe.get("models", {}).values() if model.get("from")],
        "best": best(scores),
        "before": before(run, scores),
        "scores": measured(scores),
        "receipt": bill(run, receipt),
        "plan": against(at, receipt, last_plan(events)),
        "learning": [learning(run, stage) for stage, kind in kinds_of(run).items() if kind == "rl"],
        "samples": samples(events),
        "transfer": carried(run),
        "notes": picked(events, "note", ("t", "stage", "text"))[-MOST_NOTES:],
        "texts": picked(events, "read", ("stage", "source", "what")),
    }


def of(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event["kind"] == kind]


def picked(events: Sequence[Event], kind: str, keys: Sequence[str]) -> list[JsonObject]:
    return [{key: event.get(key) for key in keys} for event in of(events, kind)]


def row(run: Run, name: str, n_bytes: int) -> JsonObject:
    """A run in a list of runs."""
    at = course.course_of(run)
    here = at.at
    return {
        "name": name,
        "recipe": run.recipe.get("name", ""),
        "state": at.state,
        "started": at.started,
        "updated": at.updated,
        "stage": here.name if here else None,
        "step": here.step if here else None,
        "steps": here.steps if here else None,
        "stages": [{"name": stage.name, "state": stage.state} for stage in at.stages],
        "eta_seconds": at.eta_seconds,
        "best": best(scores_of(run.events())),
        "bytes": n_bytes,
    }


def best(scores: Scores) -> JsonObject | None:
    """The model with the highest mean accuracy, sampled or else greedy; controls ("sft, thinking") aside."""
    for how in ("sampled", "greedy"):
        means = {model: found["mean"] for model, found in scores.accuracy[how].items() if "," not in model}
        if means:
            model = max(means, key=lambda name: means[name].value)
            return {"model": model, "how": how, "families": len(scores.families), **asdict(means[model])}
    return None


def measured(scores: Scores) -> JsonObject:
    """Scores, each an object with value, low, high, lenient, n."""
    return {
        "families": list(scores.families),
        **{how: _plain(models) for how, models in scores.accuracy.items()},
        "conversation": _plain(scores.conversation),
        "bits": {model: dict(bits) for model, bits in scores.bits.items()},
    }


def _plain(scores: ByModel) -> JsonObject:
    return {one: {two: asdict(score) for two, score in inner.items()} for one, inner in scores.items()}


def before(run: Run, scores: Scores) -> JsonObject:
    """model -> what it is held against: the measured model that its stage began with, and the difference of
    their means with its 95 % interval.
    """
    found = {}
    stages = {name_of(stage): stage for stage in run.recipe.get("stages", [])}
    for how, models in scores.accuracy.items():
        for model, families in models.items():
            if (source := _source(stages, model, models)) is not None:
                low, high = difference(models[source]["mean"], families["mean"])
                delta = families["mean"].value - models[source]["mean"].value
                bounds = {"delta": delta, "low": low, "high": high}
                found.setdefault(model, {})[how] = {"model": source, **bounds}
    return found


def _source(stages: Mapping[str, Mapping], model: str, measured: ByModel) -> str | None:
    """The nearest measured model from which a stage went on."""
    seen = set()
    while model in stages and model not in seen:
        seen.add(model)
        model = stages[model].get("from") or stages[model].get("start")
        if model in measured:
            return model
    return None


def bill(run: Run, receipt: Receipt) -> JsonObject:
    """The receipt, where the time went, and the prices that it counts with."""
    prices = read_prices()
    devices = {machine.device: prices.device(machine.device) for machine in receipt.machines}
    return {
        **asdict(receipt),
        "shares": [asdict(share) for share in shares_of(run, receipt)],
        "per_kwh": prices.per_kwh,
        "watts": {name: device.watts for name, device in devices.items()},
        "per_hour": {name: device.per_hour for name, device in devices.items()},
    }


def against(at: Course, receipt: Receipt, plan: Sequence[Event]) -> list[JsonObject]:
    """What each stage took and was to take, where the log has a plan."""
    rows = {line.stage: line for line in receipt.rows}
    state = {stage.name: stage.state for stage in at.stages}
    found = []
    for planned in plan:
        name = planned["stage"]
        took = spent(rows[name]) if name in rows else None
        found.append({**planned, "state": state.get(name), "took": took})
    return found


def spent(row: Row) -> JsonObject:
    """What a stage took, by the names that a plan has for it."""
    costs = {key: getattr(row, key) for key in ("seconds", "tokens", "joules", "money")}
    return {**costs, "flops": row.flops_model}


def learning(run: Run, stage: str) -> JsonObject:
    """Is it learning?  The verdict on a stage, and the watched prompts over its steps."""
    curve = run.curve(stage)
    findings = diagnosis.findings_of(run, stage) if curve else []
    looks = list({e["step"]: e for e in run.events("probe", stage) if not e.get("redone")}.values())
    every = max(1, -(-len(looks) // MOST_PROBES))
    looks = looks[::every] + ([looks[-1]] if looks and (len(looks) - 1) % every else [])
    replies = []
    for look in looks:
        for probe in look["probes"]:
            reply = {"step": look["step"], "right": bool(probe["right"]), "text": probe["reply"]}
            replies.append(((probe["family"], probe["prompt"]), reply))
    return {
        "stage": stage,
        "steps": len(curve),
        "findings": [asdict(finding) for finding in findings],
        "probes": [
            {"family": family, "prompt": prompt, "replies": given}
            for (family, prompt), given in grouped(replies).items()
        ],
    }


def samples(events: Sequence[Event]) -> list[JsonObject]:
    """The last answers of each model to the problems of the evaluation, those to one problem together."""
    last = {}
    for event in of(events, "sample"):
        if event.get("model") and not event.get("redone"):
            last[event["family"], event["model"]] = event
    problems = grouped([((event["family"], event["prompt"]), event) for event in last.values()])
    found = []
    for events in problems.values():
        problem = {key: events[0].get(key) for key in ("family", "level", "lang", "prompt")}
        found.append({**problem, "answers": [answered(event) for event in events]})
    return found


def answered(event: Event) -> JsonObject:
    """What a model said, in its two parts, and the verdict."""
    thinking, answer = parted(event["reply"])
    verdict = {"right": bool(event["right"]), "lenient": bool(event.get("lenient"))}
    return {"model": event["model"], "thinking": thinking, "answer": answer, **verdict}


def carried(run: Run) -> JsonObject | None:
    """The transfer report, where one was measured, with its sentence."""
    for name in ("transfer.json", "transfer-quick.json"):
        if (path := run.root / name).exists():
            result = json.loads(path.read_text("utf-8"))
            return {"result": result, "verdict": transfer.verdict(result)}
    return None


