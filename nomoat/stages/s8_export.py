"""Stage 8: a Hugging Face directory that stock `transformers` opens without remote code, and proof that it holds."""

from typing import Any

import torch

from nomoat.config import WeightsError
from nomoat.model.transformer import Transformer
from nomoat.stages.common import load_model, load_tokenizer
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tokenizer import chat
from nomoat.train.loop import Session, Work
from nomoat.weights import hf

LEAVES_WEIGHTS = False


class Config(StageConfig):
    """`models` are the stages whose weights are exported, each into a directory of its own; by default the last."""

    models: list[str] = []


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    names = config.models or [config.source]
    for name in names:
        with Work(session, f"export {name}"), torch.inference_mode():
            model = without_depths(load_model(session, name)).eval()
            directory = session.run.stage_dir(session.stage) / name
            if session.leads:
                hf.save(model, directory, tokenizer=tokenizer, card=card(session, recipe, name, model))
            session.mesh.barrier()
            ids_BT = torch.tensor([[chat.BOS, *tokenizer.encode("The lamp is on. Die Lampe ist an.")]])
            error = float((hf.load(directory)(ids_BT) - model(ids_BT)).abs().max())
            if error != 0:
                raise WeightsError(f"{directory} gives other logits than {name} (by {error}); expected equal; report this")
    return {"exports": [f"{session.stage}/{name}" for name in names], "bought": f"{len(names)} directories"}


def without_depths(model: Transformer) -> Transformer:
    """The main model alone: stock loaders do not know the extra prediction depths of small models."""
    if not model.depths:
        return model
    plain = Transformer(model.spec.model_copy(update={"n_mtp": 0}))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("depths.")})
    return plain


def card(session: Session, recipe: Recipe, name: str, model: Transformer) -> str:
    """The model card: what it is, what it was trained on, what it scored, measured by this run."""
    lines = [
        "---", "license: apache-2.0", "library_name: transformers", "pipeline_tag: text-generation", "---", "",
        f"# {recipe.name} / {name}", "",
        f"A DeepSeek-V3-shaped model with {model.spec.params_total():,} parameters ({model.spec.params_active():,} active),",
        f"trained by the nomoat recipe `{recipe.name}` (seed {recipe.seed}).", "",
        "It knows short worked tasks in English and German and little else; do not rely on what it says.", "",
        "| score | value | 95 % interval | n |", "|---|---|---|---|",
    ]  # fmt: skip
    scores = {}
    for event in session.run.events("score"):
        if event.get("model") == name:
            scores[event["name"], event.get("family"), event.get("level")] = event  # an eval that was redone: the last
    for (what, family, level), event in scores.items():
        place = f" {family}/{level}" if family else ""
        interval = f"{event['low']:.3f} to {event['high']:.3f}" if event.get("low") is not None else ""
        lines.append(f"| {what}{place} | {event['value']:.4f} | {interval} | {event.get('n', '')} |")
    return "\n".join(lines) + "\n"


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    return {"directories": len(config.models) or 1}
