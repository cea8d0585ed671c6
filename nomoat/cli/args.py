"""The arguments that verbs share, and what `--help` says of them."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from nomoat.config import ConfigError

RANGES = {  # of the numbers that verbs take, by their flag; other ranges are said where they are used
    "seed": (-(2**63), 2**63 - 1),
    "port": (0, 65535),
    **dict.fromkeys(("top_p", "min_p"), (0, 1)),
    **dict.fromkeys(("minutes", "every"), (0.001, 1e6)),
    **dict.fromkeys(("temperature", "faults"), (0, 1e6)),
    **dict.fromkeys(("top_k", "step", "min_chars"), (0, 2**31)),
    **dict.fromkeys(("max_tokens", "problems", "samples", "limit"), (1, 2**31)),
    **dict.fromkeys(("workers", "threads", "ranks", "seeds", "rows"), (1, 2**16)),
}


def bounded(verb: Callable[..., int]) -> Callable[..., int]:
    """The verb, which refuses numbers outside their ranges before it does anything."""

    @functools.wraps(verb)
    def checked(*args: Any, **named: Any) -> int:
        for name in RANGES.keys() & named.keys():
            check_range(name, named[name])
        return verb(*args, **named)

    return checked


def check_range(name: str, value: float | None) -> None:
    """ConfigError for a number outside the range of its flag."""
    low, high = RANGES[name]
    if value is None or low <= value <= high:
        return
    flag = name.replace("_", "-")
    expected = f"{low:g} to {high:g}" if value > high else f"{low:g} or more"
    raise ConfigError(f"found --{flag} {value}; expected {expected}; choose such a number")


def said(help: str, metavar: str | None = None, **more: Any) -> Any:
    """An argument whose help says all; no word about defaults is added."""
    return arg(help=help, help_behavior_hint="", metavar=metavar, **more)


Source = Positional[
    Annotated[str, said("a run, a directory, a .gguf file, a name such as smollm2, OWNER/NAME", "MODEL")]
]
MaybeSource = Positional[
    Annotated[str | None, said("run, directory, .gguf file or name; `list`: names", "[MODEL]")]
]
RunDir = Positional[Annotated[Path, said("a run directory", "RUN")]]
Sets = Annotated[tuple[str, ...], said("change the recipe: stage.key=value", "KEY=VALUE", name="set")]
Json = Annotated[bool, said("print JSON")]
Plan = Annotated[bool, said("print what it would cost, and do nothing")]
From = Annotated[
    Path | None,
    said("take over the finished stages of this run that are the same", "RUN", name="from"),
]
Continue = Annotated[
    bool, said("go on under a changed recipe or text as far as possible: not the same bits", name="continue")
]
TaskFile = Annotated[
    str | None, said("learn this task instead: a .py, .jsonl, .json or .csv file, or a family", "FILE")
]
Columns = Annotated[
    str | None, said("how the file of problems calls them: question=q,answer=a", "NAME=COLUMN,…")
]
OneStage = Annotated[str | None, said("only the stage of this name", "STAGE")]
WhoseWeights = Annotated[str | None, said("whose weights (default: the best evaluated)", "STAGE")]
RlStage = Annotated[str | None, said("a stage of kind rl (default: the last that began)", "STAGE")]
KeptIn = Annotated[Path, said("where runs are kept: the same command goes on", "DIR")]
Budget = Annotated[
    str, said("device time of one arm, such as 5m; a seed takes ten to thirty times that", "TIME")
]
Seeds = Annotated[int, said("how often everything is trained", "N")]
Text = Annotated[str | None, said("text to train on (default: what ships)", "PATH")]
Threads = Annotated[int, said("of the processor", "N")]


def with_columns(task: str, columns: str | None) -> str:
    """The name of the task under which its columns are called so."""
    if columns is None:
        return task
    from nomoat.tasks import tables

    if not tables.NAME.fullmatch(task):
        raise ConfigError(f"--columns with {task}; expected a .jsonl, .json or .csv file; leave it out")
    if not all("=" in pair for pair in columns.split(",")):
        raise ConfigError(f"--columns {columns!r}; expected such as question=q,answer=a; mend it")
    return f"{task}:{columns}"


def only(verb: Callable[..., int], given: Mapping[str, object], words: str, read: Collection[str]) -> None:
    """ConfigError for what was `given` to a verb and is none of what a use of it `read`s."""
    beside = []
    for name, parameter in inspect.signature(verb).parameters.items():
        usual = parameter.default
        is_read = name in read or usual is parameter.empty
        if is_read or given[name] == usual:
            continue
        named = parameter.kind is parameter.KEYWORD_ONLY
        option = f"--{name.strip('_').replace('_', '-')}"
        beside.append(option if named else str(given[name]))
    if beside:
        raise ConfigError(f"{words} does not read {', '.join(beside)}; expected it without; leave it out")
