"""What several stages do with weights and tokenizers."""

from pathlib import Path

import torch

from nomoat.config import DataError, WeightsError
from nomoat.model.spec import ModelSpec
from nomoat.model.transformer import Transformer
from nomoat.run import Run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Session, Work
from nomoat.train.optim import Optimizer
from nomoat.weights import hf

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that this run's tokenizer stage left."""
    for event in reversed(run.events("stage_end")):
        if "tokenizer" in event["outputs"]:
            tokenizer = Tokenizer.load(run.root / event["outputs"]["tokenizer"])
            if tokenizer.fingerprint != event["outputs"]["fingerprint"]:
                raise WeightsError(
                    f"{run.root / event['outputs']['tokenizer']} is not the tokenizer that this run trained "
                    f"(found {tokenizer.fingerprint[:12]}, expected {event['outputs']['fingerprint'][:12]}); restore it"
                )
            return tokenizer
    raise DataError(f"{run.root} has no tokenizer yet; run its tokenizer stage first")


def load_model(session: Session, source: str | None, spec: ModelSpec | None = None) -> Transformer:
    """The weights that stage `source` left; `spec` says how to multiply them (and may stretch their context)."""
    if source is None:
        raise DataError(f"stage {session.stage} starts from weights, but no stage before it leaves any; set `from`")
    end = session.run.finished(source)
    if end is None or "model" not in end["outputs"]:
        raise DataError(f"stage {session.stage} starts from {source}, which has not finished; run {source} first")
    model = hf.load(session.run.root / end["outputs"]["model"])
    if spec is None:
        return model
    again = Transformer(spec)
    again.load_state_dict(model.state_dict())
    return again


def spec_like(session: Session, source: str, specs: dict[str, ModelSpec]) -> ModelSpec | None:
    """The recipe's spec with the shape of what `source` left, for its ways of multiplying."""
    end = session.run.finished(source)
    return specs.get(end["outputs"].get("spec")) if end else None


def to_device(model: Transformer, session: Session, precision: str) -> Transformer:
    """Parameters in the stage's precision; routing biases stay float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(session.mesh.device, DTYPES[precision])
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(session.mesh.device))
    return model


def save_model(session: Session, model: Transformer, optimizer: Optimizer | None, tokenizer: Tokenizer) -> str:
    """RUN/<stage>/model, a Hugging Face directory with the float32 master weights; gives its path inside the run."""
    relative = f"{session.stage}/model"
    if session.leads:
        with Work(session, "save weights"), torch.no_grad():
            for name, parameter in model.named_parameters():
                master = optimizer.master[name] if optimizer else parameter.data.float()
                parameter.data = master.detach().clone()
            hf.save(model, Path(session.run.root) / relative, tokenizer=tokenizer)
    session.mesh.barrier()
    return relative
