"""What several stages do with weights and tokenizers."""

from typing import Any

import torch

from nomoat.config import DataError, WeightsError, parse
from nomoat.model.spec import ModelSpec
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.optim import Optimizer
from nomoat.train.session import Session, Work
from nomoat.weights import directory as weights

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that this run's tokenizer stage left."""
    left = [e["outputs"] for e in run.events("stage_end") if "tokenizer" in e["outputs"]]
    if not left:
        raise DataError(f"{run.root} has no tokenizer yet; run its tokenizer stage first")
    path, wanted = run.root / left[-1]["tokenizer"], left[-1]["fingerprint"]
    tokenizer = Tokenizer.load(path)
    if tokenizer.fingerprint != wanted:
        raise WeightsError(
            f"{path} is not the tokenizer that this run trained (found {tokenizer.fingerprint[:12]}, "
            f"expected {wanted[:12]}); restore it"
        )
    return tokenizer


def load_model(session: Session, source: str | None, spec: ModelSpec | None = None) -> Transformer:
    """The weights that stage `source` left, float32, in the shape of `spec` (by default the spec that they
    had)."""
    path = session.run.root / finished(session.run, source, session.stage)["outputs"]["model"]
    model = Transformer(spec or spec_of(session, source))
    try:
        model.load_state_dict(weights.load(path).state_dict())
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not hold the weights that {source} left: {error}; restore it"
        ) from None
    return model


def spec_of(session: Session, source: str | None) -> ModelSpec:
    """The shape of the model that stage `source` left, and how this project multiplies it."""
    return parse(ModelSpec, finished(session.run, source, session.stage)["outputs"]["spec"], f"{source}.spec")


def finished(run: Run, source: str | None, wanted_by: str) -> dict[str, Any]:
    """The stage_end record of a stage that left weights."""
    if source is None:
        raise DataError(
            f"stage {wanted_by} starts from weights, but no stage before it leaves any; set its `from`"
        )
    end = run.finished(source)
    if end is None or "model" not in end["outputs"]:
        raise DataError(
            f"stage {wanted_by} starts from the weights of {source}, which has not finished; "
            f"run {source} first"
        )
    return end


def to_device(model: Transformer, session: Session, precision: str) -> Transformer:
    """Parameters in the stage's precision; routing biases stay float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(session.mesh.device, DTYPES[precision])
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(session.mesh.device))
    return model


def save_model(
    session: Session, model: Transformer, optimizer: Optimizer, tokenizer: Tokenizer
) -> dict[str, Any]:
    """RUN/<stage>/model, a Hugging Face directory with the float32 master weights; gives the stage's
    outputs."""
    relative = f"{session.stage}/model"
    if session.leads:
        with Work(session, "save weights"), torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.data = optimizer.master[name].clone()
            weights.save(model, session.run.root / relative, tokenizer=tokenizer)
    session.mesh.barrier()
    size = {"parameters": model.spec.params_total(), "active": model.spec.params_active()}
    return {"model": relative, "spec": model.spec.model_dump(), **size}
