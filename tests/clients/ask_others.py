"""What litellm and langchain-openai ask; the argument names one of them."""

import os
import sys

ANSWER, BASE = "The lamp is on.", os.environ["BASE"] + "/v1"


def litellm() -> None:
    import litellm

    turns = [{"role": "user", "content": "What is it?"}]
    ask = {"model": "openai/lamp", "api_base": BASE, "api_key": "none", "messages": turns, "temperature": 0}
    assert litellm.completion(**ask).choices[0].message.content == ANSWER
    parts = [part.choices[0].delta.content or "" for part in litellm.completion(**ask, stream=True)]
    assert "".join(parts) == ANSWER
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "switch", "parameters": schema}}]
    called = litellm.completion(**ask, tools=tools, tool_choice="required", parallel_tool_calls=False)
    assert called.choices[0].message.tool_calls[0].function.name == "switch"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert litellm.completion(**ask, response_format=form).choices[0].message.content in (
        '{"on": true}',
        '{"on": false}',
    )
    thought = litellm.completion(
        **ask, reasoning_effort="low", max_tokens=20, allowed_openai_params=["reasoning_effort"]
    )
    assert thought.choices[0].message.reasoning_content
    claude = {**ask, "model": "anthropic/lamp", "api_base": os.environ["BASE"], "max_tokens": 30}
    assert litellm.completion(**claude).choices[0].message.content == ANSWER
    from importlib.metadata import version

    print("litellm", version("litellm"))


def langchain_openai() -> None:
    from importlib.metadata import version

    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class Lamp(BaseModel):
        on: bool

    @tool
    def switch(on: bool) -> str:
        """Switch the lamp."""
        return "done"

    chat = ChatOpenAI(model="lamp", base_url=BASE, api_key="none", temperature=0, max_retries=0)
    assert chat.invoke("What is it?").content == ANSWER
    assert "".join(part.content for part in chat.stream("What is it?")) == ANSWER
    assert isinstance(chat.with_structured_output(Lamp).invoke("What is it?"), Lamp)
    assert isinstance(
        chat.with_structured_output(Lamp, method="function_calling").invoke("What is it?"), Lamp
    )
    bound = chat.bind_tools([switch], tool_choice="any", parallel_tool_calls=False)
    called = bound.invoke("What is it?")
    assert [call["name"] for call in called.tool_calls] == ["switch"]
    done = ToolMessage("done", tool_call_id=called.tool_calls[0]["id"])
    assert chat.bind_tools([switch]).invoke([HumanMessage("What is it?"), called, done])
    newer = ChatOpenAI(model="lamp", base_url=BASE, api_key="none", temperature=0, use_responses_api=True)
    assert newer.invoke("What is it?").text == ANSWER
    print("langchain-openai", version("langchain-openai"))


{"litellm": litellm, "langchain_openai": langchain_openai}[sys.argv[1]]()
