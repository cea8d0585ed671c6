"""Answers as texts: what is in the box, without marks; choices, times; what isn't read, in one spelling."""

import operator
import re
import unicodedata
from collections.abc import Iterator, Sequence

from nomoat.tasks import latex
from nomoat.tasks import units as measures
from nomoat.tasks.latex import Token
from nomoat.tasks.reader import FUNCTIONS, MAX_LETTERS

MAX_TEXT = 400  # characters that are read
MAX_QUESTION = 20_000  # characters in which capitals are compared
MAX_PLAIN = 4000  # characters that compare as text
BOX = re.compile(r"\\f?box(?:ed)? ?(?:\{|([^\s$]+))")
WRAPPERS = (
    ("**", "**"), ("*", "*"), ("```", "```"), ("`", "`"),
    ("__", "__"), ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"),
    ("«", "»"), ("_", "_"),
)  # fmt: skip
BOLD = re.compile(r"(?<![^\s(,;])\*\*(?![\s*])([^*]+)(?<!\s)\*\*(?![^\s),;.:])")  # no power, as in 2**3
# (A), (C) and (E): a list of choices
ONE = r"\((?:[A-J]|[a-j]|[IVX]+|[ivx]+)\)"
LISTED = re.compile(rf"{ONE}(?:(?:[,;]|,? and|,? und)\s*{ONE})+\.?")
# B, (B), B., Option B, and B) with its text
CHOICE = re.compile(
    r"(?:(?:option|choice|answer) )?\(?([A-J])(?:\)[.:]?|[.:]|$)(?:\s+(?P<said>\S.*))?", re.IGNORECASE
)
OTHER_CHOICE = re.compile(r"\b[A-J][).:]|\bor\b|\boder\b")
APART = re.compile(r"\$|\*\*|~|\\(?:q?quad(?![a-z])|[ ,;])")  # signs that stand between choices
BESIDE = re.compile(r" ?([<>=≤≥+*/^−-]) ?")
# 3:30 pm, 9 a.m.
TIME = re.compile(r"(\d{1,2})(?:[:.](\d\d))?\s?([ap])\.?\s?m\.?", re.IGNORECASE)
CLOCK = re.compile(r"(0?0|1[3-9]|2[0-3]):([0-5]\d)")  # hours that have no am or pm
# Signs that stand between words; with any other, letters are those of a formula.
MARKS = set(",;.-'\"!?:()&")
NATURAL = re.compile(r"[^\W\d_][^\W\d_A-Z]*|[^\W\d_a-z]+")  # as words are written; aB isn't
OPTIONS = re.compile("[a-j]+|[A-J]+")
ABBREVIATION = re.compile(r"\b(?:[A-Z]\.){2,}(?:[A-Z]\b)?(?!\w)")  # U.S.A.
# Paris!, but not n!
EXCLAIMED = re.compile(r"(?:(?<=[^\W\d_]{4})|(?<=\byes)|(?<=\bno))!$", re.IGNORECASE)
BRACKETED = re.compile(r"\((\w)\)|\[([A-Za-z])\]")
NAMES = ("name", "word")  # kinds of tokens
SHORT = ("no", "ok", "am", "pm", "is", "in", "of", "to", "or", "and", "it", "at", "on", "by", "if")


def same_choice(answer: str, expected: str, question: str = "") -> bool | None:
    """Whether two name the same choice, one of them with its text, which is no other's; else None."""
    if max(len(answer), len(expected)) > MAX_TEXT:
        return None
    a, b = (CHOICE.fullmatch(without_text(text)) for text in (answer, expected))
    if not a or not b or bool(a["said"]) == bool(b["said"]):
        return None
    said = a["said"] or b["said"]
    letter = a[1].upper()
    if letter != b[1].upper() or OTHER_CHOICE.search(said):
        return False
    others = choices_of(said, question[-MAX_QUESTION:])
    return not others or letter in others


def choices_of(said: str, question: str) -> set[str]:
    """The letters that stand before this text in the question: of 12 in `(A) 10 (B) 12` B."""
    said, question = map(_joined, (said, question))
    pattern = rf"([A-J])[).:] ?{re.escape(said.rstrip('. '))}(?!\w|[.,/^]\w)"
    return set(map(str.upper, re.findall(pattern, question, re.IGNORECASE)))


def _joined(text: str) -> str:
    """The text with one blank between words, and none beside signs."""
    text = re.sub(r"\\([gl])eq?(?![a-z])", lambda sign: "≥" if sign[1] == "g" else "≤", without_text(text))
    return BESIDE.sub(r"\1", " ".join(APART.sub(" ", text).split()))


def time_of(text: str) -> tuple[int, int, str] | None:
    """(hour, minute, a or p) of a time of day with am or pm."""
    time = TIME.fullmatch(" ".join(without_text(text).split()))
    if not time or not (1 <= int(time[1]) <= 12 and int(time[2] or 0) < 60):
        return None
    return int(time[1]), int(time[2] or 0), time[3].lower()


def on_the_clock(text: str) -> tuple[int, int, str] | None:
    """15:30 as 3:30 pm."""
    time = CLOCK.fullmatch(without_text(text).strip(" ."))
    if not time:
        return None
    hour = int(time[1])
    return hour % 12 or 12, int(time[2]), "p" if hour else "a"


def same_time(answer: str, expected: str) -> bool | None:
    """Whether two are the same time of day; None where none is, or one, as 5am, may be a product."""
    texts = answer, expected
    times = [time_of(text) for text in texts]
    if times.count(None) == 1:
        times = [time_of(text) or on_the_clock(text) for text in texts]
    if None not in times:
        return times[0] == times[1]
    one = next((text for text, time in zip((answer, expected), times, strict=True) if time), "")
    return False if re.search(r"[\s:.](?!$)", one) else None


def without_text(text: str) -> str:
    r"""5\text{ cm} as 5 cm."""
    return re.sub(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm) ?\{([^{}]*)\}", r" \1 ", text).strip(" $")


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{} (MATH's layout)."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = BOX.match(text, start) if start >= 0 else None
    if not box:
        return None
    if box[1]:  # \boxed 5
        return box[1]
    depth, first = 1, box.end()
    for place in range(first, min(len(text), first + MAX_PLAIN - 1)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[first:place]
    return None


def clean(text: str) -> str:
    """What is in the box, if there is one, without the marks of bold type and of code around it."""
    text = narrow(boxed(text) or text).strip().rstrip("✓✅✔\ufe0f ")
    text = BOLD.sub(r"\1", text)
    text = measures.words()["synonyms"].get(without_text(text).strip("$. ").lower(), text)
    for opening, closing in WRAPPERS:
        inner = text.removesuffix(".").removeprefix(opening).removesuffix(closing)
        if (
            len(inner) == len(text.removesuffix(".")) - 2 * len(opening)
            and opening not in inner
            and inner.strip()
        ):
            text = inner.strip()
    return text


def narrow(text: str) -> str:
    """The text with digits of all scripts as 0 to 9, and the wide forms of ASCII as they are."""
    return text if text.isascii() else "".join(map(_narrow, text))


def _narrow(char: str) -> str:
    if char in "℃℉":
        return unicodedata.normalize("NFKC", char)
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char) if "\uff01" <= char <= "\uff5e" or char == "\u3000" else char


def same_words(a: str, b: str) -> bool:
    """Whether texts of the same letters are the same, with capitals only where they mean something."""
    spelled = ([token.text for token in cased(latex.tokens(text[:MAX_QUESTION]))] for text in (a, b))
    return a == b or operator.eq(*spelled)


def plain(text: str, lang: str = "en") -> str:
    """What texts that aren't numbers are compared by: no blanks beside signs, words without capitals."""
    text = in_words(clean(text))
    if LISTED.fullmatch(without_text(text)):
        text = re.sub("[()]", "", without_text(text))
    elif choice := CHOICE.fullmatch(without_text(text)):
        text = text if choice["said"] else choice_letter(choice[1])
    found = latex.tokens(text, lang)
    text = measures.quantities(found) or in_one_spelling(found).removeprefix("the ")
    alone = BRACKETED.fullmatch(text)
    return choice_letter(alone[1] or alone[2]) if alone else text


def in_words(text: str) -> str:
    """The text with one spelling of what stands in words: U.S.A. as USA, Paris! as Paris."""
    text = EXCLAIMED.sub("", text.replace("’", "'"))
    return ABBREVIATION.sub(lambda found: found[0].replace(".", ""), text)


def choice_letter(letter: str) -> str:
    """A letter that may be a choice as a capital."""
    return letter.upper() if letter in "abcdefghij" else letter


def cased(found: Sequence[Token]) -> Iterator[Token]:
    """The tokens with capitals only where they mean something: in formulas, and in letters that stand alone.

    r/R isn't R/r, nor aB Ab; what is listed as a, b, c may be A, B, C.
    """
    names = [token.text for token in found if token.kind in NAMES]
    signs = {token.text for token in found if token.kind == "sign"}
    formal = bool(signs - MARKS) or any(name.lower() in FUNCTIONS for name in names)
    options = not formal and are_options(names, least=3 if "-" in signs else 2)
    end = [Token("end", "")] * 2
    for token, then, next_name in zip(found, [*found[1:], *end], [*found[2:], *end]):
        if token.kind not in NAMES:
            yield token
        elif options or is_word(token, then, formal) or begins_word(token, then, next_name):
            yield token._replace(text=in_lower_case(token.text))
        else:
            yield token


def in_lower_case(text: str) -> str:
    """The text without capital ASCII letters."""
    return re.sub("[A-Z]+", lambda capitals: capitals[0].lower(), text)


def are_options(names: Sequence[str], least: int) -> bool:
    """Whether the names are letters from A to J, so many at least and all in one case."""
    letters = [name for name in names if name not in ("and", "und")]
    single = len(letters) >= least and max(map(len, letters)) == 1
    return single and OPTIONS.fullmatch("".join(letters)) is not None


def is_word(token: Token, then: Token, formal: bool) -> bool:
    """Whether the token, before another, is a word, which means the same with a capital."""
    name = token.text
    if not NATURAL.fullmatch(name):
        return len(name) > MAX_LETTERS  # McDonald, iPhone, and no product as aB
    if name.lower() in SHORT:
        return True
    if name in ("A", "I"):
        alone = then.kind not in NAMES or then.text in ("and", "und")  # I and III
        return not formal and not alone and len(then.text) > 2
    return len(name) > (3 if formal and token.kind == "name" else 2)


def begins_word(token: Token, then: Token, next_name: Token) -> bool:
    """Whether a letter or two are the beginning of a word: d'Alembert, x-ray, co-op, Dr. Smith."""
    if then.space or next_name.kind not in NAMES:
        return False
    if then.text == ".":
        return len(token.text) > 1 and len(next_name.text) > 2
    if then.text not in ("'", "-") or next_name.space:
        return False
    return len(next_name.text) > 2 or (len(token.text) > 1 and next_name.text.islower())


def in_one_spelling(found: list[Token]) -> str:
    """Tokens as one text: no blanks but between words, no braces around one token, no degrees.

    "A, B, and C" is "a,b,c".
    """
    text = ""
    kind = ""
    for token in unwrapped([*cased(found)]):
        if token.text == "°":
            continue
        if token.text in ("and", "und") and text:
            text = f"{text.rstrip(',')},"
            kind = ""
            continue
        word = token.kind in ("name", "word")
        if (word and kind == "name") or (token.space and kind and token.kind == "number"):
            text += " "
        text += token.text
        kind = "name" if word else "number" if token.kind == "number" else ""
    return text


def unwrapped(found: list[Token]) -> Iterator[Token]:
    at = 0
    while at < len(found):
        kept = at and found[at - 1].text in ("frac", "√", "}")
        if not kept and [t.text for t in found[at : at + 3 : 2]] == ["{", "}"]:
            yield found[at + 1]
            at += 3
        else:
            yield found[at]
            at += 1
