"""/v1/responses, stateless: its bodies are read as chats."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nomoat.config import JsonObject
from nomoat.serve import openai
from nomoat.serve.asked import Asked
from nomoat.serve.body import Body
from nomoat.serve.fields import ChatBody, Effort, Part, Penalty, Text, Tokens, parse
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served
from nomoat.serve.tools import Name

RENAMED = {  # fields of the chat that is asked -> of this route
    "messages": "input", "max_completion_tokens": "max_output_tokens", "reasoning_effort": "reasoning.effort",
    "tool_choice.function.name": "tool_choice.name",
    "response_format.json_schema": "text.format", "response_format": "text.format",
}  # fmt: skip


class Item(Body):
    """A part of what was said: a message, a call, what it gave, a chain of thought."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Text | None = None
    output: Text | list[Part] | None = None


class Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(Body):
    format: Format | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Body):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = Field(None, description="no summary is made")


class FlatTool(Body):
    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class FlatChoice(Body):
    type: Literal["function"]
    name: str


class ResponseBody(Body):
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "previous_response_id": (), "conversation": (), "background": (), "prompt": (), "max_tool_calls": (),
        "truncation": ("disabled",), "context_management": (),
    }  # fmt: skip
    model: str
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=4096)]
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = Field(
        None, description="message.output_text.logprobs; others are passed over"
    )
    stream: bool | None = None
    tools: Annotated[list[FlatTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None


LOGPROBS = "message.output_text.logprobs"
SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls")  # in a chat


# --- bodies -> what is asked ---


def response(body: ResponseBody, served: Served) -> Asked:
    """What a response asks; Refusal for what this model can't do."""
    try:
        return openai.chat(parse(ChatBody, chat_of(body)), served)
    except Refusal as refusal:
        raise renamed(refusal, RENAMED) from None


def renamed(refusal: Refusal, names: Mapping[str, str]) -> Refusal:
    """A refusal of the chat, in the words of another route."""
    for old, new in names.items():
        if refusal.param and refusal.param.startswith(old):
            message = refusal.message.replace(f"`{old}", f"`{new}")
            param = new + refusal.param.removeprefix(old)
            return Refusal(message, param, status=refusal.status, code=refusal.code, headers=refusal.headers)
    return refusal


def chat_of(body: ResponseBody) -> JsonObject:
    """The chat that a response is."""
    items = [Item(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    messages = [{"role": "system", "content": body.instructions}] if body.instructions else []
    for n, item in enumerate(items):
        add(messages, item, f"input[{n}]")
    chat: JsonObject = {
        "messages": messages,
        "max_completion_tokens": body.max_output_tokens,
        "stream": body.stream,
    }
    chat |= {name: getattr(body, name) for name in SAME}
    if body.reasoning and body.reasoning.effort:
        chat["reasoning_effort"] = body.reasoning.effort
    if LOGPROBS in (body.include or ()):
        chat |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    if body.tools:
        flat = [tool.model_dump(exclude={"type"}, exclude_none=True) for tool in body.tools]
        chat["tools"] = [{"type": "function", "function": function} for function in flat]
    if body.tool_choice is not None:
        named = isinstance(body.tool_choice, FlatChoice)
        chosen = (
            {"type": "function", "function": {"name": body.tool_choice.name}} if named else body.tool_choice
        )
        chat["tool_choice"] = chosen
    if body.text and (form := body.text.format):
        schema = {"name": form.name, "schema": form.schema_} if form.type == "json_schema" else None
        chat["response_format"] = {"type": form.type, "json_schema": schema}
    return chat


def add(messages: list[JsonObject], item: Item, name: str) -> None:
    """An item becomes a message, or belongs to the one before."""
    needed = {
        "message": ("role", "content"),
        "function_call": ("name", "arguments"),
        "function_call_output": ("output",),
        "reasoning": (),
    }[item.type]
    for field in needed:
        if getattr(item, field) is None:
            raise Refusal(f"`{name}.{field}` is missing; expected it in a {item.type}", f"{name}.{field}")
    if item.type == "function_call_output":
        messages.append({"role": "tool", "content": dumped(item.output), "tool_call_id": item.call_id})
    elif item.type == "function_call":
        call = {
            "id": item.call_id,
            "type": "function",
            "function": {"name": item.name, "arguments": item.arguments},
        }
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": None})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif item.type == "message":
        messages.append({"role": item.role, "content": dumped(item.content)})


def dumped(content: str | Sequence[Part]) -> Any:
    return content if isinstance(content, str) else [part.model_dump(exclude_none=True) for part in content]
