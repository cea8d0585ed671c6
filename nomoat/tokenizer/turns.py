"""Turns that a foreign template writes: which of its text is control tokens, and what the assistant wrote."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from nomoat.config import DataError
from nomoat.tokenizer import jinja
from nomoat.tokenizer.masks import Masks, found

Dicts = Sequence[Mapping[str, str]]
Marks = Sequence[tuple[int, int, int]]  # (start, end, id) of control tokens in a text
Spans = Sequence[tuple[int, int]]  # (start, end) in a text


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as a template writes it."""

    text: str
    marks: Marks  # the template's own control tokens
    chosen: Spans = ()  # what the assistant wrote

    def respelled(self, spelled: Mapping[int, str]) -> "Respelled":
        """The same with other spellings of the control tokens."""
        parts, starts, shifts = [], [0], [0]
        place = length = 0
        for start, end, id in self.marks:
            parts += [self.text[place:start], spelled[id]]
            length += start - place
            starts.append(length)
            shifts.append(start - length)
            length += len(spelled[id])
            starts.append(length)
            shifts.append(end - length)
            place = end
        return Respelled("".join([*parts, self.text[place:]]), starts, shifts)


@dataclass(frozen=True, slots=True)
class Respelled:
    """A text with its control tokens spelled otherwise."""

    text: str
    starts: list[int]  # of its control tokens, and of what stands behind each
    shifts: list[int]  # from a place behind such a start back to the place in the original

    def place(self, place: int) -> int:
        """The place in the original."""
        return place + self.shifts[bisect_right(self.starts, place) - 1]


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template, with what it is rendered with beside the messages."""

    source: str
    control: Mapping[str, int]  # what each control token is spelled, and its id
    words: Mapping[str, str]  # bos_token, eos_token, …
    ends: frozenset[int]  # what ends a reply
    think: tuple[str, str] | None  # how a chain is marked

    def write(self, messages: Dicts, *, generate: bool, think: bool | None) -> Written:
        """A conversation of dicts with role, content and, where there is a chain, reasoning_content.

        A chain in a last turn of the assistant is kept where the template drops it: it is to be learnt.
        """
        texts = [text for message in messages for text in message.values()]
        masks = Masks(self.control, [self.source, *texts])
        turns = [self._masked(message, masks) for message in messages]
        marked = self._render(turns, generate, think)
        text, chosen = marked.replace(jinja.BEGIN, "").replace(jinja.END, ""), []
        if not generate and messages:
            last = {name: masks.put(text) for name, text in messages[-1].items()}
            if last.get("reasoning_content", "") in text:
                chosen = self._chosen(turns, marked, text)
            else:
                text, chosen = self._kept(turns, last, text)
        marks = [*found(text, self.control)]
        return Written(masks.take(text), marks, [self._cut(span, marks) for span in chosen])

    def _masked(self, message: Mapping[str, str], masks: Masks) -> dict[str, str]:
        """A message for the template, its chain where the template looks for it."""
        role, content = message["role"], masks.put(message["content"])
        if "reasoning_content" not in message:
            return {"role": role, "content": content}
        chain = masks.put(message["reasoning_content"])
        if {"reasoning_content", "thinking"} & jinja.attributes(self.source):
            return {"role": role, "content": content, "reasoning_content": chain, "thinking": chain}
        begin, end = self.think or ("", "")
        content = f"{begin}\n{chain}\n{end}\n\n{content}"
        return {"role": role, "content": content}

    def _render(self, turns: Dicts, generate: bool, think: bool | None = None) -> str:
        variables: dict[str, Any] = {
            **self.words,
            "messages": [*turns],
            "add_generation_prompt": generate,
            "tools": None,
            "documents": None,
        }
        if think is not None:
            variables |= {"enable_thinking": think, "thinking": think}
        return jinja.render(self.source, variables, sum(len(v) for turn in turns for v in turn.values()))

    def _kept(self, turns: Dicts, last: Mapping[str, str], text: str) -> tuple[str, Spans]:
        """A conversation whose last chain the template drops, as the model writes it: behind the prompt.

        Behind the answer stands what the template puts there.
        """
        begin, end = self.think or ("", "")
        chain, answer = last["reasoning_content"], last["content"]
        prompt = self._render(turns[:-1], True, True)
        reply = f"{chain}\n{end}\n\n{answer}"
        if not prompt.rstrip().endswith(begin):
            reply = f"{begin}\n{reply}"
        if answer.strip():
            reply += text.rpartition(answer.strip())[2]
        whole = prompt + reply
        return whole, [(len(prompt), len(whole))]

    def _chosen(self, turns: Dicts, marked: str, text: str) -> Spans:
        """What the `generation` blocks hold; without them, by the difference of prefixes."""
        if jinja.BEGIN not in marked:
            places = [n for n, turn in enumerate(turns) if turn["role"] == "assistant"]
            return [span for n in places if (span := self._span(turns, n, text))]
        spans, place = [], 0
        for block in marked.split(jinja.BEGIN):
            inside, end, behind = block.partition(jinja.END)
            if end:
                spans.append((place, place + len(inside)))
            place += len(inside) + len(behind)
        return spans

    def _span(self, turns: Dicts, n: int, text: str) -> tuple[int, int] | None:
        """Where turn `n` stands, if the conversation up to it begins the whole one."""
        last = n == len(turns) - 1
        try:
            before = self._render(turns[:n], False)
            asked = self._render(turns[:n], True)
            upto = text if last else self._render(turns[: n + 1], False)
        except DataError:  # it wants more turns: no prefix to go by
            before = asked = upto = "\0"
        start = len(commonprefix([asked, text]))
        begins = text.startswith(before) and text.startswith(upto)
        if begins and len(before) <= start < len(upto):
            return start, len(upto)
        place = text.rfind(turns[n]["content"].strip())
        if last and place >= 0:
            return place, len(text)
        return None

    def _cut(self, span: tuple[int, int], marks: Marks) -> tuple[int, int]:
        """A span without what the template puts behind the reply's last token."""
        start, end = span
        ends = [stop for at, stop, id in marks if start <= at < end and id in self.ends]
        return start, ends[-1] if ends else end
