"""The verb that serves models to other programs."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import said


def serve(
    source: Positional[
        Annotated[tuple[str, ...], said("what `chat` takes; of a run, every stage", "MODEL")]
    ] = (),
    /,
    *,
    model: Annotated[tuple[str, ...], said("one more, under a name of its own", "NAME=MODEL")] = (),
    address: Annotated[str, said("any other than 127.0.0.1 asks for --keys", "ADDRESS")] = "127.0.0.1",
    port: Annotated[int, said("0: a free one", "N")] = 8000,
    host: Annotated[tuple[str, ...], said("a name that clients call this machine", "NAME")] = (),
    keys: Annotated[Path | None, said("API keys, one a line", "FILE")] = None,
    type: Annotated[Literal["f32", "bf16", "int8"], said("of the weights in memory")] = "f32",
    rows: Annotated[int, said("that run at the same time", "N")] = 32,
) -> int:
    """Serve models over HTTP, as OpenAI's clients ask."""
    from nomoat.parallel.contention import Polite
    from nomoat.serve import server, shelf
    from nomoat.serve.app import App
    from nomoat.serve.limits import Doors, read_keys

    doors = Doors(address, frozenset(host), read_keys(keys) if keys else frozenset())
    entries = shelf.entries(source, model)
    bound = server.listening(address, port)
    models = shelf.Shelf(entries, rows, stored=type)
    entries[0].served = models.load(entries[0], say.aside)
    place = bound.getsockname()
    shown = f"[{place[0]}]" if ":" in place[0] else place[0]
    bound.listen(server.BACKLOG)  # whoever comes from now on is answered
    say.result(f"http://{shown}:{place[1]}/v1", at_once=True)
    with Polite():
        server.serve(App(models, doors), bound)
    return 0
