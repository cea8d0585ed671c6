"""A chat's deltas as the items of /v1/responses."""

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from nomoat.config import JsonObject
from nomoat.serve.asked import Asked, Choice, Delta, Event, Usage
from nomoat.serve.calls import Piece
from nomoat.serve.responses import LOGPROBS, FlatChoice, FlatTool, ResponseBody
from nomoat.serve.shelf import Served
from nomoat.serve.tokens import chat_logprobs


class Response:
    """The form of /v1/responses; one is for one answer."""

    def __init__(self, body: ResponseBody, served: Served, asked: Asked):
        self.body, self.served = body, served
        self.id = f"resp_{secrets.token_hex(16)}"
        self.created = int(time.time())
        self.with_logprobs = LOGPROBS in (body.include or ())
        self.output: list[JsonObject] = []
        self.text: str | None = None  # of the last item, while that is open
        self.logprobs: list[JsonObject] = []  # of that text
        self.arguments: str | None = None  # of the last item, while it is a call that goes on
        self.finish: str | None = None
        self.n_events = 0

    def event(self, kind: str, **fields: Any) -> Event:
        self.n_events += 1
        return Event({"type": kind, "sequence_number": self.n_events - 1, **fields}, kind)

    def begin(self, n_choices: int) -> Iterator[Event]:
        for kind in ("response.created", "response.in_progress"):
            yield self.event(kind, response=self.object("in_progress", None))

    def delta(self, delta: Delta) -> Iterator[Event]:
        entries = chat_logprobs([delta], self.served.tokenizer) if self.with_logprobs else None
        logprobs = entries["content"] if entries else []
        if delta.text:
            yield from self.said(delta.text, delta.kind, logprobs)
        for piece in delta.calls:
            yield from self.called(piece)
        self.finish = delta.finish or self.finish

    def said(self, text: str, kind: str, logprobs: list[JsonObject]) -> Iterator[Event]:
        """More text, in the item that is open or in a new one."""
        wanted = "message" if kind == "answer" else "reasoning"
        if self.text is not None and self.output[-1]["type"] != wanted:
            yield from self.close()
        if self.text is None:
            yield from self.open(wanted)
        self.text += text
        more = {"logprobs": logprobs} if wanted == "message" else {}
        self.logprobs += logprobs
        yield self.event(f"{DELTAS[wanted]}.delta", **self.place(), content_index=0, delta=text, **more)

    def open(self, kind: str) -> Iterator[Event]:
        self.text, self.logprobs = "", []
        if kind == "message":
            item = {"id": f"msg_{secrets.token_hex(16)}", "type": kind, "role": "assistant"}
        else:
            item = {"id": f"rs_{secrets.token_hex(16)}", "type": kind, "summary": []}
        self.output.append(item | {"status": "in_progress", "content": []})
        yield self.event(
            "response.output_item.added", output_index=len(self.output) - 1, item=dict(self.output[-1])
        )
        yield self.event("response.content_part.added", **self.place(), content_index=0, part=self.part())

    def close(self) -> Iterator[Event]:
        """The item that is open is whole."""
        if self.text is None:
            return
        item, part = self.output[-1], self.part()
        place = {**self.place(), "content_index": 0}
        more = {"logprobs": self.logprobs} if item["type"] == "message" else {}
        yield self.event(f"{DELTAS[item['type']]}.done", **place, text=self.text, **more)
        yield self.event("response.content_part.done", **place, part=part)
        status = "incomplete" if self.finish == "length" else "completed"
        item |= {"content": [part], "status": status}
        yield self.event("response.output_item.done", output_index=len(self.output) - 1, item=item)
        self.text = None

    def called(self, piece: Piece) -> Iterator[Event]:
        if piece.first:
            yield from self.close()
            item = {"id": f"fc_{secrets.token_hex(16)}", "type": "function_call", "call_id": piece.id}
            self.output.append(item | {"name": piece.name, "arguments": "", "status": "in_progress"})
            self.arguments = ""
            yield self.event(
                "response.output_item.added", output_index=len(self.output) - 1, item=dict(self.output[-1])
            )
        self.arguments += piece.text
        yield self.event("response.function_call_arguments.delta", **self.place(), delta=piece.text)
        if piece.last:
            yield from self.close_call("completed")

    def close_call(self, status: str) -> Iterator[Event]:
        """The call that is open gets no more arguments."""
        item = self.output[-1]
        item |= {"arguments": self.arguments, "status": status}
        done = "response.function_call_arguments.done"
        yield self.event(done, **self.place(), name=item["name"], arguments=self.arguments)
        yield self.event("response.output_item.done", output_index=len(self.output) - 1, item=item)
        self.arguments = None

    def place(self) -> JsonObject:
        return {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}

    def part(self) -> JsonObject:
        if self.output[-1]["type"] == "message":
            return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}
        return {"type": "reasoning_text", "text": self.text}

    def end(self, usage: Usage) -> Iterator[Event]:
        yield from self.close()
        status = "incomplete" if self.finish == "length" else "completed"
        if self.arguments is not None:
            yield from self.close_call("incomplete")
        yield self.event(f"response.{status}", response=self.object(status, usage))

    def error(self, error: JsonObject) -> Iterator[Event]:
        said = error["error"]
        failed = {"code": "server_error", "message": said["message"]}
        yield self.event("error", code=said["code"], message=said["message"], param=said["param"])
        yield self.event("response.failed", response=self.object("failed", None) | {"error": failed})

    def whole(self, choices: Sequence[Choice], usage: Usage) -> JsonObject:
        events = [event for delta in choices[0].deltas for event in self.delta(delta)] + [*self.end(usage)]
        return events[-1].data["response"]

    def object(self, status: str, usage: Usage | None) -> JsonObject:
        """The response as it stands, with what was asked for."""
        body = self.body
        form = (
            body.text.format.model_dump(by_alias=True, exclude_none=True)
            if body.text and body.text.format
            else None
        )
        tools = [
            {"description": None, "parameters": None, "strict": False} | dumped_tool(t)
            for t in body.tools or ()
        ]
        choice = (
            body.tool_choice.model_dump() if isinstance(body.tool_choice, FlatChoice) else body.tool_choice
        )
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **ABSENT,
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if usage else None,
            "status": status,
            "incomplete_details": cut,
            "model": self.served.name,
            "output": [dict(item) for item in self.output],
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "presence_penalty": body.presence_penalty or 0.0,
            "frequency_penalty": body.frequency_penalty or 0.0,
            "top_logprobs": body.top_logprobs or 0,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "tools": tools,
            "tool_choice": choice or "auto",
            "text": {"format": form or {"type": "text"}, "verbosity": "medium"},
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "metadata": body.metadata or {},
            "user": body.user,
            "usage": usage and usage_of(usage),
        }


DELTAS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
ABSENT: JsonObject = {
    "error": None, "previous_response_id": None, "store": False, "background": False, "max_tool_calls": None,
    "truncation": "disabled", "service_tier": "default",
    "safety_identifier": None, "prompt_cache_key": None,
}  # fmt: skip


def dumped_tool(tool: FlatTool) -> JsonObject:
    return tool.model_dump(exclude_none=True)


def usage_of(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
