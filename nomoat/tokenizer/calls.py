"""Calls of tools among turns: how a foreign template takes them, and whether what it wrote tells them all."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.tokenizer import jinja

KNOWING = "as those of Qwen 2.5 and 3, Llama 3.1, Hermes and Mistral do"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the assistant calls; `id` is what a result names, where a row has one."""

    name: str
    arguments: JsonObject
    id: str | None = None

    def as_dict(self) -> JsonObject:
        """As a template takes it."""
        said = {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        return said if self.id is None else {"id": self.id, **said}


@dataclass(frozen=True, slots=True)
class Form:
    """How a template takes a turn with calls."""

    as_text: bool = False  # arguments as a text of JSON, not as an object
    silent: JsonObject = field(default_factory=lambda: {"content": ""})  # instead of a content that is blank

    def put(self, turn: Mapping[str, Any]) -> JsonObject:
        """A turn with calls, for the template."""
        said = dict(turn)
        if not (said.get("content") or "").strip():
            said.pop("content", None)
            said |= self.silent
        if self.as_text:
            said["tool_calls"] = [_with_text(call) for call in said["tool_calls"]]
        return said


FORMS = tuple(
    Form(as_text, silent) for as_text in (False, True) for silent in ({"content": ""}, {}, {"content": None})
)
_NAME, _KEY, _VALUE = "look_up", "place", "Rome"


@lru_cache(64)
def form_of(source: str, words: tuple[tuple[str, str], ...]) -> Form:
    """The first form of which a template writes a call whole; where there is none, the first."""
    for form in FORMS:
        call = Call(_NAME, {_KEY: _VALUE}, "a0b1c2d3e").as_dict()
        turn = form.put({"role": "assistant", "content": "", "tool_calls": [call]})
        messages = [{"role": "user", "content": "x"}, turn]
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": False}
        try:
            text = jinja.render(source, {**dict(words), **given}, 100)
        except DataError:
            continue
        misspelled = f"{{'{_KEY}'" in text or '\\"' in text  # as Python prints it, or JSON within JSON
        if not misspelled and all(word in text for word in (_NAME, _KEY, _VALUE)):
            return form
    return FORMS[0]


def _with_text(call: JsonObject) -> JsonObject:
    function = call["function"]
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def untold(turn: Mapping[str, Any], text: str, bare: Callable[[str], str]) -> str | None:
    """What a turn says that a text does not: its content, a name, or a key or value of its calls' arguments.

    Each is to stand there as often as it is said, as it is or as in JSON; `bare` drops what doesn't count.
    The longest are looked for first: in them the others may stand, too.
    """
    content = turn.get("content") or ""
    said = [(*_spellings(content), content.rpartition("</think>")[2])]
    for call in turn.get("tool_calls") or ():
        said += [*_leaves(call["function"])]
    left = bare(text)
    found = []
    for spellings in said:
        present = [s for s in map(bare, spellings) if s in left]
        if not present:
            return spellings[0]
        found.append((spellings[0], sorted(present, key=len, reverse=True)))
    for what, present in sorted(found, key=lambda item: -len(item[1][0])):
        spelling = next((s for s in present if s in left), None)
        if spelling is None:
            return what
        left = left.replace(spelling, "\0", 1) if spelling else left
    return None


def _leaves(function: JsonObject) -> Iterator[Sequence[str]]:
    """How the name, and each key and value of the arguments may be spelled."""
    yield _spellings(function["name"])
    yield from _within(function["arguments"])


def _within(value: Any) -> Iterator[Sequence[str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield _spellings(key)
            yield from _within(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _within(inner)
    else:
        yield _spellings(value)


def _spellings(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
    return json.dumps(value), str(value)
