"""A table for the terminal, for Markdown and for the page."""

import textwrap
from dataclasses import dataclass

from nomoat.run.ledger import money as money


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
        left = [i == 0 or name in self.words for i, name in enumerate(self.header)]
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        if left[-1]:
            widths[-1] = max(10, min(widths[-1], width - sum(widths[:-1]) - 2 * (len(widths) - 1)))
        rule = "  ".join("-" * w for w in widths)
        lines = [self.title] if self.title else []
        for n, row in enumerate((self.header, *self.rows)):
            if self.total and n == len(self.rows):
                lines.append(rule)
            last = textwrap.wrap(row[-1], widths[-1]) or [""] if left[-1] else [row[-1]]
            for k, piece in enumerate(last):
                cells = (*(row[:-1] if k == 0 else [""] * (len(row) - 1)), piece)
                pad = [cell.ljust(w) if l else cell.rjust(w) for cell, w, l in zip(cells, widths, left)]
                lines.append("  ".join(pad).rstrip())
            if n == 0:
                lines.append(rule)
        note = textwrap.wrap(self.note, width)
        return "\n".join([*lines, *note])
