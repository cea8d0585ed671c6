r"""Spellings that are brought into another before a text is read: ]0, 5[ as (0, 5), ∛2 as \sqrt[3]{2},
\mathbb R as ℝ, US$ as $, +/- as ±, 1_000 as 1{,}000.
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
PLAIN = (
    (re.compile(r"\{([^{}]{1,80})\\over(?![a-zA-Z])([^{}]{1,80})\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"^(\s*\$?[a-zA-Z]\$?) (?:is|equals|is equal to|ist|ist gleich) (?=[-−–+$\\(0-9√])"), r"\1="),
    (re.compile(rf"^\s*\$?\(?({NUMBER})\)?\$?,? ?\(?(?:in )?base[- ](\d{{1,2}})\)?\.?\$?$"), r"\1_{\2}"),
    (re.compile(rf"^\s*\(({NUMBER})\)(?=_)"), r"\1"),
    (re.compile(r"(?<=[0-9\s])([mcdk]?m|in|ft|yd)([23])(?![\w.])"), r"\1^\2"),
    (re.compile(r"\\cbrt(?![a-zA-Z])|(?<![^\W_])cbrt(?=\s*[({0-9])|(?<![\w)}\]])³√"), "∛"),
    (re.compile(r"(?<![\w)}\]])⁴√"), "∜"),
    (re.compile(r"(?<![\w)}\]])²√"), "√"),
    (re.compile(r"∛"), r"\\sqrt[3]"),
    (re.compile(r"∜"), r"\\sqrt[4]"),
    (re.compile(r"\b(?:US|AU|CA|NZ)\s?\\?\$"), r"\\$"),
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
    return INTERVAL.sub(_interval, text)


def _interval(found: re.Match) -> str:
    opened, closed = found["opened"], found["closed"]
    if opened + closed == "[]":
        return found[0]
    opened = "(" if opened == "]" else "["
    closed = ")" if closed == "[" else "]"
    return f"{found['before']}{opened}{found['ends']}{found['right'] or ''}{closed}"
