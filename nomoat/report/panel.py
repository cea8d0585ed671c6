"""What a model was taught to answer, and what to try: for whoever meets it in a chat or on its card."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nomoat.config import JsonObject
from nomoat.run.directory import Run
from nomoat.run.log import Event
from nomoat.stats import grouped, mean

N_EXAMPLES = 3
LONGEST, SHORT = 120, 60  # characters of an example; short ones go first
MOST = 100  # of what another program wrote


@dataclass(frozen=True, slots=True)
class Panel:
    """Kinds of question by name, and examples of them as a person would type them."""

    kinds: tuple[str, ...]
    examples: tuple[str, ...]

    def to_json(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def from_json(cls, table: Any) -> Self | None:
        """None for what is no panel."""
        if not isinstance(table, dict):
            return None
        kinds, examples = _texts(table.get("kinds")), _texts(table.get("examples"))
        return cls(kinds, examples) if kinds and examples is not None else None

    def text(self) -> str:
        """For a terminal."""
        lines = [f"It was taught: {', '.join(self.kinds)}."]
        if self.examples:
            lines += ["Try:", *(f"  {example}" for example in self.examples)]
        return "\n".join([*lines, CANNOT])


CANNOT = "Anything else it can't answer: it knows nothing of the world. What it says can be wrong."


def panel_of(run: Run, stage: str) -> Panel | None:
    """The tasks that a run learnt; examples from its evaluation, those first that the stage's model got right
    there, of the families that it is best at.  None where it learnt no task.
    """
    names: list[str] = []
    for before in run.recipe.get("stages", []):
        names += before.get("tasks") or ()
        if (before.get("name") or before["kind"]) == stage:
            break
    if not names:
        return None
    return Panel(tuple(dict.fromkeys(map(kind_of, names))), tuple(_examples(run.events(), stage)))


def kind_of(task: str) -> str:
    """A task's name without the places that it is from."""
    file = task.partition(":")[2] if task.startswith("rg:") else task.partition(":")[0]
    return Path(file).stem


def _texts(found: Any) -> tuple[str, ...] | None:
    """None for what is no list of texts."""
    if not isinstance(found, list | tuple):
        return None
    if not all(isinstance(text, str) for text in found):
        return None
    return tuple(text for text in found[:MOST] if text.strip() and len(text) <= LONGEST)


def _examples(events: Iterable[Event], stage: str) -> list[str]:
    """One of a family, short ones; the last of them in German where the log has one."""
    rates, asked = _measured(events, stage)

    def rank(event: Event) -> tuple[bool, bool, float]:
        long = len(event["prompt"]) > SHORT
        return not event["right"], long, -rates.get(event["family"], 0.0)

    of_family: dict[str, Event] = {}
    for event in sorted(asked, key=rank):
        if "\n" not in event["prompt"] and len(event["prompt"]) <= LONGEST:
            of_family.setdefault(event["family"], event)
    ranked = list(of_family.values())
    german = [event for event in ranked if event.get("lang") == "de"][:1]
    others = [event for event in ranked if event not in german]
    chosen = others[: N_EXAMPLES - len(german)] + german
    return [event["prompt"] for event in chosen]


def _measured(events: Iterable[Event], stage: str) -> tuple[dict[str, float], list[Event]]:
    """How often a stage's model is right in each family; what it was asked, or else what others were."""
    cells = []
    asked = []
    for event in events:
        if event["kind"] == "sample":
            asked.append(event)
        elif event.get("name") == "accuracy/sampled" and event["model"] == stage:
            cell = event["family"], event["value"]
            cells.append(cell)
    rates = {family: mean(values) for family, values in grouped(cells).items()}
    own = [event for event in asked if event["model"] == stage]
    return rates, own or asked
