"""What OpenAI's Python client asks: chats, streams, completions, schemas, tools, responses, errors."""

import json
import os
from typing import Literal

import openai
from pydantic import BaseModel

ANSWER = "The lamp is on."
client = openai.OpenAI(base_url=os.environ["BASE"] + "/v1", api_key="none", max_retries=0)
ask = {"model": "lamp", "messages": [{"role": "user", "content": "What is it?"}], "temperature": 0}
WEATHER = {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": WEATHER}}
]

assert [model.id for model in client.models.list()] == ["lamp"]
assert client.models.retrieve("lamp").object == "model"

# --- chats ---

whole = client.chat.completions.create(**ask)
assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (ANSWER, "stop")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
parts = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == ANSWER
assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens
with client.chat.completions.stream(**ask, logprobs=True, top_logprobs=2) as stream:
    stream.until_done()
    final = stream.get_final_completion()
assert final.choices[0].message.content == ANSWER
assert all(len(entry.top_logprobs) == 2 for entry in final.choices[0].logprobs.content)
many = client.chat.completions.create(
    **ask | {"temperature": 1}, n=3, seed=5, stop=[" on"], max_completion_tokens=9
)
assert [choice.index for choice in many.choices] == [0, 1, 2]
thought = client.chat.completions.create(**ask, reasoning_effort="low", max_completion_tokens=20)
assert thought.choices[0].message.model_extra["reasoning_content"]
assert thought.usage.completion_tokens_details.reasoning_tokens > 0

# --- completions ---

text = client.completions.create(
    model="lamp", prompt="The lamp", max_tokens=4, temperature=0, echo=True, logprobs=1
)
assert text.choices[0].text.startswith("The lamp")
logprobs = text.choices[0].logprobs
assert len(logprobs.tokens) == len(logprobs.token_logprobs) == text.usage.total_tokens

# --- structure ---


class Lamp(BaseModel):
    on: bool
    watts: Literal[40, 60]


parsed = client.chat.completions.parse(
    **ask | {"temperature": 1}, response_format=Lamp, seed=1, max_completion_tokens=60
)
assert isinstance(parsed.choices[0].message.parsed, Lamp)
with client.chat.completions.stream(**ask, response_format=Lamp, max_completion_tokens=60) as stream:
    stream.until_done()
    assert isinstance(stream.get_final_completion().choices[0].message.parsed, Lamp)
loose = client.chat.completions.create(
    **ask, response_format={"type": "json_object"}, max_completion_tokens=300
)
assert loose.choices[0].finish_reason == "length" or isinstance(
    json.loads(loose.choices[0].message.content), dict
)
choice = {"structured_outputs": {"choice": ["yes", "no"]}}
assert client.chat.completions.create(**ask, extra_body=choice).choices[0].message.content in ("yes", "no")
digits = (
    client.chat.completions.create(**ask, extra_body={"guided_regex": r"\d{3}"}).choices[0].message.content
)
assert len(digits) == 3
assert digits.isdecimal()

# --- tools ---

for wish in ("required", {"type": "function", "function": {"name": "weather"}}):
    called = client.chat.completions.create(**ask, tools=TOOLS, tool_choice=wish, parallel_tool_calls=False)
    [call] = called.choices[0].message.tool_calls
    assert called.choices[0].finish_reason == "tool_calls"
    assert called.choices[0].message.content is None
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    with client.chat.completions.stream(
        **ask, tools=TOOLS, tool_choice=wish, parallel_tool_calls=False
    ) as stream:
        events = [event.type for event in stream]
        [streamed] = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.done" in events
    assert events.count("tool_calls.function.arguments.delta") > 3
    assert streamed.function.arguments == call.function.arguments
told = [
    *ask["messages"],
    called.choices[0].message,
    {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
]
after = client.chat.completions.create(**ask | {"messages": told}, tools=TOOLS)
assert after.choices[0].message.content
free = client.chat.completions.create(**ask, tools=TOOLS, tool_choice="none")
assert (free.choices[0].message.content, free.choices[0].message.tool_calls) == (ANSWER, None)

# --- responses ---

said = client.responses.create(model="lamp", input="What is it?", instructions="Be brief.", temperature=0)
assert (said.status, said.output_text) == ("completed", ANSWER)
with client.responses.stream(model="lamp", input="What is it?", temperature=0) as stream:
    kinds = [event.type for event in stream]
    assert stream.get_final_response().output_text == ANSWER
assert kinds[:2] == ["response.created", "response.in_progress"]
assert kinds[-1] == "response.completed"
lamp = client.responses.parse(model="lamp", input="What is it?", text_format=Lamp, max_output_tokens=60)
assert isinstance(lamp.output_parsed, Lamp)
flat = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
asked = {"model": "lamp", "tools": flat, "tool_choice": "required", "parallel_tool_calls": False}
[item] = client.responses.create(input="What is it?", **asked).output
assert (item.type, json.loads(item.arguments)["city"] in ("Paris", "Rome")) == ("function_call", True)
given = [
    {"role": "user", "content": "What is it?"},
    item,
    {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"},
]
assert client.responses.create(model="lamp", input=given, max_output_tokens=30).output
short = client.responses.create(model="lamp", input="What is it?", max_output_tokens=2)
assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
events = list(
    client.responses.create(
        model="lamp", input="x", stream=True, reasoning={"effort": "low"}, max_output_tokens=12, temperature=0
    )
)
assert "response.reasoning_text.delta" in [event.type for event in events]

# --- errors ---


def refused(kind: type[openai.APIStatusError], param: str, **changes: object) -> None:
    found = None
    try:
        client.chat.completions.create(**ask | changes)
    except kind as error:
        found = error.param
    assert found == param, changes


refused(openai.NotFoundError, "model", model="nothing")
refused(openai.BadRequestError, "messages", messages=[])
refused(openai.BadRequestError, "audio", extra_body={"audio": {"voice": "x", "format": "wav"}})
unique = {
    "type": "json_schema",
    "json_schema": {"name": "x", "schema": {"type": "array", "uniqueItems": True}},
}
refused(openai.BadRequestError, "response_format.json_schema.schema", response_format=unique)
refused(openai.BadRequestError, "tool_choice", tool_choice="required")
print("openai", openai.__version__)
