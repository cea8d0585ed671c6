"""Turns that a foreign template writes: which of its text is control tokens, and what the assistant wrote."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from nomoat.config import DataError, JsonObject
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
        masked = [masks.put_in(message) for message in messages]
        turns = [self._turn(message) for message in masked]
        marked = self._render(turns, generate, think)
        text = marked.replace(jinja.BEGIN, "").replace(jinja.END, "")
        if generate or not turns:
            return self._written(masks, text, [])
        if self._drops_chain(turns, masked[-1], marked):
            return self._written(masks, *self._kept(turns, masked[-1], text))
        blocks = _blocks(marked) or [*self._spans(turns, masked, text)]
        blocks = [self._ended(span, text) for span in blocks]
        self._check(blocks, masked, masks, text)
        return self._written(masks, text, blocks)

    def prompt(
        self, turns: Sequence[JsonObject], tools: Sequence[JsonObject] | None, think: bool | None
    ) -> Written:
        """Turns with calls among them, up to where the assistant is to write, and what tools there are."""
        texts = texts_in([*turns, *(tools or ())])
        masks = Masks(self.control, [self.source, *texts])
        masked = [{**masks.put_all(turn), "role": turn["role"]} for turn in turns]
        told = None if tools is None else masks.put_all(tools)
        text = self._render(masked, True, think, told)
        return self._written(masks, text, [])

    def _written(self, masks: Masks, text: str, chosen: Spans) -> Written:
        """A masked text, and what the assistant wrote: up to the last token that ends a reply."""
        marks = [*found(text, self.control)]
        ends = [(at, stop) for at, stop, id in marks if id in self.ends]
        return Written(masks.take(text), marks, [_cut(span, ends) for span in chosen])

    def _ended(self, span: tuple[int, int], text: str) -> tuple[int, int]:
        """A span with the token that ends the reply, where the template writes that right behind it."""
        start, end = span
        if self._last_end(text[start:end]):
            return span
        at, stop, id = next(found(text[end:], self.control), (0, 0, None))
        return (start, end + stop) if at == 0 and id in self.ends else span

    def _last_end(self, text: str) -> int:
        """Behind the last token of a text that ends a reply; 0 where there is none."""
        marks = found(text, self.control)
        return max((stop for _, stop, id in marks if id in self.ends), default=0)

    def _check(self, blocks: Spans, masked: Dicts, masks: Masks, text: str) -> None:
        """DataError unless what is to be learnt is what the assistant's messages say, and ends."""
        if not self.ends:  # it is not known yet what ends a reply
            return
        replies = [turn for turn in masked if turn["role"] == "assistant"]
        left = iter(replies)
        for span in blocks:
            wrote = text[slice(*_cut(span, ()))]
            end = self._last_end(wrote)
            if not end or not any(self._says(wrote[:end], reply) for reply in left):
                said = masks.take(replies[-1]["content"])
                raise DataError(
                    f"the chat template marks {masks.take(wrote)[:80]!r} as what the assistant wrote, which "
                    f"is none of its replies with the token that ends it ({said[:80]!r}); expected each "
                    "whole reply and its end; mend the template, or bring one without `generation` blocks"
                )

    def _says(self, wrote: str, reply: Mapping[str, str]) -> bool:
        """Whether a text is a reply, its chain kept or dropped; blanks and marks aside."""
        content, chain = reply["content"], reply.get("reasoning_content", "")
        _, closed, answer = content.rpartition("</think>")
        said = {self._bare(content), self._bare(chain + content), self._bare(answer if closed else content)}
        return self._bare(wrote) in said

    def _bare(self, text: str) -> str:
        """Without blanks, marks of thinking and the tokens that end replies."""
        for at, stop, id in reversed([*found(text, self.control)]):
            if id in self.ends:
                text = text[:at] + text[stop:]
        for mark in self.think or ():
            text = text.replace(mark, "")
        return "".join(text.split())

    def _turn(self, message: Mapping[str, str]) -> Mapping[str, str]:
        """A message for the template, its chain where the template looks for it."""
        if "reasoning_content" not in message:
            return message
        chain = message["reasoning_content"]
        if {"reasoning_content", "thinking"} & jinja.words(self.source).looked_up:
            return {**message, "thinking": chain}
        begin, end = self.think or ("", "")
        content = f"{begin}\n{chain}\n{end}\n\n{message['content']}"
        return {"role": message["role"], "content": content}

    def _render(
        self,
        turns: Dicts,
        generate: bool,
        think: bool | None = None,
        tools: Sequence[JsonObject] | None = None,
    ) -> str:
        variables: dict[str, Any] = {
            **self.words,
            "messages": [*turns],
            "add_generation_prompt": generate,
            "tools": tools,
            "documents": None,
        }
        if think is not None:
            variables |= {"enable_thinking": think, "thinking": think}
        return jinja.render(self.source, variables, sum(map(len, texts_in([*turns, *(tools or ())]))))

    def _drops_chain(self, turns: Dicts, last: Mapping[str, str], marked: str) -> bool:
        """Whether the last turn's chain leaves no trace in the text: BEGIN in its place doesn't."""
        if last["role"] != "assistant" or not last.get("reasoning_content"):
            return False
        probe = self._turn({**last, "reasoning_content": jinja.BEGIN})
        return self._render([*turns[:-1], probe], False).count(jinja.BEGIN) == marked.count(jinja.BEGIN)

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

    def _spans(self, turns: Dicts, masked: Dicts, text: str) -> Iterator[tuple[int, int]]:
        """What the assistant wrote, by the difference of prefixes."""
        for n, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            start = self._start(turns[:n], text)
            if n == len(turns) - 1:
                place = text.rfind(turn["content"].strip())
                yield (place if start is None else start), len(text)
            elif start is not None:
                upto = self._render(turns[: n + 1], False)
                marks = found(text[start:], self.control)
                end = next((start + stop for _, stop, id in marks if id in self.ends), None)
                if text.startswith(upto):
                    yield start, len(upto)
                elif end is not None and not masked[n].get("reasoning_content"):
                    yield start, end

    def _start(self, turns: Dicts, text: str) -> int | None:
        """Where the reply to the turns stands, if they begin the text."""
        try:
            before, asked = self._render(turns, False), self._render(turns, True)
        except DataError:  # it wants more turns: no prefix to go by
            return None
        start = len(commonprefix([asked, text]))
        start = min((at for at, stop, _ in found(text, self.control) if at < start < stop), default=start)
        return start if text.startswith(before) and start >= len(before) else None


def texts_in(value: Any) -> Iterator[str]:
    """All texts within a value of JSON, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from texts_in(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from texts_in(inner)


def _cut(span: tuple[int, int], ends: Spans) -> tuple[int, int]:
    start, end = span
    return start, max((stop for at, stop in ends if start <= at < end), default=end)


def _blocks(marked: str) -> Spans:
    """What the `generation` blocks hold: where it stands in the text without their marks."""
    spans, place = [], 0
    for block in marked.split(jinja.BEGIN):
        inside, end, behind = block.partition(jinja.END)
        if end:
            spans.append((place, place + len(inside)))
        place += len(inside) + len(behind)
    return spans
