"""The verbs that use a model."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from nomoat.cli.args import WhoseWeights, said


def chat(
    directory: Positional[Annotated[Path, said("a run directory or an exported model", "RUN")]],
    /,
    *,
    prompt: Annotated[
        str | None, said('answer once; "-" reads standard input', "TEXT", aliases=["-p"])
    ] = None,
    stage: WhoseWeights = None,
    system: Annotated[str | None, said("system prompt", "TEXT")] = None,
    think: Annotated[Literal["on", "off", "auto"], said("think before answering")] = "auto",
    temperature: Annotated[float, said("0 takes the likeliest token", "X")] = 0.0,
    max_tokens: Annotated[int, said("longest reply", "N")] = 512,
    seed: int = 0,
) -> int:
    """Talk to a model, in the terminal or in a pipe."""
    from nomoat.serve import loading, terminal
    from nomoat.serve.bot import Bot
    from nomoat.serve.talk import THINK

    loaded = loading.load(directory, stage)
    bot = Bot(loaded.model, loaded.tokenizer, temperature=temperature, max_new_tokens=max_tokens, seed=seed)
    return terminal.chat(bot, prompt=prompt, system=system, think=THINK[think])
