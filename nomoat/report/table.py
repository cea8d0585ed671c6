"""A table for the terminal, for Markdown and for the page."""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of texts under a header.  The first column and those named in `words` are words, the rest figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: tuple[str, ...] = ()
    total: bool = False  # the last row sums the others

    def text(self, width: int = 100) -> str:
        """Aligned columns; a last column of words wraps at `width`."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        if self._left(-1):
            widths[-1] = max(10, min(widths[-1], width - sum(widths[:-1]) - 2 * (len(widths) - 1)))
        rule = "  ".join("-" * w for w in widths)
        head, *body = [self._lines(row, widths) for row in (self.header, *self.rows)]
        if self.total:
            body.insert(-1, [rule])
        title = [self.title] if self.title else []
        note = textwrap.wrap(self.note, width)
        return "\n".join([*title, *head, rule, *itertools.chain(*body), *note])

    def _left(self, column: int) -> bool:
        return column == 0 or self.header[column] in self.words

    def _lines(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        """A row as lines, more than one where its last words wrap."""
        last = textwrap.wrap(row[-1], widths[-1]) or [""] if self._left(-1) else [row[-1]]
        above = row[:-1]
        lines = []
        for piece in last:
            cells = enumerate(zip((*above, piece), widths))
            lines.append(
                "  ".join(c.ljust(w) if self._left(i) else c.rjust(w) for i, (c, w) in cells).rstrip()
            )
            above = [""] * len(above)
        return lines
