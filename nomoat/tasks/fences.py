"""The program in a reply, from the fenced blocks of its Markdown.

Blocks are those of CommonMark (a fence closes with as many of its signs, or more; list items and quotations
around it don't count), and those of what chat models write beside it: a fence that opens behind words, words
behind the closing one, blocks within blocks, no-break blanks.  Nothing is run; what parses decides.
"""

import ast
import builtins
import re
from collections.abc import Iterator

OPENING = re.compile(
    r"(?P<lead>(?:[ \t]*(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])))*+[ \t]*+)(?P<words>[^`~]*[ \t:.])??"
    r"(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$"
)
CLOSING = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})(?P<behind>.*)$")
LANGUAGE = re.compile(r"\{?\.?(?:py\w*|ipython3?|md|markdown|te?xt|console|bash|sh)\b", re.IGNORECASE)
SPAN = re.compile(r"(`+)(?:py(?:thon)?3? )?([^`]+)\1")  # the whole reply as code within a line
STRANGE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u200b": "", "\ufeff": ""})
BOUND = re.compile(r"(?m)^(?:(?:async )?(?:def|class)\s+(\w+)\b|(\w+)\s*(?::[^=\n]+)?=)")
MAX_DEPTH = 3  # blocks within blocks


def code_in(answer: str, name: str) -> str:
    """The code of the answer: of its blocks the last that defines the name, with those that it needs; else
    the last; else all of it.
    """
    answer = answer.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff\u200b")
    found = [block for block in blocks(answer) if block.strip()]
    if not found:
        span = SPAN.fullmatch(answer.strip())
        return readable(span[2] if span else answer)
    whole = [i for i, block in enumerate(found) if name in defined(block)]
    if not whole:
        return found[-1]
    return "".join(found[i] for i in sorted(needed(found, whole[-1])))


def needed(found: list[str], chosen: int) -> set[int]:
    """The places of the block and of those that define what it names and nothing else does."""
    places, missing = {chosen}, free(found[chosen])
    while missing:
        name = missing.pop()
        if any(name in defined(found[i]) for i in places):
            continue
        others = [i for i, block in enumerate(found) if name in defined(block)]
        if others:
            places.add(others[-1])
            missing |= free(found[others[-1]])
    return places


def blocks(text: str, depth: int = 0) -> Iterator[str]:
    """The code in each fence; a block that is no program and has fences itself gives those."""
    lines, at = text.split("\n"), 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        at += 1
        if not opening:
            continue
        if opening["words"] and not closes_later(lines[at:], opening["fence"]):
            continue
        body, at = block(lines, at, opening)
        code = readable("".join(f"{line}\n" for line in body))
        inner = [] if depth == MAX_DEPTH or parsed(code) else [*blocks(code, depth + 1)]
        yield from inner or [code]


def closes_later(lines: list[str], fence: str) -> bool:
    return any(line.lstrip(" \t>").startswith(fence) for line in lines)


def block(lines: list[str], at: int, opening: re.Match) -> tuple[list[str], int]:
    """(the lines of the block that opens before a place, where what is behind it begins)."""
    fence = opening["fence"]
    quotes = opening["lead"].count(">")
    body: list[str] = []
    within = 0  # blocks that are open in this one
    indent = len(opening["lead"].rpartition(">")[2].expandtabs(4))
    quoted = quotes > 0 and at < len(lines) and lines[at].lstrip().startswith(">")
    while at < len(lines):
        line = lines[at]
        if quoted:
            if not line.lstrip().startswith(">"):
                return unindented(body, indent), at  # the quotation ends
            line = re.sub(rf"^(?:[ \t]*> ?){{1,{quotes}}}", "", line)
        closing = CLOSING.match(line)
        if closing and closing["fence"].startswith(fence) and shallow(line, indent):
            within += 1 if LANGUAGE.match(closing["behind"].strip()) else -1  # another opens, or closes
            if within < 0:
                return unindented(body, indent), at + 1
        body.append(line)
        at += 1
    return unindented(body, indent), at


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


def readable(code: str) -> str:
    """The code; without no-break blanks, if only that makes it a program."""
    cured = code.translate(STRANGE)
    return cured if cured != code and not parsed(code) and parsed(cured) else code


def parsed(code: str) -> ast.Module | None:
    """The tree of a program, or of the body of a function."""
    for text in (code, f"if 1:\n{code}"):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def defined(code: str) -> set[str]:
    """The names that a program binds outside its functions; of what doesn't parse, those of its lines."""
    tree = parsed(code)
    if tree is None:
        return {a or b for a, b in BOUND.findall(code)}
    names, waiting = set(), [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)
    return names


def free(code: str) -> set[str]:
    """The names that a program reads and binds nowhere."""
    tree = parsed(code)
    if tree is None:
        return set()
    read, bound = set(), defined(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return {name for name in read - bound if not hasattr(builtins, name)}
