r"""Spellings that are brought into another before a text is read: ]0, 5[ as (0, 5), ∛2 as \sqrt[3]{2},
\mathbb R as ℝ, US$ as $, +/- as ±, 1_000 as 1{,}000, {x | x > 1} as x > 1, ∠ABC = 30 as A_{ABC} = 30.
"""

import functools
import re

# An interval with its brackets turned outwards where the end does not belong to it (ISO 80000-2, 2-7.10).
INTERVAL = re.compile(
    r"(?P<before>^|[\s=$({;,∪∩∈∖UN]|\\(?:cup|cap|in|left|[bB]igg?l?|setminus|mathopen)(?![a-zA-Z])\s*)"
    r"(?P<opened>[\[\]])(?P<ends>[^\[\]]{1,120}?[,;][^\[\]]{1,120}?)"
    r"(?P<right>\\(?:right|[bB]igg?r?|mathclose)\s*)?(?P<closed>[\[\]])"
)
SETS = {"R": "ℝ", "Z": "ℤ", "Q": "ℚ", "N": "ℕ", "C": "ℂ"}
SET = re.compile(
    r"\\(?:mathbb|Bbb|mathbf|mathds)\s*(?:\{\s*([RZQNC])\s*\}|([RZQNC])(?![a-zA-Z]))|\\([RZQNC])(?![a-zA-Z])"
)
NUMBER = r"[0-9A-F]+(?:\.[0-9A-F]+)?"
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
# {x | x > 1}, {x ∈ R : x ≠ 1}: of relations that hold the letter
GAP = r"(?:\s|\\[,; ])*"
SET_OF = re.compile(
    rf"^\s*\$?(?:\\left\s?)?\\?\{{{GAP}([a-zA-Z]){GAP}(?:(?:\\in|∈){GAP}(?:ℝ|R){GAP})?"
    r"(?:\\(?:middle|[bB]igg?m?)\s?)?(?:\\mid|\\vert|\\colon|\||:)"
    r"(?=[^{}|]*\1)(?P<said>[^|:]{0,200}(?:[<>≤≥=≠]|\\(?:[lg]eq?|[lg]t|neq?|[lg]eqslant)(?![a-zA-Z]))"
    r"[^|:]{0,200}?)"
    r"\s*(?:\\right\s?)?\\?\}\.?\$?$"
)
BASES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
BASE = re.compile(
    r"(?:(?<=_)|(?<=_\{{))\\text\s*\{{\s*({0})\s*\}}|(?<=\bbase[- ])({0})\b".format("|".join(BASES))
)
INDEXED = re.compile(r"(?<![a-zA-Z\\])([a-z])_\{?([1-9])\}?(?=\$?\s*=)")
OF_CASES = re.compile(
    r"\\left\s?\\\{\s*\\begin\{array\}(?:\s*\{[lcr|\s]*\})?((?:(?!\\begin).)*)\\end\{array\}\s*\\right\s?\.",
    re.DOTALL,
)
BEHIND_CASES = re.compile(
    r"[,.;]\s*(?=\}?\s*(?:&|\\\\|\\end))|\\(?:text|mbox|mathrm)\s*\{\s*(?:if|for|when)?\s*\}"
)
ALL_BUT = re.compile(
    r"(?i)^\s*\$?(?:\\text\s*\{\s*)?(?:all\s+)?real\s+(?:numbers(?:\s+\$?x\$?)?|(?:values\s+of\s+)?\$?x\$?),?"
    r"\s+(?:except|other than)(?:\s+for)?[\s}]*(?P<said>\$?(?:x\s*(?:=|≠)\s*)?[-−0-9\\±].*)$"
)
NAMED = re.compile(r"\$|(?<![a-zA-Z\\])x\s*(?:=|≠)\s*")
TEXT = r"\{\s*\\(?:text|mathrm)\s*\{([^{}]{1,20})\}(\^\{?[23]\}?)?\s*\}"  # a unit above or below a stroke
DERIVATIVE = re.compile(
    r"^(\s*\$?)(?:[fghy](?:'|′|\^\{?\\prime\}?)(?:\([a-z]\))?|\\frac\{dy\}\{dx\}|dy/dx)(?=\s*=)"
)
LESS = re.compile(r"(?:ℝ|(^\s*\$?)R)\s*(?:[-−–]|\\(?=\s*\\?\{))\s*(?=\\?\{)")
# 0.8333..., 0.454545...: a period that stands there three times
PERIOD = re.compile(r"(?<=[0-9]\.)([0-9]*?)([0-9]{1,6}?)\2{2,}(?:\.{3}|…|\\[lc]?dots(?![a-z]))")
PLAIN = (
    (re.compile(r"\{([^{}]{1,80})\\over(?![a-zA-Z])([^{}]{1,80})\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"^(\s*\$?[a-zA-Z]\$?) (?:is|equals|is equal to|ist|ist gleich) (?=[-−–+$\\(0-9√])"), r"\1="),
    (PERIOD, r"\1(\2)"),
    (BASE, lambda found: str(BASES.index(found[1] or found[2]) + 2)),
    (re.compile(rf"^\s*\$?\(?({NUMBER})\)?\$?,? ?\(?(?:in )?base[- ](\d{{1,2}})\)?\.?\$?$"), r"\1_{\2}"),
    (re.compile(rf"^\s*\(({NUMBER})\)(?=_)"), r"\1"),
    (re.compile(r"(?<=[0-9\s])([mcdk]?m|in|ft|yd)([23])(?![\w.])"), r"\1^\2"),
    (re.compile(r"\{([^{}]{1,80})\\choose(?![a-zA-Z])([^{}]{1,80})\}"), r"\\binom{\1}{\2}"),
    (re.compile(r"(?<=[)\]])\s*(?:\\text\s*\{\s*)?union\b[\s}]*(?=[(\[])"), "∪"),
    (re.compile(rf"\b({MONTHS})\s(\d{{1,2}})(?:st|nd|rd|th)\b"), r"\1 \2"),
    (re.compile(r"^(\s*\$?)m?\s*(?:\\angle|∠)\s*\{?([A-Z]{1,3})\}?(?=\s*=)"), r"\1A_{\2}"),
    (re.compile(r"^(\s*\$?)([fgh])\^\{?-1\}?(?:\\left)?\([a-z](?:\\right)?\)(?=\s*=)"), r"\1\2_{1}"),
    (re.compile(r"(?<![a-zA-Z\\])([a-z])_\{1(?:,|/|,\s)2\}(?=\s*=)"), r"\1"),
    (re.compile(r"^(\s*\$?)\\?(?:gcd|lcm|det)\s*(?:\\left)?\([^()=]{1,60}\)(?=\s*=)"), r"\1N"),
    (DERIVATIVE, r"\1D"),
    (ALL_BUT, lambda found: f"x≠{NAMED.sub('', found['said'])}"),
    (re.compile(rf"(?<=[0-9}})\s,~])\\[dt]?frac\s*{TEXT}\s*{TEXT}"), r"\\text{ \1\2/\3\4}"),
    (re.compile(r"\bunits?\s?(?:\^\{?2\}?|²|squared)(?!\w)|\bsq\.\s?units?\b"), "square units"),
    (re.compile(r"\bunits?\s?(?:\^\{?3\}?|³|cubed)(?!\w)"), "cubic units"),
    (re.compile(r"\\cbrt(?![a-zA-Z])|(?<![^\W_])cbrt(?=\s*[({0-9])|(?<![\w)}\]])³√"), "∛"),
    (re.compile(r"(?<![\w)}\]])⁴√"), "∜"),
    (re.compile(r"(?<![\w)}\]])²√"), "√"),
    (re.compile(r"∛"), r"\\sqrt[3]"),
    (re.compile(r"∜"), r"\\sqrt[4]"),
    (re.compile(r"\b(?:US|AU|CA|NZ)\s?\\?\$|^\s*USD\s?(?=[0-9])"), r"\\$"),
    (re.compile(r"^\s*EUR\s?(?=[0-9])"), "€"),
    (re.compile(r"(?i)\bplus[- ](?:or|oder)[- ]minus\b"), "±"),
    (re.compile(r"\+/\s?[-−–]|(?<![\w)}\]\s])\+[-−–](?=\s?[0-9√\\])"), "±"),
    (re.compile(r"(?<=[0-9])_(?=[0-9]{3}(?:_[0-9]{3})*(?![0-9_{]))"), "{,}"),
)


@functools.lru_cache(256)
def spelled_out(text: str) -> str:
    """The text in the spelling that the tokens are read from."""
    for pattern, other in PLAIN:
        text = pattern.sub(other, text)
    if "\\" in text:
        text = SET.sub(lambda found: SETS[found[1] or found[2] or found[3]], text)
    text = LESS.sub(r"\1ℝ∖", text)
    text = OF_CASES.sub(r"\\begin{cases}\1\\end{cases}", text)
    if "begin{cases}" in text:
        text = BEHIND_CASES.sub("", text)
    if [*map("".join, INDEXED.findall(text))][1:]:
        text = _without_index(text)
    text = SET_OF.sub(r"\g<said>", text)
    return INTERVAL.sub(_interval, text)


def _without_index(text: str) -> str:
    """x_1 = 2, x_2 = 3 as x = 2, x = 3: values of one letter, counted from 1 in order."""
    found = INDEXED.findall(text)
    counted = [(found[0][0], str(n)) for n in range(1, len(found) + 1)]
    return INDEXED.sub(r"\1", text) if found == counted else text


def _interval(found: re.Match) -> str:
    opened, closed = found["opened"], found["closed"]
    if opened + closed == "[]":
        return found[0]
    opened = "(" if opened == "]" else "["
    closed = ")" if closed == "[" else "]"
    return f"{found['before']}{opened}{found['ends']}{found['right'] or ''}{closed}"
