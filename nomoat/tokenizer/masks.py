"""Masks: no content of a message can become, begin or end a control token of the template that it is put in.

A foreign template writes its control tokens as text between the contents.  So that the only ones to be found
in what it wrote are its own, every character of a content that a control token begins or ends with is
replaced by a private one that occurs nowhere, and a content that lies within a control token is replaced
whole.  Blanks stay, since templates trim.  Places in the masked text are places in the text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from nomoat.config import DataError
from nomoat.tokenizer.jinja import BEGIN, END

_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
_FIRST, _LAST = 0xF0000, 0x10FFFD


class Masks:
    """The private characters for one conversation."""

    def __init__(self, control: Mapping[str, int], texts: Iterable[str]) -> None:
        """`texts`: all contents, and the template; DataError where they leave no private character."""
        ends, within, self._control = _characters(tuple(control))
        taken = {c for text in texts for c in _PRIVATE.findall(text)}
        free = (c for c in map(chr, range(_FIRST, _LAST + 1)) if c not in taken)
        private = dict(zip(within, free))
        if len(private) < len(within):
            raise DataError(
                "the conversation uses up the private characters of Unicode; expected some that are free; "
                "remove them"
            )
        self._ends = str.maketrans({c: private[c] for c in ends})
        self._within = str.maketrans(private)
        self._back = str.maketrans({mask: c for c, mask in private.items()})

    def put(self, content: str) -> str:
        """The content as a template may have it."""
        inner = content.strip()
        return content.translate(self._within if inner and inner in self._control else self._ends)

    def put_all(self, value: Any) -> Any:
        """A value of JSON with all its texts as a template may have them; keys that are plain words stay, as
        templates look for them.
        """
        if isinstance(value, str):
            return self.put(value)
        if isinstance(value, Mapping):
            return {key if key.isidentifier() else self.put(key): self.put_all(v) for key, v in value.items()}
        return [self.put_all(inner) for inner in value] if isinstance(value, list | tuple) else value

    def take(self, text: str) -> str:
        """The text with its own characters again."""
        return text.translate(self._back)


def texts_in(value: Any) -> Iterator[str]:
    """All texts within a value of JSON, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from texts_in(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from texts_in(inner)


def found(text: str, control: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """(start, end, id) of each control token in a masked text: the leftmost first, of two the longer."""
    for match in _pattern(tuple(control)).finditer(text):
        yield match.start(), match.end(), control[match[0]]


@lru_cache(16)
def _characters(control: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...], str]:
    """Those at the ends of a control token, all of them, and the tokens as one text."""
    marks = BEGIN + END
    ends = marks + "".join(token[0] + token[-1] for token in control)
    within = sorted(_signs(marks + "".join(control)))
    return _signs(ends), tuple(within), "\0".join(control)


def _signs(text: str) -> frozenset[str]:
    return frozenset("".join(text.split()))


@lru_cache(16)
def _pattern(control: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
