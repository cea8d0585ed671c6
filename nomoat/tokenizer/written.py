"""What a template wrote of a conversation: its text, its control tokens, and what the assistant wrote."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nomoat.tokenizer import jinja

Marks = Sequence[tuple[int, int, int]]  # (start, end, id) of control tokens in a text
Spans = Sequence[tuple[int, int]]  # (start, end) in a text


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as a template writes it."""

    text: str
    marks: Marks  # the template's own control tokens
    chosen: Spans = ()  # what the assistant wrote

    def respelled(self, spelled: Mapping[int, str]) -> "Respelled":
        """The same with other spellings of the control tokens."""
        parts, starts, shifts = [], [0], [0]
        place = length = 0
        for start, end, id in self.marks:
            parts += [self.text[place:start], spelled[id]]
            length += start - place
            starts.append(length)
            shifts.append(start - length)
            length += len(spelled[id])
            starts.append(length)
            shifts.append(end - length)
            place = end
        return Respelled("".join([*parts, self.text[place:]]), starts, shifts)


@dataclass(frozen=True, slots=True)
class Respelled:
    """A text with its control tokens spelled otherwise."""

    text: str
    starts: list[int]  # of its control tokens, and of what stands behind each
    shifts: list[int]  # from a place behind such a start back to the place in the original

    def place(self, place: int) -> int:
        """The place in the original."""
        return place + self.shifts[bisect_right(self.starts, place) - 1]


def unmarked(marked: str) -> str:
    """Without the marks of `generation` blocks."""
    return marked.replace(jinja.BEGIN, "").replace(jinja.END, "")


def cut(span: tuple[int, int], ends: Spans) -> tuple[int, int]:
    """A span up to the last of some ends in it; whole where it holds none."""
    start, end = span
    return start, max((stop for at, stop in ends if start <= at < end), default=end)


def blocks(marked: str) -> Spans:
    """What the `generation` blocks hold: where it stands in the text without their marks.

    Blocks that touch are one: a template may mark what a reply says, its calls and its end apart.
    """
    spans, place = [], 0
    for block in marked.split(jinja.BEGIN):
        inside, end, behind = block.partition(jinja.END)
        if end:
            start = spans.pop()[0] if spans and spans[-1][1] == place else place
            spans.append((start, place + len(inside)))
        place += len(inside) + len(behind)
    return spans
