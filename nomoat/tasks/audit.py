"""Behind `nomoat task audit`: how often the exact comparison errs, on answers labelled by what they mean.

answers.jsonl holds pairs of an expected answer and another; golds.jsonl the answers of MATH-500 and GSM8K as
they are published.  A gold has to equal itself in each of DRESSINGS, and no gold that differs: `same` names
the first of those that mean the same.
"""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import JsonObject
from nomoat.stats import wilson
from nomoat.tasks import exact

UNICODE = {
    "\\pi": "π", "\\infty": "∞", "\\cup": "∪", "\\pm": "±", "^\\circ": "°", "^{\\circ}": "°", "-": "−",
    "\\in": "∈", "\\ge": "≥",
}  # fmt: skip
DRESSINGS: dict[str, Callable[[str], str]] = {
    "mathematics": lambda gold: f"${gold}$",
    "mathematics with brackets": lambda gold: f"\\({gold}\\)",
    "displayed": lambda gold: f"\\[ {gold} \\]",
    "boxed": lambda gold: f"\\boxed{{{gold}}}",
    "boxed in a sentence": lambda gold: f"So the answer is $\\boxed{{{gold}}}$.",
    "bold": lambda gold: f"**{gold}**",
    "full stop": lambda gold: f"{gold.rstrip('.')}.",
    "display fractions": lambda gold: re.sub(r"\\[dtc]?frac", r"\\dfrac", gold),
    "plain brackets": lambda gold: re.sub(r"\\(?:left|right)(?![a-z])", "", gold),
    "unicode": lambda gold: re.sub("|".join(map(re.escape, UNICODE)), lambda sign: UNICODE[sign[0]], gold),
}


@dataclass(frozen=True)
class Audit:
    """How the exact comparison judges: (errors, cases) of each question, and the errors."""

    accepted: tuple[int, int]  # of the wrong answers
    rejected: tuple[int, int]  # of the right ones
    undressed: tuple[int, int]  # golds in a dressing that don't equal themselves
    confused: tuple[int, int]  # pairs of different golds that are equal
    errors: list[JsonObject]

    def text(self) -> str:
        """Rates with their 95 % interval, and each error."""
        rows = {
            "wrong answers accepted": self.accepted,
            "right answers rejected": self.rejected,
            "golds rejected in a dressing": self.undressed,
            "pairs of different golds accepted": self.confused,
        }
        lines = []
        for what, (k, n) in rows.items():
            low, high = wilson(k, n)
            lines.append(f"{what}: {k} of {n}, {k / n:.2%} (95 %: {low:.2%} to {high:.2%})")
        return "\n".join([*lines, *(f"  {json.dumps(row)}" for row in self.errors)])


def audit(every: int = 1) -> Audit:
    """The exact comparison against all labelled answers, and against one in `every` of the golds."""
    rows = table("answers.jsonl")
    wrong_verdicts = [row for row in rows if is_equal(row) is not row["equal"]]
    right = sum(row["equal"] for row in rows)
    rejected = sum(row["equal"] for row in wrong_verdicts)
    golds = table("golds.jsonl")[::every]
    undressed, confused = in_dressings(golds), equal_pairs(golds)
    return Audit(
        (len(wrong_verdicts) - rejected, len(rows) - right),
        (rejected, right),
        (len(undressed), len(golds) * len(DRESSINGS)),
        (len(confused), len(golds) * (len(golds) - 1)),
        [*wrong_verdicts, *undressed, *confused],
    )


def table(name: str) -> list[JsonObject]:
    return list(map(json.loads, Path(__file__).with_name(name).read_text("utf-8").splitlines()))


def is_equal(row: JsonObject) -> bool:
    reads = {"units": row.get("units"), "lang": row.get("lang", "en"), "question": row.get("question", "")}
    return exact.equal(row["answer"], row["expected"], **reads)


def in_dressings(golds: list[JsonObject]) -> list[JsonObject]:
    """The golds that are rejected when they are dressed."""
    pairs = ((row["gold"], dress(row["gold"])) for row in golds for dress in DRESSINGS.values())
    return [{"expected": gold, "answer": text} for gold, text in pairs if not exact.equal(text, gold)]


def equal_pairs(golds: list[JsonObject]) -> list[JsonObject]:
    """The pairs of golds that don't mean the same and are equal all the same, in either order."""
    seen = [(row["gold"], row.get("same", row["gold"]), exact.readings(row["gold"])) for row in golds]
    found = []
    for (a, first, x), (b, second, y) in itertools.permutations(seen, 2):
        if first == second:
            continue
        equal = exact.matched(x, y)[0] if x and y else exact.equal(a, b)
        if equal:
            found.append({"expected": b, "answer": a})
    return found
