"""An answer on its way: tokens from the engine become deltas, these the events of a stream or one object."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nomoat.config import JsonObject
from nomoat.serve.asked import Asked, Choice, Delta, Event, Form, Usage
from nomoat.serve.metrics import Metrics
from nomoat.serve.refusal import Refusal
from nomoat.serve.reply import Reply
from nomoat.serve.shelf import Served
from nomoat.serve.worker import Job, Worker

PING_SECONDS = 15.0  # of silence, before a comment says that the connection lives
PING = b": ping\n\n"
Write = Callable[[Iterable[Event]], Awaitable[None]]


class Gone(Exception):
    """The client has closed its connection; nobody is left to answer."""


@contextlib.asynccontextmanager
async def connected(receive: Receive) -> AsyncIterator[None]:
    """A block that ends with Gone as soon as the client does; its body was read before."""
    task, gone = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise Gone from None
        raise
    finally:
        watcher.cancel()


async def deltas(job: Job, asked: Asked, served: Served, usage: Usage) -> AsyncIterator[Delta]:
    """What the choices have more, as it comes; `usage` is added up meanwhile."""
    n = asked.requests[0].n
    replies: dict[int, Reply] = {}
    ended: set[int] = set()
    async for i, token in job.tokens():
        number = i * n + token.sample
        if number not in replies:
            replies[number] = Reply(asked, number, served.tokenizer)
            if token.sample == 0:
                usage.cached_tokens += token.n_cached or 0
        usage.first_token_seconds = job.first_seconds
        usage.completion_tokens += 1
        usage.n_drafts += token.n_drafts
        usage.n_accepted += token.n_accepted
        for delta in replies[number].read(token):
            yield delta
        if token.stop:
            usage.reasoning_tokens += replies.pop(number).n_thinking
            ended.add(number)
    for number in range(n * len(asked.requests)):  # those that took too long
        if number not in ended:
            yield replies.get(number, Reply(asked, number, served.tokenizer)).cut()
    usage.seconds = job.seconds
    usage.joules, usage.joules_source = job.joules, job.joules_source


@dataclass(frozen=True, slots=True)
class Desk:
    """Who answers, how long at most, and who counts."""

    worker: Worker
    metrics: Metrics
    seconds: float


async def answer(desk: Desk, receive: Receive, served: Served, asked: Asked, form: Form) -> Response:
    """The whole answer, or a response that streams it."""
    if asked.stream:
        return Stream(desk, served, asked, form)
    usage = usage_of(asked)
    choices = [Choice() for request in asked.requests for _ in range(request.n)]
    with desk.metrics.answering(served.name, usage):
        async with connected(receive):
            with desk.worker.queue(served.engine, asked.requests, desk.seconds) as job:
                async for delta in deltas(job, asked, served, usage):
                    choices[delta.choice].add(delta)
    return Json(form.whole(choices, usage))


class Stream(Response):
    """Server-sent events of one answer."""

    def __init__(self, desk: Desk, served: Served, asked: Asked, form: Form):
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self.desk, self.served, self.asked, self.form = desk, served, asked, form
        self.sent = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk, usage = self.desk, usage_of(self.asked)

        async def write(events: Iterable[Event]) -> None:
            if data := written(events):
                self.sent = time.monotonic()
                await send({"type": "http.response.body", "body": data, "more_body": True})

        with desk.metrics.answering(self.served.name, usage):
            async with connected(receive), pinging(self, send):
                with desk.worker.queue(self.served.engine, self.asked.requests, desk.seconds) as job:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await self.events(job, usage, write)
                await send({"type": "http.response.body", "body": b""})

    async def events(self, job: Job, usage: Usage, write: Write) -> None:
        form = self.form
        try:
            await write(form.begin(sum(request.n for request in self.asked.requests)))
            async for delta in deltas(job, self.asked, self.served, usage):
                await write(form.delta(delta))
            await write(form.end(usage))
        except Refusal as refusal:  # too late for a status
            await write(form.error(refusal.as_json()))


@contextlib.asynccontextmanager
async def pinging(stream: Stream, send: Send) -> AsyncIterator[None]:
    """A comment now and then, while nothing else is sent."""

    async def ping() -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            if time.monotonic() - stream.sent >= PING_SECONDS:
                await send({"type": "http.response.body", "body": PING, "more_body": True})

    pinger = asyncio.create_task(ping())
    try:
        yield
    finally:
        pinger.cancel()


class Json(Response):
    media_type = "application/json"

    def render(self, content: JsonObject) -> bytes:
        return encoded(content)


def usage_of(asked: Asked) -> Usage:
    return Usage(sum(len(request.prompt) for request in asked.requests))


def written(events: Iterable[Event]) -> bytes:
    """Events as they go over the wire."""
    return b"".join(
        (f"event: {event.name}\n" if event.name else "").encode() + b"data: " + encoded(event.data) + b"\n\n"
        for event in events
    )


def encoded(data: JsonObject | str) -> bytes:
    """UTF-8; half a surrogate pair, which a client may have sent in a name, becomes `?`."""
    if isinstance(data, str):
        return data.encode()
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
