"""How far did the training carry?  The tables and the sentence of a transfer report, from what was measured.

A result is the JSON of RUN/transfer.json, as evals/comparison.py makes it: shares from 0 to 1, differences as
{"delta", "low", "high"} with a 95 % interval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.report.table import Table
from nomoat.run.ledger import duration, money, short

Result = Mapping[str, Any]
CONTROLLED = {"R0": "trained", "R1": "harder", "R3": "unseen"}  # the rings that controls are measured on


def clear(row: Result) -> bool:
    """Whether the interval of a difference leaves out zero."""
    return row["delta"] is not None and (row["low"] > 0 or row["high"] < 0)


# --- figures --------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 1, scale: int = 1) -> str:
    return "" if value is None else f"{scale * value:.{digits}f}"


def points(share: float | None) -> str:
    return number(share, scale=100)


def span(row: Result) -> str:
    return f"[{points(row['low'])}, {points(row['high'])}]"


def gain(row: Result) -> str:
    """A difference in points with its interval."""
    return "" if row["delta"] is None else f"{100 * row['delta']:+.1f} {span(row)}"


def carry(shares: Sequence[float] | None) -> str:
    """The share of a gain that carried, with its interval."""
    return "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * x for x in shares)) if shares else ""


def p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# --- tables ---------------------------------------------------------------------------------------


def tables(result: Result) -> list[Table]:
    """Rings with each seed, harder levels, pass@k, form and honesty, open text, controls, a point's price."""
    makers = [rings, levels, pass_at_k, form, texts, controls]
    if result["price"]:
        makers.append(price)
    return [make(result) for make in makers]


def _sides(row: Result) -> tuple[str, str, str]:
    return points(row["before"]), points(row["after"]), gain(row)


def rings(result: Result) -> Table:
    """Each part of each ring, before and after."""
    seeds = result.get("seeds", [])
    rows = []
    for i, row in enumerate(result["rings"]):
        greedy = "" if row["ring"] == "R7" else gain(row["greedy"])
        alone = (gain(seed["rings"][i]) for seed in seeds)
        what = f"{row['ring']} {row['part']}"
        rows.append(
            (what, str(row["n"]), *_sides(row), carry(row["carry"]), greedy, p_value(row["p"]), *alone)
        )
    note = (
        f"Sampled at temperature 1, strict, 95 % intervals over problems{' and seeds' if seeds else ''}; "
        "greedy: the difference of greedy answers, p: McNemar on them, after Holm; "
        "carried: share of the gain on the trained tasks (rewordings: on the same problems). "
        "Unanswerable: share of replies that give an answer all the same. "
    )
    if (guessed := result["guessed"]["unseen families"]) is not None:
        note += f"The most frequent answer alone gets {points(guessed)} % of the unseen families. "
    sides = (result["before"], result["after"], "difference", "carried", "greedy", "p")
    header = ("ring", "problems", *sides, *(f"seed {seed['seed']}" for seed in seeds))
    title = "How far does it carry?  Right answers, %"
    return Table(title, header, rows, note + "; ".join(result["notes"]))


def levels(result: Result) -> Table:
    rows = [
        (f"+{up}" if int(up) else "trained", points(before), points(after))
        for up, (before, after) in result["steps"].items()
    ]
    header = ("level", result["before"], result["after"])
    return Table("By levels above the trained ones, %", header, rows)


def pass_at_k(result: Result) -> Table:
    before, at, k = result["before"], result["pass"]["at"], result["pass"]["crossover"]
    n = next((row["n"] for row in at.values()), 0)
    crossing = f"from k = {k} on {before} is no worse." if k else "the curves don't cross."
    header = ("k", before, result["after"], "difference")
    rows = [(k, *_sides(row)) for k, row in at.items()]
    return Table("Any of k samples right, %", header, rows, f"{n} trained-task problems; {crossing}")


FORM = (  # key, label, digits, scale
    ("rate", "right, strict, %", 1, 100),
    ("lenient", "right, lenient, %", 1, 100),
    ("ended", "ended by itself, %", 1, 100),
    ("language", "in the asked language, %", 1, 100),
    ("length", "tokens", 1, 1),
    ("gave", "answers the unanswerable, %", 1, 100),
    ("refuses", "says that it can't, %", 1, 100),
    ("ece", "calibration error (15 bins)", 3, 1),
    ("brier", "Brier score", 3, 1),
)


def form(result: Result) -> Table:
    sides = result["before"], result["after"]
    rows = []
    for key, label, digits, scale in FORM:
        values = result["form"].get(key) or [result["honesty"][model][key] for model in sides]
        rows.append((label, *(number(value, digits, scale) for value in values)))
    note = (
        "On the trained tasks but for the unanswerable; "
        "confidence is that of the answer after its own thinking."
    )
    return Table("Form and honesty", ("", *sides), rows, note)


def texts(result: Result) -> Table:
    before = result["texts"][result["before"]]
    rows = [
        (
            model,
            *(number(bits, 3) for bits in text["bits"].values()),
            f"{text['bpb'] - before['bpb']:+.3f}",
            points(text["distinct"]),
            points(text["repeats"]),
        )
        for model, text in result["texts"].items()
    ]
    bits = (f"bits per byte, {lang}" for lang in before["bits"])
    header = ("model", *bits, "change", "distinct-3, %", "repeated 4-grams, %")
    return Table("Open text", header, rows, "Free continuations of prose at temperature 1.")


def controls(result: Result) -> Table:
    rows = []
    for control in result["controls"]:
        flops = short(control["flops"]) if control.get("flops") else ""
        cells = [control["model"], flops]
        for ring in CONTROLLED:
            row = control.get(ring)
            cells.append(f"{points(row['value'])} ({gain(row)})" if row else "")
        rows.append((*cells, number(control["bpb"], 3)))
    header = ("model", "FLOPs", *CONTROLLED.values(), "bpb")
    return Table(f"Held against, in points over {result['before']}", header, rows)


def price(result: Result) -> Table:
    p = result["price"]
    flops, energy = short(p["flops_executed"], "FLOPs"), short(p["joules"], "J")
    row = (flops, duration(p["device_seconds"]), energy, money(p["money"]))
    header = ("FLOPs", "device time", "energy", p["currency"])
    return Table("One point on the trained tasks cost", header, (row,))


# --- the sentence ---------------------------------------------------------------------------------


def verdict(result: Result) -> str:
    """One sentence, made by a rule."""
    name = "RL" if result["after"] == "rl" else result["after"]
    parts = {row["part"]: row for row in result["rings"] if row["delta"] is not None}
    trained = parts.get("trained tasks")
    if trained is None:
        return f"Nothing was measured on the tasks that {name} trained on."
    said = (_trained(name, trained), _elsewhere(result, parts), _prose(result), _tries(result))
    return "; ".join(filter(None, said)) + "."


def _trained(name: str, row: Result) -> str:
    """What became of the trained tasks."""
    if not clear(row):
        change = f"{100 * row['delta']:+.1f} points {span(row)}"
        said = f"{name} changed the trained tasks by {change}, which includes 0"
    elif row["delta"] > 0:
        said = f"{name} raised the trained tasks by {points(row['delta'])} points {span(row)}"
    else:
        loss = {"low": -row["high"], "high": -row["low"]}
        said = f"{name} lowered the trained tasks by {points(-row['delta'])} points {span(loss)}"
    greedy = gain(row["greedy"])
    return f"{said} (greedy answers: {greedy})" if greedy else said


def _elsewhere(result: Result, parts: Mapping[str, Result]) -> str:
    """How much of a gain carried to other tasks; without a gain, how they changed."""
    harder = "harder, never shown" if "harder, never shown" in parts else "harder, shown worked"
    outside = [row["part"] for row in result["rings"] if row["ring"] == "R4"]
    wanted = (harder, "German", "unseen families", *outside)
    names = {part: part for part in wanted if part in parts}
    if harder in names:
        names[harder] = "harder levels"
    trained = parts["trained tasks"]
    if not clear(trained) or trained["delta"] < 0:
        return ", ".join(f"{name} changed by {gain(parts[part])}" for part, name in names.items())

    said = []
    for part, name in names.items():
        if share := carry(parts[part]["carry"]):
            said.append(f"{share} to {name}" if said else f"{share} of that carried to {name}")
    return ", ".join(said)


def _prose(result: Result) -> str:
    before, after = (result["texts"][model]["bpb"] for model in (result["before"], result["after"]))
    if before is None or after is None:
        return ""
    change = after - before
    if abs(change) < 5e-4:
        return "prose unchanged"
    return f"prose {'worsened' if change > 0 else 'improved'} by {abs(change):.3f} bits per byte"


def _tries(result: Result) -> str:
    """pass@k at the largest k up to 32."""
    ks = [k for k in result["pass"]["at"] if int(k) <= 32]
    if not ks:
        return ""
    row = result["pass"]["at"][ks[-1]]
    if not clear(row):
        return f"pass@{ks[-1]} not shown to differ ({gain(row)})"
    return f"pass@{ks[-1]} {'rose' if row['delta'] > 0 else 'fell'} ({gain(row)})"
