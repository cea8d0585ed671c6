"""The bodies that the pages' own routes take."""

from typing import Annotated, Literal

from pydantic import Field

from nomoat.serve.body import Body
from nomoat.serve.fields import Id, Text

MOST_ASKED = 32
Name = Annotated[str, Field(max_length=4096)]
Level = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # which JavaScript can hold
Lang = Literal["en", "de"]


class InspectBody(Body):
    """`tokens` of the answer are those of the reply."""

    model: str | None = None
    prompt_tokens: list[Id] = Field(description="as `return_token_ids` gives them")
    reply_tokens: list[Id]


class ProblemBody(Body):
    family: Name
    level: Level
    seed: Seed | None = Field(None, description="left out: another problem each time")
    lang: Lang | None = Field(None, description="left out: as it is drawn")


class VerdictBody(Body):
    family: Name
    level: Level
    seed: Seed
    lang: Lang | None = Field(None, description="as the problem was asked for")
    answer: Text = Field(description="the reply behind its thinking")
    thinking: Text | None = Field(None, description="its thinking, which tasks that judge all of it read")


class AskBody(Body):
    model: str | None = None
    family: Name
    level: Level
    seed: Seed
    lang: Lang | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ASKED)] = MOST_ASKED
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    thinking: bool | None = Field(None, description="left out: as the model likes")
