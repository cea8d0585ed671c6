"""Code among words: the parts of a text that are Python, and what is cured that nobody sees."""

import ast
import html
import itertools
import re
from collections.abc import Iterator

from nomoat.tasks.solutions import parsed

STRANGE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u3000": "    ", "\u200b": "", "\ufeff": ""})
MARKS = re.compile(
    r"(?i)</?(?:pre|code|answer|solution|python)\b[^<>\n]*>|\[/?(?:code|python)\]"
    r"|\\(?:begin|end)\{(?:verbatim|lstlisting|minted)\}(?:\[[^\]\n]*\])?(?:\{\w*\})?"
    r"|(?m:^[ \t]*(?:`+|~{3,})[ \t]*\w*[ \t]*$)"
)
WORD = re.compile(r"\s*(?:python3?|py)[ \t]*:?[ \t]*\n", re.IGNORECASE)
PROMPT = re.compile(r"(?m)^[ \t]*(?:>>>|\.\.\.)(?: |$)")
NUMBERED = re.compile(r"[ \t]*(\d+)(?:[.:|)]| \|)?(?: |$)(.*)")
MAGIC = re.compile(r"(?m)^[!%].*\n?")
GOES_ON = re.compile(r"(?:else|elif|except|finally)\b|[)\]}]")
STRICT = re.compile(r"(?:async )?def \w+\s*\(|class \w+\s*[(:]|@\w")
MAX_JOINED = 60  # parts that one function may be in, by empty margins in its texts


def readable(code: str) -> str:
    """The code as it is; or cured of no-break blanks, a first word `python`, prompts, numbers of lines and a
    notebook's commands, if only that makes it a program.
    """
    if program(code):
        return code
    for cure in (strange, worded, prompted, numbered, magic):
        code = cured if (cured := cure(code)) and (program(cured) or cure is strange) else code
    return code


def program(code: str) -> bool:
    """Whether this is Python, and no single word."""
    tree = parsed(code)
    return tree is not None and not any(map(a_word, tree.body[:1]))


def a_word(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Name)


def strange(code: str) -> str:
    cured = code.translate(STRANGE)
    return cured if not parsed(code) and parsed(cured) else code


def worded(code: str) -> str:
    return WORD.sub("", code, count=1) if WORD.match(code) else code


def prompted(code: str) -> str | None:
    """What was typed in a session."""
    lines = [line for line in code.split("\n") if PROMPT.match(line)]
    return "\n".join(PROMPT.sub("", line, count=1) for line in lines) + "\n" if lines else None


def numbered(code: str) -> str | None:
    """The lines without their numbers, if they count from the first on."""
    lines = [NUMBERED.fullmatch(line) for line in code.rstrip("\n").split("\n")]
    numbers = [int(line[1]) for line in lines if line]
    if not all(lines) or numbers != [*range(numbers[0], numbers[0] + len(lines))]:
        return None
    return "\n".join(line[2] for line in lines) + "\n"


def magic(code: str) -> str:
    return MAGIC.sub("", code)


def code(text: str) -> str:
    """The Python in a text: all of it, or its parts that are statements, or Markdown's indented blocks; '' if
    a function among them is none.
    """
    cured = readable(text)
    if program(cured):
        return cured
    text = MARKS.sub("\n", text.translate(STRANGE))
    for way in (text, html.unescape(text), indented(text)):
        found = list(statements(way))
        if any(STRICT.match(part) for part in found) and parsed("".join(found)):
            return "".join(found)
    return cured


def indented(text: str) -> str:
    """The indented lines of a text, less what the first of each block is indented by."""
    lines, margin, begins = [], 0, True
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(" \t"))
        if not line.strip():
            lines.append("")
            continue
        if depth == 0:
            begins = True
            continue
        margin = depth if begins else margin
        begins = False
        lines.append(line[min(margin, depth) :])
    return "\n".join(lines) + "\n"


def statements(text: str) -> Iterator[str]:
    """The parts that are Python, and no words; a function that isn't, as it is, and nothing behind it."""
    parts, at = list(margins(text)), 0
    while at < len(parts):
        strict = STRICT.match(parts[at])
        most = MAX_JOINED if strict else 1
        joined = itertools.accumulate(parts[at : at + most])
        part = next(filter(parsed, joined), None)
        if part is None and strict:
            yield parts[at]
            return
        if part is not None and (strict or in_code(part)):
            yield part
        at = at + 1 if part is None else at + ends_at(parts[at:], part)


def ends_at(parts: list[str], part: str) -> int:
    """How many of the parts are in one."""
    sizes = itertools.accumulate(map(len, parts))
    return next(n for n, size in enumerate(sizes, 1) if size >= len(part))


def in_code(part: str) -> bool:
    """Whether a part has statements, and none that may be words."""
    body = parsed(part).body
    return bool(body) and not any(map(words, body))


def margins(text: str) -> Iterator[str]:
    """Pieces of the text that begin at its margin, each with what is indented below it."""
    piece = ""
    for line in text.split("\n"):
        if line.strip() and not line.startswith((" ", "\t")) and not GOES_ON.match(line):
            if piece:
                yield piece
            piece = ""
        piece += f"{line}\n"
    yield piece


def words(node: ast.stmt) -> bool:
    """Whether a statement may be words as well: `Done`, `x, y`, `"so"`, `Note: this`."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await)


def body(text: str) -> str:
    """All of it, or its first lines up to words at the margin: the body of a function."""
    cured = readable(text)
    if parsed(cured):
        return cured
    first = next(margins(f"    {cured.strip()}"), "")
    return first if first.strip() and parsed(first) else cured
