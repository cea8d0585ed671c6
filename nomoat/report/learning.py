"""Is it learning?  One screen on a stage of reinforcement learning, from the event log alone.

What is drawn follows the news: a level that is solved comes seldom, so that the reward as drawn may stand still while
the policy improves.  The diagnosis therefore weighs all families alike.  Its intervals count problems, not rollouts.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nomoat import stats
from nomoat.files import shipped, visible
from nomoat.report.rollouts import cut
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import Event

Steps = Sequence[Event]
words = lambda: shipped(__file__)  # the rows of the screen, and the rules with their limits and sentences
SIGNS = {"bad": "✗", "look": "!", "good": "✓"}


@dataclass(frozen=True)
class Finding:
    """A sentence in plain words, the setting that it leads to, and how much it matters."""

    sentence: str
    setting: str
    severity: Literal["bad", "look", "good"]


def tenths(curve: Steps) -> list[Steps]:
    """The first, the middle and the last tenth of the steps."""
    k = max(round(len(curve) / 10), 1)
    return [curve[i : i + k] for i in (0, (len(curve) - k) // 2, len(curve) - k)] if curve else [[], [], []]


def by_name(part: Steps, key: str = "rewards") -> dict[str, list[float]]:
    """The values of each family or level over some steps."""
    names = dict.fromkeys(name for e in part for name in e.get(key) or {})
    return {name: [e[key][name] for e in part if (e.get(key) or {}).get(name) is not None] for name in names}


def value(part: Steps, key: str, name: str | None = None) -> float | None:
    """A row over some steps: a mean, the largest drift, the number of the undecided; None where nothing is known."""
    if key == "alike":
        means = [sum(v) / len(v) for v in by_name(part).values() if v]
        return sum(means) / len(means) if means else value(part, "reward")
    values = by_name(part, key).get(name, []) if name else [e[key] for e in part if isinstance(e.get(key), int | float)]
    if not values:
        return None
    return max(values) if key == "drift" else sum(values) / (1 if key == "undecided" else len(values))


def interval(part: Steps, group: int, like: Steps) -> tuple[float, float, float]:
    """(share, low, high) of right answers, the families that `like` has too weighed alike.

    Wilson with the number of problems that such a mean is worth, a family's share of them being its share of the steps.
    """
    rates = [v for name, v in by_name(part).items() if v and name in by_name(like)]
    share = sum(sum(v) / len(v) for v in rates) / len(rates) if rates else value(part, "reward") or 0.0
    n = sum(e["tokens"] / e["length"] / group for e in part if e.get("length") and e.get("tokens")) or len(part)
    n *= len(rates) ** 2 / sum(map(len, rates)) / sum(1 / len(v) for v in rates) if rates else 1
    return share, *stats.wilson(share * n, n)


def moved(before: Sequence[float], after: Sequence[float]) -> int:
    """1 up, -1 down, 0 within the 95 % interval of the difference (Newcombe 1998, method 10)."""
    up = after[0] - before[0] > math.hypot(after[0] - after[1], before[2] - before[0])
    return up - (before[0] - after[0] > math.hypot(after[2] - after[0], before[0] - before[1]))


def diagnose(curve: Steps, config: Mapping[str, Any] | None = None) -> list[Finding]:
    """What the rules of learning.toml say, the worst first; by the stage's `config`, `group` rollouts are a problem."""
    rules, found = words()["rule"], []

    def say(name: str, holds: bool, *values: float, **named: float) -> None:
        if holds:
            text = re.sub(r"(\d)%", r"\1 %", rules[name]["sentence"].format(*values, **named))
            found.append(Finding(text, rules[name]["setting"], rules[name]["severity"]))

    n, group = len(curve), (config or {}).get("group") or 1
    limit = {name: rule.get("limit") for name, rule in rules.items()}
    start, _, now = tenths(curve)
    get = lambda key, part=now: value(part, key) or 0.0
    dead, entropy, length = get("dead_groups"), *([get(key, start), get(key)] for key in ("entropy", "length"))
    right = min(max(get("reward") - (1 - dead) / 2, 0.0), dead)  # all right, if the others are right half of the time
    which = "hard" if dead > 3 * right else "easy" if dead < 1.5 * right else "split"
    say(which, dead >= limit[which], x=dead)
    pair = lambda before, after: (interval(before, group, after), interval(after, group, before))
    was, at = pair(start, now)
    third, last = pair(curve[n // 2 : n - n // 4], curve[n - n // 4 :])
    enough, trend = n >= limit["few"], moved(was, at)
    say("few", not enough, n=n)
    say("rose", enough and trend > 0, *was, *at)
    say("fell", enough and trend < 0, *was, *at)
    say("flat", enough and trend >= 0 and last[0] < limit["flat"] and moved(third, last) <= 0, *third, *last)
    say("entropy", entropy[1] < limit["entropy"] * entropy[0], *entropy, x=entropy[1] / (entropy[0] or 1))
    say("length", enough and trend <= 0 < length[0] < length[1] / limit["length"], *length)
    for key, part in (("truncated", now), ("shadow", now), ("kl", curve[n // 2 :]), ("undecided", curve)):
        say(key, get(key, part) > limit[key], x=get(key, part))
    say("form", get("lenient") - get("reward") > limit["form"], x=get("lenient") - get("reward"))
    drifts = [e["drift"] for e in curve if (e.get("drift") or 0.0) > limit["drift"]]
    often = len(drifts) > n / 20 or get("drift", curve) > 100 * limit["drift"]  # rounding alone passes it now and then
    say("drift", often, limit["drift"], n=len(drifts), of=n, x=get("drift", curve))
    return sorted(found, key=lambda f: list(SIGNS).index(f.severity))


def tables(curve: Steps, width: int = 100) -> list[Table]:
    """The course of the run, then of each family, then of each level as the choice of problems sees it."""
    n, found = min(max(min(width - 66, 30), 8), len(curve)), []
    pieces = [curve[i * len(curve) // n : (i + 1) * len(curve) // n] for i in range(n)]
    for what, title in (("", ""), ("rewards", "family"), ("levels", "level, running")):
        rows = [(name, what, "{:.1%}", name) for name in sorted(by_name(curve, what))]
        rows = rows if what else [(row["label"], row["key"], row["form"], None) for row in words()["row"]]
        filled = []
        for label, key, form, name in rows:
            cells = [value(part, key, name) for part in tenths(curve)]
            texts = ["–" if v is None else form.format(v).replace("%", " %") for v in cells]
            filled.append((cut(label, 26), *texts, spark([value(piece, key, name) for piece in pieces])))
        header = (title, "first tenth", "middle", "last tenth", "course")
        found += [Table("", header, tuple(filled), words=("course",))] if filled else []
    return found


def spark(values: Sequence[float | None]) -> str:
    """Bars from the least to the largest value; '·' where nothing was measured."""
    known = [v for v in values if v is not None] or [0.0]
    low, span = min(known), max(max(known) - min(known), 0.05 * max(map(abs, known))) or 1.0
    return "".join("·" if v is None else "▁▂▃▄▅▆▇█"[min(int(8 * (v - low) / span), 7)] for v in values)


def probes(run: Run, stage: str) -> list[tuple[str, str, list[tuple[int, bool, str]]]]:
    """(family, prompt, [(step, right, reply)]) of each watched prompt: the first, the middle and the last reply."""
    kept = list({e["step"]: e for e in run.events("probe", stage) if not e.get("redone")}.values())
    seen: dict[tuple[str, str], list[tuple[int, bool, str]]] = {}
    for e in (kept[i] for i in sorted({0, len(kept) // 2, len(kept) - 1}) if kept):
        for p in e["probes"]:
            seen.setdefault((p["family"], p["prompt"]), []).append((e["step"], bool(p["right"]), p["reply"]))
    return [(*what, replies) for what, replies in seen.items()]


def findings(run: Run, stage: str) -> list[Finding]:
    """The diagnosis of a stage under its own settings."""
    started = run.events("stage_start", stage)
    return diagnose(run.curve(stage), started[-1].get("config") if started else None)


def summary(run: Run, stage: str) -> dict[str, Any]:
    """The screen as JSON: the findings, and each row in the first, the middle and the last tenth."""
    curve = run.curve(stage)
    rows = {key: [value(part, key) for part in tenths(curve)] for key in (row["key"] for row in words()["row"])}
    return {"stage": stage, "steps": len(curve), "findings": [asdict(f) for f in findings(run, stage)], "tenths": rows}


def screen(run: Run, stage: str, width: int = 100) -> str:
    """The screen as plain text: what it means, the course, the families and levels, the same prompts over time."""
    curve = run.curve(stage)
    done = f"step {curve[-1]['step']} of {curve[-1].get('n_steps', '?')}" if curve else "before its first step"
    says = [f"{SIGNS[f.severity]} {f.sentence}" for f in findings(run, stage)]
    says = [textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False) for text in says]
    blocks = ["\n".join([f"{visible(stage)}, {done}: is it learning?", *says])]
    blocks += [table.text(width) for table in tables(curve, width) if curve]
    for family, prompt, replies in probes(run, stage):
        lines = [cut(f"  step {step:>5} {'✓' if right else '✗'} {reply}", width) for step, right, reply in replies]
        blocks.append("\n".join([cut(f"{family}: {prompt}", width), *lines]))
    return "\n\n".join(blocks)
