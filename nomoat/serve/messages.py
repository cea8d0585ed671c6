"""/v1/messages, as Anthropic's clients ask: bodies are read as chats, a chat's deltas written as blocks."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic_core import from_json

from nomoat.config import JsonObject
from nomoat.serve import openai, tools
from nomoat.serve.asked import Asked, Choice, Delta, Event, Usage
from nomoat.serve.body import Body
from nomoat.serve.calls import Piece
from nomoat.serve.fields import ChatBody, StopText, Text, ThinkingSwitch, Tokens, parse
from nomoat.serve.limits import Bounds
from nomoat.serve.refusal import Refusal
from nomoat.serve.responses import renamed
from nomoat.serve.shelf import Served
from nomoat.serve.tools import Name

RENAMED = {  # fields of the chat that is asked -> of this route
    "tool_choice.function.name": "tool_choice.name",
    "max_completion_tokens": "max_tokens",
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "stop": "stop_sequences",
}
REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "stop": "end_turn"}


class TextBlock(Body):
    type: Literal["text"]
    text: Text


class Block(Body):
    """A part of a message."""

    type: Literal["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]
    text: Text | None = None
    thinking: Text | None = None
    id: str | None = None
    name: str | None = None
    input: JsonObject | None = None
    tool_use_id: str | None = None
    content: Text | list[TextBlock] | None = None
    is_error: bool | None = None


class Turn(Body):
    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(max_length=4096)]


class AnthropicTool(Body):
    type: Literal["custom"] | None = None
    name: Name
    description: str | None = None
    input_schema: JsonObject
    strict: bool | None = None


class AnthropicChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicFormat(Body):
    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Body):
    format: AnthropicFormat | None = None
    effort: Literal["low", "medium", "high"] | None = None


class CountBody(Body):
    """What is counted: a message that isn't asked for yet."""

    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "container": (),
        "mcp_servers": (),
        "context_management": (),
        "service_tier": ("auto", "standard_only"),
    }
    model: str
    messages: Annotated[list[Turn], Field(min_length=1, max_length=4096)]
    system: Text | list[TextBlock] | None = None
    tools: Annotated[list[AnthropicTool], Field(max_length=128)] | None = None
    tool_choice: AnthropicChoice | None = None
    thinking: ThinkingSwitch | None = None
    output_config: OutputConfig | None = None
    output_format: AnthropicFormat | None = Field(None, description="an older place of output_config.format")


class MessageBody(CountBody):
    max_tokens: Tokens
    stop_sequences: Annotated[list[StopText], Field(max_length=Bounds().stops)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31)] | None = None
    stream: bool | None = None


# --- bodies -> what is asked ---


def message(body: MessageBody, served: Served) -> Asked:
    """What a message asks; Refusal for what this model can't do."""
    try:
        return openai.chat(parse(ChatBody, chat_of(body)), served)
    except Refusal as refusal:
        raise renamed(refusal, RENAMED) from None


def count(body: CountBody, served: Served) -> JsonObject:
    """How many tokens the prompt of a message has, more than the model can read included."""
    try:
        chat = parse(ChatBody, chat_of(MessageBody.model_construct(**dict(body), max_tokens=1)))
        think, _ = openai.thinking_of(chat, served)
        prompt = openai.prompt_of(chat.messages, tools.tools_of(chat), served, think)
    except Refusal as refusal:
        raise renamed(refusal, RENAMED) from None
    return {"input_tokens": len(prompt.ids)}


def chat_of(body: MessageBody) -> JsonObject:
    """The chat that a message is."""
    if body.messages[-1].role == "assistant":
        last = f"messages[{len(body.messages) - 1}]"
        raise Refusal(f"`{last}` is the assistant's; expected the last one to be the user's", f"{last}.role")
    messages = [{"role": "system", "content": text_of(body.system)}] if body.system else []
    for n, turn in enumerate(body.messages):
        messages += turns_of(turn, f"messages[{n}]")
    chat: JsonObject = {
        "messages": messages,
        "max_completion_tokens": body.max_tokens,
        "stop": body.stop_sequences,
    }
    chat |= {name: getattr(body, name) for name in ("temperature", "top_p", "top_k", "stream")}
    if body.thinking is not None:
        chat["thinking"] = body.thinking.model_dump()
    config = body.output_config or OutputConfig()
    if config.effort and not (body.thinking and body.thinking.type == "disabled"):
        chat["reasoning_effort"] = config.effort
    if form := config.format or body.output_format:
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": form.schema_}}
    return chat | tools_of(body)


def tools_of(body: CountBody) -> JsonObject:
    """Tools and their choice, as a chat has them."""
    fields: JsonObject = {}
    if body.tools:
        functions = [
            {"name": t.name, "description": t.description, "parameters": t.input_schema, "strict": t.strict}
            for t in body.tools
        ]
        fields["tools"] = [{"type": "function", "function": function} for function in functions]
    if (choice := body.tool_choice) is not None:
        if choice.type == "tool" and choice.name is None:
            raise Refusal("`tool_choice.name` is missing; expected a tool's", "tool_choice.name")
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tool_choice"] = {"auto": "auto", "any": "required", "none": "none", "tool": named}[
            choice.type
        ]
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return fields


def turns_of(turn: Turn, name: str) -> Iterator[JsonObject]:
    """The messages of a chat that a turn is: results of tools, then the rest of it."""
    if isinstance(turn.content, str):
        yield {"role": turn.role, "content": turn.content}
        return
    needed = {"text": ("text",), "tool_use": ("name", "input"), "tool_result": ("tool_use_id",)}
    for n, block in enumerate(turn.content):
        for field in needed.get(block.type, ()):
            if getattr(block, field) is None:
                place = f"{name}.content[{n}].{field}"
                raise Refusal(f"`{place}` is missing; expected it in a block of type {block.type}", place)
    for block in turn.content:
        if block.type == "tool_result":
            yield {"role": "tool", "content": text_of(block.content or ""), "tool_call_id": block.tool_use_id}
    text = "\n".join(block.text for block in turn.content if block.type == "text")
    calls = [
        {"id": b.id, "function": {"name": b.name, "arguments": b.input}}
        for b in turn.content
        if b.type == "tool_use"
    ]
    chain = "".join(block.thinking or "" for block in turn.content if block.type == "thinking")
    if text or calls or all(block.type != "tool_result" for block in turn.content):
        rest: JsonObject = {"role": turn.role, "content": text}
        yield (
            rest | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": chain} if chain else {})
        )


def text_of(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


# --- deltas -> blocks ---


class Message:
    """The form of /v1/messages; one is for one answer."""

    def __init__(self, body: MessageBody, served: Served, asked: Asked):
        self.stops, self.served = body.stop_sequences or [], served
        self.n_prompt = len(asked.requests[0].prompt)
        self.id = f"msg_{secrets.token_hex(12)}"
        self.blocks: list[JsonObject] = []
        self.opened = False  # whether the last of them goes on
        self.arguments = ""  # of the last call
        self.finish, self.ids = "stop", []
        self.stopped = False  # by one of the sequences

    def begin(self, n_choices: int) -> Iterator[Event]:
        usage = usage_of(Usage(self.n_prompt))
        yield event("message_start", message=self.object(None) | {"usage": usage})

    def delta(self, delta: Delta) -> Iterator[Event]:
        for token in delta.tokens:
            self.ids.append(token.id)
            self.stopped |= token.stop == "stop"
        kind = "text" if delta.kind == "answer" else "thinking"
        if delta.text:
            if self.opened and self.blocks[-1]["type"] != kind:
                yield from self.close()
            if not self.opened:
                empty = (
                    {"text": "", "citations": None} if kind == "text" else {"thinking": "", "signature": ""}
                )
                yield from self.open({"type": kind, **empty})
            self.blocks[-1][kind] += delta.text
            yield self.more({"type": f"{kind}_delta", kind: delta.text})
        for piece in delta.calls:
            yield from self.called(piece)
        self.finish = delta.finish or self.finish

    def open(self, block: JsonObject) -> Iterator[Event]:
        self.blocks.append(block)
        self.opened = True
        yield event("content_block_start", index=len(self.blocks) - 1, content_block=dict(block))

    def more(self, delta: JsonObject) -> Event:
        return event("content_block_delta", index=len(self.blocks) - 1, delta=delta)

    def called(self, piece: Piece) -> Iterator[Event]:
        if piece.first:
            yield from self.close()
            made = {"id": piece.id.replace("call_", "toolu_"), "name": piece.name, "input": {}}
            yield from self.open({"type": "tool_use", **made, "caller": {"type": "direct"}})
            self.arguments = ""
        yield self.more({"type": "input_json_delta", "partial_json": piece.text})
        self.arguments += piece.text
        if piece.last:
            yield from self.close()

    def close(self) -> Iterator[Event]:
        if self.opened:
            self.opened = False
            if self.blocks[-1]["type"] == "tool_use":  # whose end may be missing
                self.blocks[-1]["input"] = from_json(self.arguments, allow_partial=True)
            yield event("content_block_stop", index=len(self.blocks) - 1)

    def end(self, usage: Usage) -> Iterator[Event]:
        yield from self.close()
        said = self.object(usage)
        delta = {name: said[name] for name in ("stop_reason", "stop_sequence", "stop_details", "container")}
        yield event("message_delta", delta=delta, usage=usage_of(usage))
        yield event("message_stop")

    def error(self, error: JsonObject) -> Iterator[Event]:
        said = error["error"]
        yield event("error", error={"type": said["type"], "message": said["message"]})

    def whole(self, choices: Sequence[Choice], usage: Usage) -> JsonObject:
        for events in (*map(self.delta, choices[0].deltas), self.close()):
            for _ in events:
                pass
        return self.object(usage)

    def object(self, usage: Usage | None) -> JsonObject:
        """The message as it stands."""
        sequence = self.sequence() if self.stopped else None
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.served.name,
            "content": [dict(block) for block in self.blocks],
            "stop_reason": usage and (REASONS[self.finish] if sequence is None else "stop_sequence"),
            "stop_sequence": sequence,
            "stop_details": None,
            "container": None,
            "usage": usage and usage_of(usage),
        }

    def sequence(self) -> str | None:
        """Which of the sequences ended the message."""
        text = self.served.tokenizer.decode(self.ids)
        found = [(text.find(stop), stop) for stop in self.stops if stop in text]
        return min(found)[1] if found else None


def event(kind: str, **fields: Any) -> Event:
    return Event({"type": kind, **fields}, kind)


def usage_of(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_creation": None,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": None,
        "inference_geo": None,
        "service_tier": "standard",
    }
