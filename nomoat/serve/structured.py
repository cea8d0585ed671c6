"""What form a reply has to have: the fields that ask for JSON, an expression or one of some texts."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.config import ConfigError, JsonObject
from nomoat.engine import grammar
from nomoat.engine.engine import Engine
from nomoat.engine.grammar import Grammar, Source
from nomoat.serve.body import Body
from nomoat.serve.limits import Bounds, decode
from nomoat.serve.refusal import Refusal

Pattern = Annotated[str, Field(max_length=10_000)]
Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]
Schema = JsonObject | str
SLOW = ("tools", "text", "output_config", "output_format")  # of other bodies


class JsonSchema(Body):
    name: str | None = None
    description: str | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="not read: what is asked for is enforced")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: JsonObject | None = Field(
        None, alias="schema", description="beside json_object, as llama.cpp has it"
    )


class StructuredOutputs(Body):
    """One of these."""

    json_: Schema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: Pattern | None = None
    choice: Texts | None = None
    grammar: None = Field(None, description="not supported, as the next")
    structural_tag: None = None


class Formed(Body):
    """The fields of a body that say what form its reply has."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = Field(
        None, description="an older name in structured_outputs, as the next two"
    )
    guided_regex: Pattern | None = None
    guided_choice: Texts | None = None


def asks(body: Body) -> bool:
    """Whether a body asks for what takes time to make."""
    return any(getattr(body, name, None) for name in (*Formed.model_fields, *SLOW))


def compiled(source: Source | None, engine: Engine) -> Grammar | None:
    """The grammar; Refusal, with the field, for what can't be enforced."""
    if source is None:
        return None
    try:
        return engine.compiler(source)
    except ConfigError as error:
        field = re.search("`(.+?)`", source.what)
        raise Refusal(str(error), field[1], code="unsupported_grammar") from None


def source_of(body: Formed) -> Source | None:
    """The grammar that the fields ask for; Refusal for more than one, or with what is wrong."""
    said = {name: value for name, value in wishes(body).items() if value is not None}
    if len(said) > 1:
        names = " and ".join(f"`{name}`" for name in said)
        raise Refusal(f"{names} both say what form the reply has; expected one of them", [*said][-1])
    for name, value in said.items():
        try:
            return written(name, value)
        except ConfigError as error:
            raise Refusal(str(error), name, code="unsupported_grammar") from None
    return None


def wishes(body: Formed) -> dict[str, Any]:
    """What is asked for, by the field that asks."""
    found = {
        "guided_json": body.guided_json,
        "guided_regex": body.guided_regex,
        "guided_choice": body.guided_choice,
    }
    if (more := body.structured_outputs) is not None:
        found |= {
            "structured_outputs.json": more.json_,
            "structured_outputs.json_object": {"type": "object"} if more.json_object else None,
            "structured_outputs.regex": more.regex,
            "structured_outputs.choice": more.choice,
        }
    if (form := body.response_format) is not None:
        found |= formats(form)
    return found


def formats(form: ResponseFormat) -> dict[str, JsonObject | None]:
    if form.type != "json_schema" and form.json_schema is not None:
        field = "response_format.json_schema"
        raise Refusal(f"`{field}` beside type {form.type}; expected type json_schema, or none of it", field)
    if form.type == "json_object" and form.schema_ is None:
        return {"response_format": {"type": "object"}}
    if form.type == "json_object":
        return {"response_format.schema": form.schema_}
    if form.type == "text":
        return {}
    schema = form.schema_ if form.json_schema is None else form.json_schema.schema_
    name = "response_format.schema" if form.json_schema is None else "response_format.json_schema.schema"
    if schema is None:
        missing = "response_format.json_schema" if form.json_schema is None else name
        raise Refusal(f"`{missing}` is missing; expected a JSON schema", missing)
    return {name: schema}


def written(name: str, value: Any) -> Source:
    kind = name.rpartition("_" if name.startswith("guided_") else ".")[2]
    if kind == "regex":
        return grammar.of_regex(value, f"the regular expression of `{name}`")
    if kind == "choice":
        return grammar.of_choice(value, f"the choice of `{name}`")
    return grammar.of_schema(parsed(value, name), f"the schema of `{name}`")


def parsed(value: Schema, name: str) -> Any:
    """A schema, which may come as a text."""
    if not isinstance(value, str):
        return value
    try:
        return decode(value.encode(), Bounds().depth)
    except (Refusal, UnicodeEncodeError):
        raise Refusal(f"`{name}` is no JSON object; expected a JSON schema", name) from None
