"""Is it learning?  One screen on a stage of reinforcement learning, from the event log alone."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from nomoat.config import JsonObject
from nomoat.files import visible
from nomoat.report.curve import ROWS, Row, Steps, by_name, named, pieces, tenths
from nomoat.report.diagnosis import SIGNS, Finding, findings_of
from nomoat.report.rollouts import cut
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.stats import grouped

BARS = "▁▂▃▄▅▆▇█"
FEWEST_BARS = 8


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
    replies: list[Reply]

    def text(self, width: int) -> str:
        lines = [f"{self.family}: {self.prompt}"]
        for reply in self.replies:
            lines.append(f"  step {reply.step:>5} {'✓' if reply.right else '✗'} {reply.text}")
        return "\n".join(cut(line, width) for line in lines)


@dataclass(frozen=True)
class Screen:
    """What is known of a stage: what it means, its course, and the same prompts over time."""

    stage: str
    curve: Steps
    findings: Sequence[Finding]
    probes: Sequence[Probe]

    def tables(self, width: int = 100) -> list[Table]:
        """The course of the run, of each family, and of each level as the choice of problems sees it."""
        families = [named("rewards", name) for name in sorted(by_name("rewards", self.curve))]
        levels = [named("levels", name) for name in sorted(by_name("levels", self.curve))]
        blocks = {"": ROWS.values() if self.curve else (), "family": families, "level, running": levels}
        return [course(title, rows, self.curve, width) for title, rows in blocks.items() if rows]

    def to_json(self) -> JsonObject:
        """The findings, and each row in the first, the middle and the last tenth."""
        rows = {key: [row.value(part) for part in tenths(self.curve)] for key, row in ROWS.items()}
        findings = [asdict(finding) for finding in self.findings]
        return {"stage": self.stage, "steps": len(self.curve), "findings": findings, "tenths": rows}

    def text(self, width: int = 100) -> str:
        """Plain text, every line cut or wrapped at `width`."""
        tables = [table.text(width) for table in self.tables(width)]
        probes = [probe.text(width) for probe in self.probes]
        return "\n\n".join([self._head(width), *tables, *probes])

    def _head(self, width: int) -> str:
        done = "before its first step"
        if self.curve:
            last = self.curve[-1]
            done = f"step {last['step']} of {last.get('n_steps', '?')}"
        lines = [f"{visible(self.stage)}, {done}: is it learning?"]
        for finding in self.findings:
            said = f"{SIGNS[finding.severity]} {finding.sentence}"
            lines.append(textwrap.fill(said, width, subsequent_indent="  ", break_on_hyphens=False))
        return "\n".join(lines)


def screen(run: Run, stage: str) -> Screen:
    """The screen of a stage; its diagnosis is under its own settings."""
    return Screen(stage, run.curve(stage), findings_of(run, stage), probes(run, stage))


def probes(run: Run, stage: str) -> list[Probe]:
    """The watched prompts, in the order in which they come."""
    steps = {event["step"]: event for event in run.events("probe", stage) if not event.get("redone")}
    events = list(steps.values())
    if not events:
        return []
    replies = []
    for i in sorted({0, len(events) // 2, len(events) - 1}):
        event = events[i]
        for probe in event["probes"]:
            asked = probe["family"], probe["prompt"]
            reply = Reply(event["step"], bool(probe["right"]), probe["reply"])
            replies.append((asked, reply))
    return [Probe(*asked, given) for asked, given in grouped(replies).items()]


def course(title: str, rows: Iterable[Row], curve: Steps, width: int) -> Table:
    """Rows at the beginning, in the middle and at the end, and, where there is room for some, as bars over
    the whole curve.
    """
    n_bars = min(width - 66, 30)
    longest = min(26, max(width - 40, 12))
    parts = pieces(curve, n_bars)
    cells = []
    for row in rows:
        bars = spark([row.value(piece) for piece in parts])
        texts = map(row.text, tenths(curve))
        cells.append((cut(row.label, longest), *texts, *([bars] if n_bars >= FEWEST_BARS else [])))
    header = (title, "first tenth", "middle", "last tenth", "course")
    return Table("", header[: len(cells[0])], cells, words=("course",))


def spark(values: Sequence[float | None]) -> str:
    """Bars from the least to the largest value; '·' where nothing was measured."""
    measured = [v for v in values if v is not None] or [0.0]
    low = min(measured)
    span = max(max(measured) - low, 0.05 * max(map(abs, measured))) or 1.0
    return "".join("·" if v is None else BARS[min(int(8 * (v - low) / span), 7)] for v in values)
