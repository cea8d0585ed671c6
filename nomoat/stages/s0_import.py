"""Stage 0: weights, tokenizer and chat template that a recipe is given, taken into the run as they are."""

from typing import ClassVar

import torch

from nomoat.config import WeightsError
from nomoat.files import new_directory
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.serve import loading
from nomoat.stages import estimate, given, inputs
from nomoat.stages.recipe import Fields, Recipe, StageConfig
from nomoat.train.session import Session, Work
from nomoat.weights import directory as weights


class Config(StageConfig):
    """`model` is the one of the recipe that has a `from`."""

    leaves_weights: ClassVar[bool] = True
    model: str = "main"


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    return session.lead(lambda own: _run(own, config, recipe))


def _run(session: Session, config: Config, recipe: Recipe) -> Fields:
    source, spec = recipe.given[config.model], recipe.model(config.model)
    found = given.told(source)
    read = {place: inputs.sha256(place) for place in found.weights}
    for place, digest in read.items():
        inputs.log(session, "model", str(place.resolve()), digest, stamp=inputs.stamp_of(place))
    relative = f"{session.stage}/model"
    with Work(session, f"read {source}"):
        given.check(config.model, found, spec)
        loaded = loading.load(source, dtype=None, say=lambda text: session.log("note", text=text))
        finite(source, loaded.model)
        loaded.model.spec = spec
        with new_directory(session.run.root / relative) as directory:
            weights.save(loaded.model, directory, tokenizer=loaded.tokenizer)
    return {
        "tokenizer": relative,
        "fingerprint": loaded.tokenizer.fingerprint,
        "model": relative,
        "sha256": inputs.sha256(session.run.root / relative),
        "source": source,
        "read": read[found.weights[0]],
        "licence": loaded.origin.licence,
        "spec": spec.model_dump(),
        "parameters": counts.params_total(spec),
        "active": counts.params_active(spec),
        "bought": f"{counts.params_total(spec) / 1e6:.2f} M parameters of {source}",
    }


def finite(source: str, model: Transformer) -> None:
    """WeightsError for a tensor with numbers that are none."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not torch.isfinite(tensor).all():
            n_wrong = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{source}: {name} holds {n_wrong:,} values that are no finite numbers; expected none; fetch "
                "or export it again"
            )


def plan(config: Config, recipe: Recipe) -> Fields:
    """Its memory: the model, the pages of a .gguf file, and the largest matrix, which is converted."""
    spec = recipe.model(config.model)
    n_params = counts.params_total(spec) + counts.params_mtp(spec)
    places = given.told(recipe.given[config.model]).weights
    mapped = sum(place.stat().st_size for place in places if place.is_file())
    return {
        "parameters": counts.params_total(spec),
        "active": counts.params_active(spec),
        "memory_bytes": 4 * n_params + mapped + 4 * spec.vocab_size * spec.d_model,
        "host": estimate.taking_in(n_params),
        "weights": recipe.given[config.model],
    }
