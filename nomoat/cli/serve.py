"""The verb that serves models to other programs."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from nomoat.cli import say
from nomoat.cli.args import Json, said

MODELS = Positional[
    Annotated[tuple[str, ...], said("what `chat` takes, with every stage (default: what ships)", "[MODEL …]")]
]
Named = UseAppendAction[
    Annotated[tuple[str, ...], said("one more, under a name of its own; repeat it", "NAME=MODEL")]
]
Hosts = UseAppendAction[
    Annotated[tuple[str, ...], said("a name that clients call this machine by; repeat it", "NAME")]
]


def serve(
    sources: MODELS = (),
    /,
    *,
    model: Named = (),
    address: Annotated[str, said("any that others can reach asks for --keys", "ADDRESS")] = "127.0.0.1",
    port: Annotated[int, said("0: a free one", "N")] = 8000,
    host: Hosts = (),
    keys: Annotated[Path | None, said("API keys, one a line", "FILE")] = None,
    type: Annotated[Literal["f32", "bf16", "int8"], said("of the weights in memory")] = "f32",
    rows: Annotated[int, said("replies that are written at the same time", "N")] = 32,
    plan: Annotated[bool, said("print what would be served, and do nothing")] = False,
    json: Json = False,
) -> int:
    """Serve models over HTTP, for OpenAI's clients."""
    from nomoat.parallel.contention import Polite
    from nomoat.serve import server
    from nomoat.serve.app import App
    from nomoat.serve.limits import Doors, read_keys
    from nomoat.serve.shelf import Shelf, described, entries

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # requests are short: threads would only wait
    names = frozenset(name.lower() for name in host)
    doors = Doors(address, names, read_keys(keys) if keys else frozenset())
    listed = entries(sources, model)
    models = [described(entry, type) for entry in listed]
    if plan:
        return told(models, json)
    bound = server.listening(address, port)
    shelf = Shelf(listed, rows, stored=type)
    listed[0].served = shelf.load(listed[0], say.aside)
    bound.listen(server.BACKLOG)  # whoever comes from now on is answered
    say.aside(f"{', '.join(shelf.entries)}; Ctrl-C ends it when what runs is finished")
    url = f"{server.url_of(bound)}/v1"
    say.result(dumped({"url": url, "models": list(shelf.entries)}) if json else url, at_once=True)
    with Polite():
        server.serve(App(shelf, doors), bound)
    return 0


def told(models: list[dict[str, Any]], json: bool) -> int:
    from nomoat.report.table import Table

    if json:
        return say.as_json({"models": models})
    rows = [[f"{v:,}" if isinstance(v, int) else v for v in model.values()] for model in models]
    return say.tables([Table("Models that would be served", list(models[0]), rows, words=["from"])])


def dumped(value: dict[str, Any]) -> str:
    from json import dumps

    return dumps(value)
