"""The arguments that verbs share, and what `--help` says of them."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg


def said(help: str, **more: Any) -> Any:
    """An argument whose help says all; no word about defaults is added."""
    return arg(help=help, help_behavior_hint="", **more)


RunDir = Positional[Annotated[Path, said("a run directory", metavar="RUN")]]
Sets = Annotated[tuple[str, ...], said("change the recipe: stage.key=value", name="set", metavar="KEY=VALUE")]
Json = Annotated[bool, said("print JSON")]
Plan = Annotated[bool, said("print what it would cost, and do nothing")]
From = Annotated[
    Path | None,
    said("take over the finished stages of this run that are the same", name="from", metavar="RUN"),
]
TaskFile = Annotated[
    str | None, said("learn this task instead: a .py or .jsonl file, or a family", metavar="FILE")
]
OneStage = Annotated[str | None, said("only the stage of this name", metavar="STAGE")]
WhoseWeights = Annotated[str | None, said("whose weights (default: the best evaluated)", metavar="STAGE")]
RlStage = Annotated[str | None, said("a stage of kind rl (default: the last that began)", metavar="STAGE")]
KeptIn = Annotated[Path, said("where runs are kept: the same command goes on", metavar="DIR")]
Budget = Annotated[
    str, said("device time of one arm, such as 5m; a seed takes ten to thirty times that", metavar="TIME")
]
Seeds = Annotated[int, said("how often everything is trained", metavar="N")]
Text = Annotated[str | None, said("text to train on (default: what ships)", metavar="PATH")]
Threads = Annotated[int, said("of the processor", metavar="N")]
