"""Tools in rows of messages: what a row tells of, what a reply calls, and what a call gave.

    {"tools": [{"type": "function", "function": {"name": "…", "description": "…", "parameters": {…}}}, …],
     "messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "tool_calls": [{"function": {"name": "…", "arguments": {…}}}]},
                  {"role": "tool", "content": "…"}, …]}

`tools`, and the `arguments` of a call, may also be a text of their JSON; a tool may be its function alone.
OpenAI's older form has `functions`, a reply's `function_call` and the role `function` for what it gave.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.tasks.messages import EMPTY
from nomoat.tokenizer.calls import Call
from nomoat.tokenizer.layout import Message, Tools

TOLD = {"tool": ("tool_call_id", "name"), "assistant": ("tool_calls",)}  # by turns of these roles
TOOL = '{"type": "function", "function": {"name": "…", "parameters": {…}}}'


def tools_in(row: JsonObject, where: str) -> Tools | None:
    """The tools that a row tells of; DataError for what is none."""
    given = [name for name in ("tools", "functions") if row.get(name) not in EMPTY]
    if len(given) > 1:
        raise DataError(f"{where} has `tools` and `functions`; expected one of them: drop the other")
    tools = _parsed(row[given[0]], f"{where} has `{given[0]}`") if given else None
    if tools in EMPTY:
        return None
    told = [_tool(tool) for tool in tools] if isinstance(tools, list) else [None]
    if None in told:
        wrong = tools[told.index(None)] if isinstance(tools, list) else tools
        found = f"{where} has `{given[0]}` with {str(wrong)[:60]!r}"
        raise DataError(f"{found}; expected a list of {TOOL}: mend it")
    return tuple(told)


def _tool(tool: Any) -> JsonObject | None:
    """A tool, also of what is its function alone; None where it is none."""
    if isinstance(tool, dict) and "function" not in tool and tool.get("type", "function") == "function":
        tool = {"type": "function", "function": {name: tool[name] for name in tool if name != "type"}}
    return None if _function_of(tool) is None else tool


def _function_of(holder: Any) -> JsonObject | None:
    """What has a name, in a tool or a call; None where it is none."""
    if not isinstance(holder, dict) or holder.get("type", "function") != "function":
        return None
    function = holder.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return function if isinstance(name, str) and name else None


def parted(message: Any, place: str) -> tuple[Any, JsonObject]:
    """A message without what it calls or answers, and that, as fields of a `Message`."""
    if not isinstance(message, dict):
        return message, {}
    message = _of_today(message, place)
    role = message.get("role")
    plain = {name: value for name, value in message.items() if name not in TOLD.get(role, ())}
    if role == "tool":
        fields = {"role": "tool"}
        for name, field in (("tool_call_id", "answers"), ("name", "name")):
            if message.get(name):
                fields[field] = _text(message, name, place)
        return plain | {"role": "user"}, fields
    if role == "assistant" and message.get("tool_calls"):
        calls = tuple(_call(call, place) for call in message["tool_calls"])
        return plain | {"content": message.get("content") or ""}, {"calls": calls}
    return message, {}


def _of_today(message: JsonObject, place: str) -> JsonObject:
    """The same with calls and results as OpenAI has them today; DataError for calls in both ways, or in none.
    """
    if message.get("role") == "function":
        return message | {"role": "tool"}
    called = message.get("function_call")
    if message.get("role") == "assistant" and called not in EMPTY:
        if message.get("tool_calls") not in EMPTY:
            raise DataError(f"{place} has `tool_calls` and `function_call`; expected one: drop the other")
        plain = {name: value for name, value in message.items() if name != "function_call"}
        return plain | {"tool_calls": [{"function": called}]}
    if not isinstance(message.get("tool_calls") or [], list):
        raise DataError(f"{place} has `tool_calls` that are no list; expected one: mend it")
    return message


def shared(value: Any, place: str) -> list[JsonObject]:
    """Calls as ShareGPT's turns hold them: the JSON of one with a name and arguments, or of a list of such.
    """
    found = _parsed(value, f"{place} has calls")
    return [{"function": call} for call in (found if isinstance(found, list) else [found])]


def _call(call: Any, place: str) -> Call:
    """A call of OpenAI's form."""
    function = _function_of(call)
    if function is None:
        expected = '{"type": "function", "function": {"name": "…", "arguments": {…}}}'
        raise DataError(f"{place} has `tool_calls` with {str(call)[:60]!r}; expected {expected}: mend it")
    name = function["name"]
    what = f"{place}: `arguments` of {name!r:.40}"
    arguments = _parsed(function.get("arguments"), what)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise DataError(f"{what} are a {type(arguments).__name__}; expected an object: mend it")
    return Call(name, arguments, _text(call, "id", place) if call.get("id") else None)


def _text(holder: JsonObject, name: str, place: str) -> str:
    if not isinstance(holder[name], str):
        raise DataError(f"{place} has a {type(holder[name]).__name__} as `{name}`; expected a text: mend it")
    return holder[name]


def _parsed(value: Any, what: str) -> Any:
    """A value, or what a text of JSON holds."""
    if not isinstance(value, str) or not value.strip():
        return None if isinstance(value, str) else value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DataError(f"{what} that are a text but no JSON; expected JSON (json.dumps): mend it") from None


def parts(turns: Sequence[Message], tools: Tools | None) -> Iterator[str | None]:
    """All texts of a conversation, tools and calls as JSON."""
    if tools is not None:
        yield json.dumps(tools, ensure_ascii=False)
    for turn in turns:
        yield turn.thinking
        yield turn.content
        for call in turn.calls:
            yield json.dumps(call.as_dict(), ensure_ascii=False)
