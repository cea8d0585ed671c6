"""What one stage of a run cost and how well its model does, as a list of models tells it."""

from nomoat.config import JsonObject
from nomoat.report.receipt import receipt_of
from nomoat.report.scores import Scores, scores_of
from nomoat.run.directory import Run


def standings(run: Run) -> dict[str, JsonObject]:
    """Stage -> cost and scores, None where there is none; `seconds` are device-seconds, a stage's own."""
    costs = {
        row.stage: {
            "seconds": row.device_seconds,
            "tokens": row.tokens,
            "joules": row.joules,
            "joules_source": row.joules_source or "estimated",
            "money": row.money,
            "currency": row.currency,
        }
        for row in receipt_of(run).rows
    }
    measured = scores_of(run.events())
    models = {*measured.accuracy["greedy"], *measured.accuracy["sampled"], *costs}
    return {name: {"cost": costs.get(name), **scored(measured, name)} for name in models}


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
