"""Hugging Face directories: safetensors and JSON, in the published names and layout of the families.

A tensor goes from its file into a view of a model that was made without storage (`meta`): the kernel copies
it, and nobody else where type and order are the same.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nomoat.config import JsonObject, WeightsError
from nomoat.files import write_whole
from nomoat.model import counts
from nomoat.model.linear import Linear
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import fp8, shards, slots
from nomoat.weights.families import chosen, family, of_config
from nomoat.weights.families.qwen2 import splits
from nomoat.weights.files import Tensors, json_of
from nomoat.weights.header import Outgoing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PANEL_FILE = "panel.json"  # what the model was taught, for chats
SHARD_BYTES = 5_000_000_000
Value = Callable[[str], Tensor]  # of our name
SPARE = 10_000_000  # numbers that files may lack before their names are compared


def empty(spec: Spec, kernels: Kernels | None = None, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """A model with storage of this dtype and no values; routers are float32 whatever it is, and their biases
    zeros.
    """
    with torch.device("meta"):
        model = Transformer(spec, kernels)
    for module in model.modules():
        routes = isinstance(module, Linear) and module.role == "router"
        for name, parameter in module.named_parameters(recurse=False):
            # not `to_empty`, whose first call imports sympy: most of a second
            storage = torch.empty(parameter.shape, dtype=torch.float32 if routes else dtype)
            module.register_parameter(name, nn.Parameter(storage))
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.zeros(buffer.shape))
    model.tie()
    return model


def load(
    directory: str | Path,
    kernels: Kernels | None = None,
    *,
    spec: Spec | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Transformer:
    """The model in a directory, in evaluation mode; WeightsError where no family knows it.

    `spec` replaces that of config.json, with the same tensors (another context, say).  `dtype` None: that of
    config.json, else that of the embedding in the file.
    """
    stored = Stored(directory, kernels, spec=spec)
    model = empty(stored.spec, kernels, dtype=dtype or stored.dtype).eval()
    stored.fill({**dict(model.named_parameters()), **dict(model.named_buffers())})
    return model


class Stored:
    """The weights in a directory, of which any are read when they are asked for; `spec` as `load` takes it.

    WeightsError where no family knows them, or names are others than the model's.
    """

    def __init__(self, directory: str | Path, kernels: Kernels | None = None, *, spec: Spec | None = None):
        self.config, self.tensors, told = opened(Path(directory))
        self.spec = spec or told
        names = of_config(self.config)
        with torch.inference_mode(False):  # in which views don't know their base
            with torch.device("meta"):
                model = Transformer(self.spec, kernels)
            self.slots = slots.places(names.slots(model), model)
            self.copies = slots.places(names.copies(model), model)
        self._check()

    def _check(self) -> None:
        source = fp8.Multiplied(self.tensors, self.config)
        slots.check(self.slots, self.copies, source)

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.config, self.tensors)

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Whole parameters and buffers by our names, in place."""
        table = slots.on(self.slots, tensors)
        placed = self.tensors.placed(slots.memory(table))
        slots.fill(table, slots.on(self.copies, tensors), fp8.Multiplied(placed, self.config))


def opened(directory: Path) -> tuple[dict[str, Any], Tensors, Spec]:
    """config.json, the tensors by their headers and the spec, before anything is built; WeightsError where
    the files are far too small for it.
    """
    config = json_of(directory / "config.json")
    names = of_config(config)
    fp8.block_of(config)
    tensors = Tensors.of(directory)
    spec = names.spec_of(config, set(tensors.names))
    n_blocks, n_numbers = spec.n_layers + spec.n_mtp, tensors.n_numbers
    if n_blocks > len(tensors.entries) or counts.params_total(spec) > 2 * n_numbers + SPARE:
        raise WeightsError(
            f"{directory}: config.json describes {n_blocks:,} layers and the files hold "
            f"{len(tensors.entries):,} tensors of {n_numbers:,} numbers in all, far too few; expected both "
            "of one model; fetch or export both together"
        )
    return config, tensors, spec


def dtype_of(config: dict[str, Any], tensors: Tensors) -> torch.dtype:
    """What a config.json says its weights are, else what the embedding in the file is."""
    said = config.get("dtype") or config.get("torch_dtype")
    embedding = tensors.entries.get("model.embed_tokens.weight")
    if isinstance(said, str) and said in DTYPES:
        return DTYPES[said]
    return embedding.dtype if embedding and embedding.dtype in DTYPES.values() else torch.float32


def save(
    model: Transformer,
    directory: str | Path,
    *,
    model_type: str | None = None,
    tokenizer: Tokenizer | None = None,
    card: str | None = None,
    panel: JsonObject | None = None,
    quantised: bool = False,
    shard_bytes: int = SHARD_BYTES,
    value: Value | None = None,
) -> None:
    """Write `model` as stock `transformers` opens it, by default in the first family that can say it.

    config.json comes last and so vouches for the rest; `card` is the text of README.md, `panel` what the
    model was taught; `quantised`: in DeepSeek's block-scaled FP8.  `value` gives the values of a model that
    has none, in the order of `asked`.  WeightsError, before anything is written, for what the family can't
    say.
    """
    directory = Path(directory)
    model_type = model_type_of(model.spec, model_type, tokenizer)
    names = family(model_type)
    config = names.config_of(model.spec)
    tensors = slots.outgoing(names.slots(model)) if value is None else _gathered(model, names, value)
    if quantised:
        tensors = fp8.outgoing(tensors)
        config["quantization_config"] = fp8.CONFIG
    dtype = str(model.dtype).removeprefix("torch.")
    ids = token_ids(tokenizer)
    config |= {"torch_dtype": dtype, "dtype": dtype, **ids}
    directory.mkdir(parents=True, exist_ok=True)
    shards.write(directory, tensors, shard_bytes)
    if tokenizer is not None:
        _save_tokenizer(tokenizer, directory)
        ends = tokenizer.layout.stop_ids
        ids["eos_token_id"] = ends[0] if len(ends) == 1 else list(ends)
    if card is not None:
        write_whole(directory / "README.md", card)
    if panel is not None:
        write_whole(directory / PANEL_FILE, json.dumps(panel, ensure_ascii=False, indent=1) + "\n")
    room = max(model.spec.context // 2, 1)  # for a long reply, thinking included
    generation = {**ids, "max_new_tokens": room}
    write_whole(directory / "generation_config.json", json.dumps(generation, indent=2))
    write_whole(directory / "config.json", json.dumps(config, indent=2))


def asked(model: Transformer, tokenizer: Tokenizer | None = None) -> list[str]:
    """Our names of the tensors whose values `save` asks for, one after the other."""
    names = family(model_type_of(model.spec, None, tokenizer))
    places = slots.places(names.slots(model), model)
    order = shards.in_order(slots.gathered(places, model.get_parameter), SHARD_BYTES)
    return [places[name].own for name in order]


def _gathered(model: Transformer, names: ModuleType, value: Value) -> dict[str, Outgoing]:
    return slots.gathered(slots.places(names.slots(model), model), value)


def token_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    special = ("bos", "eos", "pad")
    return {f"{name}_token_id": tokenizer and getattr(tokenizer.layout, f"{name}_id") for name in special}


def _save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Under the one class with which transformers' AutoTokenizer leaves tokenizer.json as it is; others that
    are named (GPT2Tokenizer, say) put their own splitting in its place.
    """
    tokenizer.save(directory)
    path = directory / "tokenizer_config.json"
    config = {**json_of(path), "tokenizer_class": "PreTrainedTokenizerFast"}
    config.pop("auto_map", None)
    write_whole(path, json.dumps(config, indent=2))


def model_type_of(spec: Spec, model_type: str | None, tokenizer: Tokenizer | None) -> str:
    """The family to write: the one asked for, else the first that can say the model.

    A directory of qwen2 keeps its ids in transformers only if its tokenizer splits as Qwen2's own; any other
    one gets `llama`, which says the same model with biases of zero.
    """
    asked, model_type = model_type, model_type or chosen(spec)
    if model_type != "qwen2" or tokenizer is None or splits(json.loads(tokenizer.canonical)):
        return model_type
    if asked is None:
        return "llama"
    raise WeightsError(
        "the tokenizer splits otherwise than Qwen2's own, which transformers puts in its place in every "
        "directory of model_type qwen2; expected another family; leave model_type out, or say 'llama'"
    )
