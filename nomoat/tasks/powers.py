"""The last number of a sentence: which numeral it is, beside exponents, indices, roots and thousands."""

import re
from collections.abc import Sequence

from nomoat.tasks import latex
from nomoat.tasks.latex import Token

BOLD = re.compile(r"(?<![\w)\]}])\*\*|\*\*(?![\w(-])")  # marks of bold type, and not 2**3
ROOTS = ("√", "sqrt")
LEFT_TO_DO = ("^", "_", "π", "√")  # behind a number
# Numbers in a row with one blank between them, which aren't the end of another.
IN_A_ROW = re.compile(r"(?<![0-9.,:/^_])[0-9]+(?: [0-9]+)+")
THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?: [0-9]{3})+")


def in_thousands(text: str) -> bool:
    """Whether the last row of numbers in the text is one number, as 12 345; 2024 345 and 100 200 300 aren't.
    """
    rows = IN_A_ROW.findall(text)
    if not rows:
        return False
    return THOUSANDS.fullmatch(rows[-1]) is not None and not latex.BLANK_LIST.fullmatch(rows[-1])


def last_numeral(found: Sequence[Token]) -> int | None:
    """The place of the last number that is no exponent or index of letters or of a unit."""
    marks = raised(found)
    for i in range(len(found) - 1, -1, -1):
        if found[i].kind != "number" or is_index(found, i):
            continue
        if marks[i] is None or counts(found, marks[i]):
            return i
    return None


def is_index(found: Sequence[Token], i: int) -> bool:
    """Whether a numeral stands right behind one or two letters, as in H2O, m2; Rs5 is a price, 2x5 a product.
    """
    name = found[i - 1] if i and not found[i].space else Token("end", "")
    if name.kind not in ("name", "word") or len(name.text) > 2 or name.text in ("Rs", "to", "ne", "in", "is"):
        return False
    return not (name.text == "x" and i > 1 and found[i - 2].kind == "number")


def raised(found: Sequence[Token]) -> list[int | None]:
    """For each token the place of the ^ or _ behind which it stands, if it stands behind one."""
    marks: list[int | None] = [None] * len(found)
    at = 0
    while at < len(found):
        mark, at = at, at + 1
        if found[mark].text not in ("^", "_"):
            continue
        end = end_of(found, at)
        marks[at:end] = [mark] * (end - at)
        at = end
    return marks


def end_of(found: Sequence[Token], at: int) -> int:
    """Where an exponent that begins at a place ends."""
    if found[at : at + 1] and found[at].text == "{":
        depth = 0
        for end in range(at, len(found)):
            depth += {"{": 1, "}": -1}.get(found[end].text, 0)
            if not depth:
                return end + 1
        return len(found)
    while at < len(found) and found[at].text in ("-", "+"):
        at += 1
    return min(at + 1, len(found))


def counts(found: Sequence[Token], mark: int) -> bool:
    """Whether the exponent behind a ^ or _ belongs to a number: there is one, whatever it is."""
    base = found[mark - 1] if mark else None
    return base is None or base.kind == "number" or base.text in (")", "]", "}", "|", "π")


def undone(found: Sequence[Token], last: int) -> bool:
    """Whether the numeral is part of a power, but of ten, or of a root, which is left to do."""
    texts = [token.text for token in found]
    mark = raised(found)[last]
    if mark is not None:
        return of_ten(texts, last)[0] == last
    return left_to_do(texts, last, last + 1)


def left_to_do(texts: Sequence[str], start: int, end: int) -> bool:
    """Whether the number that stands there, in brackets or not, is under a root or before a power, root or π.
    """
    before = [*texts[:start]]
    behind = [*texts[end:], ""]
    while before and before[-1] + behind[0] in ("{}", "()"):
        before.pop()
        behind.pop(0)
    if before[-1:] == ["]"]:  # behind the index of a root
        before = before[:-3]
    return behind[0] in LEFT_TO_DO or (bool(before) and before[-1] in ROOTS)


def of_ten(texts: Sequence[str], last: int) -> tuple[int, int]:
    """Where 3 * 10^8 or 10^8 starts and ends, if the numeral is its exponent; else the numeral alone."""
    at = last - 1
    while at > 0 and texts[at] in ("-", "+", "{"):
        at -= 1
    if at < 1:
        return last, last + 1
    if texts[at - 1 : at + 1] != ["10", "^"]:
        return last, last + 1
    braced = texts[at + 1] == "{"
    if braced and texts[last + 1 : last + 2] != ["}"]:
        return last, last + 1
    end = last + 1 + braced
    sign = texts[at - 2] if at > 1 else ""
    if sign not in ("*", "x", "/"):
        return at - 1, end
    if sign != "/" and at > 2 and texts[at - 3][:1].isdigit():
        return at - 3, end
    return last, last + 1


def is_of_ten(found: Sequence[Token], start: int, last: int) -> bool:
    """Whether what starts there is 10^8, whose exponent is the numeral."""
    return start < last and [token.text for token in found[start : start + 2]] == ["10", "^"]
