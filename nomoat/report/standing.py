"""What one stage of a run cost and how well its model does, as a list of models tells it."""

from collections.abc import Sequence

from nomoat.config import JsonObject
from nomoat.report.receipt import kinds_of, receipt_of
from nomoat.report.scores import Scores, scores_of
from nomoat.run.directory import Run
from nomoat.run.ledger import Row, exact_sum, read_prices


def standings(run: Run, stages: Sequence[str]) -> dict[str, JsonObject]:
    """Stage -> `cost` of what was trained since the one before it in `stages`, `cost_total` of all up to it,
    and its scores; None where there is none.
    """
    kinds = kinds_of(run)
    rows = [row for row in receipt_of(run).rows if kinds.get(row.stage) != "eval"]
    places = {row.stage: number + 1 for number, row in enumerate(rows)}
    measured, told, before = scores_of(run.events()), {}, 0
    for stage in sorted(stages, key=lambda stage: places.get(stage, 0)):
        end = places.get(stage, before)
        costs = {"cost": cost_of(rows[before:end]), "cost_total": cost_of(rows[:end])}
        told[stage] = costs | scored(measured, stage)
        before = end
    return told


def cost_of(rows: Sequence[Row]) -> JsonObject:
    """The sum of some rows of a receipt; `seconds` are device-seconds."""
    sources = {source for row in rows for source in row.joules_source.split(" + ") if source}
    return {
        "seconds": exact_sum(row.device_seconds for row in rows),
        "tokens": exact_sum(row.tokens for row in rows),
        "joules": exact_sum(row.joules for row in rows),
        "joules_source": " + ".join(sorted(sources)) or "estimated",
        "money": exact_sum(row.money for row in rows),
        "currency": rows[0].currency if rows else read_prices().currency,
    }


def scored(measured: Scores, model: str) -> JsonObject:
    """Shares of right answers, the mean over families, with the 95 % interval of the first that there is."""
    greedy, sampled = (measured.accuracy[how].get(model, {}).get("mean") for how in ("greedy", "sampled"))
    first = greedy or sampled
    if first is None:
        return {"scores": None, "score_of": None}
    scores = {
        "greedy": greedy and greedy.value,
        "sampled": sampled and sampled.value,
        "low": first.low,
        "high": first.high,
    }
    what = f"{first.n} held-out problems of {len(measured.families)} kinds"
    return {"scores": scores, "score_of": what}
