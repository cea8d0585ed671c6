"""The routes of the server, and what stands before them."""

import asyncio
import contextlib
import logging
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import Receive, Scope, Send

import nomoat
from nomoat.config import JsonObject
from nomoat.serve import completions, fields, items, messages, openai, openapi, responses, structured
from nomoat.serve.answer import Desk, Gone, Json, answer
from nomoat.serve.asked import Asked, Form
from nomoat.serve.limits import Bounds, Doors, decode
from nomoat.serve.metrics import Metrics
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served, Shelf
from nomoat.serve.worker import Worker

B = TypeVar("B", bound=fields.Sampled)
LOG = logging.getLogger("nomoat.serve")
LARGE_BYTES = 8 << 10  # of a body: reading it takes long enough to be done beside the event loop


class App:
    """The ASGI application.  `more` are further routes, which find it in their scope as `app`; `static` are
    routes and mounts of files that hold no secret: they stand behind all others, and ask for no key.
    """

    def __init__(
        self,
        shelf: Shelf,
        doors: Doors,
        bounds: Bounds | None = None,
        static: Sequence[Route | Mount] = (),
        more: Sequence[Route] = (),
    ):
        self.shelf, self.doors, self.static = shelf, doors, static
        self.ending = False  # no stream of news begins, none goes on
        self.bounds = bounds = bounds or Bounds()
        self.worker, self.metrics = Worker(), Metrics()
        self.desk = Desk(self.worker, self.metrics, bounds.answer_seconds)
        routes = [
            self.continuing("/v1/chat/completions", fields.ChatBody, openai.chat, openai.Chat),
            self.continuing(
                "/v1/completions", fields.CompletionBody, completions.completion, completions.Completion
            ),
            self.continuing("/v1/responses", responses.ResponseBody, responses.response, items.Response),
            self.continuing("/v1/messages", messages.MessageBody, messages.message, messages.Message),
            self.at_once("/v1/messages/count_tokens", messages.CountBody, messages.count),
            self.at_once("/v1/tokenize", fields.TokenizeBody, completions.tokenize),
            self.at_once("/v1/detokenize", fields.DetokenizeBody, completions.detokenize),
            Route("/openapi.json", self.described_api, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{name:path}", self.model, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.counted, methods=["GET"]),
            Route("/version", self.version, methods=["GET"]),
            *more,
            *static,
        ]
        self.router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            with contextlib.suppress(asyncio.CancelledError):  # by a second Ctrl-C
                await self.lifespan(receive, send)
            return
        started = False

        async def sending(message: Mapping) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self.metrics.refused.labels(str(message["status"])).inc()
            await send(message)

        try:
            self.check(scope)
            await self.router(scope | {"app": self}, receive, sending)
        except Refusal as refusal:
            await refused(scope, refusal)(scope, receive, sending)
        except HTTPException as error:
            await unknown(scope, error)(scope, receive, sending)
        except (Gone, ClientDisconnect, asyncio.CancelledError):  # the last of these: the server has ended
            pass
        except Exception as error:  # a bug: told by where it is, never by what was asked
            LOG.error(
                "%s in %s\n%s",
                type(error).__name__,
                scope["path"],
                "".join(traceback.format_tb(error.__traceback__)),
            )
            if not started:
                failure = Refusal("a mistake of the server; its log says where", status=500, code="bug")
                await refused(scope, failure)(scope, receive, sending)
        return

    def check(self, scope: Scope) -> None:
        """Refusal for who may not ask, or says too much before asking."""
        headers = headers_of(scope)
        local, _ = scope.get("server") or (None, None)
        self.doors.check(headers, local, self.is_free(scope["path"]))
        n_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        n_bytes += sum(len(name) + len(value) for name, values in headers.items() for value in values)
        if n_bytes > self.bounds.header_bytes:
            raise Refusal(
                f"headers of {n_bytes} bytes; expected {self.bounds.header_bytes} at most", status=431
            )

    def is_free(self, path: str) -> bool:
        """Whether a path is answered without a key."""
        files = [route.path for route in self.static if isinstance(route, Route)]
        trees = [f"{route.path}/" for route in self.static if isinstance(route, Mount)]
        return path in ("/health", *files) or path.startswith(tuple(trees))

    async def lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.worker.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(self.worker.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    # --- routes that continue a text ---

    def continuing(
        self,
        path: str,
        cls: type[B],
        asked_by: Callable[[B, Served], Asked],
        form: Callable[[B, Served, Asked], Form],
    ) -> Route:
        """A route: a body of `cls` is read into what is asked, and answered in a form."""

        async def endpoint(request: Request) -> Response:
            body, served = await self.body(request, cls)
            large = int(request.headers.get("content-length", LARGE_BYTES)) >= LARGE_BYTES
            slow = large or structured.asks(body)
            asked = await asyncio.to_thread(asked_by, body, served) if slow else asked_by(body, served)
            self.admit(sum(each.n for each in asked.requests))
            return await answer(self.desk, request.receive, served, asked, form(body, served, asked))

        return Route(path, endpoint, methods=["POST"])

    def at_once(
        self, path: str, cls: type[fields.M], answered: Callable[[fields.M, Served], JsonObject]
    ) -> Route:
        """A route that needs no engine."""

        async def endpoint(request: Request) -> Response:
            body, served = await self.body(request, cls)
            return Json(await asyncio.to_thread(answered, body, served))

        return Route(path, endpoint, methods=["POST"])

    async def body(self, request: Request, cls: type[fields.M]) -> tuple[fields.M, Served]:
        """The body of a request and the model that it names."""
        body = fields.parse(cls, decode(await self.read(request), self.bounds.depth))
        return body, await self.shelf.get(body.model)

    async def read(self, request: Request) -> bytes:
        """All bytes of a body; Refusal as soon as there are too many."""
        most, parts, n_bytes = self.bounds.body_bytes, [], int(request.headers.get("content-length", 0))
        if n_bytes <= most:
            n_bytes = 0
            async for part in request.stream():
                n_bytes += len(part)
                if n_bytes > most:
                    break
                parts.append(part)
        if n_bytes > most:
            close = {"Connection": "close"}
            raise Refusal(
                f"the body is longer than {most} bytes", status=413, code="too_large", headers=close
            )
        return b"".join(parts)

    def admit(self, n_rows: int) -> None:
        """Refusal where so many more rows can't wait."""
        most = self.shelf.rows + self.bounds.queue
        if n_rows > most:
            raise Refusal(f"{n_rows} choices; expected {most} at most in one request", "n")
        if self.worker.n_rows + n_rows > most:
            wait = {"Retry-After": "1"}
            raise Refusal(
                "too many requests wait already; try again", status=429, code="queue_full", headers=wait
            )

    # --- the others ---

    async def models(self, request: Request) -> Response:
        listed = [self.described(name) for name in self.shelf.entries]
        return Json({"object": "list", "data": listed})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.shelf.entries:
            await self.shelf.get(name)
        return Json(self.described(name))

    def described(self, name: str) -> JsonObject:
        entry = self.shelf.entries[name]
        length = {"max_model_len": entry.served.context} if entry.served else {}
        return {"id": name, "object": "model", "created": entry.created, "owned_by": "nomoat", **length}

    async def health(self, request: Request) -> Response:
        if self.worker.failed:
            raise Refusal("the model has failed; restart the server", status=503, code="model_failed")
        return Json({"status": "ok"})

    async def counted(self, request: Request) -> Response:
        for entry in self.shelf.entries.values():
            if entry.served:
                engine = entry.served.engine
                n_running = len(engine.scheduler.running)
                n_waiting = max(self.worker.n_left(engine) - n_running, 0)
                self.metrics.running.labels(entry.name).set(n_running)
                self.metrics.waiting.labels(entry.name).set(n_waiting)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def described_api(self, request: Request) -> Response:
        paths = {route.path.replace(":path", "") for route in self.router.routes}
        return Json(openapi.document(paths))

    async def version(self, request: Request) -> Response:
        return Json({"version": nomoat.__version__})


def headers_of(scope: Scope) -> Mapping[bytes, list[bytes]]:
    found = defaultdict(list)
    for name, value in scope["headers"]:
        found[name.lower()].append(value)
    return found


def refused(scope: Scope, refusal: Refusal) -> Response:
    kind = {"type": "error"} if scope["path"].startswith("/v1/messages") else {}  # as Anthropic's are
    return Json(kind | refusal.as_json(), refusal.status, headers=refusal.headers)


def unknown(scope: Scope, error: HTTPException) -> Response:
    """No route, or not with this method."""
    words = {404: f"no route {scope['path']}", 405: f"{scope['method']} is not for {scope['path']}"}
    message = words.get(error.status_code, error.detail)
    return refused(scope, Refusal(message, status=error.status_code, headers=error.headers))
