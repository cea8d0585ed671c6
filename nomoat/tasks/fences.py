"""The program in a reply, from the fenced blocks of its Markdown.

Blocks are those of CommonMark (a fence closes with as many of its signs, or more; list items and quotations
around it don't count), and those of what chat models write beside it: a fence that opens behind words or
closes behind code, blocks within blocks, no-break blanks.  Which block is the solution, `solutions` says; a
reply without blocks is read by `prose`.  Nothing is run; what parses decides.
"""

import re
from collections.abc import Iterator

from nomoat.tasks import prose, solutions
from nomoat.tasks.solutions import Block, parsed

OPENING = re.compile(
    r"(?P<lead>(?:[ \t]*(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])))*+[ \t]*+)(?P<words>[^`~]*[ \t:.*])??"
    r"(?P<fence>`{3,}|~{3,})[ \t\u00a0]*(?P<info>[^`]*?)(?P<end>`{3,})?$"
)
CLOSING = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})(?P<behind>.*)$")
LANGUAGE = re.compile(r"\{?\.?(?:py\w*|ipython3?|md|markdown|te?xt|console|bash|sh)\b", re.IGNORECASE)
FIRST_WORD = re.compile(r"(?:python3?|py)[ \t]+", re.IGNORECASE)
SPAN = re.compile(r"(`+)(?:py(?:thon)?3? )?([^`\n]+)\1")  # code within a line
MAX_DEPTH = 3  # blocks within blocks


def code_in(answer: str, name: str) -> str:
    """The code of the answer: of its programs the last that makes the name, with the blocks that it needs;
    else its last indented block or its last, which may be the body of the function; else all of it.
    """
    answer = answer.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff\u200b")
    found = [block for block in blocks(answer) if block.code.strip()]
    code = solutions.chosen(found or [Block(prose.code(answer))], name)
    if code is None and not found:
        code = solutions.chosen(list(spans(answer)), name)
    if code is not None:
        return code
    codes = [block.code for block in found]
    bodies = [code for code in codes if code.startswith((" ", "\t"))]
    return (bodies or codes or [prose.body(answer)])[-1]


def spans(answer: str) -> Iterator[Block]:
    """Code within lines."""
    for span in SPAN.finditer(answer):
        yield Block(prose.readable(span[2]))


def blocks(text: str, depth: int = 0) -> Iterator[Block]:
    """The code in each fence; a block that is no program and has fences itself gives those."""
    lines, at = text.split("\n"), 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        at += 1
        if not opening:
            continue
        if opening["end"]:  # on the same line
            body, closed = [], True
        elif opening["words"] and not closes_later(lines[at:], opening["fence"]):
            continue
        else:
            body, at, closed = block(lines, at, opening)
        yield from within(body, opening["info"], closed, depth)


def within(body: list[str], info: str, closed: bool, depth: int) -> Iterator[Block]:
    """The block, or the blocks in it."""
    language, first = beginning(info)
    code = "".join(f"{line}\n" for line in [*first, *body])
    code = prose.readable(code) if closed else prose.code(code)
    inner = [] if depth == MAX_DEPTH or parsed(code) else [*blocks(code, depth + 1)]
    yield from inner or [Block(code, language)]


def beginning(info: str) -> tuple[str, list[str]]:
    """(the language that stands behind a fence, the first line of code if it stands there, too)."""
    language, _, _ = info.strip(" \t\u00a0").partition(" ")
    line = FIRST_WORD.sub("", info.strip(), count=1)
    starts = solutions.BEGINNING.match(line) and " " in line
    return ("python", [line]) if starts else (language.lower(), [])


def closes_later(lines: list[str], fence: str) -> bool:
    return any(line.lstrip(" \t>").startswith(fence) for line in lines)


def block(lines: list[str], at: int, opening: re.Match) -> tuple[list[str], int, bool]:
    """(the lines of the block that opens before a place, where what is behind it begins, whether it closes).
    """
    fence = opening["fence"]
    quotes = opening["lead"].count(">")
    body: list[str] = []
    n_open = 0  # blocks in this one
    indent = len(opening["lead"].rpartition(">")[2].expandtabs(4))
    quoted = quotes > 0 and at < len(lines) and lines[at].lstrip().startswith(">")
    while at < len(lines):
        line = lines[at]
        if quoted:
            if not line.lstrip().startswith(">"):
                return unindented(body, indent), at, True  # the quotation ends
            line = re.sub(rf"^(?:[ \t]*> ?){{1,{quotes}}}", "", line)
        closing = CLOSING.match(line)
        if closing and closing["fence"].startswith(fence) and shallow(line, indent) and not in_text(body):
            n_open += 1 if LANGUAGE.match(closing["behind"].strip()) else -1  # another opens, or closes
            if n_open < 0:
                return unindented(body, indent), at + 1, True
        at += 1
        last = line.rstrip().removesuffix(fence)
        if not closing and last != line.rstrip() and fence[0] * 3 not in last:
            whole = unindented([*body, last], indent)
            if parsed("\n".join(whole)):
                return whole, at, True  # it closes behind code
        body.append(line)
    return unindented(body, indent), at, False


def in_text(body: list[str]) -> bool:
    """Whether a text in three quotes is open behind these lines, and they are a program so far."""
    code = "\n".join(body)
    return any(code.count(quotes) % 2 and parsed(f"{code}\n{quotes}") for quotes in ('"""', "'''"))


def shallow(line: str, indent: int) -> bool:
    """Whether a fence can close there: further in, it is part of a docstring."""
    margin = len(line) - len(line.lstrip(" \t"))
    return margin <= max(3, indent)


def unindented(body: list[str], indent: int) -> list[str]:
    """The lines without the margin that their list item has, as far as the first of them has it."""
    body = [line.expandtabs(4) if line.startswith("\t") and indent else line for line in body]
    first = next((line for line in body if line.strip()), "")
    margin = min(indent, len(first) - len(first.lstrip(" ")))
    return [line[min(margin, len(line) - len(line.lstrip(" "))) :] for line in body]
