"""Tools: how a model is told of them, and what it is held to when it has to call one.

A call is written as most open models have learned it: `<tool_call>{"name": …, "arguments": …}</tool_call>`.
A foreign template that knows this form tells of tools in its own words; for others a system message does.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.config import ConfigError, JsonObject
from nomoat.engine import grammar
from nomoat.engine.grammar import Source
from nomoat.serve.body import Body
from nomoat.serve.refusal import Refusal
from nomoat.tokenizer.layout import Layout

OPEN, CLOSE = "<tool_call>", "</tool_call>"
TOLD = """You can call these functions, each described by a JSON schema:
{tools}
To call one, write {open}{{"name": "its name", "arguments": {{...}}}}{close} and nothing behind it."""
MOST = 8  # calls of one reply
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Function(Body):
    name: Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = Field(
        None, description="hold calls to the schema where the model may choose to call"
    )


class Tool(Body):
    type: Literal["function"]
    function: Function


class Called(Body):
    name: str
    arguments: str | JsonObject = "{}"


class ToolCall(Body):
    """A call in an earlier turn."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: Called


class ChosenFunction(Body):
    name: str


class Chosen(Body):
    type: Literal["function"]
    function: ChosenFunction


class Calling(Body):
    """The fields of a body that are about tools."""

    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most; true if left out")


@dataclass(frozen=True, slots=True)
class Tools:
    """What a model may call, and has to: the functions by name, of which `chosen` are allowed."""

    functions: Mapping[str, Function]
    chosen: frozenset[str]
    required: bool
    most: int  # calls


def tools_of(body: Calling) -> Tools | None:
    """What may be called; None: nothing.  Refusal where tools and choice don't fit."""
    functions = {tool.function.name: tool.function for tool in body.tools or ()}
    choice = body.tool_choice or "auto"
    if len(functions) < len(body.tools or ()):
        raise Refusal("`tools`: two functions of one name; expected each name once", "tools")
    named = choice.function.name if isinstance(choice, Chosen) else None
    if named is not None and named not in functions:
        raise Refusal(f"`tool_choice`: no function {named!r} among `tools`", "tool_choice.function.name")
    if choice == "required" and not functions:
        raise Refusal("`tool_choice` = required without `tools`; expected one or more", "tool_choice")
    if choice == "none" or not functions:
        return None
    try:
        json.dumps([*map(described_by, functions.values())], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal("`tools` has half a surrogate pair; expected text", "tools") from None
    chosen = frozenset(functions) if named is None else frozenset([named])
    single = named is not None or body.parallel_tool_calls is False
    return Tools(functions, chosen, choice != "auto", 1 if single else MOST)


def source_of(tools: Tools | None, form: Source | None, layout: Layout) -> Source | None:
    """The grammar of a reply that calls tools, or has a form; None: it is free.

    Calls are held to schemas where one is required, where a function says `strict`, or beside a form.
    """
    if tools is None:
        return form
    strict = any(tools.functions[name].strict for name in tools.chosen)
    if not (tools.required or strict or form):
        return None
    try:
        held = {name: _held(tools.functions[name], tools.required) for name in sorted(tools.chosen)}
        rules = [*_start(tools, form, _mark(OPEN, layout)), *_bodies(held, layout)]
    except ConfigError as error:
        raise Refusal(str(error), "tools", code="unsupported_grammar") from None
    schemas = tuple((name, json.dumps(schema)) for name, schema in held.items())
    return Source("\n".join(rules), "the schema of `tools`", form.schema if form else None, schemas)


def _bodies(held: Mapping[str, JsonObject], layout: Layout) -> Iterator[str]:
    """Lark's rules of what stands between the marks of a call, and of its end."""
    bodies = [f"body_{n}" for n in range(len(held))]
    yield f"body: {' | '.join(bodies)}"
    blank = blank_of(layout)
    closing = _mark(CLOSE, layout)
    for body, (name, schema) in zip(bodies, held.items()):
        called = _called(name, schema, blank)
        yield f"{body}: {called} {closing}"


def _mark(text: str, layout: Layout) -> str:
    """A mark as a term: a control id where the layout has one, else its text."""
    id = layout.specials.get(text)
    return grammar.quoted(text) if id is None else f"<[{id}]>"


def _start(tools: Tools, form: Source | None, opening: str) -> list[str]:
    """Lark's rules: calls, or the form, or text with calls in it."""
    if not (tools.required or form):
        return _free(opening, tools.most)
    most = tools.most - 1
    more = f"({grammar.quoted(chr(10))} call){{0,{most}}}" if most else ""
    calls = [f"call: {opening} body", f"calls: call {more}"]
    if tools.required:
        return ["start: calls", *calls]
    return ["start: calls | form", form.lark.replace("start:", "form:", 1), *calls]


def _called(name: str, schema: JsonObject, blank: str) -> str:
    """What stands between the marks."""
    begin = grammar.quoted(f'{blank}{{"name": {json.dumps(name)}, "arguments": ')
    return f"{begin} {grammar.inside(schema, _what(name))} {grammar.quoted('}' + blank)}"


def _held(function: Function, required: bool) -> JsonObject:
    """What arguments are held to: an object, as calls have no others; ConfigError for a schema of none."""
    schema = function.parameters if required or function.strict else None
    kinds = (schema or {}).get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        grammar.inside(schema, _what(function.name))
        found = f"type in {_what(function.name)} = {json.dumps(kinds)}"
        raise ConfigError(f"{found}; expected object, which arguments are")
    return {**(schema or {}), "type": "object"}


def _what(name: str) -> str:
    return f"the parameters' schema of function {name}"


def _free(opening: str, most: int) -> list[str]:
    """Text that may hold calls."""
    marked = f"opening: TEXT {opening}" if opening.startswith("<[") else f"opening[lazy]: TEXT {opening}"
    return [f"start: (opening body){{0,{most}}} TEXT", r"TEXT: /(.|\n)*/", marked]


def blank_of(layout: Layout) -> str:
    """What stands between a call and its marks."""
    return "\n" if layout.template is not None else ""


def known_to(layout: Layout) -> bool:
    """Whether a foreign template tells of tools, and in the form that is read here."""
    source = layout.template or ""
    return bool(re.search(r"\btools\b", source)) and OPEN in source and "<function=" not in source


def told(tools: Tools) -> str:
    """What a system message says of tools."""
    described = [
        json.dumps(described_by(function), ensure_ascii=False) for function in tools.functions.values()
    ]
    return TOLD.format(tools="\n".join(described), open=OPEN, close=CLOSE)


def described_by(function: Function) -> JsonObject:
    fields = {"name": function.name, "description": function.description, "parameters": function.parameters}
    return {
        "type": "function",
        "function": {name: value for name, value in fields.items() if value is not None},
    }


def written(calls: Sequence[ToolCall]) -> str:
    """Calls of an earlier turn, for templates that don't write them."""
    texts = []
    for called in (call.function for call in calls):
        arguments = _as_json(called.arguments)
        texts.append(f'{OPEN}{{"name": {json.dumps(called.name)}, "arguments": {arguments}}}{CLOSE}')
    return "".join(texts)


def _as_json(arguments: str | JsonObject) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def arguments_of(call: ToolCall) -> Any:
    """The arguments as an object, for templates; as they are where they are no JSON."""
    arguments = call.function.arguments
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments
