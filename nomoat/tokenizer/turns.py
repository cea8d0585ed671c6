"""Turns that a foreign template writes: which of its text is control tokens, and what the assistant wrote."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.tokenizer import calls, jinja
from nomoat.tokenizer.masks import Masks, found, texts_in
from nomoat.tokenizer.written import Spans, Written, blocks, cut, unmarked

Dicts = Sequence[JsonObject]
THINKING = {"enable_thinking": True, "thinking": True}  # as templates call it


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template, with what it is rendered with beside the messages."""

    source: str
    control: Mapping[str, int]  # what each control token is spelled, and its id
    words: Mapping[str, Any]  # bos_token, eos_token, …
    ends: tuple[int, ...]  # what ends a reply, the usual one first
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
        text = unmarked(marked)
        if generate or not turns:
            return self._written(masks, text, [])
        self._check_results(turns, masks, marked)
        self._check_tools(turns, masks, marked)
        if self._drops_chain(turns, masked[-1], marked):
            return self._with_chain(turns, masked, masks, text)
        spans = blocks(marked)
        if self._drops_system(turns, text, marked):
            text, spans = self._behind_prompt(turns), ()
        spans = spans or [*self._spans(turns, masked, masks, text)]
        text, spans = self._closed(text, spans)
        spans = [self._ended(span, text) for span in spans]
        self._check(spans, masked, masks, text)
        return self._written(masks, text, spans)

    def _with_chain(self, turns: Dicts, masked: Dicts, masks: Masks, text: str) -> Written:
        """The same where the template drops the last chain: as it writes that for a model that is to think,
        or else as the model does.
        """
        thinking = replace(self, words={**self.words, **THINKING})
        if self != thinking:
            marked = thinking._render(turns, False)
            if not thinking._drops_chain(turns, masked[-1], marked):
                return thinking._of_masked(masked, masks, False, None)
        return self._written(masks, *self._closed(*self._kept(turns, masked, masks, text)))

    def _written(self, masks: Masks, text: str, chosen: Spans) -> Written:
        """A masked text, and what the assistant wrote: up to the last token that ends a reply."""
        marks = [*found(text, self.control)]
        ends = [(at, stop) for at, stop, id in marks if id in self.ends]
        return Written(masks.take(text), marks, [cut(span, ends) for span in chosen])

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

    def _closed(self, text: str, spans: Spans) -> tuple[str, Spans]:
        """The same with the usual end of a reply behind them, where the template leaves the last one open."""
        start, stop = spans[-1] if spans else (0, 0)
        if not self.ends or stop < len(text) or self._last_end(text[start:]):
            return text, spans
        whole = text + next((spelled for spelled, id in self.control.items() if id == self.ends[0]), "")
        return whole, [*spans[:-1], (start, len(whole))]

    def _check(self, spans: Spans, masked: Dicts, masks: Masks, text: str) -> None:
        """DataError unless what is to be learnt is what the assistant's messages say, and ends."""
        if not self.ends:  # it is not known yet what ends a reply
            return
        left = {}
        for n, turn in enumerate(masked):
            if _replies(turn):
                left[n] = self._said(masked, n, masks)
        for span in spans:
            wrote = text[slice(*span)]
            end = self._last_end(wrote)
            at = self._which(wrote[: end or None], masked, left)
            if at is None or not end:
                raise self._mismarks(masks, wrote, [*left.values()], says=at is not None)
            left = {n: said for n, said in left.items() if n > at}

    def _which(self, wrote: str, masked: Dicts, left: Mapping[int, str]) -> int | None:
        """The first of the replies that are left that a text is."""
        return next((n for n, said in left.items() if self._says(wrote, masked, n, said)), None)

    def _mismarks(self, masks: Masks, wrote: str, left: Sequence[str], *, says: bool) -> DataError:
        """What is wrong with what the assistant wrote: it `says` a reply that doesn't end, or none of those
        that are left.
        """
        wrote = masks.take(wrote)[:80]
        if says:
            ends = ", ".join(spelled for spelled, id in self.control.items() if id in self.ends)
            return DataError(
                f"the chat template puts nothing that ends a reply ({ends}) behind {wrote!r}; expected a "
                "token that does; add the id of what stands there to `eos_token_id` in "
                "generation_config.json, or mend the template"
            )
        said = masks.take(left[0])[:80] if left else "there is no other"
        return DataError(
            f"the chat template marks {wrote!r} as what the assistant wrote, which is none of its replies "
            f"with the token that ends it ({said!r}); expected each whole reply and its end; mend the "
            "template, or bring one without `generation` blocks"
        )

    def _said(self, masked: Dicts, n: int, masks: Masks) -> str:
        """What turn n, a reply, says behind its chain; DataError where one with calls isn't spelled whole."""
        if not masked[n].get("tool_calls"):
            return masked[n]["content"]
        said = self._spelled(masked, n)
        if (lacking := calls.untold(masked[n], said, self._bare)) is not None:
            raise self._leaves_out(f"{masks.take(lacking)[:80]!r} of a reply that calls tools")
        return said

    def _says(self, wrote: str, masked: Dicts, n: int, said: str) -> bool:
        """Whether a text is reply n, which says so, its chain kept or dropped; blanks and marks aside.

        It may also be as the template spells it behind the prompt: in a channel, or to somebody.
        """
        chain = masked[n].get("reasoning_content", "")
        _, closed, answer = said.rpartition("</think>")
        wrote = self._bare(wrote)
        if wrote in map(self._bare, (said, chain + said, answer if closed else said)):
            return True
        spelled = self._spelled(masked, n)
        told = calls.untold(masked[n], spelled, self._bare) is None and self._opens(masked[: n + 1])
        return told and wrote in map(self._bare, (spelled, chain + spelled))

    def _opens(self, masked: Dicts) -> bool:
        """Whether the template opens a turn to be written in, and the last one, a reply, begins with that."""
        turns = [self._turn(message) for message in masked]
        asked = self._plain(turns[:-1], True)
        return asked != self._plain(turns[:-1], False) and self._plain(turns, False).startswith(asked)

    def _spelled(self, masked: Dicts, n: int) -> str:
        """Turn n, a reply, as the template spells it behind those before it, no chains among them: from where
        the assistant is to write to the token that ends the reply.
        """
        plain = [_without(message, "reasoning_content") for message in masked[: n + 1]]
        said = self._last([self._turn(message) for message in plain])
        return said[: self._last_end(said) or None]

    def _last(self, turns: Dicts) -> str:
        """What the template writes of the last turn, a reply, behind its prompt."""
        asked, text = self._plain(turns[:-1], True), self._plain(turns, False)
        return text[self._common(asked, text) :]

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
            variables |= dict.fromkeys(THINKING, think)
        return jinja.render(self.source, variables, sum(map(len, texts_in([*turns, *(self.tools or ())]))))

    def _plain(self, turns: Dicts, generate: bool) -> str:
        """The same without the marks of `generation` blocks."""
        return unmarked(self._render(turns, generate))

    def _drops_chain(self, turns: Dicts, last: JsonObject, marked: str) -> bool:
        """Whether the last turn's chain leaves no trace in the text: BEGIN in its place doesn't."""
        if not _replies(last) or not last.get("reasoning_content"):
            return False
        probe = self._turn({**last, "reasoning_content": jinja.BEGIN})
        return self._n_marks([*turns[:-1], probe]) == marked.count(jinja.BEGIN)

    def _drops_system(self, turns: Dicts, text: str, marked: str) -> bool:
        """Whether the prompt of the last turn, a reply, tells what the system says, and the whole doesn't:
        BEGIN behind that leaves a trace.
        """
        first, last = turns[0], turns[-1]
        if first["role"] != "system" or not _replies(last) or first["content"].strip() in text:
            return False
        probes = [_ended_by(first, "content"), *turns[1:]]
        if self._n_marks(probes) > marked.count(jinja.BEGIN):
            return False
        asked = (self._render(some[:-1], True).count(jinja.BEGIN) for some in (turns, probes))
        return len({*asked}) > 1

    def _behind_prompt(self, turns: Dicts) -> str:
        """A conversation whose system turn the template drops, as the model writes it: behind the prompt."""
        return self._plain(turns[:-1], True) + self._last(turns[1:])

    def _kept(self, turns: Dicts, masked: Dicts, masks: Masks, text: str) -> tuple[str, Spans]:
        """A conversation whose last chain the template drops, as the model writes it: behind the prompt.

        Behind the answer stands what the template puts there; about the chain blanks, unless that puts none
        into an empty one.
        """
        begin, end = self.think or ("", "")
        last = masked[-1]
        chain, answer = last["reasoning_content"], last["content"]
        if last.get("tool_calls"):
            answer = self._said(masked, len(masked) - 1, masks)
        prompt = unmarked(self._render(turns[:-1], True, True))
        line = "" if begin + end in text else "\n"
        reply = f"{chain}{line}{end}{2 * line}{answer}"
        if not prompt.rstrip().endswith(begin):
            reply = f"{begin}{line}{reply}"
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
                upto = self._plain(turns[: n + 1], False)
                marks = found(text[start:], self.control)
                end = next((start + stop for _, stop, id in marks if id in self.ends), None)
                if text.startswith(upto):
                    yield start, len(upto)
                elif end is not None and not masked[n].get("reasoning_content"):
                    if self._says(text[start:end], masked, n, self._said(masked, n, masks)):
                        yield start, end

    def _start(self, turns: Dicts, text: str) -> int | None:
        """Where the reply to the turns stands, if they begin the text, but for an end of all."""
        try:
            before, asked = self._plain(turns, False), self._plain(turns, True)
        except DataError:  # it wants more turns: no prefix to go by
            return None
        alike = self._common(asked, before)
        start = self._common(asked, text)
        return None if start < alike or self._bare(before[alike:]) else start

    def _common(self, asked: str, text: str) -> int:
        """How far a text begins as a prompt does, in whole control tokens."""
        start = len(commonprefix([asked, text]))
        return min((at for at, stop, _ in found(text, self.control) if at < start < stop), default=start)


def _replies(turn: JsonObject) -> bool:
    return turn["role"] == "assistant"


def _without(message: JsonObject, name: str) -> JsonObject:
    return {key: value for key, value in message.items() if key != name}


def _ended_by(holder: JsonObject, name: str) -> JsonObject:
    """The same with BEGIN behind one of its texts, as a probe."""
    return {**holder, name: holder[name] + jinja.BEGIN}
