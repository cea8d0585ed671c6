"""Two runs side by side: recipes, scores with the intervals of their differences, cost, curves, samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nomoat.config import JsonObject
from nomoat.report import curve
from nomoat.report.learning import spark
from nomoat.report.receipt import receipt_of
from nomoat.report.rollouts import cut
from nomoat.report.scores import Scores, scores_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, Row, duration, money, short
from nomoat.run.record import changes
from nomoat.stats import Accuracy, difference

N_BARS = 16
N_SAMPLES = 5
LONGEST = 60  # characters of a sample or of a recipe's value
MEAN = "mean"
INTERVALS = (
    "95 % intervals of the difference in brackets, as if the problems were not the same; * leaves out zero."
)
ByFamily = Mapping[str, Accuracy]


@dataclass(frozen=True)
class Score:
    """One thing that both runs measured; the interval of the difference where it has one."""

    what: str
    model: str
    one: float
    other: float
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def scores(one: Scores, other: Scores) -> Iterator[Score]:
    """What both measured: each model's means, then its families, then bits per byte."""
    for how, models in one.accuracy.items():
        for model, ours in models.items():
            yield from _accuracies(how, model, ours, other.accuracy[how].get(model, {}))
    for model, bits in one.bits.items():
        theirs = other.bits.get(model, {})
        for lang in bits:
            if lang in theirs:
                yield Score(f"bits per byte, {lang}", model, bits[lang], theirs[lang])


def _accuracies(how: str, model: str, one: ByFamily, other: ByFamily) -> Iterator[Score]:
    """The mean first, then the families that both have."""
    both = [name for name in one if name in other]
    for name in sorted(both, key=lambda name: name != MEAN):
        ours, theirs = one[name], other[name]
        low, high = difference(ours, theirs)
        yield Score(f"{how}, {name}", model, ours.value, theirs.value, low, high)


@dataclass(frozen=True)
class Sample:
    """What the same model answered in both to a problem of a family: to the same one, if the seeds are."""

    model: str
    family: str
    prompts: tuple[str, str]
    replies: tuple[str, str]
    right: tuple[bool, bool]

    def cells(self, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
        """Who was asked what, and what each run's model said."""
        yield from self._asked(names)
        for name, right, reply in zip(names, self.right, self.replies):
            sign = "✓" if right else "✗"
            yield name, f"{sign} {cut(reply, LONGEST)}"

    def _asked(self, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
        one, other = self.prompts
        whose = ("both",) if one == other else names
        for name, prompt in zip(whose, self.prompts):
            yield f"asked, {name}", cut(prompt, LONGEST)


def samples(one: Sequence[Event], other: Sequence[Event]) -> list[Sample]:
    """The last sample of each model and family that both runs have."""
    theirs = {_asked(event): event for event in other}
    found = {}
    for ours in one:
        key = _asked(ours)
        if key not in theirs:
            continue
        match = theirs[key]
        found[key] = Sample(
            model=ours["model"],
            family=ours["family"],
            prompts=(ours["prompt"], match["prompt"]),
            replies=(ours["reply"], match["reply"]),
            right=(ours["right"], match["right"]),
        )
    return list(found.values())


def _asked(event: Event) -> tuple[str, str]:
    return event["model"], event["family"]


@dataclass(frozen=True)
class Beside:
    """Two runs."""

    one: Run
    other: Run

    def to_json(self) -> JsonObject:
        """All of it, in full."""
        return {
            "runs": [str(self.one.root), str(self.other.root)],
            "recipe": [dict(zip(("key", "one", "other"), change)) for change in self.changes()],
            "scores": [vars(score) for score in self.scores()],
            "cost": [receipt_of(self.one), receipt_of(self.other)],
            "curves": self.curves(),
            "samples": [vars(sample) for sample in self.samples()],
        }

    def changes(self) -> list[tuple[str, str, str]]:
        """Each key of the recipes that differs."""
        return changes(self.one.recipe, self.other.recipe)

    def scores(self) -> list[Score]:
        return list(scores(*(scores_of(run.events("score")) for run in (self.one, self.other))))

    def samples(self) -> list[Sample]:
        return samples(self.one.events("sample"), self.other.events("sample"))

    def curves(self) -> dict[str, list[list[float | None]]]:
        """Of each stage that trained in both: the loss, or the reward, of each step of either."""
        curves = {}
        for stage in self.one.recipe.get("stages", []):
            name = stage.get("name") or stage["kind"]
            key = "reward" if stage["kind"] == "rl" else "loss"
            both = [[event.get(key) for event in run.curve(name)] for run in (self.one, self.other)]
            if all(both):
                curves[name] = both
        return curves

    def tables(self) -> list[Table]:
        """For a terminal: families only of the model that does best, five samples."""
        return [*self._recipes(), *self._scores(), self._cost(), *self._curves(), *self._samples()]

    def _names(self) -> tuple[str, str]:
        names = self.one.root.name, self.other.root.name
        return names if names[0] != names[1] else (str(self.one.root), str(self.other.root))

    def _recipes(self) -> list[Table]:
        rows = [(key, cut(one, LONGEST), cut(other, LONGEST)) for key, one, other in self.changes()]
        rows = rows or [("nothing", "", "")]
        return [Table("What differs in the recipes", ("key", *self._names()), rows, words=self._names())]

    def _scores(self) -> Iterator[Table]:
        measured = self.scores()
        shares = [score for score in measured if score.low is not None]
        best = _best(shares)
        rows = [_accuracy_cells(s) for s in shares if s.what.endswith(MEAN) or s.model == best]
        if rows:
            header = ("model", "right answers, %", *self._names(), "difference", "")
            yield Table("Scores", header, rows, INTERVALS, words=("right answers, %",))
        rows = [_bits_cells(score) for score in measured if score.low is None]
        if rows:
            header = ("model", "measure", *self._names(), "difference")
            yield Table("Held-out prose", header, rows, "Lower is better.", words=("measure",))

    def _cost(self) -> Table:
        ours, theirs = _bill(self.one), _bill(self.other)
        names = dict.fromkeys([*ours, *theirs])
        del names["total"]
        rows = [_costs(name, ours, theirs) for name in (*names, "total")]
        one, other = self._names()
        header = ["stage"]
        for what in ("time", "energy", ours["total"].currency):
            header += [f"{what} {one}", other]
        return Table("Cost, device time", header, rows, total=True)

    def _curves(self) -> Iterator[Table]:
        rows = []
        for stage, both in self.curves().items():
            for name, values in zip(self._names(), both):
                rows.append((stage, name, *_course(values)))
        if rows:
            header = ("stage", "run", "first tenth", "middle", "last tenth", "course")
            yield Table("Loss, or reward", header, rows, words=("run", "course"))

    def _samples(self) -> Iterator[Table]:
        both = self.samples()
        last = both[-1].model if both else None
        shown = [sample for sample in both if sample.model == last]
        rows = [row for sample in shown[:N_SAMPLES] for row in sample.cells(self._names())]
        if rows:
            yield Table(f"Answers of {last}", ("", "text"), rows, words=("text",))


def _best(shares: Sequence[Score]) -> str | None:
    """The model that is right most often in the other run, the last of several."""
    means = [score for score in shares if score.what == f"sampled, {MEAN}"]
    return max(reversed(means), key=lambda score: score.other).model if means else None


def _bits_cells(score: Score) -> tuple[str, ...]:
    values = score.one, score.other
    delta = f"{score.other - score.one:+.3f}"
    return score.model, score.what, *(f"{value:.3f}" for value in values), delta


def _accuracy_cells(score: Score) -> tuple[str, ...]:
    delta = f"{100 * (score.other - score.one):+.1f}"
    values = f"{100 * score.one:.0f}", f"{100 * score.other:.0f}"
    bounds = f"[{100 * score.low:+.1f}, {100 * score.high:+.1f}]{'*' if score.clear else ' '}"
    return score.model, score.what, *values, delta, bounds


def _bill(run: Run) -> dict[str, Row]:
    """What each stage cost, and all of them."""
    bill = receipt_of(run)
    return {row.stage: row for row in (*bill.rows, bill.total)}


def _costs(stage: str, one: Mapping[str, Row], other: Mapping[str, Row]) -> list[str]:
    """Time, energy and money of a stage, each of both."""
    cells = [stage]
    for pair in zip(_cost_cells(one.get(stage)), _cost_cells(other.get(stage))):
        cells += pair
    return cells


def _cost_cells(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    return duration(row.device_seconds), short(row.joules, "J"), money(row.money)


def _course(values: Sequence[float | None]) -> list[str]:
    """The first, the middle and the last tenth, and bars."""
    row = curve.Row("", "{:.3f}", partial(curve.field, "value"))
    steps = [{"value": value} for value in values]
    cells = [row.text(part) for part in curve.tenths(steps)]
    bars = [row.value(piece) for piece in curve.pieces(steps, N_BARS)]
    return [*cells, spark(bars)]
