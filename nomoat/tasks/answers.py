"""The answer in a reply."""

import re

from nomoat.tasks.base import MAX_ANSWER, MAX_TEXT

SPECIAL = re.compile(r"<\|[a-z]+\|>|</?think>")
CUE = re.compile(r"[=:]|\b(?:answer|antwort)\b(?:\s(?:is|ist|lautet)\b)?", re.IGNORECASE)


def strict_answer(reply: str, form: str = "line") -> str | None:
    """What stands after the one closed thinking block (or the whole reply, if it has none); else None.

    The opening tag may be missing where the prompt already gave it.  One line, unless `form` is "text".
    """
    thinking, closed, answer = reply.removesuffix("<|eos|>").rpartition("</think>")
    if SPECIAL.search(thinking.removeprefix("<think>")) or SPECIAL.search(answer):
        return None
    answer = answer.strip()
    if form == "text":
        return answer if 0 < len(answer) <= MAX_TEXT else None
    return answer if 0 < len(answer) <= MAX_ANSWER and len(answer.splitlines()) == 1 else None


def lenient_answer(reply: str) -> str:
    """The likeliest answer, whatever the form: the end of the last line, after its last cue.  May be ''."""
    lines = [line for line in SPECIAL.sub("\n", reply[-2000:]).splitlines() if line.strip()]
    pieces = [piece for piece in CUE.split(lines[-1]) if piece.strip()] if lines else []
    return pieces[-1].strip(" \t*`'\"") if pieces else ""
