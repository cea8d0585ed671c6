"""What stands beside the number of an answer: its unit, and numbers in words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nomoat.tasks.latex import Token
from nomoat.tasks.nouns import NAME, PERCENT, omissible, stem, unit_names, unit_powers, words, worth_more

JOINING = ("/", "per", ".", "-", "'", "a", "an", "of")

MONEY = ("$", "€", "£", "¢", "₹", "¥")
PER = ("/", "per", "each", "every")
SIGNED = ("∞", "frac", "√", "π", *MONEY)  # what a minus in words may stand before
TOGETHER = ("each", "altogether", "total", "in", "left", "remaining")  # behind a price
MAX_UNIT = 12  # tokens
MAX_NOUN = 4  # words
DEGREES = ("degree", "degrees", "Grad")
SCALES = {"celsius": "celsius", "c": "celsius", "fahrenheit": "fahrenheit", "f": "fahrenheit"}


def parted(tokens: Sequence[Token], nouns: Collection[str] = ()) -> tuple[list[Token], str]:
    r"""(the tokens without a unit at the end or a sign of money, the unit or "").

    A unit is one of words.toml that has more than one letter, or any words in \text{…} after something else.
    None is parted where words before it belong to it: 5 apples per day.
    """
    tokens = with_percent(tokens)
    start = start_of_words(tokens)
    if 0 < start < len(tokens) and tokens[start - 1].text not in ("^", "_", "{", "(", "[", ","):
        unit = unit_of(tokens[start:], nouns)
        bare, money = without_money(tokens[:start])
        joined = bare[-1].text in PER or (bare[-1].space and bare[-1].text in ("a", "an"))  # $5 an hour
        if unit and not joined:
            return bare, unit
    rest, money = without_money(tokens)
    if money and (priced := price(rest, money, nouns)):
        scale = len(rest) > 2 and rest[1].text.lower() in words()["scales"]
        return rest[: 1 + scale], priced
    if len(rest) > 1 and rest[-1].text == "°":
        return rest, money or "degree"
    return rest, money


def price(tokens: Sequence[Token], money: str, nouns: Collection[str]) -> str:
    """The unit of a sum of money with words behind it, $5 each, as that of 5 dollars each; or ""."""
    if len(tokens) < 2:
        return ""
    if tokens[0].kind != "number":
        return ""
    behind = tokens[2:] if tokens[1].text.lower() in words()["scales"] else tokens[1:]
    if behind and all(token.text in TOGETHER for token in behind):
        return money
    plural = "s" if money.isalpha() else ""
    names = [Token("name", money + plural, True)]
    for token in behind:
        text = "per" if token.text == "/" else token.text
        if not NAME.fullmatch(text):
            return ""
        names.append(Token("name", text, True))
    unit = noun_of(names, nouns)
    return unit if behind and omissible(unit, nouns) else ""


def guessed(
    tokens: Sequence[Token], nouns: Collection[str] = (), wanted: str = ""
) -> tuple[list[Token], str, bool] | None:
    """(the tokens without it, what may be a unit at the end, whether it is of words): 3 red apples; or of
    letters after a blank, 5 m, which may stand for a number, but not where that unit is `wanted`.
    """
    for start in range(max(1, len(tokens) - MAX_UNIT), len(tokens)):
        first = tokens[start]
        last = tokens[start - 1]
        within = is_word(last) and (len(last.text) > 1 or last.text == "a")
        if first.kind != "name" or last.text in PER or within:
            continue
        unit = compound(tokens[start:])
        if unit and (first.space or unit == wanted):
            return [*tokens[:start]], unit, unit == wanted
    return counting(with_percent(tokens), nouns)


def counting(
    tokens: Sequence[Token],
    nouns: Collection[str],
) -> tuple[list[Token], str, bool] | None:
    """A number, with a large one in words behind it, and what it counts: 3 million people, 5/day."""
    if len(tokens) < 2:
        return None
    tokens = with_per(tokens)
    start = len(tokens)
    while start > 1 and is_word(tokens[start - 1]):
        start -= 1
    before = tokens[start - 1]
    if before.kind != "number" and before.text not in ("}", "π"):
        return None
    behind = [token.text.lower() for token in tokens[start:]]
    if len(behind) > 1 and behind[0] in words()["scales"] and stem(behind[0]) not in nouns:
        start += 1
    unit = noun_of(tokens[start:], nouns)
    if not unit:
        return None
    return [*tokens[:start]], unit, True


def is_word(token: Token) -> bool:
    return token.space and token.kind in ("name", "word")


def with_per(tokens: Sequence[Token]) -> Sequence[Token]:
    """5/day as 5 per day."""
    if len(tokens) < 3 or tokens[-2].text != "/":
        return tokens
    last = tokens[-1].text
    if len(last) < 3 or not compound(tokens[-1:]):
        return tokens
    names = Token("name", "per", True), Token("name", last, True)
    return [*tokens[:-2], *names]


def noun_of(phrase: Sequence[Token], nouns: Collection[str] = ()) -> str:
    """What a few words count; "" where they are letters, or another value."""
    longest = max((len(token.text) for token in phrase), default=0)
    return unit_of(phrase, nouns) if longest > 2 and len(phrase) <= MAX_NOUN else ""


def start_of_words(tokens: Sequence[Token]) -> int:
    r"""Where the words at the end begin: all of \text{…} and its power, or a unit with a long name."""
    start = end = len(tokens) - len(power_at_end(tokens))
    while start and tokens[start - 1].kind == "word":
        start -= 1
        while start and tokens[start - 1].text in JOINING and tokens[start - 1].kind == "sign":
            start -= 1
    while start < end and tokens[start].kind == "sign":
        start += 1
    if start < end:
        return start
    for start in range(max(1, len(tokens) - MAX_UNIT), len(tokens)):
        first = tokens[start]
        long = len(first.text) > 1 or (tokens[start - 1].kind == "number" and has_name(tokens[start:]))
        if first.kind == "name" and long and compound(tokens[start:]):
            return start
    return len(tokens)


def has_name(tokens: Sequence[Token]) -> bool:
    """Whether a unit of more than one letter is among them: g/mol, no m/s."""
    return any(len(token.text) > 1 and token.text in unit_names() for token in tokens)


def power_at_end(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens of ^2 or ^{2} at the end."""
    for n in (2, 4):
        if power_of(tokens[-n:])[1] == n == len(tokens[-n:]):
            return tokens[-n:]
    return []


def power_of(tokens: Sequence[Token]) -> tuple[int, int]:
    """(the exponent that the tokens begin with, of how many it is): ^2, ^{3}, squared; (1, 0) for none."""
    texts = [token.text for token in tokens[:4]]
    if not texts:
        return 1, 0
    if texts[0] in ("squared", "cubed"):
        return unit_powers()[texts[0]], 1
    for exponent in ("2", "3"):
        if texts[:2] == ["^", exponent]:
            return int(exponent), 2
        if texts == ["^", "{", exponent, "}"]:
            return int(exponent), 4
    return 1, 0


def compound(tokens: Sequence[Token]) -> str:
    """The one name of a unit that all of the tokens are: m^2, km/h, square feet, miles per hour; or ""."""
    at, parts, sign = 0, [], 1
    while at < len(tokens):
        unit, power, n = simple(tokens[at:])
        if not unit:
            return ""
        top, _, below = unit.partition("/")
        parts.append((top, sign * power))
        if below:
            parts.append((below, -sign * power))
        at += n
        if at < len(tokens):
            if tokens[at].text not in (*PER, "*", "a", "an") or at + 1 == len(tokens):
                return ""
            sign = 1 if tokens[at].text == "*" else -1
            at += 1
    above = "*".join(powers(parts, 1))
    return "/".join((above or "1", *powers(parts, -1)))


def simple(tokens: Sequence[Token]) -> tuple[str, int, int]:
    """(the unit that the tokens begin with, or "", its power, of how many tokens it is)."""
    at, power = 0, 1
    if tokens[0].text in unit_powers():
        power = unit_powers()[tokens[0].text]
        at = 1 + follows_dot(tokens[1:])
    words = [token.text for token in tokens[at : at + 2]]
    scale = SCALES.get(words[-1].lower()) if words else None
    if scale and words[0] in DEGREES:
        at += 1
        words = [scale]
    if not words:
        return "", 1, 0
    name = words[0]
    unit = unit_names().get(name, "")
    if not unit and len(name) > 2:
        unit = unit_names().get(name.lower(), "")
    at += 1 + follows_dot(tokens[at + 1 :])
    raised, n = power_of(tokens[at:])
    return unit, power * raised, at + n


def follows_dot(tokens: Sequence[Token]) -> bool:
    return bool(tokens) and tokens[0].text == "."


def powers(parts: Sequence[tuple[str, int]], sign: int) -> list[str]:
    """The units of one side of the stroke, with their exponents."""
    wanted = sorted((unit, abs(n)) for unit, n in parts if n * sign > 0)
    return [unit if n == 1 else f"{unit}^{n}" for unit, n in wanted]


def unit_of(tokens: Sequence[Token], nouns: Collection[str] = ()) -> str:
    """The name that the unit goes by; "" where the words are none, or are another value."""
    if unit := compound(tokens):
        return unit
    raised = power_at_end(tokens)
    power = power_of(raised)[0]
    tokens = tokens[: len(tokens) - len(raised)]
    names = [token.text for token in tokens if token.text not in (".", "-")]
    if names and names[0] in unit_powers():
        power *= unit_powers()[names[0]]
        names = names[1:]
    if not names or worth_more(names, nouns) or names in (["a", "m"], ["p", "m"]):
        return ""
    unit = stem(" ".join(names))
    return unit if power == 1 else f"{unit}^{power}"


def with_percent(tokens: Sequence[Token]) -> list[Token]:
    found = []
    for token in tokens:
        if token.text == "cent" and found and found[-1].text == "per":
            found[-1] = token._replace(kind="sign", text="%")
        else:
            found.append(token._replace(kind="sign", text="%") if token.text in PERCENT else token)
    return found


def quantities(tokens: Sequence[Token]) -> str:
    """Several numbers with units in one spelling: 3 h 20 min as 3 hour 20 minute; "" for all else."""
    found, at = [], 0
    while at < len(tokens):
        name = tokens[at + 1].text if at + 1 < len(tokens) else ""
        unit = unit_names().get(name) or unit_names().get(name.lower())
        if tokens[at].kind != "number" or not unit:
            return ""
        found.append(f"{tokens[at].text} {unit}")
        at += 2
        while at < len(tokens) and tokens[at].text in (",", ".", "and", "und"):
            at += 1
    return " ".join(found) if len(found) > 1 else ""


def without_money(tokens: list[Token]) -> tuple[list[Token], str]:
    """The tokens without a sign of money at either end, and which that was."""
    if len(tokens) < 2:
        return tokens, ""
    first = 1 if tokens[0].text == "-" else 0
    for at in (first, len(tokens) - 1):
        sign = tokens[at].text
        if sign in MONEY:
            return [*tokens[:at], *tokens[at + 1 :]], unit_names().get(sign, sign)
    return tokens, ""


def signed(tokens: Sequence[Token]) -> list[Token]:
    """minus 5 as -5."""
    if len(tokens) < 2 or tokens[0].text.lower() not in ("minus", "negative"):
        return [*tokens]
    then = tokens[1]
    if then.kind != "number" and then.text not in SIGNED:
        return [*tokens]
    return [Token("sign", "-"), then._replace(space=False), *tokens[2:]]


def scaled(tokens: Sequence[Token]) -> list[Token]:
    """2.5 million as 2.5 * 10^6, where the tokens end in such a word; 1/2 million isn't read."""
    power = words()["scales"].get(tokens[-1].text.lower()) if len(tokens) > 1 else None
    if power is None or tokens[-2].kind != "number" or "/" in [token.text for token in tokens]:
        return [*tokens]
    signs = (Token("sign", "*"), Token("number", "10"), Token("sign", "^"), Token("number", str(power)))
    return [*tokens[:-1], *signs]


def named(text: str, units: Mapping[str, Any]) -> tuple[str, str]:
    """(text without the unit of the task that it ends in, that unit or "")."""
    for name in sorted(units, key=len, reverse=True):
        rest = text.removesuffix(name).rstrip()
        if rest in ("", text) or (rest[-1].isalpha() and name[0].isalpha()):
            continue  # no such unit, or the end of a longer word
        return rest, name
    return text, ""
