"""Products of letters alone, xy, x*y, y·x: formulas in any order where they have to be, else texts in theirs.

xy may be a word or what a text is turned into.  So another order counts only where the expected answer has a
sign of formulas, or the question asks for a formula and names each letter by itself; the same order written
as a product, x*y for xy, counts always.
"""

import re
from collections.abc import Collection, Sequence

from nomoat.tasks import latex
from nomoat.tasks.latex import Token
from nomoat.tasks.texts import SHORT

MAX_LETTERS = 6
SIGNED = re.compile(r"[$\\*·×⋅∙^_]|^\s*[-−–]")
NAMED = re.compile(r"^(\$?)\s*[a-zA-Z]\s*=\s*")  # A = xy
TIMES = ("*", "(", ")", "{", "}")
ORDER = "the same letters in another order, no formula by its signs or the question"


def compared(answer: str, expected: str, asked: Collection[str] = ()) -> tuple[bool, str] | None:
    """(whether they are one product, by which rule); None where nothing says that they are products."""
    if ("=" in answer) != ("=" in expected):
        answer = NAMED.sub(r"\1", answer)
        expected = NAMED.sub(r"\1", expected)
    a = letters_of(answer)
    b = letters_of(expected)
    if not a or not b:
        return None
    in_question = are_asked("".join(b).strip("-"), asked)
    if sorted(a) != sorted(b):
        return (False, "another product of letters") if in_question else None
    if SIGNED.search(expected) or in_question:
        return True, "the same product"
    if a == b and SIGNED.search(answer):
        return True, "the same product"
    return (False, ORDER) if a != b else None


def are_asked(letters: str, asked: Collection[str]) -> bool:
    """Whether the letters are those that a question asks for in a formula, and neither a word nor points."""
    word = letters.isupper() or letters.lower() in (*SHORT, "yes")
    return not word and set(letters) <= set(asked)


def letters_of(text: str) -> list[str]:
    """The sign and the letters of a product; none where it is anything else."""
    if len(text) > 60:
        return []
    found = latex.tokens(text)
    sign = [token.text for token in found[:1] if token.text == "-"]
    names = [token for token in found[len(sign) :] if token.text not in TIMES]
    if not names or any(token.kind != "name" or not token.text.isalpha() for token in names):
        return []
    together = "".join(token.text for token in names)
    if len(together) > MAX_LETTERS or words_among(names, together):
        return []
    return sign + list(together)


def words_among(names: Sequence[Token], together: str) -> bool:
    """Whether these are words, or one letter: New York, abcd, x."""
    runs = len(names) == 1 and len(together) > 3
    return len(together) < 2 or runs or any(len(token.text) > 1 for token in names) and len(names) > 1
