"""The routes that the pages ask for; unlike their files they stand behind the keys."""

from collections.abc import Sequence
from pathlib import Path

from starlette.routing import Route


def api(tasks: Sequence[str] = (), runs: Path | None = None) -> list[Route]:
    """All of /api.  `tasks` are files of a person's own tasks, `runs` is the directory that the lab shows.

    A UserError, where one of these can't be read, comes before anything is served.
    """
    return []
