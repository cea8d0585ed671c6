"""RUN/report.html: one file without network or scripts, made of the event log alone.

Whatever a model wrote is data: jinja escapes every text, and the page forbids scripts to itself.
"""

import json
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from nomoat.files import shipped, visible, write_whole
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.report import charts, learning
from nomoat.report.receipt import kinds_of, receipt_of, receipt_table, shares_of, shares_table
from nomoat.report.rollouts import parted
from nomoat.report.scores import Scores, score_tables, scores_of
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, Receipt, duration, money, short

SAMPLES = 5


def write(run: Run) -> Path:
    """Writes the page of a run, finished or not; gives its path."""
    path = run.root / "report.html"
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    """The page as text."""
    events, kinds, record = run.events(), kinds_of(run), run.record
    scores, receipt = scores_of(events), receipt_of(run)
    curves = {name: curve for name in kinds if (curve := run.curve(name))}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = visible
    files = resources.files("nomoat.report")
    day = [time.strftime("%Y-%m-%d", time.gmtime(e["t"])) for e in events[-1:]]
    speaker = best_model(scores)
    return environment.from_string((files / "page.html.jinja").read_text("utf-8")).render(
        css=(files / "page.css").read_text("utf-8"),
        name=run.recipe.get("name", run.root.name),
        subtitle=", ".join([f"nomoat {record.get('nomoat')}, seed {run.seed}, {receipt.units} x {receipt.device}", *day]),
        headlines=headlines(run, scores, receipt),
        scores=score_tables(scores),
        accuracy=[
            charts.whiskers(f"Right answers, {how}", scores.accuracy[how], [*scores.families, "mean"])
            for how in ("sampled", "greedy")
            if scores.accuracy[how]
        ],
        rewarded={name: pictures(name, curve, "rewarded") for name, curve in curves.items() if kinds[name] == "rl"},
        plain={name: pictures(name, curve, "plain") for name, curve in curves.items() if kinds[name] != "rl"},
        learning=[
            (name, learning.findings(run, name), learning.tables(curve), learning.probes(run, name))
            for name, curve in curves.items()
            if kinds[name] == "rl"
        ],
        carried=carried(run),
        shares=shares_of(run, receipt),
        shares_table=shares_table(shares_of(run, receipt)),
        receipt=receipt_table(receipt),
        samples=conversations(events, speaker)[:SAMPLES],
        speaker=speaker,
        notes=[f"{e.get('stage') or 'run'}: {e['text']}" for e in events if e["kind"] == "note"],
        recipe=json.dumps(run.recipe, indent=1, ensure_ascii=False),
        libraries=record.get("libraries") or {},
        commit=record.get("commit") or "unknown",
    )


def carried(run: Run) -> tuple[str, list[Any]] | None:
    """The transfer report's sentence and tables, where one was measured."""
    found = [path for name in ("transfer.json", "transfer-quick.json") if (path := run.root / name).exists()]
    if not found:
        return None
    from nomoat.evals import transfer

    result = json.loads(found[0].read_text("utf-8"))
    return transfer.verdict(result), transfer.tables(result)


def best_model(scores: Scores) -> str | None:
    """The model with the highest mean sampled accuracy, controls ("sft, thinking") aside."""
    means = {model: found["mean"].value for model, found in scores.accuracy["sampled"].items() if "," not in model}
    return max(means, key=means.get) if means else None


def headlines(run: Run, scores: Scores, receipt: Receipt) -> list[tuple[str, str, str]]:
    """(figure, what it is, what to hold it against)."""
    out = []
    kinds, sampled, best = kinds_of(run), scores.accuracy["sampled"], best_model(scores)
    if best is not None:
        mean = sampled[best]["mean"]
        more = f"mean of {len(scores.families)} families, {100 * mean.low:.0f}-{100 * mean.high:.0f}"
        before = next((m for m in sampled if kinds.get(m) == "sft"), best)
        if before != best:
            more += f"; {100 * (mean.value - sampled[before]['mean'].value):+.0f} points over {before}"
        out.append((f"{100 * mean.value:.0f} %", f"of answers right, {best}", more))
    base = next((m for m in scores.bits if kinds.get(m) in ("extend", "pretrain")), None)
    for lang, value in scores.bits.get(base, {}).items():
        grams = [bits[lang] for m, bits in scores.bits.items() if m.endswith("-gram") and lang in bits]
        out.append((f"{value:.2f}", f"bits per byte, {lang}, {base}", f"best n-gram model {min(grams):.2f}" if grams else ""))
    spec = next((e["outputs"]["spec"] for e in run.events("stage_end") if e["outputs"].get("spec")), None)
    if spec:
        spec = Spec.model_validate(spec)
        out.append((short(counts.params_total(spec)), "parameters", f"{short(counts.params_active(spec))} active"))
    total = receipt.total
    out.append((duration(total.device_seconds), "device time", f"{short(total.tokens)} tokens"))
    out.append((f"{money(total.money)} {total.currency}", "money", f"{short(total.joules, 'J')} {total.joules_source}"))
    return out


def pictures(name: str, curve: Sequence[Event], kind: str) -> list[str]:
    """The charts that page.toml has for a kind of stage, as far as the log has anything to draw."""
    found = []
    for chart in shipped(__file__)[kind]:
        values = lambda key: [(e["step"], e[key]) for e in curve if e.get(key) is not None]
        curves = {label: points for label, key in chart["curves"].items() if (points := values(key))}
        if curves:
            found.append(charts.lines(f"{name}: {chart['title']}", curves, **chart.get("how", {})))
    return found


def conversations(events: Sequence[Event], model: str | None) -> list[tuple[Event, str | None, str]]:
    """(event, thinking, answer) of the last "sample" of each family for one model; those that think come first."""
    last = {e["family"]: e for e in events if e["kind"] == "sample" and e.get("model") == model}
    return sorted(((e, *parted(e["reply"])) for e in last.values()), key=lambda sample: not sample[1])
