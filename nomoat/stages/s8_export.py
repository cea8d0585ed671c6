"""Stage 8: a Hugging Face directory that stock `transformers` opens without remote code, and proof that it
holds."""

import shutil

import torch

from nomoat.files import sha256
from nomoat.model import counts
from nomoat.report import card
from nomoat.report.panel import panel_of
from nomoat.stages import estimate
from nomoat.stages.models import load_model, load_tokenizer
from nomoat.stages.recipe import Fields, Recipe, StageConfig
from nomoat.train.session import Session, Work
from nomoat.weights import export


class Config(StageConfig):
    """`models` are the stages whose weights are exported, each into a directory of its own; by default the
    last."""

    models: list[str] = []


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    return session.lead(lambda own: _run(own, config, recipe))


def _run(session: Session, config: Config, recipe: Recipe) -> Fields:
    tokenizer = load_tokenizer(session.run)
    names = config.models or [config.source]
    for name in names:
        with Work(session, f"export {name}"), torch.inference_mode():
            model = export.without_depths(load_model(session, name)).eval()
            directory = session.directory / name
            shutil.rmtree(directory, ignore_errors=True)  # of a stage that was interrupted
            text = card.of_run(session.run, name, counts.size(model.spec))
            panel = panel_of(session.run, name)
            beside = {
                "tokenizer": tokenizer,
                "card": text,
                "panel": panel and panel.to_json(),
            }
            export.to_directory(model, directory, **beside)
    exports = [f"{session.stage}/{name}" for name in names]
    digests = [sha256(session.run.root / place) for place in exports]
    bought = f"{len(exports)} directories"
    return {"exports": exports, "sha256s": digests, "bought": bought}


def plan(config: Config, recipe: Recipe) -> Fields:
    names = config.models or [config.source]
    n_directories = len([recipe.shape(recipe.stage(name)) for name in names])
    return {
        "directories": n_directories,
        "host": estimate.exporting(n_directories),
        "host_bytes": estimate.held("export", 1),
    }
