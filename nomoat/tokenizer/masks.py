"""Masks: no content of a message can become, begin or end a control token of the template that it is put in.

A foreign template writes its control tokens as text between the contents.  So that the only ones to be found in
what it wrote are its own, every character of a content that a control token begins or ends with is replaced by a
private one that occurs nowhere, and a content that lies within a control token is replaced whole.  Blanks stay,
since templates trim.  Character stands for character, so places in the masked text are places in the text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from nomoat.config import DataError
from nomoat.tokenizer.jinja import BEGIN, END

_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")


class Masks:
    """The private characters for one conversation."""

    def __init__(self, control: Sequence[str], texts: Iterable[str]) -> None:
        """`texts`: all contents, and the template; DataError where they leave no private character."""
        self._control = "\0".join(control)
        ends = {c for token in control for c in (token[0], token[-1]) if not c.isspace()} | {BEGIN, END}
        within = {c for token in control for c in token if not c.isspace()}
        taken = {c for text in texts for c in _PRIVATE.findall(text)} | {BEGIN, END}
        free = (chr(code) for code in range(0xF0000, 0x10FFFE) if not taken or chr(code) not in taken)
        try:
            private = {c: next(free) for c in sorted(ends | within)}
        except StopIteration:
            raise DataError(
                "the conversation uses up the private characters of Unicode; expected some that are free; "
                "remove them"
            ) from None
        self._ends = {ord(c): private[c] for c in ends}
        self._within = {ord(c): private[c] for c in private}
        self._back = {ord(mask): c for c, mask in private.items()}

    def put(self, content: str) -> str:
        """The content as a template may have it."""
        inner = content.strip()
        return content.translate(self._within if inner and inner in self._control else self._ends)

    def take(self, text: str) -> str:
        """The text with its own characters again."""
        return text.translate(self._back)


def found(text: str, control: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """(start, end, id) of each control token in a masked text: the leftmost first, of two the longer."""
    for match in _pattern(tuple(control)).finditer(text):
        yield match.start(), match.end(), control[match[0]]


@lru_cache(16)
def _pattern(control: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
