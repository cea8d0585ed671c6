"""RUN/report.html: one file without network or scripts, made of the event log alone.

Whatever a model wrote is data: jinja and `Table.html` escape every text, and the page forbids scripts to itself.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from nomoat.ledger import Receipt, duration, short
from nomoat.report import charts, learning
from nomoat.report.receipt import (
    Event,
    Scores,
    Table,
    kinds_of,
    money,
    receipt_of,
    receipt_table,
    score_tables,
    scores_of,
    shares_of,
    shares_table,
)  # fmt: skip
from nomoat.run import Run

SAMPLES = 5


@dataclass(frozen=True)
class Conversation:
    """One problem of the evaluation, what a model said, and what the program decided."""

    family: str
    level: int
    prompt: str
    thinking: str | None
    answer: str
    right: bool
    verdict: str


def write(run: Run) -> Path:
    """Writes the page of a run, finished or not; gives its path."""
    path = run.root / "report.html"
    beside = path.with_name(f".report.{os.getpid()}.html")
    beside.write_text(render(run), "utf-8")
    os.replace(beside, path)
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
        shares=[("this run", ours), ("DeepSeek", [(s.part, s.theirs) for s in found])]
        if any(s for _, s in ours)
        else [],
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
    from nomoat.report import transfer

    return transfer.html(json.loads(found[0].read_text("utf-8")))


def best_model(scores: Scores) -> str | None:
    """The model with the highest mean sampled accuracy, controls ("sft, thinking") aside."""
    sampled = scores.accuracy["sampled"]
    means = {model: found["mean"].value for model, found in sampled.items() if "," not in model}  # no controls
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
        from nomoat.model.spec import ModelSpec

        spec = ModelSpec.model_validate(specs[0]["spec"])
        out.append((short(spec.params_total()).strip(), "parameters", f"{short(spec.params_active()).strip()} active"))
    total = receipt.total
    out.append((duration(total.device_seconds), "device time", f"{short(total.tokens).strip()} tokens"))
    out.append((f"{money(total.money)} {total.currency}", "money", f"{short(total.joules)}J {total.joules_source}"))
    return out


Part = tuple[str, list[str], list[Table]]


def sections(run: Run, events: Sequence[Event], scores: Scores) -> Iterator[tuple[str, str, list[Part]]]:
    """(title, introduction, parts), a part being (heading, charts, tables)."""
    if scores.models or scores.bits:
        yield "What it can do", "Measured on problems and prose that no stage trained on.", [score_part(scores)]
    curves = {name: [e for e in events if e["kind"] == "step" and e["stage"] == name and not e.get("redone")]
              for name in kinds_of(run)}  # fmt: skip
    rewarded = {name: c for name, c in curves.items() if any("rewards" in e for e in c)}
    for name, curve in rewarded.items():
        yield (
            f"Reinforcement: {name}",
            "The reward is what programs decide, and nothing else.",
            [reward_part(name, curve)],
        )
    plain = [training_part(name, curve) for name, curve in curves.items() if curve and name not in rewarded]
    if plain:
        yield "Training", "Loss in bits per token on the left, in nats on the right.", plain


def score_part(scores: Scores) -> Part:
    pictures = []
    for how in ("sampled", "greedy"):
        if scores.accuracy[how]:
            title = f"Right answers, {how}"
            pictures.append(charts.whiskers(title, scores.accuracy[how], [*scores.families, "mean"]))
    grams = [m for m in scores.bits if m.endswith("-gram")]
    langs = dict.fromkeys(lang for by_lang in scores.bits.values() for lang in by_lang)
    if langs:
        groups = {lang: {m: b[lang] for m, b in scores.bits.items() if lang in b} for lang in langs}
        pictures.append(charts.bars("Bits per byte, lower is better", groups, grams))
    return "", pictures, score_tables(scores)


def series(curve: Sequence[Event], key: str, scale: float = 1.0) -> charts.Points:
    """(step, value) of one field of the step records."""
    return [(e["step"], None if e.get(key) is None else e[key] * scale) for e in curve if key in e]


def training_part(name: str, curve: Sequence[Event]) -> Part:
    has = lambda key: any(e.get(key) is not None for e in curve)
    bits = 1 / math.log(2)
    losses = {"next token": series(curve, "loss", bits)}
    if has("mtp_loss"):
        losses["further tokens"] = series(curve, "mtp_loss", bits)
    pictures = [charts.lines(f"{name}: loss", losses, second=("nats", math.log(2))),
                charts.lines(f"{name}: gradient norm", {"norm": series(curve, "grad_norm")}, log=True)]  # fmt: skip
    if has("load_max"):
        pictures.append(
            charts.lines(f"{name}: busiest expert, times the mean", {"load": series(curve, "load_max")}, floor=1.0)
        )
    if has("reward"):
        pictures.append(charts.lines(f"{name}: right answers", {"strict": series(curve, "reward")}, percent=True))
    return name, pictures, []


def reward_part(name: str, curve: Sequence[Event]) -> Part:
    groups = {"all right or all wrong": series(curve, "dead_groups"), "cut off": series(curve, "truncated")}
    lengths = {"all": series(curve, "length"), "right ones": series(curve, "length_right")}
    rewards = {"strict": series(curve, "reward"), "lenient": series(curve, "lenient")}
    seconds = {"sampling": series(curve, "sample_seconds"), "update": series(curve, "update_seconds")}
    names = sorted({family for e in curve for family in e.get("rewards") or {}})
    by_family = {f: [(e["step"], e["rewards"][f]) for e in curve if f in (e.get("rewards") or {})] for f in names}
    pictures = [
        charts.lines(f"{name}: right answers", rewards, percent=True),
        charts.lines(f"{name}: tokens per answer", lengths, floor=0.0),
        *([charts.families(f"{name}: right answers by family", by_family)] if by_family else []),
        charts.lines(f"{name}: entropy, nats per token", {"entropy": series(curve, "entropy")}, floor=0.0),
        charts.lines(f"{name}: groups without a lesson", groups, percent=True),
        charts.lines(f"{name}: gradient norm", {"norm": series(curve, "grad_norm")}, log=True),
        charts.lines(f"{name}: seconds a step", seconds, floor=0.0),
    ]
    return "", pictures, []


def conversations(events: Sequence[Event], model: str | None) -> list[Conversation]:
    """The last "sample" event of each family for one model, those with thinking first."""
    last: dict[str, Event] = {e["family"]: e for e in events if e["kind"] == "sample" and e.get("model") == model}
    found = []
    for e in last.values():
        thinking, closed, answer = e["reply"].partition("</think>")
        opened = thinking.startswith("<think>")
        if not closed and not opened:
            thinking, answer = None, e["reply"]
        else:
            thinking = thinking.removeprefix("<think>").strip()
        verdict = "right" if e["right"] else "right, in the wrong form" if e.get("lenient") else "wrong"
        found.append(Conversation(e["family"], e["level"], e["prompt"], thinking, answer.strip(), e["right"], verdict))
    return sorted(found, key=lambda c: not c.thinking)
