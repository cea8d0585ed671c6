"""What Anthropic's Python client asks."""

import os

import anthropic

ANSWER = "The lamp is on."
client = anthropic.Anthropic(base_url=os.environ["BASE"], api_key="none", max_retries=0)
ask = {
    "model": "lamp",
    "max_tokens": 30,
    "messages": [{"role": "user", "content": "What is it?"}],
    "extra_body": {"temperature": 0},
}
SCHEMA = {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
TOOLS = [{"name": "weather", "description": "of a city", "input_schema": SCHEMA}]

whole = client.messages.create(**ask, system="Be brief.")
assert ([block.text for block in whole.content], whole.stop_reason) == ([ANSWER], "end_turn")
with client.messages.stream(**ask) as stream:
    assert "".join(stream.text_stream) == ANSWER
    final = stream.get_final_message()
assert final.usage.output_tokens == whole.usage.output_tokens
assert client.messages.count_tokens(model="lamp", messages=ask["messages"]).input_tokens > 0
cut = client.messages.create(**ask, stop_sequences=["x", " is"])
assert (cut.content[0].text, cut.stop_reason, cut.stop_sequence) == ("The lamp", "stop_sequence", " is")
assert client.messages.create(**ask | {"max_tokens": 2}).stop_reason == "max_tokens"
thinking = {"type": "enabled", "budget_tokens": 1024}
thought = client.messages.create(**ask | {"max_tokens": 2000}, thinking=thinking)
assert thought.content[0].type == "thinking"

once = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
for wish in ({"type": "any", "disable_parallel_tool_use": True}, once):
    called = client.messages.create(**ask | {"max_tokens": 300}, tools=TOOLS, tool_choice=wish)
    [use] = called.content
    assert (use.type, use.name, called.stop_reason) == ("tool_use", "weather", "tool_use")
    assert use.input["city"] in ("Paris", "Rome")
    with client.messages.stream(**ask | {"max_tokens": 300}, tools=TOOLS, tool_choice=wish) as stream:
        assert stream.get_final_message().content[0].input == use.input
result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
turns = [
    *ask["messages"],
    {"role": "assistant", "content": called.content},
    {"role": "user", "content": [result]},
]
assert client.messages.create(**ask | {"messages": turns}, tools=TOOLS).content
found = []
wrong = (({"messages": []}, anthropic.BadRequestError), ({"model": "x"}, anthropic.NotFoundError))
for changes, kind in wrong:
    try:
        client.messages.create(**ask | changes)
    except kind as error:
        found.append(error.body["error"]["type"])
assert found == ["invalid_request_error", "not_found_error"]
print("anthropic", anthropic.__version__)
