"""Hugging Face directories: safetensors and JSON, in the published names and layout of the families.

A tensor goes from its file into a view of a model that was made without storage (`meta`), and is copied once.
Not here: quantised weights.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save as pack_tensors

from nomoat.files import write_whole
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import slots
from nomoat.weights.families import family
from nomoat.weights.files import INDEX, WEIGHTS, Tensors, json_of


def empty(spec: Spec, kernels: Kernels | None = None, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """A model with storage of this dtype and no values, but the routing biases, which are float32 zeros."""
    with torch.device("meta"):
        model = Transformer(spec, kernels)
    model.to(dtype).to_empty(device="cpu")
    model.tie()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.zeros(buffer.shape))
    return model


def load(
    directory: str | Path,
    kernels: Kernels | None = None,
    *,
    spec: Spec | None = None,
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """The model in a directory, in evaluation mode; WeightsError where no family knows it.

    `spec` replaces that of config.json, with the same tensors (another context, say).
    """
    directory = Path(directory)
    config = json_of(directory / "config.json")
    names = family(config.get("model_type"))
    tensors = Tensors.of(directory)
    model = empty(spec or names.spec_of(config, set(tensors.names)), kernels, dtype=dtype).eval()
    table = names.slots(model)
    slots.fill(table, names.copies(model), tensors.placed(slots.memory(table)))
    return model


def save(
    model: Transformer,
    directory: str | Path,
    *,
    model_type: str = "deepseek_v3",
    tokenizer: Tokenizer | None = None,
    card: str | None = None,
) -> None:
    """Write `model` as stock `transformers` and vLLM open it.

    config.json comes last and so vouches for the rest; `card` is the text of README.md.  WeightsError, before
    anything is written, for what the family `model_type` can't say.
    """
    directory, names = Path(directory), family(model_type)
    config = names.config_of(model.spec)
    dtype = str(model.dtype).removeprefix("torch.")
    special = ("bos", "eos", "pad")
    ids = {f"{name}_token_id": tokenizer and getattr(tokenizer.layout, f"{name}_id") for name in special}
    config |= {"torch_dtype": dtype, "dtype": dtype, **ids}
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(
        directory / WEIGHTS, pack_tensors({n: slots.published(v.detach()).cpu().contiguous() for n, v in names.slots(model).items()}, metadata={"format": "pt"})
    )
    (directory / INDEX).unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save(directory)
    if card is not None:
        write_whole(directory / "README.md", card)
    write_whole(directory / "generation_config.json", json.dumps(ids, indent=2))
    write_whole(directory / "config.json", json.dumps(config, indent=2))
