"""Weights taken over while the server runs: a directory takes the place of what a model had."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.config import ConfigError, JsonObject, UserError
from nomoat.model.spec import Spec
from nomoat.serve.answer import Json
from nomoat.serve.app import App
from nomoat.serve.fields import UpdateBody
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Entry, Served

PATH = "/update_weights_from_disk"  # the words of SGLang's server


def routes(root: Path | None) -> list[Route]:
    """The route that takes weights from below `root` and from nowhere else; none without it."""
    if root is None:
        return []
    if not root.is_dir():
        raise ConfigError(f"--updates {root}; expected a directory for weights; make it first")
    return [Route(PATH, endpoint(root.resolve()), methods=["POST"])]


def endpoint(root: Path) -> Callable[[Request], Awaitable[Response]]:
    async def update(request: Request) -> Response:
        app: App = request.scope["app"]
        body, served = await app.body(request, UpdateBody)
        place = Path(body.model_path).resolve()
        if not place.is_relative_to(root):
            raise Refusal("`model_path` is not below the --updates directory of this server", "model_path")
        entry = app.shelf.entries[served.name]
        async with entry.lock:
            entry.served = await asyncio.to_thread(taken_over, app, served, place)
        return Json(success(entry.served))

    return update


def taken_over(app: App, served: Served, place: Path) -> Served:
    """The model in `place` under the name of `served`, with an engine of its own: what runs is finished with
    the weights that it began with.  Refusal unless shape and tokenizer are the same.
    """
    try:
        other = app.shelf.load(Entry(served.name, str(place)))
    except UserError as error:
        raise Refusal(str(error), "model_path") from None
    if plain(other) != plain(served):
        raise Refusal(f"`model_path` holds a model of another shape than {served.name}", "model_path")
    if other.tokenizer.fingerprint != served.tokenizer.fingerprint:
        raise Refusal(f"`model_path` holds another tokenizer than that of {served.name}", "model_path")
    return other


def plain(served: Served) -> Spec:
    """The shape without its further depths, which do not change what it says."""
    return served.engine.model.spec.changed(n_mtp=0)


def success(served: Served) -> JsonObject:
    return {"success": True, "message": f"{served.name} has the weights {served.fingerprint}"}
