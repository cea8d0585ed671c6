"""Out, with proof: a directory is written beside its place, read back, compared, and only then put there."""

import tempfile
from pathlib import Path

import torch

from nomoat.config import DataError, JsonObject, WeightsError
from nomoat.files import writing
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory, fp8
from nomoat.weights.families import chosen, family

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "fp8": torch.bfloat16}


def without_depths(model: Transformer) -> Transformer:
    """The main model alone: stock loaders do not know the extra prediction depths of small models."""
    if not model.depths:
        return model
    spec = model.spec.changed(n_mtp=0)
    plain = directory.empty(spec, model.kernels, dtype=model.dtype)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("depths.")})
    return plain.train(model.training)


def to_directory(
    model: Transformer,
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    card: str | None = None,
    panel: JsonObject | None = None,
    type: str = "f32",
) -> None:
    """A Hugging Face directory in `out`, which must be new; WeightsError, and nothing is left, where it reads
    back as anything else.  `type` "fp8": in DeepSeek's block-scaled FP8, what it leaves out in bf16.
    """
    vacant(out)
    with writing(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        written = Path(scratch) / out.name
        model = _cast(model, DTYPES[type])
        beside = {"tokenizer": tokenizer, "card": card, "panel": panel}
        directory.save(model, written, **beside, quantised=type == "fp8")
        if type == "fp8":
            model = _rounded(model)
        compare(model, directory.load(written, model.kernels, dtype=model.dtype), out)
        if tokenizer is not None and Tokenizer.load(written).fingerprint != tokenizer.fingerprint:
            raise WeightsError(f"the tokenizer written to {out} reads back as another; report this")
        written.rename(out)


def vacant(out: Path) -> None:
    """DataError unless something new can be made in `out`; its parent is made."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already and not empty; expected a new place; choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise DataError(
            f"can't write to {out.parent} ({error.strerror}); expected a directory of yours; choose another "
            "--out"
        ) from None


def compare(model: Transformer, back: Transformer, out: Path) -> None:
    """WeightsError with the tensors that differ, if any does by a bit; where the family says the model in
    other words (biases of zero, a scale in another place), it must be the same function.
    """
    found, expected = back.state_dict(), model.state_dict()
    if back.spec != model.spec and not _same(model, back):
        raise WeightsError(f"{out} reads back as {back.spec}; expected {model.spec}; report this")
    errors = {name: _error(found[name], tensor) for name, tensor in expected.items()}
    errors |= {name: float(found[name].abs().max()) for name in found.keys() - expected.keys()}
    different = [f"{name} (by {error:.2g})" for name, error in errors.items() if error]
    if different:
        raise WeightsError(
            f"{len(different)} tensors of {out} read back otherwise: {', '.join(different[:3])}; expected "
            "equal; report this"
        )


def _error(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference; 0 if all is equal to the bit, infinities and what is no number too."""
    same = torch.equal(one.view(torch.uint8), other.view(torch.uint8))
    return 0.0 if same else float((one.double() - other.double()).abs().max()) or 1.0


@torch.inference_mode()
def _same(model: Transformer, back: Transformer) -> bool:
    """Whether both give the same logits, as far as bf16 goes."""
    ids_BT = torch.arange(min(64, model.spec.context))[None] % model.spec.vocab_size
    expected = model(ids_BT)
    return bool(torch.allclose(back(ids_BT), expected, atol=0.02 * float(expected.abs().max())))


def _rounded(model: Transformer) -> Transformer:
    """A copy with the numbers that FP8 leaves."""
    other = directory.empty(model.spec, model.kernels, dtype=model.dtype).train(model.training)
    other.load_state_dict(model.state_dict())
    fp8.round_to(family(chosen(model.spec)).slots(other))
    return other


def _cast(model: Transformer, dtype: torch.dtype) -> Transformer:
    """The model in another precision; routers and their biases keep theirs, as loaders do."""
    if model.dtype == dtype:
        return model
    other = directory.empty(model.spec, model.kernels, dtype=dtype).train(model.training)
    other.load_state_dict(model.state_dict())
    return other
