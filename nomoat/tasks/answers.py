"""The answer in a reply."""

import re

from nomoat.tasks import exact, texts
from nomoat.tasks.base import MAX_ANSWER, MAX_TEXT

SPECIAL = re.compile(r"<\|[a-z]+\|>|</?think>")
LAID_OUT = re.compile(r"(?s)\\begin\{(\w+)\}.*?\\end\{\1\}|\\\[.*?\\\]|\$\$.*?\$\$")  # over several lines
TURN = re.compile(r"<\|[a-z]+\|>")
MAX_REPLY = 2**17  # characters
CUE = re.compile(r"[=:]|\b(?:answer|antwort)\b(?:\s(?:is|ist|lautet)\b)?", re.IGNORECASE)


def strict_answer(reply: str, form: str = "line") -> str | None:
    """What stands after the one closed thinking block (or the whole reply, if it has none); else None.

    The opening tag may be missing where the prompt already gave it.  One line, unless `form` is "text"; the
    whole reply with its thinking where `form` is "reply".  What LaTeX lays out over several lines (a matrix,
    \\[…\\]) counts as one.
    """
    if form == "reply":
        whole = reply.removesuffix("<|eos|>").strip()
        return whole if 0 < len(whole) <= MAX_REPLY and not TURN.search(whole) else None
    thinking, closed, answer = reply.removesuffix("<|eos|>").rpartition("</think>")
    if SPECIAL.search(thinking.removeprefix("<think>")) or SPECIAL.search(answer):
        return None
    answer = answer.strip()
    if form == "text":
        return answer if 0 < len(answer) <= MAX_TEXT else None
    if len(answer) <= 2 * MAX_ANSWER:
        answer = in_one_line(answer)
    return answer if 0 < len(answer) <= MAX_ANSWER and len(answer.splitlines()) == 1 else None


def lenient_answer(reply: str) -> str:
    """The likeliest answer, whatever the form: the last box, else the end of the last line, after its last
    cue.  May be ''."""
    tail = in_one_line(SPECIAL.sub("\n", reply[-2000:]))
    lines = [line for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    box = texts.boxed(lines[-1])
    if box and not exact.DENIAL.search(lines[-1]):
        return box
    pieces = [piece for piece in CUE.split(lines[-1]) if piece.strip()]
    return pieces[-1].strip(" \t*`'\"") if pieces else ""


def in_one_line(text: str) -> str:
    """The text with what LaTeX lays out over several lines in one."""
    return LAID_OUT.sub(lambda part: " ".join(part[0].split()), text)
