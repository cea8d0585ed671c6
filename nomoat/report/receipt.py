"""The tables of a run, from its event log alone: what it cost, what its models score."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nomoat import stats
from nomoat.ledger import HEADER, Event, Receipt, Share, duration, read_prices, receipt, shares
from nomoat.ledger import money as money
from nomoat.run import Run, last_scores


@dataclass(frozen=True)
class Table:
    """Rows of texts under a header.  The first column and those named in `words` are words, the rest figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: tuple[str, ...] = ()
    total: bool = False  # the last row sums the others

    def text(self, width: int = 100) -> str:
        """Aligned columns; a last column of words wraps at `width`."""
        left = [i == 0 or name in self.words for i, name in enumerate(self.header)]
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        if left[-1]:
            widths[-1] = max(10, min(widths[-1], width - sum(widths[:-1]) - 2 * (len(widths) - 1)))
        rule = "  ".join("-" * w for w in widths)
        lines = [self.title] if self.title else []
        for n, row in enumerate((self.header, *self.rows)):
            if self.total and n == len(self.rows):
                lines.append(rule)
            last = textwrap.wrap(row[-1], widths[-1]) or [""] if left[-1] else [row[-1]]
            for k, piece in enumerate(last):
                cells = (*(row[:-1] if k == 0 else [""] * (len(row) - 1)), piece)
                pad = [cell.ljust(w) if l else cell.rjust(w) for cell, w, l in zip(cells, widths, left)]
                lines.append("  ".join(pad).rstrip())
            if n == 0:
                lines.append(rule)
        note = textwrap.wrap(self.note, width)
        return "\n".join([*lines, *note])


def receipt_of(run: Run) -> Receipt:
    """The receipt of a run, for the device and the number of units that its log names."""
    events = run.events()
    start = next((e for e in events if e["kind"] == "stage_start"), {})
    device = start.get("device") or run.recipe.get("device", "cpu").partition(":")[0]
    return receipt(events, device=device, units=start.get("units") or 1)


def kinds_of(run: Run) -> dict[str, str]:
    """Stage name -> kind."""
    return {s.get("name") or s["kind"]: s["kind"] for s in run.recipe.get("stages", [])}


def receipt_table(found: Receipt) -> Table:
    """Stage, tokens, FLOPs, device time, energy, money, and what it bought."""
    prices, titles = read_prices(), {"money": found.total.currency}
    shown = [i for i, name in enumerate(HEADER) if name != "of it redone" or found.total.redone_seconds]
    header = tuple(titles.get(HEADER[i], HEADER[i]) for i in shown)
    rows = tuple(tuple(row[i] for i in shown) for row in found.to_rows())
    price = prices.device(found.device)
    source = found.total.joules_source or "estimated"
    note = f"Energy {source}" + (f" at {price.watts:g} W a {found.device}" if "estimated" in source else "")
    note += f"; money by the prices of {found.prices_date} ({prices.per_kwh:g} {prices.currency} a kWh"
    note += f", {price.per_hour:g} an hour of {found.device})" if price.per_hour else ")"
    note += f"; {found.units} {found.device} unit{'s' if found.units != 1 else ''}."
    return Table("Receipt", header, rows, note, ("bought",), total=True)


def shares_table(found: Sequence[Share]) -> Table:
    """Where the device time went, beside DeepSeek's published hours (V3 and R1 together)."""
    rows = tuple(
        (s.part, duration(s.seconds), f"{100 * s.ours:.1f} %" if s.ours is not None else "",
         f"{s.their_hours / 1e3:,.0f} K", f"{100 * s.theirs:.1f} %") for s in found
    )  # fmt: skip
    note = "Theirs: H800 hours of DeepSeek-V3 and R1, published. Tokenizer is in pretraining, eval and export left out."
    return Table("Share of the cost", ("part", "ours", "share", "theirs, H800 h", "share"), rows, note)


shares_of = lambda run, found: shares(found, kinds=kinds_of(run))


# --- scores --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """A share of right answers over one family, all levels together, with its 95 % interval and number of problems."""

    value: float
    low: float
    high: float
    lenient: float
    n: int


@dataclass(frozen=True)
class Scores:
    """What the evaluation measured: accuracy[how][model][family] with "mean" beside the families, bits[model][lang]."""

    models: tuple[str, ...]
    families: tuple[str, ...]
    accuracy: Mapping[str, Mapping[str, Mapping[str, Score]]]
    bits: Mapping[str, Mapping[str, float]]


def scores_of(events: Iterable[Event]) -> Scores:
    """The last measurement of each thing.  Greedy levels are pooled by Wilson; sampled ones, whose problems are not in
    the log, by the root of the summed squares of their weighted half-widths.
    """
    bits: dict[str, dict[str, float]] = {}
    cells: dict[str, dict[str, dict[str, list[Event]]]] = {"greedy": {}, "sampled": {}}
    for e in last_scores(e for e in events if e.get("model") is not None and e.get("value") is not None):
        model, family = e["model"], e.get("family")
        what, _, detail = e["name"].partition("/")
        if what == "bpb":
            bits.setdefault(model, {})[detail] = e["value"]
        elif what == "accuracy" and detail in cells:
            cells[detail].setdefault(model, {}).setdefault(family, []).append(e)
    families = tuple(dict.fromkeys(f for by_model in cells["sampled"].values() for f in by_model))
    scores = lambda by_family, how: _with_mean({family: _pool(levels, how) for family, levels in by_family.items()})
    accuracy = {how: {model: scores(found, how) for model, found in by_model.items()} for how, by_model in cells.items()}
    return Scores(tuple(cells["sampled"]), families, accuracy, bits)


def _pool(levels: Sequence[Event], how: str) -> Score:
    n = sum(e["n"] for e in levels)
    mean = lambda key: sum(e["n"] * (e.get(key) or 0.0) for e in levels) / n
    value = mean("value")
    if how == "greedy":
        low, high = stats.wilson(round(value * n), n)
    else:
        half = lambda key: math.sqrt(sum((e["n"] * (e[key] - e["value"])) ** 2 for e in levels)) / n
        low, high = max(0.0, value - half("low")), min(1.0, value + half("high"))
    return Score(value, low, high, mean("lenient"), n)


def _with_mean(families: dict[str, Score]) -> dict[str, Score]:
    k = len(families)
    mean = sum(s.value for s in families.values()) / k
    low, high = (math.sqrt(sum((getattr(s, end) - s.value) ** 2 for s in families.values())) / k for end in ("low", "high"))
    lenient, n = sum(s.lenient for s in families.values()) / k, sum(s.n for s in families.values())
    return {**families, "mean": Score(mean, max(0.0, mean - low), min(1.0, mean + high), lenient, n)}


def score_tables(found: Scores) -> list[Table]:
    """Accuracy by family and model, greedy and sampled, and bits per byte beside the n-gram models."""
    cell = lambda s: f"{100 * s.value:.0f} [{100 * s.low:.0f}-{100 * s.high:.0f}]" if s else ""
    tables = []
    for how, title in (("greedy", "Greedy accuracy, %"), ("sampled", "Sampled accuracy, %")):
        by_model = found.accuracy.get(how, {})
        if not by_model:
            continue
        rows = tuple(
            (family, *(cell(scores.get(family)) for scores in by_model.values())) for family in (*found.families, "mean")
        )
        means = {model: scores["mean"] for model, scores in by_model.items()}
        lenient = ", ".join(f"{model} {100 * mean.lenient:.0f}" for model, mean in means.items())
        n = next(iter(means.values())).n
        note = {"greedy": f"95 % intervals in brackets; strict format; {n} problems that no stage trained on.",
                "sampled": f"At temperature 1. In a lenient reading the means are {lenient}."}[how]  # fmt: skip
        tables.append(Table(title, ("family", *by_model), rows, note, total=True))
    if found.bits:
        langs = tuple(dict.fromkeys(lang for by_lang in found.bits.values() for lang in by_lang))
        rows = tuple((m, *(f"{b[lang]:.3f}" if lang in b else "" for lang in langs)) for m, b in found.bits.items())
        tables.append(Table("Bits per byte of held-out prose", ("model", *langs), rows, "Lower is better."))
    return tables
