"""What a question asks for, as far as its words tell: what it counts, in which unit, a share, a formula."""

import functools
import re
from collections.abc import Collection
from dataclasses import dataclass

from nomoat.tasks import latex
from nomoat.tasks.nouns import NAME, changes, stem, unit_names, words
from nomoat.tasks.units import compound

COUNTING = re.compile(r"\b(?:how (?:many|much)|number of|wie ?viele?|anzahl)\b", re.IGNORECASE)
HOW_MANY = re.compile(r"\b(?:how many|wie ?viele)((?: [^\W\d_]+){1,4})", re.IGNORECASE)
IN_UNITS = re.compile(
    r"\bin ([^\W\d_]{2,}(?:/[^\W\d_]+)?[²³]?(?: [^\W\d_]+){0,3}?)"
    r"(?=\s*(?:[,?).;]|$)|\s+(?:is|does|did|will|was|equals?|rounded|in|as|to|at|of|for|from|if|when)\b)",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"(?<=[.!?])\s+")
# How many apples does Tom have more than Ann?  In one clause, and none that begins with a condition.
MORE_THAN = re.compile(
    r"\b(?:how (?:many|much)|wie ?viele?)\b"
    r"(?:(?!\b(?:if|when|where|who|that|which|whose|with|wenn|falls)\b)[^.?!,;\d]){0,120}?"
    r"\b(more|fewer|less|mehr|weniger)\b[^.?!,;]{0,120}?\b(?:than|als)\b",
    re.IGNORECASE,
)
MUCH_MORE = re.compile(r"\b(?:how much|(?:um )?wie ?viel) (more|less|mehr|weniger)\b", re.IGNORECASE)
APPLES_MORE = re.compile(
    r"\b(?:how many|wie ?viele) [^\W\d_]+ (more|fewer|less|mehr|weniger)\b", re.IGNORECASE
)
ALSO = {"fewer": "less", "less": "fewer"}
PERCENT = re.compile(
    r"\b(?:what|which|how (?:many|much)|wie ?viele?|welche[rn]?)"
    r"(?: (?:is|was|were|are|the|a|in|as|total|overall|approximate|new|final|ist|der|die|das)){0,5}"
    r" (?:percent(?:age)?|per cent|prozent\w*)\b"
    r"|\b(?:as a|in) percent(?:age)?\b|\bin prozent\b|\bals prozent\w*",
    re.IGNORECASE,
)
# Words of questions whose answers are formulas.
FORMAL = re.compile(
    r"\$|\\\(|\\\[|\b(?:in terms of|express(?:ion|ed)?|simplif\w+|products?|multipl\w+|area|volume|formula"
    r"|abhängig|ausdruck|vereinfach\w*|produkte?|fläche\w*|formel)\b",
    re.IGNORECASE,
)

TUPLE = re.compile(r"\(((?:\s*\\?[a-zA-Z]+\s*,)+\s*\\?[a-zA-Z]+)\s*(?:\\right)?\)")  # (x, y), (r, \theta)
LENGTHS = ("mm", "cm", "m", "km", "inch", "foot", "yard", "mile")
ADVERBS = {
    "hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month",
    "yearly": "year", "annual": "year", "annually": "year",
}  # fmt: skip
RATE = re.compile(
    r"(?:\b(?:per|an?|one|1|each|every)\s|/\s?)(second|minute|hour|day|week|month|year)\b"
    rf"|\b({'|'.join(ADVERBS)})\b",
    re.IGNORECASE,
)
BELOW = re.compile(r"(?:/|\b(?:per|each|every)\s)\s*([^\W\d_]+)", re.IGNORECASE)  # what a rate is one for
SHARED = re.compile(r"\b(?:per|each|every|je|jede[rsn]?|pro)\b", re.IGNORECASE)
TEMPERATURE = re.compile(
    r"(?i)\b(?:temperatur|celsius|fahrenheit|thermomet|warm|wärm|cold|cool|hot\b|heat|oven|weather|freez|boil"
    r"|melt|grad\b|kalt|kält|heiß)|(?:°|\bcirc\b)\W*(?:text|mathrm|rm)?\W*[cf]\b"
)
POINT = re.compile(
    r"\b(?:ordered (?:pairs?|triples?)|coordinates|vertex|midpoint|(?:which|what|the) point|Koordinaten"
    r"|Scheitelpunkt|(?:welche[mnrs]?|der|den|dem) Punkt)\b",
    re.IGNORECASE,
)
REGION = re.compile(r"[<>≤≥∈]|\\(?:[lg]t|[lg]eq?(?:slant)?|in)\b|^\W*\]", re.MULTILINE)
COINS = ("coin", "bill", "unit")  # counted in cents, in units of measure
ANOTHER = re.compile(r"[,;]|\b(?:and|or|und|oder)\b")  # between equations of several things
# What is asked for: Evaluate $…$, the value of \(…\).
SOUGHT = re.compile(
    r"\b(?:evaluate|compute|simplify|expand|find|calculate|factor|write|express|convert|is|of|product|sum"
    r"|expression)\s+(?:\$+([^$]{1,200})\$|\\\((.{1,200}?)\\\))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Asked:
    """`nouns`: stems of what is counted; `unit`: the one in which; `scale`: a word that multiplies it, as
    dozen; `letters` that stand alone where a formula is asked for; `tuples` of letters, as (x, y); the
    `times` of a rate, as the day of how many a day; `counts`: it counts things, not units of measure; `names`
    that a rate may be one for, None for any; `temperature`: it may be one; `sought`: formulas whose value is;
    `point`: no region is.
    """

    nouns: frozenset[str] = frozenset()
    unit: str = ""
    scale: str = ""
    percent: bool = False
    letters: frozenset[str] = frozenset()
    tuples: frozenset[tuple[str, ...]] = frozenset()
    times: frozenset[str] = frozenset()
    counts: bool = False
    names: frozenset[str] | None = None
    temperature: bool = True
    sought: frozenset[str] = frozenset()
    point: bool = False


@functools.lru_cache(1024)
def asked(question: str) -> Asked:
    """What the question asks for; nothing where there is none."""
    if not question:
        return Asked()
    nouns = nouns_of(question)
    last = last_question(question)
    multiplying = words()["nouns"]["multiplying"]
    counted = [stem(name) for phrase in HOW_MANY.findall(last) for name in phrase.split()[:1]]
    scale = next((name for name in counted if name in multiplying), "")
    letters = frozenset(name for name in re.findall(r"[^\W\d]+", question) if len(name) == 1)
    unit = unit_of(question[question.rfind(last) :])
    shared = SHARED.search(last) or times_in(last) or not (nouns or unit)
    return Asked(
        nouns,
        unit,
        scale,
        PERCENT.search(last) is not None,
        letters if FORMAL.search(question) else frozenset(),
        tuples_of(question),
        times_in(last),
        counts_things(last),
        None if shared else frozenset(canonical(NAME.findall(question))) | times_in(question),
        TEMPERATURE.search(question) is not None,
        frozenset(in_tokens(dollars or brackets) for dollars, brackets in SOUGHT.findall(last)),
        POINT.search(last) is not None,
    )


def only_region(answer: str, expected: str) -> bool:
    """Whether one alone is an inequality, or an interval and nothing else: 2 < x < 3, ]2, 3[."""
    return (REGION.search(answer) is None) != (REGION.search(expected) is None)


def in_tokens(formula: str) -> str:
    """A formula in one spelling."""
    return " ".join(token.text for token in latex.tokens(formula))


def only_repeats(answer: str, expected: str, sought: Collection[str]) -> bool:
    """Whether the answer is the formula whose value is sought, and something else is expected."""
    given = in_tokens(answer.strip("$ .")) if sought else ""
    return given in sought and not in_tokens(expected.strip("$ .")).startswith(given)


def behind_sought(text: str, sought: Collection[str]) -> str:
    """The value in `what is sought = value`, the last of several; all else as it is."""
    if not sought or "=" not in text:
        return text
    first, *between, last = text.strip("$ ").split("=")
    one = in_tokens(first) in sought and not any(map(ANOTHER.search, between))
    return last if one else text


def canonical(names: Collection[str]) -> set[str]:
    """The units that names are of, miles and hour of mph, and the stems of the others."""
    units = (unit_names().get(name) or unit_names().get(name.lower()) or stem(name) for name in names)
    return {part for unit in units for part in unit.split("/")}


def counts_things(question: str) -> bool:
    """Whether all that it asks how many of are common things, as pages."""
    modifiers = words()["nouns"]["behind_how_many"]
    found = []
    for phrase in HOW_MANY.findall(question):
        names = [name for name in map(stem, phrase.split()) if name not in modifiers]
        found.append(bool(names) and names[0] in things() and names[0] not in COINS)
    return bool(found) and all(found)


@functools.cache
def things() -> frozenset[str]:
    """The stems of common nouns."""
    return frozenset(map(stem, words()["nouns"]["counted"]))


def tuples_of(question: str) -> frozenset[tuple[str, ...]]:
    """Tuples of letters, as (x, y), that the question has in one order alone."""
    found = {names_in(letters) for letters in TUPLE.findall(question)[:8]}
    orders = [sorted(names) for names in found]
    twice = [order for order in orders if orders.count(order) > 1]
    return frozenset(names for names in found if sorted(names) not in twice)


def names_in(letters: str) -> tuple[str, ...]:
    names = [name.strip(" \\") for name in letters.split(",")]
    return tuple(latex.GREEK.get(name, name) for name in names)


def times_in(text: str) -> frozenset[str]:
    """The times of a rate: the day of 5 a day, per day, every day, daily."""
    found = [(time or adverb).lower() for time, adverb in RATE.findall(text)]
    return frozenset(ADVERBS.get(name, name) for name in found)


def last_question(text: str) -> str:
    """The last sentence that asks, or the last of all."""
    sentences = SENTENCE.split(text.strip())
    return next((sentence for sentence in reversed(sentences) if "?" in sentence), sentences[-1])


def unit_of(question: str) -> str:
    """The unit that is asked for, if it is one: how many hours, in square feet."""
    found = {measured(phrase) for phrase in HOW_MANY.findall(question)}
    wholes = [phrase for phrase in IN_UNITS.findall(question) if phrase.lower() != "in"]
    found |= {compound(latex.tokens(phrase)) for phrase in wholes}
    found -= {""}
    return found.pop() if len(found) == 1 else ""


def measured(phrase: str) -> str:
    """The unit that a phrase begins with, behind words such as `more`."""
    tokens = latex.tokens(phrase.strip())
    modifiers = words()["nouns"]["behind_how_many"]
    while tokens and stem(tokens[0].text) in modifiers:
        tokens = tokens[1:]
    first = tokens[0].text.lower() if tokens else ""
    if first in ("", "in", "a", "as", "am"):
        return ""
    units = (compound(tokens[:n]) for n in range(len(tokens), 0, -1))
    return next((unit for unit in units if unit), "")


def contradicts(unit: str, wanted: str, times: Collection[str] = ()) -> bool:
    """Whether a unit of measure is another than the one that is asked for; 5 minutes per day are minutes, but
    a speed is no length unless the question names its `times`.
    """
    modifiers = words()["nouns"]["behind_how_many"]
    names = [name for name in NAME.findall(unit) if stem(name) not in modifiers]
    if not wanted or not names or names[0] not in unit_names():
        return False
    if " " in unit:  # pounds of apples, more hours
        unit = unit_names()[names[0]]
    above, _, below = unit.partition("/")
    asked_above, _, asked_below = wanted.partition("/")
    alike = any({above, asked_above} <= set(group) for group in words()["alike"].values())
    if above != asked_above and not alike:
        return True
    speed = above in LENGTHS and below in ("hour", "second") and below not in times
    return bool(below and below != asked_below and (asked_below or speed))


def of_another_kind(unit: str, wanted: Asked) -> str:
    """Why what stands beside a number can't be what the question asks for, whatever the number; or ""."""
    modifiers = words()["nouns"]["behind_how_many"]
    names = [name for name in NAME.findall(unit) if stem(name) not in modifiers]
    if not names:
        return ""
    if wanted.percent:
        return "a percentage"
    if unit in ("celsius", "fahrenheit") and not wanted.temperature:
        return "no temperature"
    measure = names[0] in unit_names() and names[0] not in words()["nouns"]["filler"]  # 5 in total
    if wanted.counts and measure:
        return "a count"
    if wanted.unit and not wanted.counts and not measure and stem(names[0]) in things():
        return wanted.unit
    below = canonical(BELOW.findall(unit)) | times_in(unit)
    if wanted.names is not None and not below <= wanted.names:
        return f"nothing per {min(below - wanted.names)}"
    return ""


def behind(question: str) -> list[str]:
    """The stems of words right behind `how many` that make another number elsewhere: more, pairs, even."""
    found = []
    for phrase in HOW_MANY.findall(question):
        for name in map(stem, phrase.split()):
            if name not in words()["nouns"]["behind_how_many"]:
                break
            found.append(name)
    return found


def compared_by(question: str) -> set[str]:
    """more, or less, where the question asks how many more than."""
    patterns = (MORE_THAN, MUCH_MORE, APPLES_MORE)
    found = {name.lower() for pattern in patterns for name in pattern.findall(question)}
    return found | {ALSO[name] for name in found if name in ALSO}


def nouns_of(question: str) -> frozenset[str]:
    """The stems of the words that what a question counts, or asks the share of, may be among; else none."""
    if not COUNTING.search(question) and not PERCENT.search(question):
        return frozenset()
    found = {name for name in NAME.findall(question) if len(name) > 2 and not changes(name)}
    found |= compared_by(question)
    for name in behind(question):
        found |= {name, ALSO.get(name, name)}
    return frozenset(map(stem, found))
