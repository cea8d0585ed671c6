"""The model card: what a model is, from what and by what it was made, what that cost, how well it does.

Of a run from its event log alone; of a model that came in from outside, what its files say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nomoat.report.panel import Panel, panel_of
from nomoat.report.receipt import receipt_of, receipt_table
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.log import last_scores

TRANSFORMERS, LLAMACPP, PEFT = "transformers", "gguf", "peft"  # as model hubs call what opens files
FRONT = """\
---
license: {licence}
library_name: {library}
pipeline_tag: text-generation
---

# {title}

{what}
"""
LIMITS = """
## Limits

It was trained on little text and on worked tasks whose answers a program decides. It knows nothing else: do
not rely on what it says, and measure it on your own questions first.
"""
LIMITS_OF_GIVEN = """
## Limits

Those of the model that it began with, beside what it was taught here; measure it on your own questions first.
"""
SHIPPED = (
    "the text that ships with nomoat: public-domain books and permissively licensed documentation, each "
    "listed with version and licence in its DATA.md"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model that nomoat did not train comes from."""

    name: str
    licence: str | None
    card: str | None = None  # what its README.md says


def of_run(run: Run, stage: str, size: str, library: str = TRANSFORMERS) -> str:
    """The card of what `stage` left; `size` as model.counts says it; `library`: what opens the files."""
    recipe = run.recipe
    bases = given(run)
    sources = [f"the weights of `{left['source']}`" for left in bases]
    begun = " and ".join(sources) or "nothing"
    what = (
        f"A model with {size}, trained from {begun} by the nomoat recipe "
        f"`{recipe['name']}` (seed {recipe['seed']}), stage `{stage}`."
    )
    title = f"{recipe['name']} / {stage}"
    licence = licence_of(run) or "other"
    parts = [FRONT.format(licence=licence, library=library, title=title, what=what)]
    if panel := panel_of(run, stage):
        parts.append("\n## What to ask\n\n" + _asked(panel))
    parts.append("\n## Made from\n\n" + "".join(f"- {line}\n" for line in made_from(run)))
    parts.append("\n## Cost\n\n" + _markdown(receipt_table(receipt_of(run))))
    if scores := _scores(event for event in run.events("score") if event.get("model") == stage):
        parts.append("\n## Scores\n\nOn problems and text that no stage trained on.\n\n" + scores)
    return "".join([*parts, LIMITS_OF_GIVEN if bases else LIMITS])


def given(run: Run) -> list[dict[str, Any]]:
    """What the stages left that took in weights from outside: source, licence and digest among it."""
    names = [stage["name"] for stage in run.recipe.get("stages", []) if stage["kind"] == "import"]
    return [end["outputs"] for end in map(run.finished, names) if end]


def licence_of(run: Run) -> str | None:
    """Of what a run makes: that of the weights which it began with, if there were any."""
    bases = given(run)
    return bases[0]["licence"] if bases else "apache-2.0"


def of_origin(origin: Origin, size: str, library: str = TRANSFORMERS) -> str:
    """The card of a model that came in and leaves again as it is."""
    licence = origin.licence or "unknown, ask its publisher"
    what = (
        f"The weights of `{origin.name}` in another file format: {size}. "
        f"Nothing was trained. Licence of the original: {licence}."
    )
    named = {"licence": origin.licence or "other", "library": library}
    front = FRONT.format(**named, title=origin.name, what=what)
    if origin.card is None:
        return front + "\n## Limits\n\nThose of the original; read its own card.\n"
    _, _, body = origin.card.rpartition("\n---\n") if origin.card.startswith("---") else ("", "", origin.card)
    return f"{front}\n## The card of the original\n\n{body.strip()}\n"


def _asked(panel: Panel) -> str:
    examples = "".join(f"- `{example}`\n" for example in panel.examples)
    return f"It was taught: {', '.join(panel.kinds)}.\n" + (f"\n{examples}" if examples else "")


def made_from(run: Run) -> list[str]:
    """A line for each stage that read something, in the order of the recipe."""
    lines = []
    for stage in run.recipe.get("stages", []):
        name = stage.get("name") or stage["kind"]
        if stage["kind"] == "import" and (end := run.finished(name)):
            left = end["outputs"]
            licence = left["licence"] or "that its files don't name"
            lines.append(
                f"{name}: the weights of {left['source']} (sha256 {left['read'][:12]}), licence: {licence}"
            )
        if stage["kind"] in ("pretrain", "extend"):
            lines.append(f"{name}: {_text(stage)}")
        if tasks := stage.get("tasks"):
            lines.append(f"{name}: tasks that a program makes and decides: {', '.join(sorted(tasks))}")
    return lines


def _text(stage: dict[str, Any]) -> str:
    if stage.get("hub"):
        return f"the data set {stage['hub']}, under its own licence"
    if stage.get("text"):
        return "text of whoever ran the recipe, under a licence that is not recorded"
    return SHIPPED


def _scores(events: Iterable[dict[str, Any]]) -> str:
    """The last measurement of each thing; nothing where nothing was measured."""
    rows = [_score(event) for event in last_scores(events)]
    return _markdown(Table("", ("score", "value", "95 % interval", "n"), rows)) if rows else ""


def _score(event: dict[str, Any]) -> tuple[str, ...]:
    place = f" {event['family']}/{event['level']}" if event.get("family") else ""
    interval = ""
    if event.get("low") is not None:
        interval = f"{event['low']:.3f} to {event['high']:.3f}"
    return event["name"] + place, f"{event['value']:.4f}", interval, str(event.get("n", ""))


def _markdown(table: Table) -> str:
    rows = [table.header, tuple("---" for _ in table.header), *table.rows]
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{lines}\n{table.note}\n" if table.note else lines
