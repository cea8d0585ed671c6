"""Answers of several parts, lists, sets, intervals, relations: how they are put together, and which say the
same: x ≥ 3 and x ∈ [3, ∞), x = 3, y = 4 in any order and (x, y) = (3, 4), x = 5 and 5.
"""

from nomoat.tasks.formulas import Algebra, Answer, Formula, Several, atom

INFINITY = atom("letter", "∞")
OPENING, CLOSING = {"<": "(", "≤": "["}, {"<": ")", "≤": "]"}


def several(parts: list[Answer]) -> Answer:
    """One value, or a list; an unordered one where ± makes several of one, or for equations of several letters;
    x = 1, x = 2 as x = 1, 2.
    """
    flat = flattened(parts)
    if len(flat) == 1:
        return flat[0]
    names = [named(part) for part in flat]
    if None not in names and len(set(names)) == len(names):
        return Several("{}", tuple(flat))
    kind = "{}" if any(map(marked, parts)) else ","
    if names[0] is not None and all(name in (names[0], None) for name in names):
        sides = [part if named(part) is None else part.parts[1] for part in flat]
        if all(isinstance(side, Formula) for side in sides):
            together = Several(kind, tuple(sides))
            return Several("=", (flat[0].parts[0], together))
    return Several(kind, tuple(flat))


def either(parts: list[Answer]) -> Answer:
    """`x < 1 or x > 3`, `[0, 1) or (2, ∞)` as a union; of all else a list in any order."""
    members = [member(part) for part in parts]
    if None not in members:
        letters = {part.parts[0].letter() for part in members}
        united = Several("∪", tuple(piece for part in members for piece in pieces(part.parts[1])))
        if len(letters) == 1:
            return Several("∈", (members[0].parts[0], united))
    if all(map(interval, parts)) and any(map(unbounded, parts)):
        return Several("∪", tuple(parts))
    listed = several(parts)
    if listed.kind == "=":  # x = 1 or x = 2
        return Several("=", (listed.parts[0], Several("{}", listed.parts[1].parts)))
    return Several("{}", listed.parts) if listed.kind == "," else listed


def pieces(region: Several) -> tuple[Answer, ...]:
    return region.parts if region.kind == "∪" else (region,)


def interval(part: Answer) -> bool:
    return isinstance(part, Several) and part.kind in ("()", "[]", "[)", "(]") and len(part.parts) == 2


def unbounded(part: Several) -> bool:
    """Whether an interval can't be a tuple."""
    return part.kind != "()" or "∞" in repr(part.parts)


def member(relation: Answer) -> Several | None:
    """x ∈ (1, 3] for 1 < x ≤ 3, x ∈ (-∞, 2) ∪ (2, ∞) for x ≠ 2; None for what is no such relation."""
    if not isinstance(relation, Several) or not set(relation.kind) <= set("<≤≠∈") or not relation.kind:
        return None
    kind, sides = relation.kind, list(relation.parts)
    if kind == "∈":
        return relation if named(relation) else None
    low, high = Algebra().negative(INFINITY), INFINITY
    if kind == "≠":
        letter, value = sides if letter_of(sides[0]) else sides[::-1]
        region = Several("∪", (Several("()", (low, value)), Several("()", (value, high))))
        return within(letter, region)
    if len(sides) == 2 and letter_of(sides[0]):
        return within(sides[0], Several("(" + CLOSING[kind], (low, sides[1])))
    if len(sides) == 2:
        return within(sides[1], Several(OPENING[kind] + ")", (sides[0], high)))
    if len(sides) == 3:
        return within(sides[1], Several(OPENING[kind[0]] + CLOSING[kind[1]], (sides[0], sides[2])))
    return None


def within(letter: Answer, region: Several) -> Several | None:
    name = letter_of(letter)
    return Several("∈", (letter, region)) if name and not holds(region, name) else None


def letter_of(part: Answer) -> str | None:
    name = part.letter() if isinstance(part, Formula) else None
    return None if name == "∞" else name


def holds(part: Answer, letter: str) -> bool:
    return f"'{letter}'" in repr(part)


def pairs(a: Answer, b: Answer) -> list[tuple[Answer, Answer]]:
    """What may be compared: the two, also in one form, and where only one names its letters, that without."""
    x, y = uniform(a), uniform(b)
    found = [(a, b)] if x is a and y is b else [(a, b), (x, y)]
    bare_a, bare_b = unnamed(a) or unnamed(x), unnamed(b) or unnamed(y)
    if (bare_a is None) != (bare_b is None):
        found.append((bare_a or a, bare_b or b))
    return found


def uniform(value: Answer) -> Answer:
    """Relations as x ∈ …, (x, y) = (3, 4) as the two equations."""
    if not isinstance(value, Several):
        return value
    if value.kind == "=" and len(value.parts) == 2 and letters_of(value.parts[0]):
        left, right = value.parts
        if isinstance(right, Several) and right.kind == "()" and len(right.parts) == len(left.parts):
            equations = zip(left.parts, right.parts)
            return Several("{}", tuple(Several("=", equation) for equation in equations))
    sizes = {len(row.parts) if isinstance(row, Several) and row.kind == "[]" else 0 for row in value.parts}
    if value.kind == "[]" and len(sizes) == 1 and 0 not in sizes:  # [[1, 2], [3, 4]]
        return Several("matrix", tuple(Several("row", row.parts) for row in value.parts))
    return member(value) or value


def letters_of(part: Answer) -> list[str]:
    """The letters of (x, y), each another; none where there is anything else."""
    if not isinstance(part, Several) or part.kind != "()":
        return []
    names = [letter_of(each) for each in part.parts]
    return names if None not in names and len(set(names)) == len(names) else []


def unnamed(value: Answer) -> Answer | None:
    """What the letters are said to be, where that doesn't hold them: the right side of x = …, x ∈ …, (r, θ) = …."""
    if not isinstance(value, Several):
        return None
    if value.kind in ("=", "∈") and len(value.parts) == 2:
        left, right = value.parts
        names = [letter_of(left)] if isinstance(left, Formula) else letters_of(left)
        return right if names and None not in names and not any(holds(right, name) for name in names) else None
    return None


def marked(part: Answer) -> bool:
    return isinstance(part, Several) and part.kind == "±"


def flattened(parts: list[Answer]) -> list[Answer]:
    return [each for part in parts for each in (part.parts if marked(part) else (part,))]


def in_set(parts: list[Answer]) -> Answer:
    flat = flattened(parts)
    return flat[0] if len(flat) == 1 else Several("{}", tuple(flat))


def named(part: Answer) -> str | None:
    """The letter x of `x = …`, or of `x ∈ …`."""
    if not isinstance(part, Several) or part.kind not in ("=", "∈") or len(part.parts) != 2:
        return None
    return letter_of(part.parts[0])
