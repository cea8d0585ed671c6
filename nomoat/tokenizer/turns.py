"""Turns that a foreign template writes: which of its text is control tokens, and what the assistant wrote."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.tokenizer import calls, jinja
from nomoat.tokenizer.masks import Masks, found

Dicts = Sequence[JsonObject]
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
    tools: Dicts | None = None  # what the model is told that it may call

    def write(
        self, messages: Dicts, *, generate: bool, think: bool | None, tools: Dicts | None = None
    ) -> Written:
        """A conversation of dicts with role, content and, where there are any, reasoning_content, tool_calls
        and what a result answers; `tools` is what the model is told that it may call.

        A chain in a last turn of the assistant is kept where the template drops it: it is to be learnt.
        DataError, unless the assistant is to write, for a template that leaves out calls, results or tools.
        """
        masks = Masks(self.control, [self.source, *texts_in([*messages, *(tools or ())])])
        masked = [{**masks.put_all(message), "role": message["role"]} for message in messages]
        told = replace(self, tools=None if tools is None else masks.put_all(tools))
        return told._of_masked(masked, masks, generate, think)

    def _of_masked(self, masked: Dicts, masks: Masks, generate: bool, think: bool | None) -> Written:
        """The same of masked messages, what it tells the model of tools being masked too."""
        turns = [self._turn(message) for message in masked]
        marked = self._render(turns, generate, think)
        text = _unmarked(marked)
        if generate or not turns:
            return self._written(masks, text, [])
        self._check_results(turns, masks, marked)
        self._check_tools(turns, masks, marked)
        if self._drops_chain(turns, masked[-1], marked):
            kept, spans = self._kept(turns, masked, masks, text)
            return self._written(masks, kept, spans)
        spans = _blocks(marked)
        if not spans:
            spans = self._spans(turns, masked, masks, text)
        blocks = [self._ended(span, text) for span in spans]
        self._check(blocks, masked, masks, text)
        return self._written(masks, text, blocks)

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
        left = [(turn, self._said(masked, n, masks)) for n, turn in enumerate(masked) if _replies(turn)]
        for span in blocks:
            wrote = text[slice(*_cut(span, ()))]
            end = self._last_end(wrote)
            says = (k for k, reply in enumerate(left) if end and self._says(wrote[:end], *reply))
            if (at := next(says, None)) is None:
                said = masks.take(left[0][1]) if left else "there is no other"
                raise DataError(
                    f"the chat template marks {masks.take(wrote)[:80]!r} as what the assistant wrote, which "
                    f"is none of its replies with the token that ends it ({said[:80]!r}); expected each "
                    "whole reply and its end; mend the template, or bring one without `generation` blocks"
                )
            left = left[at + 1 :]

    def _said(self, masked: Dicts, n: int, masks: Masks) -> str:
        """What turn n, a reply, says behind its chain."""
        return self._spelled(masked, n, masks) if masked[n].get("tool_calls") else masked[n]["content"]

    def _says(self, wrote: str, reply: JsonObject, said: str) -> bool:
        """Whether a text is a reply that says so, its chain kept or dropped; blanks and marks aside."""
        chain = reply.get("reasoning_content", "")
        _, closed, answer = said.rpartition("</think>")
        readings = said, chain + said, answer if closed else said
        return self._bare(wrote) in map(self._bare, readings)

    def _spelled(self, masked: Dicts, n: int, masks: Masks) -> str:
        """Turn n, a reply with calls, as the template spells it behind those before it, no chains among them:
        from where the assistant is to write to the token that ends the reply.

        DataError where that lacks something of what the reply says.
        """
        plain = [_without(message, "reasoning_content") for message in masked[: n + 1]]
        turns = [self._turn(message) for message in plain]
        asked, text = self._render(turns[:-1], True), _unmarked(self._render(turns, False))
        said = text[self._common(_unmarked(asked), text) :]
        said = said[: self._last_end(said)] if self.ends else said
        if (lacking := calls.untold(plain[n], said, self._bare)) is not None:
            raise self._leaves_out(f"{masks.take(lacking)[:80]!r} of a reply that calls tools")
        return said

    def _check_results(self, turns: Dicts, masks: Masks, marked: str) -> None:
        """DataError where the text lacks what a tool gave: BEGIN behind each leaves no trace."""
        given = [turn["content"] for turn in turns if turn["role"] == "tool"]
        if not given:
            return
        probes = [_ended_by(turn, "content") if turn["role"] == "tool" else turn for turn in turns]
        if self._n_marks(probes) < marked.count(jinja.BEGIN) + len(given):
            said = masks.take(given[0])
            raise self._leaves_out(f"results of tools ({said[:80]!r})")

    def _check_tools(self, turns: Dicts, masks: Masks, marked: str) -> None:
        """The same for the names of tools that the model is told of."""
        if not self.tools:
            return
        probes = [{**tool, "function": _ended_by(tool["function"], "name")} for tool in self.tools]
        probe = replace(self, tools=probes)
        if probe._n_marks(turns) < marked.count(jinja.BEGIN) + len(probes):
            first = self.tools[0]["function"]
            name = masks.take(first["name"])
            raise self._leaves_out(f"tools ({name[:80]!r})")

    def _n_marks(self, turns: Dicts) -> int:
        """How often BEGIN stands in what the template makes of the turns."""
        return self._render(turns, False).count(jinja.BEGIN)

    def _leaves_out(self, what: str) -> DataError:
        return DataError(
            f"the chat template leaves out {what}; expected one that writes tools, calls with their "
            f"arguments beside the content, and results ({calls.KNOWING}): choose such a model, or leave "
            "such conversations out"
        )

    def _bare(self, text: str) -> str:
        """Without blanks, marks of thinking and the tokens that end replies."""
        for at, stop, id in reversed([*found(text, self.control)]):
            if id in self.ends:
                text = text[:at] + text[stop:]
        for mark in self.think or ():
            text = text.replace(mark, "")
        return "".join(text.split())

    def _turn(self, message: JsonObject) -> JsonObject:
        """A message for the template: its chain and its calls where and as the template looks for them."""
        turn = message
        if "reasoning_content" in message:
            chain = message["reasoning_content"]
            if {"reasoning_content", "thinking"} & jinja.words(self.source).looked_up:
                turn = {**message, "thinking": chain}
            else:
                turn = _without(message, "reasoning_content")
                if self.think is not None:
                    begin, end = self.think
                    turn["content"] = f"{begin}\n{chain}\n{end}\n\n{message['content']}"
        if message.get("tool_calls"):
            return calls.form_of(self.source, tuple(sorted(self.words.items()))).put(turn)
        return turn

    def _render(self, turns: Dicts, generate: bool, think: bool | None = None) -> str:
        variables: dict[str, Any] = {
            **self.words,
            "messages": [*turns],
            "add_generation_prompt": generate,
            "tools": self.tools,
            "documents": None,
        }
        if think is not None:
            variables |= {"enable_thinking": think, "thinking": think}
        return jinja.render(self.source, variables, sum(map(len, texts_in([*turns, *(self.tools or ())]))))

    def _drops_chain(self, turns: Dicts, last: JsonObject, marked: str) -> bool:
        """Whether the last turn's chain leaves no trace in the text: BEGIN in its place doesn't."""
        if not _replies(last) or not last.get("reasoning_content"):
            return False
        probe = self._turn({**last, "reasoning_content": jinja.BEGIN})
        return self._n_marks([*turns[:-1], probe]) == marked.count(jinja.BEGIN)

    def _kept(self, turns: Dicts, masked: Dicts, masks: Masks, text: str) -> tuple[str, Spans]:
        """A conversation whose last chain the template drops, as the model writes it: behind the prompt.

        Behind the answer stands what the template puts there.
        """
        begin, end = self.think or ("", "")
        last = masked[-1]
        chain, answer = last["reasoning_content"], last["content"]
        if last.get("tool_calls"):
            answer = self._spelled(masked, len(masked) - 1, masks)
        prompt = self._render(turns[:-1], True, True)
        reply = f"{chain}\n{end}\n\n{answer}"
        if not prompt.rstrip().endswith(begin):
            reply = f"{begin}\n{reply}"
        if answer.strip() and not last.get("tool_calls"):
            reply += text.rpartition(answer.strip())[2]
        whole = prompt + reply
        return whole, [(len(prompt), len(whole))]

    def _spans(self, turns: Dicts, masked: Dicts, masks: Masks, text: str) -> Iterator[tuple[int, int]]:
        """What the assistant wrote, by the difference of prefixes.

        Where the template writes the turns before a reply otherwise once others follow (drops their chains,
        moves the tools) there is none, and the reply is not learnt; nor is one whose own chain was dropped.
        """
        for n, turn in enumerate(turns):
            if not _replies(turn):
                continue
            start = self._start(turns[:n], text)
            if n == len(turns) - 1:
                if start is None:
                    said = self._said(masked, n, masks) if turn.get("tool_calls") else turn["content"]
                    start = text.rfind(said.strip())
                yield start, len(text)
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
        start = self._common(asked, text)
        return start if text.startswith(before) and start >= len(before) else None

    def _common(self, asked: str, text: str) -> int:
        """How far a text begins as a prompt does, in whole control tokens."""
        start = len(commonprefix([asked, text]))
        return min((at for at, stop, _ in found(text, self.control) if at < start < stop), default=start)


def _replies(turn: JsonObject) -> bool:
    return turn["role"] == "assistant"


def _unmarked(marked: str) -> str:
    """Without the marks of `generation` blocks."""
    return marked.replace(jinja.BEGIN, "").replace(jinja.END, "")


def _without(message: JsonObject, name: str) -> JsonObject:
    return {key: value for key, value in message.items() if key != name}


def _ended_by(holder: JsonObject, name: str) -> JsonObject:
    """The same with BEGIN behind one of its texts, as a probe."""
    return {**holder, name: holder[name] + jinja.BEGIN}


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
