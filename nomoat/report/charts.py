"""Charts as inline SVG: matplotlib draws, the page's style sheet colours.

Every colour is drawn as a stand-in and replaced by a CSS variable, so that one picture serves light and dark;
texts stay texts.  Charts are small, so that a phone shows them one under the other at full size.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from nomoat.report.scores import ByModel
from nomoat.stats import mean

SERIES = tuple(f"#0102a{i}" for i in range(8))
TEXT, LABEL, LINE = "#010203", "#010204", "#010205"
INKS = {TEXT: "var(--fg)", LABEL: "var(--muted)", LINE: "var(--line)"}
INKS |= {colour: f"var(--c{i})" for i, colour in enumerate(SERIES)}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 2,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "axes.unicode_minus": False,
    **dict.fromkeys(("text.color", "axes.titlecolor"), TEXT),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), LABEL),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), LINE),
}
WIDTH = 3.7  # inches
POINTS = 240  # more are averaged, nobody sees them
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Which fields of the step records a chart draws, by the labels of their curves, and its vertical axis.

    bits: nats in the log, drawn in bits, with nats on the right; floor: where the axis begins.
    """

    title: str
    curves: Mapping[str, str]
    axis: Literal["plain", "log", "percent", "bits"] = "plain"
    floor: float | None = None


def lines(chart: Chart, name: str, series: Mapping[str, Points]) -> str:
    """A chart of stage `name`: curves over the steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.35))
        axes = figure.subplots()
        unit = math.log(2) if chart.axis == "bits" else 1.0
        for (label, points), colour in zip(series.items(), SERIES):
            points = [(x, y / unit) for x, y in points if y > 0 or chart.axis != "log"]
            if points:
                _curve(axes, label, points, colour)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        _vertical(axes, chart)
        if len(series) > 1 and axes.lines:
            figure.legend(loc="outside lower left", ncols=3, handlelength=1.2, columnspacing=1.2)
        return _svg(figure, f"{name}: {chart.title}")


def _curve(axes: Axes, label: str, points: Points, colour: str) -> None:
    """A curve, before its own noise where it is long."""
    coarse = thin(points) if len(points) < 60 else smooth(points)
    if len(points) >= 60:
        axes.plot(*zip(*thin(points)), color=colour, lw=0.8, alpha=0.28)
    marker = "o" if len(points) == 1 else None
    axes.plot(*zip(*coarse), color=colour, lw=1.7, label=label, marker=marker, ms=3)


def _vertical(axes: Axes, chart: Chart) -> None:
    """The scale of the vertical axis and its labels."""
    if chart.axis == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif chart.axis == "percent":
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(_percent)
    elif chart.axis == "bits":
        nats = math.log(2)
        right = axes.secondary_yaxis("right", functions=(lambda y: y * nats, lambda y: y / nats))
        right.spines["right"].set_visible(False)
        right.tick_params(length=0)
    elif chart.floor is not None:
        axes.set_ylim(bottom=chart.floor)


def _percent(share: float, _: int) -> str:
    return f"{100 * share:.0f} %"


def whiskers(title: str, scores: ByModel, families: Sequence[str]) -> str:
    """Accuracy with its interval: a row for each family, a dot for each model."""
    n = len(scores)
    height = 0.75 + len(families) * (0.16 + 0.085 * n)
    style = STYLE | {"axes.grid.axis": "x"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        for i, (model, by_family) in enumerate(scores.items()):
            colour = SERIES[i % len(SERIES)]
            shift = (i - (n - 1) / 2) * 0.72 / n
            for y, family in enumerate(families):
                if accuracy := by_family.get(family):
                    at = y + shift
                    label = None if y else model
                    axes.plot([accuracy.low, accuracy.high], [at, at], color=colour, lw=1.4, alpha=0.55)
                    axes.plot(accuracy.value, at, "o", color=colour, ms=4.0, label=label)
        axes.set_yticks(range(len(families)), families)
        axes.set_ylim(len(families) - 0.45, -0.55)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(_percent)
        for y in range(1, len(families)):
            axes.axhline(y - 0.5, color=LINE, lw=0.5)
        legend = {"handlelength": 0.8, "columnspacing": 1.0, "handletextpad": 0.3}
        figure.legend(loc="outside lower left", ncols=5, **legend)
        return _svg(figure, title)


def smooth(points: Points) -> Points:
    """A running mean over a twentieth."""
    half = max(1, len(points) // 40)
    near = [[y for _, y in points[max(0, i - half) : i + half + 1]] for i in range(len(points))]
    return thin([(x, mean(ys)) for (x, _), ys in zip(points, near)])


def thin(points: Points) -> Points:
    """At most POINTS means of neighbours."""
    if len(points) <= POINTS:
        return points
    size = len(points) / POINTS
    groups = [points[int(i * size) : max(int((i + 1) * size), int(i * size) + 1)] for i in range(POINTS)]
    return [tuple(map(mean, zip(*group))) for group in groups]


def _svg(figure: Figure, title: str) -> str:
    """The titled figure as an element of a page: no prologue, no fixed size, no ids but those it uses."""
    out = io.StringIO()
    figure.suptitle(title, x=0.02, ha="left", fontsize=9.5, fontweight="bold")
    nothing = {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue().partition("<svg")[2]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'^([^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    for ink, colour in INKS.items():
        text = text.replace(ink, colour)
    tall = " data-tall" if figure.get_figheight() > 3.0 else ""
    return f'<svg role="img"{tall}' + re.sub(r"\n\s*", "\n", text)
