"""Calls of tools, read out of a reply while it is written."""

import json
import re
import secrets
from dataclasses import dataclass

from nomoat.serve.tools import CLOSE, OPEN, Tools

HEAD = re.compile(r'\s*\{"name": ("(?:[^"\\]|\\.)*"), "arguments": (?=\{)')  # as a grammar holds it


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a model made; `arguments` is JSON, or its beginning where the reply was cut."""

    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a call: all of it, or more of its arguments."""

    id: str
    name: str
    text: str
    first: bool = True
    last: bool = True


def gather(calls: list[Call], piece: Piece) -> None:
    """Add a piece to the calls of a reply."""
    before = "" if piece.first else calls.pop().arguments
    calls.append(Call(piece.name, before + piece.text, piece.id))


class Object:
    """Where the text of a JSON object ends that comes in parts."""

    def __init__(self) -> None:
        self.depth = 0
        self.quoted = self.escaped = False

    def end(self, text: str) -> int | None:
        """The place behind its last brace in a further part; None: it goes on."""
        for place, char in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped = char == "\\"
                self.quoted = char != '"'
            elif char == '"':
                self.quoted = True
            else:
                self.depth += (char in "{[") - (char in "]}")
                if not self.depth:
                    return place + 1
        return None


class Reader:
    """Reads the calls out of an answer as it comes; what is none of a declared tool stays text.

    Where a grammar holds them (`held`), arguments are told while they are written: nothing else can become
    of them.  Other calls are told when they are whole.
    """

    def __init__(self, tools: Tools, *, held: bool = False):
        self.tools, self.held = tools, held
        self.unread = ""
        self.n_calls = 0  # that are whole
        self.call: Piece | None = None  # what was told last of a call that goes on
        self.closing = False  # whether only the mark is missing behind a call that was told
        self.arguments = Object()

    def read(self, text: str, *, last: bool) -> tuple[str, tuple[Piece, ...]]:
        """The text, and what is certain of calls now; blanks around calls are left out."""
        self.unread += text
        said, pieces = "", []
        while (part := self.next(last)) is not None:
            if isinstance(part, Piece):
                pieces.append(part)
            else:
                said += part
        if self.call or self.closing or self.unread.startswith(OPEN):
            return said, tuple(pieces)
        told = len(self.unread) - (0 if last else _n_held(self.unread))
        text, self.unread = self.unread[:told], self.unread[told:]
        return said + self.outside(text), tuple(pieces)

    def next(self, last: bool) -> Piece | str | None:
        """A piece, or text, up to the next mark; None where more has to come."""
        if self.call:
            return self.more()
        if self.closing:
            return self.close(last)
        before, opening, behind = self.unread.partition(OPEN)
        if not opening:
            return None
        if before:
            self.unread = OPEN + behind
            return self.outside(before.rstrip())
        head = HEAD.match(behind) if self.held else None
        if head and (name := json.loads(head[1])) in self.tools.functions:
            self.unread, self.arguments = behind[head.end() :], Object()
            self.call = Piece(_new_id(), name, "")
            return self.more()
        inner, closing, rest = behind.partition(CLOSE)
        if not closing and not last:
            return None
        self.unread = rest
        return self.whole(inner) or OPEN + inner + closing

    def more(self) -> Piece | None:
        """More of the arguments of the call that goes on."""
        if not self.unread:
            return None
        end = self.arguments.end(self.unread)
        text, self.unread = self.unread[:end], self.unread[len(self.unread[:end]) :]
        piece = Piece(self.call.id, self.call.name, text, not self.call.text, end is not None)
        self.call = None if piece.last else piece
        self.closing = piece.last
        self.n_calls += piece.last
        return piece

    def close(self, last: bool) -> str | None:
        """Passes over what stands between arguments and the end of a call."""
        _, closing, rest = self.unread.partition(CLOSE)
        if not closing and not last:
            return None
        self.unread, self.closing = rest, False
        return ""

    def outside(self, text: str) -> str:
        """Text beside calls, but not what parts them."""
        return "" if self.n_calls and not text.strip() else text

    def whole(self, text: str) -> Piece | None:
        """The call that a text between marks is, if it is one."""
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(table, dict):
            return None
        name, arguments = table.get("name"), table.get("arguments", {})
        if not isinstance(name, str) or name not in self.tools.functions or not isinstance(arguments, dict):
            return None
        try:
            written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        except ValueError:  # a number that JSON has not
            return None
        self.n_calls += 1
        return Piece(_new_id(), name, written)


def _new_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _n_held(text: str) -> int:
    """How many characters at the end may belong to a call: blanks, and the beginning of its mark."""
    for n in range(min(len(OPEN) - 1, len(text)), 0, -1):
        if OPEN.startswith(text[-n:]):
            return n + len(text[:-n]) - len(text[:-n].rstrip())
    return len(text) - len(text.rstrip())
