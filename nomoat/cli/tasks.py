"""The verb for decidable tasks."""

import textwrap
from typing import Annotated, Literal

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import Columns, only, said, with_columns
from nomoat.config import ConfigError

READ = {"list": (), "audit": (), "new": ("target",), "check": ("target", "columns")}


def task(
    action: Positional[Literal["list", "new", "check", "audit"]],
    target: Positional[Annotated[str | None, said("a task file or a family", "[FILE]")]] = None,
    /,
    *,
    columns: Columns = None,
) -> int:
    """Write a task of your own, and check it."""
    only(task, locals(), f"task {action}", READ[action])
    from nomoat.tasks import audit, authoring, find

    if action == "list":
        for name, family in find.families().items():
            first, unseen = family.__doc__.partition("\n")[0], "  (unseen)" if name in find.UNSEEN else ""
            line = f"{name:<10}  levels {family.levels[0]}-{family.levels[-1]}  {first}{unseen}"
            say.result(textwrap.fill(line, say.width(), subsequent_indent="  "))
        return 0
    if action == "audit":
        return say.result(audit.audit().text())
    if target is None:
        raise ConfigError(f"expected a file: `nomoat task {action} mine.py`")
    if action == "new":
        return say.result(authoring.new(target))
    complaints, text = authoring.check(with_columns(target, columns))
    say.result(text)
    return 2 if complaints else 0
