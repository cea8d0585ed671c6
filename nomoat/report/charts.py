"""Charts as inline SVG: matplotlib draws, the page's style sheet colours.

Every colour is drawn as a stand-in and replaced by a CSS variable, so that one picture serves light and dark; texts
stay texts.  Charts are small, so that a phone shows them one under the other at full size.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from nomoat.files import shipped
from nomoat.report.scores import Score

SERIES = tuple(f"#0102a{i}" for i in range(8))
INKS = {"#010203": "var(--fg)", "#010204": "var(--muted)", "#010205": "var(--line)"}
INKS |= {colour: f"var(--c{i})" for i, colour in enumerate(SERIES)}
POINTS = 240  # more are averaged, nobody sees them
Points = Sequence[tuple[float, float]]
style = lambda more={}: matplotlib.rc_context(shipped(__file__) | more)


def lines(
    title: str, series: Mapping[str, Points], *, log: bool = False, percent: bool = False, bits: bool = False,
    floor: float | None = None,
) -> str:  # fmt: skip
    """Curves over the steps; `bits`: nats, drawn in bits, with a scale of nats on the right."""
    unit = math.log(2) if bits else 1.0
    with style():
        figure = Figure(figsize=(3.7, 2.35))
        axes = figure.subplots()
        for i, (name, points) in enumerate(series.items()):
            points = [(x, y / unit) for x, y in points if y > 0 or not log]
            if not points:
                continue
            coarse, fine, colour = smooth(points), thin(points), SERIES[i % len(SERIES)]
            if coarse is not fine:
                axes.plot(*zip(*fine), color=colour, lw=0.8, alpha=0.28)
            axes.plot(*zip(*coarse), color=colour, lw=1.7, label=name, marker="o" if len(points) == 1 else None, ms=3)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif floor is not None:
            axes.set_ylim(bottom=floor)
        if percent:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
        if bits:
            right = axes.secondary_yaxis("right", functions=(lambda y: y * unit, lambda y: y / unit))
            right.spines["right"].set_visible(False)
            right.tick_params(length=0)
        if len(series) > 1 and axes.lines:
            figure.legend(loc="outside lower left", ncols=3, handlelength=1.2, columnspacing=1.2)
        return _svg(figure, title)


def whiskers(title: str, scores: Mapping[str, Mapping[str, Score]], names: Sequence[str]) -> str:
    """Accuracy with its interval: a row for each family, a dot for each model."""
    models = list(scores)
    with style({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(3.7, 0.75 + len(names) * (0.16 + 0.085 * len(models))))
        axes = figure.subplots()
        for i, model in enumerate(models):
            shift = (i - (len(models) - 1) / 2) * 0.72 / len(models)
            for y, family in enumerate(names):
                if found := scores[model].get(family):
                    at, colour = y + shift, SERIES[i % len(SERIES)]
                    axes.plot([found.low, found.high], [at, at], color=colour, lw=1.4, alpha=0.55)
                    axes.plot(found.value, at, "o", color=colour, ms=4.0, label=None if y else model)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
        for y in range(1, len(names)):
            axes.axhline(y - 0.5, color=matplotlib.rcParams["grid.color"], lw=0.5)
        figure.legend(loc="outside lower left", ncols=5, handlelength=0.8, columnspacing=1.0, handletextpad=0.3)
        return _svg(figure, title)


def smooth(points: Points) -> Points:
    """A running mean over a twentieth of long curves; short ones as they are."""
    if len(points) < 60:
        return thin(points)
    half = max(1, len(points) // 40)
    near = [[y for _, y in points[max(0, i - half) : i + half + 1]] for i in range(len(points))]
    return thin([(x, sum(ys) / len(ys)) for (x, _), ys in zip(points, near)])


def thin(points: Points) -> Points:
    """At most POINTS means of neighbours."""
    if len(points) <= POINTS:
        return points
    size = len(points) / POINTS
    groups = [points[int(i * size) : max(int((i + 1) * size), int(i * size) + 1)] for i in range(POINTS)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _svg(figure: Figure, title: str) -> str:
    """The titled figure as an element of a page: no prologue, no fixed size, no ids that another chart has too."""
    out = io.StringIO()
    figure.suptitle(title, x=0.02, ha="left", fontsize=9.5, fontweight="bold")
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    tall = " data-tall" if figure.get_figheight() > 3.0 else ""
    text = f'<svg role="img"{tall}' + out.getvalue().partition("<svg")[2]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'(?<=<svg)([^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    text = re.sub("|".join(INKS), lambda m: INKS[m[0]], text)
    return re.sub(r"\n\s*", "\n", text)
