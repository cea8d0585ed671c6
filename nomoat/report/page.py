"""RUN/report.html: one file without network or scripts, made of the event log alone.

Whatever a model wrote is data: jinja and `Table.html` escape every text, and the page forbids scripts to itself.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from nomoat.config import shipped, write_whole
from nomoat.ledger import Event, Receipt, duration, money, short
from nomoat.model.spec import ModelSpec
from nomoat.report import charts, learning
from nomoat.report.receipt import Scores, kinds_of, receipt_of, receipt_table, score_tables, scores_of, shares_of, shares_table
from nomoat.run import Run

SAMPLES = 5


def write(run: Run) -> Path:
    """Writes the page of a run, finished or not; gives its path."""
    path = run.root / "report.html"
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    """The page as text."""
    events = run.events()
    scores, receipt = scores_of(events), receipt_of(run)
    found = shares_of(run, receipt)
    speaker = best_model(scores)
    samples = conversations(events, speaker)[:SAMPLES]
    ours = [(s.part, s.ours or 0.0) for s in found]
    files = resources.files("nomoat.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    times = [e["t"] for e in events if "t" in e]
    record = run.record
    libraries = ", ".join(f"{name} {version}" for name, version in (record.get("libraries") or {}).items())
    return environment.from_string((files / "page.html.jinja").read_text("utf-8")).render(
        css=(files / "page.css").read_text("utf-8"),
        name=run.recipe.get("name", run.root.name),
        subtitle=f"nomoat {record.get('nomoat')}, seed {run.seed}, {receipt.units} x {receipt.device}"
        + (f", {time.strftime('%Y-%m-%d', time.gmtime(times[-1]))}" if times else ""),
        headlines=headlines(run, scores, receipt),
        sections=list(sections(run, events, scores)),
        learning=learning.section(run),
        carried=carried(run),
        shares=[("this run", ours), ("DeepSeek", [(s.part, s.theirs) for s in found])] if any(s for _, s in ours) else [],
        shares_table=shares_table(found),
        receipt=receipt_table(receipt),
        samples=samples,
        speaker=speaker,
        notes=[f"{e.get('stage') or 'run'}: {e['text']}" for e in events if e["kind"] == "note"],
        recipe=json.dumps(run.recipe, indent=1, ensure_ascii=False),
        provenance=f"Commit {record.get('commit') or 'unknown'}; {libraries}. The run's recipe.json holds the same.",
    )


def carried(run: Run) -> str:
    """The transfer report's section, where one was measured."""
    found = [path for name in ("transfer.json", "transfer-quick.json") if (path := run.root / name).exists()]
    if not found:
        return ""
    from nomoat.report import transfer  # and with it torch

    return transfer.html(json.loads(found[0].read_text("utf-8")))


def best_model(scores: Scores) -> str | None:
    """The model with the highest mean sampled accuracy, controls ("sft, thinking") aside."""
    sampled = scores.accuracy["sampled"]
    means = {model: found["mean"].value for model, found in sampled.items() if "," not in model}
    return max(means, key=means.get) if means else None


def headlines(run: Run, scores: Scores, receipt: Receipt) -> list[tuple[str, str, str]]:
    """(figure, what it is, what to hold it against)."""
    out = []
    kinds = kinds_of(run)
    sampled = scores.accuracy["sampled"]
    best = best_model(scores)
    if best is not None:
        mean = sampled[best]["mean"]
        before = next((m for m in sampled if kinds.get(m) == "sft"), None)
        gain = 100 * (mean.value - sampled[before]["mean"].value) if before not in (None, best) else None
        more = f"mean of {len(scores.families)} families, {100 * mean.low:.0f}-{100 * mean.high:.0f}"
        more += f"; {gain:+.0f} points over {before}" if gain is not None else ""
        out.append((f"{100 * mean.value:.0f} %", f"of answers right, {best}", more))
    grams = [m for m in scores.bits if m.endswith("-gram")]
    base = next((m for m in scores.bits if kinds.get(m) in ("extend", "pretrain")), None)
    for lang, value in (scores.bits.get(base) or {}).items():
        rival = min((scores.bits[m][lang] for m in grams if lang in scores.bits[m]), default=None)
        more = f"best n-gram model {rival:.2f}" if rival is not None else ""
        out.append((f"{value:.2f}", f"bits per byte, {lang}, {base}", more))
    specs = [e["outputs"] for e in run.events("stage_end") if e["outputs"].get("spec")]
    if specs:
        spec = ModelSpec.model_validate(specs[0]["spec"])
        out.append((short(spec.params_total()).strip(), "parameters", f"{short(spec.params_active()).strip()} active"))
    total = receipt.total
    out.append((duration(total.device_seconds), "device time", f"{short(total.tokens).strip()} tokens"))
    out.append((f"{money(total.money)} {total.currency}", "money", f"{short(total.joules)}J {total.joules_source}"))
    return out


Part = tuple[str, list[str], list[Any]]  # heading, charts, tables


def sections(run: Run, events: Sequence[Event], scores: Scores) -> Iterator[tuple[str, str, list[Part]]]:
    """(title, introduction, parts)."""
    if scores.models or scores.bits:
        yield "What it can do", "Measured on problems and prose that no stage trained on.", [score_part(scores)]
    curves = {name: [e for e in events if e["kind"] == "step" and e["stage"] == name and not e.get("redone")]
              for name in kinds_of(run)}  # fmt: skip
    rewarded = {name: c for name, c in curves.items() if any("rewards" in e for e in c)}
    for name, curve in rewarded.items():
        intro = "The reward is what programs decide, and nothing else."
        yield f"Reinforcement: {name}", intro, [("", pictures(name, curve, "rewarded"), [])]
    plain = [(name, pictures(name, curve, "plain"), []) for name, curve in curves.items() if curve and name not in rewarded]
    if plain:
        yield "Training", "Loss in bits per token on the left, in nats on the right.", plain


def score_part(scores: Scores) -> Part:
    drawn = [charts.whiskers(f"Right answers, {how}", scores.accuracy[how], [*scores.families, "mean"])
             for how in ("sampled", "greedy") if scores.accuracy[how]]  # fmt: skip
    return "", drawn, score_tables(scores)


def pictures(name: str, curve: Sequence[Event], kind: str) -> list[str]:
    """The charts that page.toml has for a kind of stage, as far as the log has anything to draw."""
    found = []
    for chart in shipped(__file__)[kind]:
        bits = chart.get("bits", False)
        curves = {label: [(e["step"], e[key] / (math.log(2) if bits else 1)) for e in curve if e.get(key) is not None]
                  for label, key in chart["curves"].items()}  # fmt: skip
        curves = {label: points for label, points in curves.items() if points}
        if curves:
            second = ("nats", math.log(2)) if bits else None
            found.append(charts.lines(f"{name}: {chart['title']}", curves, second=second, **chart.get("how", {})))
    return found


def conversations(events: Sequence[Event], model: str | None) -> list[dict[str, Any]]:
    """The last "sample" event of each family for one model, its thinking apart and judged in words; thinking ones first."""
    last: dict[str, Event] = {e["family"]: e for e in events if e["kind"] == "sample" and e.get("model") == model}
    found = []
    for e in last.values():
        thinking, closed, answer = e["reply"].partition("</think>")
        if closed or thinking.startswith("<think>"):
            thinking = thinking.removeprefix("<think>").strip()
        else:
            thinking, answer = None, e["reply"]
        verdict = "right" if e["right"] else "right, in the wrong form" if e.get("lenient") else "wrong"
        found.append({**e, "thinking": thinking, "answer": answer.strip(), "verdict": verdict})
    return sorted(found, key=lambda c: not c["thinking"])
