"""Is it learning?  One screen on a stage of reinforcement learning, from the event log alone."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nomoat.files import visible
from nomoat.report.curve import ROWS, Row, Steps, by_name, named, tenths
from nomoat.report.diagnosis import SIGNS, Finding, diagnose
from nomoat.report.rollouts import cut
from nomoat.report.table import Table
from nomoat.run.directory import Run

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Reply:
    """What the policy wrote to a watched prompt after some step."""

    step: int
    right: bool
    text: str


@dataclass(frozen=True)
class Probe:
    """One watched prompt: the first, the middle and the last reply."""

    family: str
    prompt: str
    replies: Sequence[Reply]


def tables(curve: Steps, width: int = 100) -> list[Table]:
    """The course of the run, then of each family, then of each level as the choice of problems sees it."""
    if not curve:
        return []
    n = min(max(min(width - 66, 30), 8), len(curve))
    pieces = [curve[i * len(curve) // n : (i + 1) * len(curve) // n] for i in range(n)]
    families = [named("rewards", name) for name in sorted(by_name("rewards", curve))]
    levels = [named("levels", name) for name in sorted(by_name("levels", curve))]
    blocks = {"": list(ROWS.values()), "family": families, "level, running": levels}
    return [_table(title, rows, curve, pieces) for title, rows in blocks.items() if rows]


def _table(title: str, rows: Sequence[Row], curve: Steps, pieces: Sequence[Steps]) -> Table:
    header = (title, "first tenth", "middle", "last tenth", "course")
    cells = tuple(
        (cut(row.label, 26), *map(row.text, tenths(curve)), spark([row.value(piece) for piece in pieces]))
        for row in rows
    )
    return Table("", header, cells, words=("course",))


def spark(values: Sequence[float | None]) -> str:
    """Bars from the least to the largest value; '·' where nothing was measured."""
    measured = [v for v in values if v is not None] or [0.0]
    low = min(measured)
    span = max(max(measured) - low, 0.05 * max(map(abs, measured))) or 1.0
    return "".join("·" if v is None else BARS[min(int(8 * (v - low) / span), 7)] for v in values)


def probes(run: Run, stage: str) -> list[Probe]:
    """The watched prompts, in the order in which they come."""
    times = list({e["step"]: e for e in run.events("probe", stage) if not e.get("redone")}.values())
    replies: dict[tuple[str, str], list[Reply]] = {}
    for i in sorted({0, len(times) // 2, len(times) - 1}) if times else ():
        for probe in times[i]["probes"]:
            reply = Reply(times[i]["step"], bool(probe["right"]), probe["reply"])
            replies.setdefault((probe["family"], probe["prompt"]), []).append(reply)
    return [Probe(family, prompt, listed) for (family, prompt), listed in replies.items()]


def findings(run: Run, stage: str) -> list[Finding]:
    """The diagnosis of a stage under its own settings."""
    started = run.events("stage_start", stage)
    return diagnose(run.curve(stage), started[-1].get("config") if started else None)


def summary(run: Run, stage: str) -> dict[str, Any]:
    """The screen as JSON: the findings, and each row in the first, the middle and the last tenth."""
    curve = run.curve(stage)
    rows = {key: [row.value(part) for part in tenths(curve)] for key, row in ROWS.items()}
    said = [asdict(finding) for finding in findings(run, stage)]
    return {"stage": stage, "steps": len(curve), "findings": said, "tenths": rows}


def screen(run: Run, stage: str, width: int = 100) -> str:
    """The screen as plain text: what it means, the course, the families and levels, the same prompts over time."""
    curve = run.curve(stage)
    done = (
        f"step {curve[-1]['step']} of {curve[-1].get('n_steps', '?')}" if curve else "before its first step"
    )
    head = [f"{visible(stage)}, {done}: is it learning?"]
    for finding in findings(run, stage):
        said = f"{SIGNS[finding.severity]} {finding.sentence}"
        head.append(textwrap.fill(said, width, subsequent_indent="  ", break_on_hyphens=False))
    blocks = ["\n".join(head), *(table.text(width) for table in tables(curve, width))]
    for probe in probes(run, stage):
        lines = [cut(f"{probe.family}: {probe.prompt}", width)]
        for reply in probe.replies:
            lines.append(cut(f"  step {reply.step:>5} {'✓' if reply.right else '✗'} {reply.text}", width))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
