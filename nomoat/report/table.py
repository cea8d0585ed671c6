"""A table for the terminal, for Markdown and for the page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of texts under a header; the first column and those in `words` are words, the rest figures."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: Sequence[str] = ()
    total: bool = False  # the last row sums the others

    def text(self, width: int = 100) -> str:
        """Aligned columns; a last column of words wraps at `width`."""
        widths = self._widths(width)
        rule = "  ".join("-" * w for w in widths)
        lines = [self.title] if self.title else []
        lines += [*self._lines(self.header, widths), rule]
        for number, row in enumerate(self.rows, 1):
            if self.total and number == len(self.rows):
                lines.append(rule)
            lines += self._lines(row, widths)
        return "\n".join([*lines, *textwrap.wrap(self.note, width)])

    def _left(self, column: int) -> bool:
        return column == 0 or self.header[column] in self.words

    def _widths(self, width: int) -> list[int]:
        """What each column needs; of `width`, a last column of words gets what the others leave."""
        *others, last = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        if self._left(-1):
            last = max(10, min(last, width - sum(others) - 2 * len(others)))
        return [*others, last]

    def _lines(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        """A row as lines, more than one where its last words wrap."""
        *others, last = row
        pieces = textwrap.wrap(last, widths[-1]) if self._left(-1) else [last]
        lines = []
        for piece in pieces or [""]:
            cells = []
            for i, cell in enumerate((*others, piece)):
                aligned = cell.ljust if self._left(i) else cell.rjust
                cells.append(aligned(widths[i]))
            lines.append("  ".join(cells).rstrip())
            others = [""] * len(others)
        return lines
