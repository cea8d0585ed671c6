"""The routes of the lab: runs, their curves, their rollouts, their logs as they grow; nothing here writes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.config import JsonObject, UserError
from nomoat.report import beside, curves, snapshot
from nomoat.report.leaves import AT, Leaves, Page, fitting
from nomoat.report.receipt import receipt_of
from nomoat.report.rollouts import ONLY
from nomoat.run.directory import Run
from nomoat.serve.answer import Json
from nomoat.serve.pages.follow import Following
from nomoat.serve.pages.runs import Runs
from nomoat.serve.refusal import Refusal

MOST_ROLLOUTS = 200  # of a page
POINTS = 400  # of a curve that is held against another
MOST_SAMPLES = 60  # that two runs are shown to answer


def routes(root: Path | None, others: Sequence[Path] = ()) -> list[Route]:
    """The runs in `root` and those in `others`."""
    lab = Lab(Runs(root, others))
    answered = {
        "/api/runs": lab.all,
        "/api/runs/{name}": lab.one,
        "/api/runs/{name}/curve/{stage}": lab.curve,
        "/api/runs/{name}/rollouts": lab.rollouts,
        "/api/compare": lab.compare,
    }
    return [
        *(Route(path, endpoint(answer), methods=["GET"]) for path, answer in answered.items()),
        Route("/api/runs/{name}/events", lab.events, methods=["GET"]),
    ]


def endpoint(answer: Callable[[Request], JsonObject]) -> Callable[[Request], Any]:
    """An answer that is read from disk, beside the event loop; a damaged run is no mistake of the server."""

    async def asked(request: Request) -> Response:
        try:
            return Json(await asyncio.to_thread(answer, request))
        except UserError as error:
            raise Refusal(str(error), status=409, code="damaged") from None

    return asked


class Lab:
    """What is answered of some runs."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def all(self, request: Request) -> JsonObject:
        root = self.runs.root
        return {"runs": self.runs.rows(), "directory": None if root is None else str(root)}

    def one(self, request: Request) -> JsonObject:
        name = request.path_params["name"]
        return snapshot.snapshot(self.runs.run(name), name)

    def curve(self, request: Request) -> JsonObject:
        stage = request.path_params["stage"]
        run = self.runs.stage(request.path_params["name"], stage)
        return {"line": len(run.events()), **curves.curves(run.curve(stage))}

    def rollouts(self, request: Request) -> JsonObject:
        asked = request.query_params
        leaves = self.runs.leaves(request.path_params["name"], asked.get("stage", ""))
        page = leafed(leaves, asked)
        return {"rollouts": page.records, "next": page.following, **leaves.ends()}

    def asked(self, request: Request, key: str) -> tuple[str, Run]:
        """The run that a query names."""
        name = request.query_params.get(key, "")
        return name, self.runs.run(name, key)

    def compare(self, request: Request) -> JsonObject:
        names, runs = zip(self.asked(request, "a"), self.asked(request, "b"))
        both = beside.Beside(*runs)
        changes = both.changes()
        samples = both.samples()[:MOST_SAMPLES]
        return {
            "runs": [snapshot.row(run, name, 0) for run, name in zip(runs, names)],
            "recipe": [dict(zip(("key", "one", "other"), change)) for change in changes],
            "scores": [{**vars(score), "clear": score.clear} for score in both.scores()],
            "receipts": [snapshot.bill(run, receipt_of(run)) for run in runs],
            "curves": shared(*runs),
            "samples": [vars(sample) for sample in samples],
        }

    async def events(self, request: Request) -> Response:
        after = whole(request.query_params.get("after"), "after", 0)
        seen = request.headers.get("last-event-id", "")
        if seen.isascii() and seen.isdigit():
            after = int(seen[:15])
        return Following(self.runs.path(request.path_params["name"]), after)


def shared(one: Run, other: Run) -> list[JsonObject]:
    """The loss, or the reward, of each stage that trained in both."""
    found = []
    for stage in one.recipe.get("stages", []):
        name, kind = snapshot.name_of(stage), stage["kind"]
        key = "reward" if kind == "rl" else "loss"
        both = [drawn(run, name, key) for run in (one, other)]
        if all(each["values"] for each in both):
            found.append({"stage": name, "kind": kind, "field": key, "runs": both})
    return found


def drawn(run: Run, stage: str, key: str) -> JsonObject:
    """One field of a stage's curve."""
    curve = curves.curves(run.curve(stage), POINTS)
    return {"steps": curve["steps"], "values": curve["fields"].get(key)}


def leafed(leaves: Leaves, asked: Mapping[str, str]) -> Page:
    """The page that a query is about."""
    only = kind(asked.get("only", "all"))
    family = asked.get("family") or None
    step = whole(asked.get("step"), "step")
    limit = whole(asked.get("limit"), "limit", 20)
    at = asked.get("at") or None
    if at and not AT.fullmatch(at):
        raise Refusal(f"at={at[:40]}; expected an id, STEP.NUMBER", "at")
    return leaves.page(fitting(family, only), min(limit, MOST_ROLLOUTS), at, step)


def kind(only: str) -> str:
    """A kind of rollouts; Refusal for anything else."""
    if only not in ONLY:
        raise Refusal(f"only={only[:40]}; expected {', '.join(ONLY)}", "only")
    return only


def whole(text: str | None, name: str, otherwise: int | None = None) -> int | None:
    """A whole number of a query; Refusal for anything else."""
    if text is None or text == "":
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 13):
        raise Refusal(f"{name}={text[:40]}; expected a whole number", name)
    return int(text)
