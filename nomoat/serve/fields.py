"""The bodies that OpenAI's routes take, field by field, with their bounds.

A field that nobody's standard knows is passed over, as clients send new ones; one of the standard that this
server can't honour is refused by name (`REFUSED`), unless its value asks for nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from nomoat.config import JsonObject
from nomoat.engine.request import TOP
from nomoat.serve.body import Body
from nomoat.serve.limits import Bounds
from nomoat.serve.refusal import Refusal
from nomoat.serve.structured import Formed
from nomoat.serve.tools import Calling, ToolCall

B = Bounds()
Id = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=B.body_bytes)]
StopText = Annotated[str, Field(min_length=1, max_length=B.stop_characters)]
Tokens = Annotated[int, Field(ge=1, le=2**31)]
IdText = Annotated[str, Field(pattern=r"^\d{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(Body):
    include_usage: bool = False


class Sampled(Formed):
    """What the routes that continue a text have in common."""

    model: str | None = Field(None, description="as /v1/models calls it; the first one if left out")
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31)] | None = Field(None, description="-1 and 0: all")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=B.choices)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=B.stops)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Annotated[dict[IdText, Bias], Field(max_length=1024)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = Field(None, description="go on behind what ends a reply")
    user: str | None = Field(None, description="not read")


class Part(Body):
    """A part of a content."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    reasoning_content: Text | None = Field(None, description="an earlier chain of thought; not read again")
    reasoning: Text | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: str | None = None


class ThinkingSwitch(Body):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None


class TemplateArguments(Body):
    enable_thinking: bool | None = None
    thinking: bool | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class ChatBody(Sampled, Calling):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] | None = None
    reasoning_effort: Effort | None = None
    thinking: ThinkingSwitch | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateArguments | None = None
    thinking_token_budget: Annotated[int, Field(ge=0, le=2**31)] | None = None
    reply_tokens: list[Id] | None = Field(None, description="the reply begins with these and goes on")
    return_token_ids: bool | None = Field(None, description="`prompt_token_ids`, and `token_ids` of choices")
    timings: bool | None = Field(None, description="a stream ends with `timings`, as a whole answer has them")


class CompletionBody(Sampled):
    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=B.prompts)]
        | Annotated[list[Id], Field(min_length=1)]
        | Annotated[list[Annotated[list[Id], Field(min_length=1)]], Field(min_length=1, max_length=B.prompts)]
    )
    max_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = Field(None, description="16 if left out")
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=TOP)] | None = None
    stop_token_ids: Annotated[list[Id], Field(max_length=1024)] | None = Field(
        None, description="they end a choice, too"
    )
    return_token_ids: bool | None = Field(None, description="`prompt_token_ids` and `token_ids` of choices")


class TokenizeBody(Body):
    model: str | None = None
    prompt: Text | None = None
    content: Text | None = Field(None, description="another name of prompt")
    add_special_tokens: bool | None = Field(None, description="false: not the beginning-of-text token")
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)] | None = None


class DetokenizeBody(Body):
    model: str | None = None
    tokens: list[Id]


class UpdateBody(Body):
    model_path: Annotated[str, Field(min_length=1, max_length=4096, description="as `export` writes it")]
    model: str | None = Field(None, description="as /v1/models calls it; the first one if left out")


NOTHING = (None, [], {}, False, "")
REFUSED: Mapping[str, tuple[Any, ...]] = {  # of the standard -> values that ask for nothing
    "audio": (), "modalities": (["text"],), "prediction": (), "functions": (), "function_call": ("none",),
    "web_search_options": (), "verbosity": ("medium",), "store": (), "service_tier": ("auto", "default"),
    "suffix": (), "best_of": (1,), "moderation": (),
    "tools": (), "tool_choice": ("none", "auto"), "guided_grammar": (), "grammar": (), "json_schema": (),
}  # fmt: skip
M = TypeVar("M", bound=Body)
Path = tuple[str | int, ...]


def parse(cls: type[M], table: JsonObject) -> M:
    """A body as its record; Refusal with the name of the first field that is wrong."""
    for name, harmless in {**REFUSED, **cls.refused}.items():
        if name in table and name not in cls.model_fields:
            value = table[name]
            if not any(value is nothing or value == nothing for nothing in (*NOTHING, *harmless)):
                raise Refusal(
                    f"`{name}` is not supported here; leave it out", name, code="unsupported_parameter"
                )
    try:
        return cls.model_validate(table)
    except ValidationError as error:
        raise _complaint(error, table) from None


def _complaint(error: ValidationError, table: JsonObject) -> Refusal:
    """A list that is too long; or, of several alternatives of a field, what is said of the one that went
    deepest.
    """
    said: dict[Path, list[str]] = {}
    errors = error.errors(include_url=False)
    for item in [item for item in errors if item["type"] == "too_long"] or errors:
        said.setdefault(_path(item["loc"], table), []).append(item["msg"])
    first = next(iter(said))[0]
    same_field = [path for path in said if path[0] == first]
    deepest = max(same_field, key=len)
    name = spelled(deepest)
    words = dict.fromkeys(said[deepest])
    return Refusal(f"`{name}`: {', or: '.join(words)}", name)


def spelled(path: Path) -> str:
    """As in messages[0].content."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def _path(place: Path, value: Any) -> Path:
    """The keys and indices of a place, without the names of alternatives and of what keys are."""
    path: list[str | int] = []
    for n, part in enumerate(place):
        if isinstance(value, list):
            inside, missing = isinstance(part, int) and part < len(value), False
        else:
            inside = isinstance(value, dict) and part in value
            missing = isinstance(value, dict) and n == len(place) - 1 and str(part).isidentifier()
        if inside:
            value = value[part]
        if inside or missing:
            path.append(part)
    return tuple(path)
