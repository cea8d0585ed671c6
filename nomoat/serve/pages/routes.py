"""The routes that the pages ask for; unlike their files they stand behind the keys."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.config import JsonObject, UserError
from nomoat.serve import fields
from nomoat.serve.answer import Json, connected
from nomoat.serve.app import App
from nomoat.serve.limits import decode
from nomoat.serve.pages import asking, inspecting, lab
from nomoat.serve.pages.bodies import AskBody, InspectBody, ProblemBody, VerdictBody
from nomoat.serve.pages.checks import Checks, tasks_of
from nomoat.serve.pages.models import Models
from nomoat.serve.refusal import Refusal

B = TypeVar("B", bound=fields.Body)


def api(tasks: Sequence[str] = (), runs: Path | None = None, served: Sequence[Path] = ()) -> list[Route]:
    """All of /api.  `tasks` are files of a person's own tasks, `runs` is the directory that the lab shows,
    with the runs in `served`.

    A UserError, where one of these can't be read, comes before anything is served.
    """
    checks, models = Checks(tasks_of(tasks)), Models()

    async def listed(app: App, request: Request) -> JsonObject:
        return await asyncio.to_thread(models.all, [*app.shelf.entries.values()])

    async def kinds(app: App, request: Request) -> JsonObject:
        return await asyncio.to_thread(checks.kinds)

    async def inspect(app: App, request: Request, body: InspectBody) -> JsonObject:
        model = await app.shelf.get(body.model)
        return await asyncio.to_thread(inspecting.inspected, body, model, app.worker)

    async def problem(app: App, request: Request, body: ProblemBody) -> JsonObject:
        return await asyncio.to_thread(checks.problem, body)

    async def verdict(app: App, request: Request, body: VerdictBody) -> JsonObject:
        return await asyncio.to_thread(checks.verdict, body)

    async def ask(app: App, request: Request, body: AskBody) -> JsonObject:
        task, drawn = await asyncio.to_thread(checks.drawn, body, body.seed)
        model = await app.shelf.get(body.model)
        asked = await asyncio.to_thread(asking.asked_of, body, drawn, model)
        app.admit(body.n)
        async with connected(request.receive):
            return await asking.ask(app.desk, model, task, drawn, asked)

    return [
        Route("/api/models", getting(listed), methods=["GET"]),
        Route("/api/kinds", getting(kinds), methods=["GET"]),
        Route("/api/inspect", posting(InspectBody, inspect), methods=["POST"]),
        Route("/api/problem", posting(ProblemBody, problem), methods=["POST"]),
        Route("/api/verdict", posting(VerdictBody, verdict), methods=["POST"]),
        Route("/api/ask", posting(AskBody, ask), methods=["POST"]),
        *lab.routes(runs, served),
    ]


def getting(
    answered: Callable[[App, Request], Awaitable[JsonObject]],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await told(answered(request.scope["app"], request))

    return endpoint


def posting(
    cls: type[B], answered: Callable[[App, Request, B], Awaitable[JsonObject]]
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose body is of `cls`."""

    async def endpoint(request: Request) -> Response:
        app: App = request.scope["app"]
        body = fields.parse(cls, decode(await app.read(request), app.bounds.depth))
        return await told(answered(app, request, body))

    return endpoint


async def told(answer: Awaitable[JsonObject]) -> Response:
    """What a person can mend is no mistake of the server."""
    try:
        return Json(await answer)
    except UserError as error:
        raise Refusal(str(error)) from None
