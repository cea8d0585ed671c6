"""/v1/completions, /v1/tokenize and /v1/detokenize: texts as they are, without turns."""

import codecs
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from nomoat.config import JsonObject, UserError
from nomoat.engine.request import Request, Token
from nomoat.serve import structured
from nomoat.serve.asked import Asked, Choice, Delta, Event, Usage
from nomoat.serve.fields import CompletionBody, DetokenizeBody, TokenizeBody
from nomoat.serve.openai import (
    DONE,
    Head,
    choice_of,
    continued,
    conversation,
    includes_usage,
    rendered,
    usage_of,
)
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served
from nomoat.serve.timings import timings_of
from nomoat.serve.tokens import LOWEST, bytes_of, text_of
from nomoat.tokenizer.bpe import Tokenizer

DEFAULT_TOKENS = 16  # OpenAI's


def completion(body: CompletionBody, served: Served) -> Asked:
    """What a completion asks; Refusal for what this model can't do."""
    prompts = prompts_of(body.prompt, served.tokenizer)
    longest = DEFAULT_TOKENS if body.max_tokens is None else max(body.max_tokens, 1)
    held = structured.compiled(structured.source_of(body), served.engine)
    how = (longest, body.logprobs, None, "prompt", held)
    request = [continued(body, served, ids, *how) for ids in prompts]
    if body.stop_token_ids:
        ends = frozenset(body.stop_token_ids)
        request = [replace(each, stop_ids=each.stop_ids | ends) for each in request]
    if body.logprobs == 0:
        request = [as_drawn(each) for each in request]
    if body.echo and body.logprobs is not None:
        request = [replace(each, prompt_logprobs=body.logprobs) for each in request]
    marks = served.tokenizer.layout
    return Asked(
        tuple(request), bool(body.stream), spelled=frozenset(marks.specials.values()) - marks.turn_ends
    )


def as_drawn(request: Request) -> Request:
    """The request, asking for no more than what each token was drawn with, where that is what is told of it
    anyway: a third of the work."""
    sampling = replace(request.sampling, top_logprobs=None)
    same = sampling.plain and sampling.temperature == 1 and request.grammar is None
    return replace(request, sampling=sampling) if same else request


def prompts_of(prompt: object, tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of a text, of several, or those that were sent."""
    if isinstance(prompt, str):
        prompt = [prompt]
    if isinstance(prompt[0], int):
        return [list(prompt)]
    if isinstance(prompt[0], list):
        return [list(ids) for ids in prompt]
    return [encoded(text, tokenizer) for text in prompt]


def encoded(text: str, tokenizer: Tokenizer) -> list[int]:
    try:
        ids = tokenizer.encode(text)
    except UserError as error:
        raise Refusal(str(error), "prompt") from None
    return tokenizer.begun(ids)


class Completion:
    """The form of /v1/completions; one is for one answer."""

    def __init__(self, body: CompletionBody, served: Served, asked: Asked):
        self.head = Head(served, f"cmpl-{secrets.token_hex(12)}")
        self.asked, self.body, self.with_usage = asked, body, includes_usage(body)
        self.silent = body.max_tokens == 0  # one token is computed, and not told
        self.listed: dict[int, Listed] = {}

    def chunk(self, choices: list[JsonObject], usage: JsonObject | None = None) -> Event:
        fields = self.head.fields("text_completion") | {"choices": choices}
        return Event(fields | {"usage": usage} if self.with_usage else fields)

    def begin(self, n_choices: int) -> Iterator[Event]:
        return iter(())

    def delta(self, delta: Delta) -> Iterator[Event]:
        said = self.fields(delta.choice, [delta])
        if delta.finish or said["text"] or said["logprobs"] or said.get("token_ids"):
            yield self.chunk([choice_of(delta.choice, finish=delta.finish, **said)])

    def end(self, usage: Usage) -> Iterator[Event]:
        if self.with_usage:
            yield self.chunk([], self.usage(usage))
        yield DONE

    def error(self, error: JsonObject) -> Iterator[Event]:
        yield Event(error)
        yield DONE

    def whole(self, choices: Sequence[Choice], usage: Usage) -> JsonObject:
        listed = []
        for index, choice in enumerate(choices):
            said = self.fields(index, choice.deltas)
            listed.append(choice_of(index, finish=choice.finish, **said))
        costs = {"usage": self.usage(usage), "timings": timings_of(usage)}
        return self.head.fields("text_completion") | {"choices": listed} | costs

    def ids(self, index: int, deltas: Sequence[Delta], begins: bool) -> JsonObject:
        """The ids that were generated, those that ended the choice included, if they were asked for; with the
        first ones those of the prompt."""
        if not self.body.return_token_ids:
            return {}
        prompt = self.asked.requests[index // self.asked.requests[0].n].prompt
        listed = [] if self.silent else [token.id for delta in deltas for token in delta.tokens]
        return {"token_ids": listed} | ({"prompt_token_ids": [*prompt]} if begins else {})

    def usage(self, usage: Usage) -> JsonObject:
        return usage_of(replace(usage, completion_tokens=0) if self.silent else usage)

    def fields(self, index: int, deltas: Sequence[Delta]) -> JsonObject:
        """What a choice says with some deltas."""
        begins = index not in self.listed
        text, logprobs = self.said(index, deltas)
        return {"text": text, "logprobs": logprobs, **self.ids(index, deltas, begins)}

    def said(self, index: int, deltas: Sequence[Delta]) -> tuple[str, JsonObject | None]:
        """The text of some deltas, the prompt before the first; their log-probabilities, if asked for."""
        tokens = [token for delta in deltas for token in delta.tokens]
        text, rows = "", []
        if not self.silent:
            text = "".join(delta.text for delta in deltas)
            rows = rows_of(tokens)
        begins = index not in self.listed
        if begins:
            self.listed[index] = Listed(self.head.served.tokenizer)
        listed = self.listed[index]
        if begins and self.body.echo:
            ids, echo = self.echo(index)
            listed.begin(ids, echo)
            text = echo + text
            rows = prompt_rows(ids, tokens) + rows
        if self.body.logprobs is None:
            return text, None
        return text, listed.read(rows)

    def echo(self, index: int) -> tuple[Sequence[int], str]:
        """The prompt of a choice: its ids, and its text as it was sent, or as the ids read."""
        number, prompt = index // self.asked.requests[0].n, self.body.prompt
        ids = self.asked.requests[number].prompt
        if isinstance(prompt, str):
            return ids, prompt
        if isinstance(prompt[number], str):
            return ids, prompt[number]
        return ids, self.head.served.tokenizer.decode(ids, specials=True)


class Row(NamedTuple):
    """A token as it is listed; nothing stands before the first of a prompt, that says how probable it is."""

    id: int
    logp: float | None
    top: tuple[tuple[int, float], ...] | None


def rows_of(tokens: Sequence[Token]) -> list[Row]:
    """Of a token that was told with nothing beside it, as it was drawn (`as_drawn`)."""
    logps = [token.logp if token.plain_logp is None else token.plain_logp for token in tokens]
    return [Row(token.id, logp, token.top or ()) for token, logp in zip(tokens, logps)]


def prompt_rows(ids: Sequence[int], tokens: Sequence[Token]) -> list[Row]:
    """The prompt's ids with the scores that stand beside the first token, if there are any."""
    scores = next((token.prompt for token in tokens if token.prompt is not None), ())
    return [Row(ids[0], None, None), *(Row(id, *score) for id, score in zip(ids[1:], scores))]


class Listed:
    """The log-probabilities of one choice as this route lists them; `length` is that of the text so far."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.length = tokenizer, 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def begin(self, ids: Sequence[int], echo: str) -> None:
        """A prompt's text stands first; what is set before its ids takes no room."""
        self.length = len(echo) - len(
            b"".join(bytes_of(id, self.tokenizer) for id in ids).decode("utf-8", "replace")
        )

    def read(self, rows: Sequence[Row]) -> JsonObject | None:
        """Four lists of one length."""
        if not rows:
            return None
        return {
            "tokens": [text_of(row.id, self.tokenizer) for row in rows],
            "token_logprobs": [None if row.logp is None else max(row.logp, LOWEST) for row in rows],
            "top_logprobs": [None if row.top is None else self.tops(row) for row in rows],
            "text_offset": [self.offset(row.id) for row in rows],
        }

    def tops(self, row: Row) -> JsonObject:
        """The most probable texts and the one that stands here; of ids that read alike, the best."""
        found: dict[str, float] = {}
        for id, logp in (*row.top, (row.id, row.logp)):
            name = text_of(id, self.tokenizer)
            found[name] = max(logp, found.get(name, LOWEST))
        return found

    def offset(self, id: int) -> int:
        """Where a token begins in the text, or the character that it goes on with."""
        begin = self.length
        self.length += len(self.decoder.decode(bytes_of(id, self.tokenizer)))
        return max(begin, 0)


def tokenize(body: TokenizeBody, served: Served) -> JsonObject:
    """The ids of a text as a completion would read it, or of a conversation."""
    given = [text for text in (body.prompt, body.content, body.messages) if text is not None]
    if len(given) != 1:
        raise Refusal("expected one of `prompt`, `content` and `messages`", "prompt")
    if body.messages is not None:
        ids = rendered(conversation(body.messages, served), served, None).ids
    else:
        ids = encoded(given[0], served.tokenizer)
        if body.add_special_tokens is False:
            ids = served.tokenizer.encode(given[0])
    return {"tokens": ids, "count": len(ids), "max_model_len": served.context}


def detokenize(body: DetokenizeBody, served: Served) -> JsonObject:
    """The text of ids, control tokens spelled, under the names of two servers' fields."""
    most = served.engine.model.spec.vocab_size
    if wrong := [id for id in body.tokens if id >= most]:
        raise Refusal(f"id {wrong[0]}; expected 0 to {most - 1}", "tokens")
    text = served.tokenizer.decode(body.tokens, specials=True)
    return {"prompt": text, "content": text}
