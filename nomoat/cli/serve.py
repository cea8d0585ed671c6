"""The verb that serves models to other programs."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from nomoat.cli import say
from nomoat.cli.args import Json, said

DEFAULT_RUNS = Path("runs")
MODELS = Positional[
    Annotated[tuple[str, ...], said("as `chat` takes, with its stages; or what ships", "[MODEL …]")]
]
Named = UseAppendAction[
    Annotated[tuple[str, ...], said("one more, under a name of its own; repeat it", "NAME=MODEL")]
]
Hosts = UseAppendAction[
    Annotated[tuple[str, ...], said("a name that clients call this machine by; repeat it", "NAME")]
]
Tasks = UseAppendAction[
    Annotated[tuple[str, ...], said("a task for the page, as of `run --task`; repeat it", "FILE")]
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
    runs: Annotated[Path | None, said("the lab shows the runs in it (default: runs)", "DIR")] = None,
    task: Tasks = (),
    updates: Annotated[
        Path | None, said("let clients replace weights by what lies in it (docs/cluster.md)", "DIR")
    ] = None,
    browser: Annotated[bool, said("open the page in a browser", name="open")] = False,
    rows: Annotated[int, said("replies that are written at the same time", "N")] = 32,
    plan: Annotated[bool, said("print what would be served, and do nothing")] = False,
    json: Json = False,
) -> int:
    """Serve models: a page to talk to them, and an API."""
    from nomoat.parallel.contention import Polite
    from nomoat.serve import server, updating
    from nomoat.serve.app import App
    from nomoat.serve.limits import Doors, read_keys
    from nomoat.serve.pages import static
    from nomoat.serve.shelf import Shelf, described, entries

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # requests are short: threads would only wait
    names = frozenset(map(str.lower, host))
    doors = Doors(address, names, read_keys(keys) if keys else frozenset())
    listed = entries(sources, model)
    shelf = Shelf(listed, rows, stored=type)
    more = [*apis(task, runs, sources), *updating.routes(updates)]
    models = [described(entry, type) for entry in listed]
    if plan:
        return told(models, json)
    bound = server.listening(address, port)
    listed[0].served = shelf.load(listed[0], say.aside)
    bound.listen(server.BACKLOG)  # whoever comes from now on is answered
    announced(list(shelf.entries), server.url_of(bound), json)
    shown(server.page_of(bound), browser)
    with Polite():
        server.serve(App(shelf, doors, static=static.routes(), more=more), bound)
    return 0


def announced(names: list[str], url: str, json: bool) -> None:
    """The models on stderr, the address of the routes on stdout."""
    say.aside(f"{', '.join(names)}; Ctrl-C ends it when what runs is finished")
    routes = f"{url}/v1"
    say.result(dumped({"url": routes, "models": names}) if json else routes, at_once=True)


def shown(page: str, browser: bool) -> None:
    """Says where the page is; `browser` opens it, beside the server, which no browser may keep waiting."""
    import threading
    import webbrowser

    say.aside(f"to talk to it, open {page} in a browser")

    def show() -> None:
        if not webbrowser.open(page):
            say.aside("no browser could be started; open the page yourself")

    if browser:
        threading.Thread(target=show, daemon=True).start()


def directory_of(runs: Path | None) -> Path:
    """Where the runs are that the lab shows, or will be; ConfigError for a named one that isn't there."""
    from nomoat.config import ConfigError

    if runs is None:
        return DEFAULT_RUNS  # also before the first run makes it
    if not runs.is_dir():
        raise ConfigError(f"--runs {runs}; expected a directory of runs; `nomoat run` writes runs/NAME")
    return runs


def apis(tasks: tuple[str, ...], runs: Path | None, sources: tuple[str, ...]) -> list[Any]:
    """The routes that the pages ask."""
    from nomoat.serve.pages import routes

    return routes.api(tasks, directory_of(runs), runs_among(sources))


def runs_among(sources: tuple[str, ...]) -> list[Path]:
    """The runs among what is served: `RUN` or `RUN/STAGE`."""
    places = [place for source in sources for place in (Path(source), Path(source).parent)]
    return [place for place in dict.fromkeys(places) if (place / "recipe.json").is_file()]


def told(models: list[dict[str, Any]], json: bool) -> int:
    from nomoat.report.table import Table

    if json:
        return say.as_json({"models": models})
    rows = [[f"{v:,}" if isinstance(v, int) else v for v in model.values()] for model in models]
    return say.tables([Table("Models that would be served", list(models[0]), rows, words=["from"])])


def dumped(value: dict[str, Any]) -> str:
    from json import dumps

    return dumps(value)
