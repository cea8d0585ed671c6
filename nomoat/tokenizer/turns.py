"""Turns that a foreign template writes: which of its text is control tokens, and what the assistant wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from nomoat.config import DataError
from nomoat.tokenizer import jinja
from nomoat.tokenizer.masks import Masks, found

Dicts = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as a template writes it."""

    text: str
    marks: tuple[tuple[int, int, int], ...]  # (start, end, id) of the template's own control tokens
    chosen: tuple[tuple[int, int], ...] = ()  # (start, end) of what the assistant wrote


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template, with what it is rendered with beside the messages."""

    source: str
    control: Mapping[str, int]  # what each control token is spelled, and its id
    words: Mapping[str, str]  # bos_token, eos_token, …
    ends: frozenset[int]  # what ends a reply
    think: tuple[str, str] | None  # how a chain is marked

    def write(self, messages: Dicts, *, generate: bool, think: bool | None) -> Written:
        """A conversation of dicts with role, content and, where there is a chain, reasoning_content."""
        masks = Masks([*self.control], [self.source, *(v for m in messages for v in m.values())])
        turns = [self._masked(message, masks) for message in messages]
        marked = self._render(turns, generate, think)
        text = marked.replace(jinja.BEGIN, "").replace(jinja.END, "")
        marks = tuple(found(text, self.control))
        chosen = () if generate else self._chosen(turns, marked, text)
        cut = [(start, self._end(start, end, marks)) for start, end in chosen]
        return Written(masks.take(text), marks, tuple(cut))

    def _masked(self, message: Mapping[str, str], masks: Masks) -> dict[str, str]:
        """A message for the template, its chain where the template looks for it."""
        role, content = message["role"], masks.put(message["content"])
        if "reasoning_content" not in message:
            return {"role": role, "content": content}
        chain = masks.put(message["reasoning_content"])
        if {"reasoning_content", "thinking"} & jinja.attributes(self.source):
            return {"role": role, "content": content, "reasoning_content": chain, "thinking": chain}
        begin, end = self.think or ("", "")
        return {"role": role, "content": f"{begin}\n{chain}\n{end}\n\n{content}"}

    def _render(self, turns: Dicts, generate: bool, think: bool | None = None) -> str:
        variables: dict[str, Any] = {
            **self.words,
            "messages": [*turns],
            "add_generation_prompt": generate,
            "tools": None,
            "documents": None,
        }
        if think is not None:
            variables["enable_thinking"] = think
        return jinja.render(self.source, variables, sum(len(v) for turn in turns for v in turn.values()))

    def _chosen(self, turns: Dicts, marked: str, text: str) -> list[tuple[int, int]]:
        """What the `generation` blocks hold; without them, by the difference of prefixes."""
        if jinja.BEGIN not in marked:
            return [span for n, turn in enumerate(turns) if (span := self._span(turns, n, turn, text))]
        spans, place = [], 0
        for block in marked.split(jinja.BEGIN):
            inside, _, behind = block.partition(jinja.END)
            if jinja.END in block:
                spans.append((place, place + len(inside)))
            place += len(inside) + len(behind)
        return spans

    def _span(self, turns: Dicts, n: int, turn: Mapping[str, str], text: str) -> tuple[int, int] | None:
        """Where an assistant's turn stands, if the conversation up to it begins the whole one."""
        if turn["role"] != "assistant":
            return None
        last = n == len(turns) - 1
        try:
            before, asked = self._render(turns[:n], False), self._render(turns[:n], True)
            upto = text if last else self._render(turns[: n + 1], False)
        except DataError:
            before = asked = upto = ""
        start = len(commonprefix([asked, text]))
        if n and text.startswith(before) and text.startswith(upto) and start >= len(before) and upto:
            return start, len(upto)
        place = text.rfind(turn["content"].strip())
        return (place, len(text)) if last and place >= 0 else None

    def _end(self, start: int, end: int, marks: Sequence[tuple[int, int, int]]) -> int:
        """The end of a span without what the template puts behind the reply's last token."""
        ends = [stop for at, stop, id in marks if start <= at < end and id in self.ends]
        return ends[-1] if ends else end
