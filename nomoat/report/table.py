"""A table for the terminal, for Markdown and for the page."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NARROWEST = 10  # of a column that is wrapped
GAP = 2  # blanks between columns

Widths = Mapping[int, int]  # column -> characters


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
        """Aligned columns, no line longer than `width`, as far as no figure is: a last column of words wraps;
        where that is not enough, columns go below each other in bands that repeat the first one.
        """
        width = max(width, 2 * NARROWEST + GAP)
        bands = ["\n".join(self._band(widths)) for widths in self._bands(width)]
        title = textwrap.wrap(self.title, width)
        return "\n".join([*title, "\n\n".join(bands), *textwrap.wrap(self.note, width)])

    def _bands(self, width: int) -> list[Widths]:
        """The columns of each band, and their widths."""
        natural = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        last = natural.pop()
        room = width - sum(natural) - GAP * len(natural)
        least = NARROWEST if self._wraps(-1) else last
        if room >= min(last, least):
            natural.append(min(last, room))
            return [dict(enumerate(natural))]
        natural.append(last)
        return self._in_bands(natural, width)

    def _in_bands(self, natural: Sequence[int], width: int) -> list[Widths]:
        """As many columns in each band as find room beside the first."""
        first = min(natural[0], max(NARROWEST, width // 3, self._longest_name(natural, width)))
        bands = [{0: first}]
        left = room = width - first
        for column, wanted in enumerate(natural[1:], 1):
            if self._wraps(column):
                wanted = min(wanted, room - GAP)
            if left < wanted + GAP and left < room:
                bands.append({0: first})
                left = room
            bands[-1][column] = wanted
            left -= wanted + GAP
        return bands

    def _longest_name(self, natural: Sequence[int], width: int) -> int:
        """What keeps the words of the first column whole, up to half of the width, beside any figure."""
        words = [word for row in self.rows for word in row[0].split()]
        figures = [n for column, n in enumerate(natural) if not self._wraps(column)]
        longest = max(map(len, words), default=0)
        return min(longest, (width - GAP) // 2, width - GAP - max(figures, default=0))

    def _wraps(self, column: int) -> bool:
        return column == 0 or self.header[column] in self.words

    def _band(self, widths: Widths) -> list[str]:
        """The lines of one band."""
        dashes = ["-" * w for w in widths.values()]
        rule = (" " * GAP).join(dashes)
        lines = [*self._lines(self.header, widths), rule]
        for row in self.rows:
            if self.total and row is self.rows[-1]:
                lines.append(rule)
            lines += self._lines(row, widths)
        return lines

    def _lines(self, row: Sequence[str], widths: Widths) -> list[str]:
        """A row as lines, more than one where its words wrap."""
        cells = [
            textwrap.wrap(row[column], width) if self._wraps(column) else [row[column]]
            for column, width in widths.items()
        ]
        lines = []
        for i in range(max(1, *map(len, cells))):
            parts = []
            for cell, (column, width) in zip(cells, widths.items()):
                piece = cell[i] if i < len(cell) else ""
                parts.append(piece.ljust(width) if self._wraps(column) else piece.rjust(width))
            lines.append((" " * GAP).join(parts).rstrip())
        return lines
