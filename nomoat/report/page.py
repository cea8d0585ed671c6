"""RUN/report.html: one file without network or scripts, made of the event log alone.

Whatever a model wrote is data: jinja escapes every text, and the page forbids scripts to itself.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from nomoat.files import visible, write_whole
from nomoat.report import charts, learning, transfer
from nomoat.report.charts import Chart
from nomoat.report.receipt import kinds_of, receipt_of, receipt_table, shares_of, shares_table
from nomoat.report.rollouts import parted
from nomoat.report.scores import Scores, score_tables, scores_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, Receipt, duration, money, short

N_SAMPLES = 5
TRAINING = (
    Chart("loss", {"next token": "loss", "further tokens": "mtp_loss"}, "bits"),
    Chart("gradient norm", {"norm": "grad_norm"}, "log"),
    Chart("busiest expert, times the mean", {"load": "load_max"}, floor=1.0),
    Chart("right answers", {"strict": "reward"}, "percent"),
)
REINFORCEMENT = (
    Chart("right answers", {"strict": "reward", "lenient": "lenient"}, "percent"),
    Chart("tokens per answer", {"all": "length", "right ones": "length_right"}, floor=0.0),
    Chart("entropy, nats per token", {"entropy": "entropy"}, floor=0.0),
    Chart(
        "groups without a lesson",
        {"all right or all wrong": "dead_groups", "cut off": "truncated"},
        "percent",
    ),
    Chart("gradient norm", {"norm": "grad_norm"}, "log"),
    Chart("seconds a step", {"sampling": "sample_seconds", "update": "update_seconds"}, floor=0.0),
)


@dataclass(frozen=True)
class Headline:
    """A figure, what it is, and what to hold it against."""

    figure: str
    what: str
    beside: str = ""


@dataclass(frozen=True)
class Conversation:
    """A problem of the evaluation, as its "sample" event has it, with the reply in two parts."""

    event: Event
    thinking: str | None
    answer: str


def write(run: Run) -> Path:
    """Writes the page of a run, finished or not; gives its path."""
    path = run.root / "report.html"
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    """The page as text."""
    events, record = run.events(), run.record
    scores, receipt = scores_of(events), receipt_of(run)
    parts = shares_of(run, receipt)
    speaker = best_model(scores)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = visible
    files = resources.files("nomoat.report")
    template = environment.from_string((files / "page.html.jinja").read_text("utf-8"))
    return template.render(
        css=(files / "page.css").read_text("utf-8"),
        name=run.recipe.get("name", run.root.name),
        subtitle=subtitle(run, receipt),
        headlines=list(headlines(run, scores, receipt, speaker)),
        scores=score_tables(scores),
        accuracy=accuracy(scores),
        carried=carried(run),
        shares=parts,
        shares_table=shares_table(parts),
        receipt=receipt_table(receipt),
        samples=conversations(events, speaker)[:N_SAMPLES],
        speaker=speaker,
        notes=[f"{e.get('stage') or 'run'}: {e['text']}" for e in events if e["kind"] == "note"],
        recipe=json.dumps(run.recipe, indent=1, ensure_ascii=False),
        libraries=record.get("libraries") or {},
        commit=record.get("commit") or "unknown",
        **courses(run),
    )


def subtitle(run: Run, receipt: Receipt) -> str:
    """Version, seed, hardware, and the day of the last event."""
    parts = [f"nomoat {run.record.get('nomoat')}", f"seed {run.seed}", f"{receipt.units} x {receipt.device}"]
    if events := run.events():
        parts.append(time.strftime("%Y-%m-%d", time.gmtime(events[-1]["t"])))
    return ", ".join(parts)


def courses(run: Run) -> dict[str, Any]:
    """Charts of the stages that trained, reinforcement apart, and whether that learns."""
    rewarded, plain, learned = {}, {}, []
    for name, kind in kinds_of(run).items():
        curve = run.curve(name)
        if kind == "rl" and curve:
            rewarded[name] = pictures(name, curve, REINFORCEMENT)
            learned.append(learning.screen(run, name))
        elif curve:
            plain[name] = pictures(name, curve, TRAINING)
    return {"rewarded": rewarded, "plain": plain, "learning": learned}


def pictures(name: str, curve: Sequence[Event], drawn: Sequence[Chart]) -> list[str]:
    """The charts of a stage, as far as the log has anything to draw."""
    out = []
    for chart in drawn:
        series = {}
        for label, key in chart.curves.items():
            if points := [(e["step"], e[key]) for e in curve if e.get(key) is not None]:
                series[label] = points
        if series:
            out.append(charts.lines(chart, name, series))
    return out


def accuracy(scores: Scores) -> list[str]:
    """The charts of right answers."""
    rows = [*scores.families, "mean"]
    drawn = ((how, scores.accuracy[how]) for how in ("sampled", "greedy"))
    return [charts.whiskers(f"Right answers, {how}", models, rows) for how, models in drawn if models]


def carried(run: Run) -> tuple[str, list[Table]] | None:
    """The transfer report's sentence and tables, where one was measured."""
    for name in ("transfer.json", "transfer-quick.json"):
        if (path := run.root / name).exists():
            result = json.loads(path.read_text("utf-8"))
            return transfer.verdict(result), transfer.tables(result)
    return None


def best_model(scores: Scores) -> str | None:
    """The model with the highest mean sampled accuracy, controls ("sft, thinking") aside."""
    means = {
        model: found["mean"].value for model, found in scores.accuracy["sampled"].items() if "," not in model
    }
    return max(means, key=means.get) if means else None


def headlines(run: Run, scores: Scores, receipt: Receipt, best: str | None) -> Iterator[Headline]:
    """What a reader should know first; what was not measured is left out."""
    kinds, total = kinds_of(run), receipt.total
    if best is not None:
        yield _right_answers(scores, kinds, best)
    yield from _bits(scores, kinds)
    for event in run.events("stage_end"):
        size = event["outputs"]
        if "parameters" in size:
            yield Headline(short(size["parameters"]), "parameters", f"{short(size['active'])} active")
            break
    yield Headline(duration(total.device_seconds), "device time", f"{short(total.tokens)} tokens")
    energy = f"{short(total.joules, 'J')} {total.joules_source}"
    yield Headline(f"{money(total.money)} {total.currency}", "money", energy)


def _bits(scores: Scores, kinds: Mapping[str, str]) -> Iterator[Headline]:
    """Bits per byte after pretraining, by language."""
    grams = [bits for model, bits in scores.bits.items() if model.endswith("-gram")]
    for base, bits in scores.bits.items():
        if kinds.get(base) not in ("extend", "pretrain"):
            continue
        for lang, value in bits.items():
            beside = ""
            if others := [gram[lang] for gram in grams if lang in gram]:
                beside = f"best n-gram model {min(others):.2f}"
            yield Headline(f"{value:.2f}", f"bits per byte, {lang}, {base}", beside)
        break


def _right_answers(scores: Scores, kinds: Mapping[str, str], best: str) -> Headline:
    """How often the best model is right, and what it gained over fine-tuning."""
    sampled = scores.accuracy["sampled"]
    mean = sampled[best]["mean"]
    low = 100 * mean.low
    high = 100 * mean.high
    beside = f"mean of {len(scores.families)} families, {low:.0f}-{high:.0f}"
    tuned = (model for model in sampled if kinds.get(model) == "sft")
    before = next(tuned, best)
    if before != best:
        gain = mean.value - sampled[before]["mean"].value
        beside += f"; {100 * gain:+.0f} points over {before}"
    figure = f"{100 * mean.value:.0f} %"
    what = f"of answers right, {best}"
    return Headline(figure, what, beside)


def conversations(events: Sequence[Event], model: str | None) -> list[Conversation]:
    """The last sample of each family for one model; those that think come first."""
    last = {e["family"]: e for e in events if e["kind"] == "sample" and e.get("model") == model}
    return sorted((Conversation(e, *parted(e["reply"])) for e in last.values()), key=lambda c: not c.thinking)
