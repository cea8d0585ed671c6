"""Answers of several parts, lists, sets, intervals, relations: how they are put together, and which say the
same: x ≥ 3 and x ∈ [3, ∞), x = 3, y = 4 in any order and (x, y) = (3, 4), x = 5 and 5.
"""

import math
from collections.abc import Collection, Sequence
from fractions import Fraction

from nomoat.tasks.formulas import Algebra, Answer, Formula, Several, atom, key_of
from nomoat.tasks.spellings import spelled_out

INFINITY = atom("letter", "∞")
LOWEST = Algebra().negative(INFINITY)
REALS = Several("()", (LOWEST, INFINITY))
TABLES = ("matrix", "·", "cases")
OPENING, CLOSING = {"<": "(", "≤": "["}, {"<": ")", "≤": "]"}


def several(parts: list[Answer]) -> Answer:
    """One value, or a list; an unordered one where ± makes several of one, or for equations of several
    letters; x = 1, x = 2 as x = 1, 2, and points (x, y) = (1, 2), (2, 1) in the same way.
    """
    flat = flattened(parts)
    if len(flat) == 1:
        return flat[0]
    names = [named(part) for part in flat]
    if None not in names and len(set(names)) == len(names):
        return Several("{}", tuple(flat))
    kind = "{}" if any(map(marked, parts)) else ","
    heads = [head(part) for part in flat]
    if heads[0] and all(letters in (heads[0], []) for letters in heads):
        sides = [part.parts[1] if letters else part for part, letters in zip(flat, heads, strict=True)]
        if all(named_by(heads[0], side) for side in sides):
            together = Several(kind, tuple(sides))
            return Several("=", (flat[0].parts[0], together))
    return Several(kind, tuple(flat))


def head(part: Answer) -> list[str]:
    """The letters that an equation or x ∈ … names: x, or x and y of (x, y) = …; none of all else."""
    if letter := named(part):
        return [letter]
    return letters_of(part.parts[0]) if isinstance(part, Several) and part.kind == "=" else []


def named_by(letters: Sequence[str], side: Answer) -> bool:
    """Whether a side is one value for one letter, or a tuple of as many."""
    if len(letters) == 1:
        return isinstance(side, Formula)
    return isinstance(side, Several) and side.kind == "()" and len(side.parts) == len(letters)


def either(parts: list[Answer]) -> Answer:
    """`x < 1 or x > 3`, `x = 0 or x > 3`, `[0, 1) or (2, ∞)` as a union; of all else a list in any order."""
    flat = flattened(parts)
    points = [part for part in flat if point(part)]
    members = [member(part) for part in flat if not point(part)]
    if members and None not in members:
        letters = {part.parts[0].letter() for part in [*points, *members]}
        regions = [piece for part in members for piece in pieces(part.parts[1])]
        if points:
            regions.append(in_set([part.parts[1] for part in points]))
        if len(letters) == 1:
            return Several("∈", (members[0].parts[0], Several("∪", tuple(regions))))
    if all(map(interval, parts)) and any(map(unbounded, parts)):
        return Several("∪", tuple(parts))
    listed = several(parts)
    if listed.kind == ",":
        return Several("{}", listed.parts)
    if listed.kind == "=":  # x = 1 or x = 2
        letter, values = listed.parts
        return Several("=", (letter, Several("{}", values.parts)))
    return listed


def point(part: Answer) -> bool:
    """Whether it is x = 1, of a letter and a value without it."""
    name = named(part)
    if not name or part.kind != "=":
        return False
    value = part.parts[1]
    return isinstance(value, Formula) and not holds(value, name)


def both(parts: list[Answer]) -> Answer | None:
    """x ∈ [0, 5) for `x ≥ 0 and x < 5`, x ∈ [0, 1) ∪ (1, ∞) for `x ≥ 0 and x ≠ 1`, both numbers left out in
    `x ≠ 1, 2`; None for all else, and for one relation.
    """
    parts = all_unequal(flattened(parts))
    members = [member(part) for part in parts]
    if len(parts) < 2 or None in members:
        return None
    letter = members[0].parts[0]
    if any(part.parts[0].letter() != letter.letter() for part in members):
        return None
    region = common([one.parts[1] for one, part in zip(members, parts) if part.kind != "≠"])
    left_out = [value_of(part) for part in parts if part.kind == "≠"]
    if region and left_out:
        region = without(region, Several("{}", tuple(left_out)))
    return Several("∈", (letter, region)) if region else None


def all_unequal(parts: list[Answer]) -> list[Answer]:
    """x ≠ 1, 2 as x ≠ 1, x ≠ 2; all else as it is."""
    first = parts[0]
    if not isinstance(first, Several) or first.kind != "≠":
        return parts
    letter = first.parts[0]
    return [Several("≠", (letter, part)) if isinstance(part, Formula) else part for part in parts]


def value_of(relation: Several) -> Answer:
    """The side of x ≠ 2, or of 2 ≠ x, that is no letter."""
    left, right = relation.parts
    return right if letter_of(left) else left


def common(regions: Sequence[Answer]) -> Answer | None:
    """What an interval alone, or two rays, have in common, all numbers where there is none; else None."""
    if not all(map(interval, regions)):
        return None
    if len(regions) < 2:
        return next(iter(regions), REALS)
    above = [region for region in regions if same_form(region.parts[1], INFINITY)]
    below = [region for region in regions if same_form(region.parts[0], LOWEST)]
    if [len(regions), len(above), len(below)] != [2, 1, 1]:
        return None
    low = above[0].parts[0]
    high = below[0].parts[1]
    if empty(low, high):
        return None
    kind = above[0].kind[0] + below[0].kind[1]
    return Several(kind, (low, high))


def empty(low: Answer, high: Answer) -> bool:
    """Whether no number is between two fractions."""
    fractions = [fraction_of(part) for part in (low, high)]
    return None not in fractions and fractions[0] >= fractions[1]


def same_form(a: Answer, b: Answer) -> bool:
    return key_of(a) == key_of(b)


def pieces(region: Several) -> tuple[Answer, ...]:
    return region.parts if region.kind == "∪" else (region,)


def interval(part: Answer) -> bool:
    return isinstance(part, Several) and part.kind in ("()", "[]", "[)", "(]") and len(part.parts) == 2


def unbounded(part: Several) -> bool:
    """Whether an interval can't be a tuple."""
    return part.kind != "()" or "∞" in repr(part.parts)


def member(relation: Answer) -> Several | None:
    """x ∈ (1, 3] for 1 < x ≤ 3, x ∈ (-∞, 2) ∪ (2, ∞) for x ≠ 2; None for what is no such relation."""
    if not isinstance(relation, Several):
        return None
    kind, sides = relation.kind, relation.parts
    if kind == "∈":
        return relation if named(relation) else None
    if kind == "≠":
        letter, value = sides if letter_of(sides[0]) else sides[::-1]
        below, above = Several("()", (LOWEST, value)), Several("()", (value, INFINITY))
        return within(letter, Several("∪", (below, above)))
    if not kind or not set(kind) <= OPENING.keys() or len(sides) > 3:
        return None
    if len(sides) == 3:
        low, letter, high = sides
    elif letter_of(sides[0]):
        low, letter, high = LOWEST, *sides
        kind = "<" + kind
    else:
        low, letter, high = *sides, INFINITY
        kind = kind + "<"
    return within(letter, Several(OPENING[kind[0]] + CLOSING[kind[1]], (low, high)))


def are_reals(a: str, b: str) -> bool:
    """Whether one text is R, and the other a sign for the real numbers."""
    signs = {spelled_out(text.strip("$ .")) for text in (a, b)}
    return signs == {"R", "ℝ"}


def set_named(region: Answer) -> Answer:
    """ℝ for the R of x ∈ R."""
    return REALS if isinstance(region, Formula) and region.letter() == "R" else region


def without(region: Answer, taken: Answer) -> Answer:
    """An interval without a few numbers as a union of intervals; all else as it stands."""
    members = (taken,)
    if isinstance(taken, Several) and taken.kind == "{}":
        members = taken.parts
    points = {fraction_of(part): part for part in members}
    ends = [bound(end) for end in region.parts] if interval(region) else [None]
    if None in points or None in ends:
        return Several("∖", (region, taken))
    low, high = ends
    opened = "(" if low in points else region.kind[0]
    closed = ")" if high in points else region.kind[1]
    pieces = []
    start = region.parts[0]
    for point in sorted(points):
        if low < point < high:
            pieces.append(Several(opened + ")", (start, points[point])))
            opened, start = "(", points[point]
    pieces.append(Several(opened + closed, (start, region.parts[1])))
    return Several("∪", tuple(pieces)) if len(pieces) > 1 else pieces[0]


def bound(end: Answer) -> Fraction | float | None:
    """The end of an interval, if it is a fraction or infinite."""
    for infinite, value in ((LOWEST, -math.inf), (INFINITY, math.inf)):
        if same_form(end, infinite):
            return value
    return fraction_of(end)


def fraction_of(part: Answer) -> Fraction | None:
    value = part.number() if isinstance(part, Formula) else None
    return value.fraction() if value else None


def within(letter: Answer, region: Several) -> Several | None:
    name = letter_of(letter)
    return Several("∈", (letter, region)) if name and not holds(region, name) else None


def letter_of(part: Answer) -> str | None:
    name = part.letter() if isinstance(part, Formula) else None
    return None if name == "∞" else name


def holds(part: Answer, letter: str) -> bool:
    return f"'{letter}'" in repr(part)


def pairs(a: Answer, b: Answer, asked: Collection[Answer] = ()) -> list[tuple[Answer, Answer]]:
    """What may be compared: the two, also in one form, and where only one names its letters, or one is y and
    the other f(x), those without.  `asked`: tuples of letters, as (x, y), that a bare tuple may be.
    """
    x, y = uniform(a), uniform(b)
    found = [(a, b)]
    if x is not a or y is not b:
        found.append((x, y))
    bare_a = unnamed(a) or unnamed(x)
    bare_b = unnamed(b) or unnamed(y)
    if (bare_a is None) != (bare_b is None):
        found.append((bare_a or a, bare_b or b))
    elif bare_a and {named(a), named(b)} == {"y", "f"}:
        found.append((bare_a, bare_b))
    for letters in asked:
        found += [(x, uniform(Several("=", (letters, b)))), (uniform(Several("=", (letters, a))), y)]
    return found


def uniform(value: Answer) -> Answer:
    """Relations as x ∈ …, (x, y) = (3, 4) as the two equations, [[1, 2], [3, 4]] as a matrix."""
    if not isinstance(value, Several):
        return value
    if value.kind == "=" and len(value.parts) == 2:
        left, right = value.parts
        n = len(letters_of(left))
        if n and isinstance(right, Several) and right.kind == "()" and len(right.parts) == n:
            equations = zip(left.parts, right.parts)
            return Several("{}", tuple(Several("=", equation) for equation in equations))
    if value.kind == "[]" and all(map(row_like, value.parts)):
        rows = [Several("row", row.parts) for row in value.parts]
        if len({len(row.parts) for row in rows}) == 1:
            return Several("matrix", tuple(rows))
    return member(value) or value


def row_like(part: Answer) -> bool:
    return isinstance(part, Several) and part.kind == "[]"


def letters_of(part: Answer) -> list[str]:
    """The letters of (x, y), each another; none where there is anything else."""
    if not isinstance(part, Several) or part.kind != "()":
        return []
    names = [letter_of(each) for each in part.parts]
    return names if None not in names and len(set(names)) == len(names) else []


def unnamed(value: Answer) -> Answer | None:
    """The right side of x = …, cos θ = …, x ∈ …, (r, θ) = …, where that doesn't hold the letters; of AB = …
    a matrix."""
    if not isinstance(value, Several):
        return None
    if value.kind in ("=", "∈") and len(value.parts) == 2:
        left, right = value.parts
        if formal(left) and isinstance(right, Several) and right.kind in TABLES:
            return right
        names = letters_of(left) if isinstance(left, Several) else [letter_of(left)]
        if value.kind == "=" and isinstance(left, Formula):
            names = [left.name()]  # also the cos of cos θ = …
        if names and None not in names and not any(holds(right, name) for name in names):
            return right
    return None


def formal(left: Answer) -> bool:
    """Whether a side is a formula with letters: AB, A^{-1}, |x|."""
    return isinstance(left, Formula) and left.number() is None


def marked(part: Answer) -> bool:
    return isinstance(part, Several) and part.kind == "±"


def of_sign(parts: list[Answer], sign: int) -> list[Answer] | None:
    """The values of (3, ±4), a point for each sign; None where there is no ±, or more than one."""
    if [*map(marked, parts)].count(True) != 1:
        return None
    return [part.parts[sign < 0] if marked(part) else part for part in parts]


def flattened(parts: list[Answer]) -> list[Answer]:
    return [each for part in parts for each in (part.parts if marked(part) else (part,))]


def in_set(parts: list[Answer]) -> Answer:
    """A set; of one value, but for the empty set, that value."""
    flat = flattened(parts)
    bare = flat[0].letter() if len(flat) == 1 and isinstance(flat[0], Formula) else None
    return flat[0] if len(flat) == 1 and bare != "∅" else Several("{}", tuple(flat))


def named(part: Answer) -> str | None:
    """The letter x of `x = …`, or of `x ∈ …`."""
    if not isinstance(part, Several) or part.kind not in ("=", "∈") or len(part.parts) != 2:
        return None
    return letter_of(part.parts[0])
