"""The chat layout: with layout.jinja, its twin for other programs, all that knows the special tokens.

    <|bos|> [<|system|> text] <|user|> text <|assistant|> [<think> chain </think>] answer <|eos|> <|user|> …

Nothing stands between the parts: no newline, no space.  The control ids are set here one by one and the
content is encoded apart by a tokenizer that can't emit them, so no content can forge a turn.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nomoat.config import DataError, JsonObject
from nomoat.tokenizer.calls import KNOWING, Call
from nomoat.tokenizer.turns import Template
from nomoat.tokenizer.written import Written


@dataclass(frozen=True, slots=True)
class Layout:
    """The control tokens of a tokenizer's conversations, which no content can become; everybody has their ids
    from it.
    """

    specials: Mapping[str, int]  # what each is spelled, and its id
    pad_id: int
    bos_id: int  # before every document and conversation
    eos_id: int  # after every document and reply
    role_ids: Mapping[str, int]  # what opens a turn
    think_id: int | None  # None: no thinking is marked
    end_think_id: int | None
    turn_ends: frozenset[int]  # what can't stand inside a reply
    stop_ids: tuple[int, ...]  # what a model ends its reply with
    template: str | None = None  # a foreign chat template, in Jinja
    words: Mapping[str, str] = field(default_factory=dict)  # bos_token, eos_token, … for the template

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that a GGUF carries: the foreign one, or the twin of our own turns."""
        return template_in_gguf() if self.role_ids else self.template


NOMOAT = Layout(
    specials={
        "<|pad|>": 0, "<|bos|>": 1, "<|eos|>": 2, "<|system|>": 3, "<|user|>": 4, "<|assistant|>": 5,
        "<think>": 6, "</think>": 7,
    },
    pad_id=0,
    bos_id=1,
    eos_id=2,
    role_ids={"system": 3, "user": 4, "assistant": 5},
    think_id=6,
    end_think_id=7,
    turn_ends=frozenset(range(6)),
    stop_ids=(2,),
)  # fmt: skip


class Encoder(Protocol):
    """A tokenizer whose ids of a content are never special in its layout."""

    layout: Layout

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def encode_written(self, written: Sequence[Written]) -> list[tuple[list[int], list[int]]]: ...


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # system, user or assistant; tool, behind calls
    content: str
    thinking: str | None = None  # None: no think block; "": an empty one
    calls: tuple[Call, ...] = ()  # of the assistant, behind its content
    answers: str | None = None  # the id of the call whose result a tool gives
    name: str | None = None  # of that tool


ROLES = ("system", "user", "assistant")
_GENERATION = re.compile("{%- (?:end)?generation -%}\n")
_SWITCH = (  # what the template does of `enable_thinking`, and what is left of it for llama.cpp
    "enable_thinking is not none -%}\n{{- '<think>' if enable_thinking else '<think></think>' -}}",
    "enable_thinking is not none and not enable_thinking -%}\n{{- '<think></think>' -}}",
)
_EARLIER = (  # sha256 of templates that were ours
    "dbdbbd4faf10177bea78fd2408976ed01132eed9a7a3e4838b2e4bf07a4ed010",
)
Conversation = Sequence[Message]
Tools = Sequence[JsonObject]  # {"type": "function", "function": {name, description, parameters}}, …


def turns(question: str, facts: Mapping[str, Any]) -> list[Message]:
    """What is to be answered: the facts' "messages" of role and content, or the question as the user's."""
    given = facts.get("messages")
    return [Message(**turn) for turn in given] if given else [Message("user", question)]


@dataclass(frozen=True, slots=True)
class Rendered:
    ids: list[int]
    trained: list[bool]  # True where the assistant chose the token
    thinking: bool = False  # whether it ends within a think block
    n_forgotten: int = field(default=0, compare=False)  # earlier messages that had no room


def template(*, marked: bool = True) -> str:
    """The layout as the Jinja template that other programs read.

    It writes what `render` takes, and what only other programs know: a content of parts, developers, tools
    and their calls.  Unless `marked` is false, `generation` blocks hold what is trained on: transformers asks
    for them, plain Jinja has no such tag.
    """
    text = Path(__file__).with_name("layout.jinja").read_text("utf-8").rstrip("\n")
    return text if marked else _GENERATION.sub("", text)


def template_in_gguf() -> str:
    """The same in plain Jinja for llama.cpp, which sets `enable_thinking` to true where nobody said anything:
    true leaves it to the model, since one that greets without thinking would answer in a block it never ends.
    """
    return template(marked=False).replace(*_SWITCH)


def is_our_template(text: str) -> bool:
    """Whether a template is ours, of today or of earlier files."""
    text = text.strip()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text in (template(), template(marked=False), template_in_gguf()) or digest in _EARLIER


def render(
    tokenizer: Encoder, messages: Conversation, *, generate: bool, think: bool | None = None
) -> Rendered:
    """The ids of a conversation; with `generate`, up to where the assistant is to write.

    `think` (only with `generate`): True opens a think block, False sets an empty one, None leaves it to the
    model.  Thinking is kept in the last message alone.  Trained is what the assistant wrote, except a turn
    whose thinking was dropped: nobody wrote that answer without its chain.
    """
    return render_batch(tokenizer, [messages], generate=generate, think=think)[0]


def render_dicts(
    tokenizer: Encoder, turns: Sequence[JsonObject], *, tools: Sequence[JsonObject] | None, think: bool | None
) -> Rendered:
    """The ids of turns as a foreign template takes them, with tools and calls among them, up to where the
    assistant is to write.
    """
    layout = tokenizer.layout
    writer = _writer(layout, layout.template)
    written = writer.write(turns, generate=True, think=think, tools=tools)
    ids, _ = tokenizer.encode_written([written])[0]
    return Rendered(ids, [False] * len(ids), ends_thinking(layout, ids))


def render_batch(
    tokenizer: Encoder,
    conversations: Sequence[Conversation],
    *,
    generate: bool,
    think: bool | None = None,
    tools: Sequence[Tools | None] | None = None,
) -> list[Rendered]:
    """`render` of each conversation, with one call to the encoder; `tools` are what each is told of."""
    if think is not None and not generate:
        raise ValueError("think has a meaning only where the assistant is to write: generate=True")
    layout = tokenizer.layout
    tools = tools or [None] * len(conversations)
    _check_messages(layout, conversations)
    if layout.role_ids and any(told or called(talk) for talk, told in zip(conversations, tools)):
        raise no_place_for_tools()
    if think is not None and layout.think_id is None:
        raise DataError("this tokenizer marks no thinking; expected it to be left to the model: think = auto")
    if layout.template is not None:
        return _by_template(tokenizer, conversations, generate, think, tools)
    if not layout.role_ids:
        raise DataError(
            "this tokenizer has no chat template; expected one that says how turns are written; put a "
            "chat_template.jinja beside its tokenizer.json, or choose the model's instruct version"
        )
    return _by_layout(tokenizer, conversations, generate, think)


def _check_messages(layout: Layout, conversations: Sequence[Conversation]) -> None:
    """DataError for a role or a chain that has no place."""
    for n, (message, talk) in enumerate((m, messages) for messages in conversations for m in messages):
        if message.role not in ROLES and not (message.role == "tool" and called(talk)):
            raise DataError(f"message {n} has role {message.role!r}; expected system, user or assistant")
        if message.thinking and layout.think_id is None:
            raise DataError(
                f"message {n} has a chain of thought; expected none: this tokenizer has no mark for it"
            )


def called(talk: Conversation) -> bool:
    """Whether tools are called in a conversation."""
    return any(message.calls for message in talk)


def no_place_for_tools() -> DataError:
    """What is wrong with calls, results or tools in a layout of ours."""
    return DataError(
        "a conversation has tools or calls of them, which our own layout has no place for; expected a model "
        f"whose chat template tells of tools ({KNOWING}): name one, in `models` of a recipe or as "
        "--tokenizer, or leave such conversations out"
    )


def render_latest(
    tokenizer: Encoder,
    conversations: Sequence[Conversation],
    longest: int,
    *,
    generate: bool,
    think: bool | None = None,
    whole: Sequence[int] | None = None,
) -> list[Rendered]:
    """`render` of the latest turns of each conversation that have at most `longest` tokens.

    The first exchanges go, never a system prompt and never the last question, however long it is; nor any of
    the last `whole` turns of each.
    """
    talks, rendered = list(conversations), []
    left = list(range(len(talks)))
    whole = whole or [1] * len(talks)
    while left:
        made = render_batch(tokenizer, [talks[i] for i in left], generate=generate, think=think)
        rendered = rendered or made
        for i, latest in zip(left, made):
            rendered[i] = replace(latest, n_forgotten=len(conversations[i]) - len(talks[i]))
        left = [i for i in left if len(rendered[i].ids) > longest and _earlier(talks[i], whole[i])]
        for i in left:
            n_system = int(talks[i][0].role == "system")
            talks[i] = [*talks[i][:n_system], *talks[i][n_system + 2 :]]
    return rendered


def _earlier(talk: Conversation, whole: int) -> bool:
    """Whether there is an exchange before the last question, or the last `whole` turns."""
    n_last = max(whole, 1 + (talk[-1].role == "assistant"))
    return len(talk) - (talk[0].role == "system") > n_last


def _by_layout(
    tokenizer: Encoder, conversations: Sequence[Conversation], generate: bool, think: bool | None
) -> list[Rendered]:
    """`render_batch` for our own turns."""
    layout = tokenizer.layout
    texts = [text for messages in conversations for m in messages for text in (m.content, m.thinking or "")]
    encoded = iter(tokenizer.encode_batch(texts))
    opening = _opening(layout, think) if generate else []
    rendered = []
    for messages in conversations:
        parts = [([layout.bos_id], False)]  # ids, whether they are trained on
        for n, message in enumerate(messages):
            content, chain = next(encoded), next(encoded)
            parts.append(([layout.role_ids[message.role]], False))
            if message.role != "assistant":
                parts.append((content, False))
                continue
            last = n == len(messages) - 1
            if last and message.thinking is not None:
                parts.append(([layout.think_id, *chain, layout.end_think_id], True))
            parts.append(([*content, layout.eos_id], last or message.thinking is None))
        parts.append((opening, False))
        ids = [id for part, _ in parts for id in part]
        trained = [trained for part, trained in parts for _ in part]
        rendered.append(Rendered(ids, trained, thinking=think is True))
    return rendered


def _by_template(
    tokenizer: Encoder,
    conversations: Sequence[Conversation],
    generate: bool,
    think: bool | None,
    tools: Sequence[Tools | None],
) -> list[Rendered]:
    """`render_batch` for a foreign template."""
    layout = tokenizer.layout
    writer, marked = _writer(layout, layout.template), layout.think_id is not None
    written = []
    for messages, told in zip(conversations, tools):
        dicts = [_as_dict(message, marked) for message in messages]
        written.append(writer.write(dicts, generate=generate, think=think, tools=told or None))
    rendered = []
    for conversation, (ids, places) in zip(written, tokenizer.encode_written(written)):
        trained = [any(start <= place < end for start, end in conversation.chosen) for place in places]
        rendered.append(Rendered(ids, trained, generate and ends_thinking(layout, ids)))
    return rendered


def _writer(layout: Layout, source: str) -> Template:
    spelled = {id: text for text, id in layout.specials.items()}
    marks = (spelled[layout.think_id], spelled[layout.end_think_id]) if layout.think_id is not None else None
    return Template(source, layout.specials, layout.words, layout.stop_ids, marks)


def _as_dict(message: Message, marked: bool) -> JsonObject:
    """As a template takes it; where no thinking is `marked`, an empty block is none."""
    beside = {
        "reasoning_content": message.thinking if marked else None,
        "tool_calls": [call.as_dict() for call in message.calls] or None,
        "tool_call_id": message.answers,
        "name": message.name,
    }
    said = {"role": message.role, "content": message.content}
    return said | {name: value for name, value in beside.items() if value is not None}


def ends_thinking(layout: Layout, ids: Sequence[int]) -> bool:
    """Whether the last turn of `ids` has opened a think block and not closed it."""
    marks = (layout.think_id, layout.end_think_id)
    last = next((id for id in reversed(ids) if id in marks or id in layout.turn_ends), None)
    return last is not None and last == layout.think_id


def _opening(layout: Layout, think: bool | None) -> list[int]:
    """What stands before the assistant's own words."""
    block = {None: [], True: [layout.think_id], False: [layout.think_id, layout.end_think_id]}
    return [layout.role_ids["assistant"], *block[think]]
