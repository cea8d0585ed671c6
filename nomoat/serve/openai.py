"""OpenAI's bodies -> requests; deltas -> OpenAI's JSON.  Nothing here computes or waits."""

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nomoat.config import JsonObject, UserError
from nomoat.engine.grammar import Grammar
from nomoat.engine.request import FAR, Request, Sampling, Thinking
from nomoat.serve import structured, tools
from nomoat.serve.asked import Asked, Choice, Delta, Event, Usage
from nomoat.serve.begun import begun_of, left_of
from nomoat.serve.calls import Call, Piece
from nomoat.serve.fields import ChatBody, ChatMessage, Effort, Sampled
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served
from nomoat.serve.timings import timings_of
from nomoat.serve.tokens import chat_logprobs
from nomoat.serve.tools import Tools
from nomoat.tokenizer import layout
from nomoat.tokenizer.layout import Layout, Message
from nomoat.tokenizer.pieces import Kind

SHARES: dict[Effort, float] = {"minimal": 1 / 16, "low": 1 / 8, "medium": 1 / 4, "high": 1 / 2}
NAMES: dict[Kind, tuple[str, ...]] = {"answer": ("content",), "thinking": ("reasoning_content", "reasoning")}
DONE = Event("[DONE]")


# --- bodies -> what is asked ---


def chat(body: ChatBody, served: Served) -> Asked:
    """What a chat asks; Refusal for what this model can't do."""
    think, budget = thinking_of(body, served)
    marks, offered = served.tokenizer.layout, tools.tools_of(body)
    source = tools.source_of(offered, structured.source_of(body), marks)
    held = structured.compiled(source, served.engine)
    if held and budget is None and think is not False:
        budget = served.context  # the grammar has to know where a chain ends
    prompt = prompt_of(body.messages, offered, served, think)
    begun = begun_of(body, served, prompt, formed=bool(held or offered))
    limit = left_of(bounded(marks, budget, prompt), begun)
    if body.top_logprobs is not None and not body.logprobs:
        raise Refusal("`top_logprobs`: expected `logprobs: true` beside it", "top_logprobs")
    top = None
    if body.logprobs:
        top = body.top_logprobs or 0
    longest = body.max_completion_tokens or body.max_tokens
    ids = [*prompt.ids, *begun]
    request = continued(body, served, ids, longest, top, limit, "messages", held)
    return Asked((request,), bool(body.stream), prompt.thinking, spelled(marks), offered, begun)


def spelled(marks: Layout) -> frozenset[int]:
    """Control ids that are text of a chat's reply: marks of tools and the like."""
    return frozenset(marks.specials.values()) - marks.turn_ends - {marks.think_id, marks.end_think_id}


def bounded(marks: Layout, budget: int | None, prompt: layout.Rendered) -> Thinking | None:
    if budget is None or marks.think_id is None:
        return None
    return Thinking(budget, marks.think_id, marks.end_think_id, prompt.thinking)


def continued(
    body: Sampled,
    served: Served,
    ids: Sequence[int],
    longest: int | None,
    top: int | None,
    thinking: Thinking | None,
    param: str,
    grammar: Grammar | None = None,
) -> Request:
    """A request to the engine; Refusal, with the field, for what it can't continue."""
    tokenizer, engine = served.tokenizer, served.engine
    most = served.longest
    room = most - len(ids)
    if room < 1:
        message = f"the prompt has {len(ids)} tokens; expected fewer than the {most} of this model's context"
        raise Refusal(message, param, code="context_length_exceeded")
    if body.stream_options is not None and not body.stream:
        raise Refusal("`stream_options` without `stream`; expected `stream: true`, too", "stream_options")
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    check_texts_and_ids(stop, body.logit_bias or (), engine.model.spec.vocab_size)
    try:
        request = Request(
            ids,
            min(longest or room, room),
            stop_ids=frozenset() if body.ignore_eos else tokenizer.layout.turn_ends,
            stop=stop,
            sampling=sampling(body, top),
            thinking=thinking,
            n=body.n or 1,
            seed=secrets.randbits(63) if body.seed is None else body.seed,
            grammar=grammar,
        )
        engine.check(request)
    except UserError as error:
        raise Refusal(str(error), param) from None
    return request


def check_texts_and_ids(stop: Sequence[str], biased: Iterable[str], vocab_size: int) -> None:
    """Refusal with the field's name for a stop string that is no text, or an id that no token has."""
    for text in stop:
        if text.encode("utf-8", "replace").decode() != text:
            raise Refusal(f"`stop`: {text!r} has half a surrogate pair; expected text", "stop")
    for id in biased:
        if int(id) >= vocab_size:
            raise Refusal(f"`logit_bias`: id {id}; expected 0 to {vocab_size - 1}", "logit_bias")


def sampling(body: Sampled, top: int | None) -> Sampling:
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(
        temperature=temperature if temperature >= 1 / FAR else 0.0,
        top_k=body.top_k if body.top_k and body.top_k > 0 else None,
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        repetition=body.repetition_penalty or 1.0,
        presence=body.presence_penalty or 0.0,
        frequency=body.frequency_penalty or 0.0,
        bias={int(id): bias for id, bias in (body.logit_bias or {}).items()},
        top_logprobs=top,
    )


def prompt_of(
    messages: Sequence[ChatMessage], offered: Tools | None, served: Served, think: bool | None
) -> layout.Rendered:
    """The prompt of a chat, in which the model is told of tools."""
    marks = served.tokenizer.layout
    calls = offered is not None or any(m.tool_calls or m.role == "tool" for m in messages)
    if calls and tools.known_to(marks):
        turns = [as_dict(message) for message in messages]
        described = (
            [tools.described_by(function) for function in offered.functions.values()] if offered else None
        )
        try:
            return layout.render_dicts(served.tokenizer, turns, tools=described, think=think)
        except UserError as error:
            raise Refusal(str(error), "messages") from None
    turns = conversation(messages, served)
    if offered:
        told = tools.told(offered)
        if turns[0].role == "system":
            turns[0] = Message("system", f"{turns[0].content}\n\n{told}")
        else:
            turns.insert(0, Message("system", told))
    return rendered(turns, served, think)


def as_dict(message: ChatMessage) -> JsonObject:
    """A message as templates take it that know of tools."""
    said = {"role": "system" if message.role == "developer" else message.role, "content": text_of(message)}
    if message.role == "assistant" and (chain := message.reasoning_content or message.reasoning):
        said["reasoning_content"] = chain
    if message.tool_calls:
        called = [{"name": c.function.name, "arguments": tools.arguments_of(c)} for c in message.tool_calls]
        said["tool_calls"] = [{"type": "function", "function": function} for function in called]
    return said


def conversation(messages: Sequence[ChatMessage], served: Served) -> list[Message]:
    """The turns of a layout.  A chain of thought is passed on where the model marks any."""
    marks = served.tokenizer.layout.think_id is not None
    turns = []
    for n, message in enumerate(messages):
        role = "system" if message.role == "developer" else message.role
        if message.content is None and role != "assistant":
            raise Refusal(f"`messages[{n}].content` is null; expected a text", f"messages[{n}].content")
        chain = (message.reasoning_content or message.reasoning) if role == "assistant" and marks else None
        text = text_of(message)
        if role == "tool":
            role, text = "user", f"<tool_response>{text}</tool_response>"
        turns.append(Message(role, text + tools.written(message.tool_calls or ()), chain))
    return turns


def text_of(message: ChatMessage) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text or part.refusal or "" for part in message.content)
    return message.content or ""


def rendered(turns: Sequence[Message], served: Served, think: bool | None) -> layout.Rendered:
    try:
        return layout.render(served.tokenizer, turns, generate=True, think=think)
    except UserError as error:
        raise Refusal(str(error), "messages") from None


def thinking_of(body: ChatBody, served: Served) -> tuple[bool | None, int | None]:
    """Whether to think (None: as the model likes), and with how many tokens at most (None: no bound)."""
    wishes: dict[str, bool | None] = {"enable_thinking": body.enable_thinking}
    if (arguments := body.chat_template_kwargs) is not None:
        wishes["chat_template_kwargs.enable_thinking"] = arguments.enable_thinking
        wishes["chat_template_kwargs.thinking"] = arguments.thinking
    budget = body.thinking_token_budget
    if (switch := body.thinking) is not None:
        wishes["thinking"] = {"enabled": True, "disabled": False, "adaptive": None}[switch.type]
        budget = switch.budget_tokens if budget is None else budget
    if (effort := body.reasoning_effort) is not None:
        wishes["reasoning_effort"] = effort != "none"
        if budget is None and effort in SHARES:
            budget = int(served.context * SHARES[effort])
    said = {name: wish for name, wish in wishes.items() if wish is not None}
    if len(set(said.values())) > 1:
        raise Refusal(f"{' and '.join(f'`{name}`' for name in said)} contradict each other", [*said][-1])
    think = next(iter(said.values()), None)
    if served.tokenizer.layout.think_id is None:
        if think or (budget and think is None):
            name = next(iter(said), "thinking_token_budget")
            raise Refusal(
                f"`{name}`: this model marks no thinking; leave it out", name, code="unsupported_parameter"
            )
        return None, None
    return think, 0 if think is False else budget


# --- deltas -> answers ---


@dataclass(slots=True)
class Head:
    """What all objects of an answer say of themselves."""

    served: Served
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self, kind: str) -> JsonObject:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.fingerprint,
        }


class Chat:
    """The form of /v1/chat/completions; one is for one answer."""

    def __init__(self, body: ChatBody, served: Served, asked: Asked):
        self.head = Head(served, f"chatcmpl-{secrets.token_hex(12)}")
        self.with_logprobs = bool(body.logprobs)
        self.with_usage = includes_usage(body)
        self.with_timings = bool(body.timings)
        self.n_calls: Counter[int] = Counter()  # of each choice
        self.with_ids = bool(body.return_token_ids)
        self.prompt_ids = {"prompt_token_ids": asked.prompt} if self.with_ids else {}

    def chunk(self, choices: list[JsonObject], usage: Any = None, **more: Any) -> Event:
        fields = self.head.fields("chat.completion.chunk") | {"choices": choices}
        return Event((fields | {"usage": usage} if self.with_usage else fields) | more)

    def begin(self, n_choices: int) -> Iterator[Event]:
        for index in range(n_choices):
            opened = choice_of(index, delta={"role": "assistant", "content": ""})
            yield self.chunk([opened], **({} if index else self.prompt_ids))

    def delta(self, delta: Delta) -> Iterator[Event]:
        index = delta.choice
        if said := self.told(delta):
            yield self.chunk([choice_of(index, **said)])
        for piece in delta.calls:
            yield self.called(index, piece)
        if delta.finish:
            yield self.chunk([choice_of(index, delta={}, finish=delta.finish)])

    def told(self, delta: Delta) -> JsonObject | None:
        """Its text, or what there is to say of tokens that have none."""
        logprobs, ids = self.logprobs([delta]), self.ids([delta])
        said = {name: delta.text for name in NAMES[delta.kind] if delta.text}
        if said or logprobs or any(ids.values()):
            return {"delta": said, "logprobs": logprobs, **ids}
        return None

    def called(self, index: int, piece: Piece) -> Event:
        self.n_calls[index] += piece.first
        later: JsonObject = {"function": {"arguments": piece.text}}
        said = call_of(Call(piece.name, piece.text, piece.id)) if piece.first else later
        said = {"tool_calls": [{"index": self.n_calls[index] - 1, **said}]}
        return self.chunk([choice_of(index, delta=said)])

    def end(self, usage: Usage) -> Iterator[Event]:
        timed = {"timings": timings_of(usage)} if self.with_timings else {}
        if self.with_usage or timed:
            yield self.chunk([], usage_of(usage), **timed)
        yield DONE

    def error(self, error: JsonObject) -> Iterator[Event]:
        yield Event(error)
        yield DONE

    def whole(self, choices: Sequence[Choice], usage: Usage) -> JsonObject:
        said = []
        for index, choice in enumerate(choices):
            message: JsonObject = {
                "role": "assistant",
                "content": choice.answer,
                "refusal": None,
                "annotations": [],
            }
            if choice.calls:
                message |= {"content": choice.answer or None, "tool_calls": [*map(call_of, choice.calls)]}
            if choice.thinking:
                message |= dict.fromkeys(NAMES["thinking"], choice.thinking)
            logprobs = self.logprobs(choice.deltas)
            ids = self.ids(choice.deltas)
            said.append(choice_of(index, message=message, logprobs=logprobs, finish=choice.finish, **ids))
        costs = {"usage": usage_of(usage), "timings": timings_of(usage)}
        return self.head.fields("chat.completion") | self.prompt_ids | {"choices": said} | costs

    def ids(self, deltas: Sequence[Delta]) -> JsonObject:
        """The ids that were generated, the one that ended the reply included, if they were asked for."""
        listed = [token.id for delta in deltas for token in delta.tokens]
        return {"token_ids": listed} if self.with_ids else {}

    def logprobs(self, deltas: Sequence[Delta]) -> JsonObject | None:
        return chat_logprobs(deltas, self.head.served.tokenizer) if self.with_logprobs else None


def includes_usage(body: Sampled) -> bool:
    """Whether a stream ends with what it cost."""
    return body.stream_options is not None and body.stream_options.include_usage


def choice_of(index: int, *, finish: str | None = None, logprobs: Any = None, **said: Any) -> JsonObject:
    return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish}


def call_of(call: Call) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def usage_of(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
