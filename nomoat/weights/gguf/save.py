"""A model -> one GGUF file for llama.cpp, and an untried Modelfile; written whole, read back and compared.

Norms, biases, routers and rows that are no multiple of a block stay in a wider type.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nomoat.config import JsonObject, WeightsError
from nomoat.files import writing
from nomoat.model.spec import Llama3, Spec
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights.gguf import blocks, facts, limits, modelfile, names, positions, vocabulary, writer
from nomoat.weights.gguf.header import Header, Place
from nomoat.weights.gguf.kinds import KINDS, NUMBERS, Kind
from nomoat.weights.gguf.load import load
from nomoat.weights.gguf.metadata import Metadata
from nomoat.weights.gguf.names import Slot

Type = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # general.file_type
# of the largest number of a tensor
LARGEST_ERROR = {"F32": 0.0, "F16": 2**-10, "BF16": 2**-8, "Q8_0": 0.01, "Q4_0": 0.15}
WIDE = ("ffn_gate_inp.weight", names.OPTIONAL)  # small matrices whose errors would move every choice
TABLES = ("token_embd.weight", "output.weight")  # never below 8 bits


@dataclass(frozen=True)
class Written:
    """What reading a file back showed."""

    path: Path
    n_bytes: int
    kinds: Mapping[str, int]  # tensors of each kind of block
    largest_error: float  # over all tensors, as a share of the tensor's largest number


def save(
    model: Transformer,
    path: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    type: Type = "f32",
    meta: JsonObject | None = None,
) -> Written:
    """Write `path` and, with a tokenizer, PATH.Modelfile; `meta` are further keys (general.name, say).

    WeightsError, with nothing left behind, for what llama.cpp can't run or what doesn't read back.
    """
    path = Path(path)
    architecture = facts.architecture_of(model.spec)
    limits.check(model, architecture)
    entries = list(_entries(model, architecture, type))
    keys = _keys(model.spec, architecture, tokenizer, type) | (meta or {})
    _check_spec(model.spec, keys, entries)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path, beside):
        with open(beside, "wb") as file:
            for chunk in writer.chunks(keys, entries):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        written = _compared(model, architecture, beside, tokenizer)
        os.replace(beside, path)
    if tokenizer is not None:
        modelfile.write(path, tokenizer.layout)
    return Written(path, path.stat().st_size, *written)


def _keys(spec: Spec, architecture: str, tokenizer: Tokenizer | None, type: Type) -> JsonObject:
    keys = {
        "general.architecture": architecture,
        "general.type": "model",
        "general.file_type": FILE_TYPES[type],
        "general.quantization_version": 2,
        **facts.keys_of(spec, architecture),
    }
    if tokenizer is None:
        return keys | {"tokenizer.ggml.model": "none"}
    return keys | vocabulary.keys_of(tokenizer, spec.vocab_size)


def _entries(model: Transformer, architecture: str, type: Type) -> Iterator[writer.Entry]:
    """What to write, each packed when it is its turn."""
    table = names.slots(model, architecture)
    if isinstance(model.spec.stretch, Llama3):
        divisors = positions.divisors(model.spec)
        shape = tuple(divisors.shape)
        table[positions.FREQUENCIES] = Slot(divisors, shape)
    for name, slot in table.items():
        kind = kind_of(name, slot.shape, type)
        yield writer.Entry(name, slot.shape, kind, functools.partial(_packed, slot, kind))


def _packed(slot: Slot, kind: Kind) -> memoryview:
    return memoryview(blocks.quantise(slot.published().cpu(), kind).numpy())


def kind_of(name: str, shape: tuple[int, ...], type: Type) -> Kind:
    """The kind of block of a tensor in a file of this type."""
    asked = type.upper()
    if asked == "Q4_0" and name in TABLES:
        asked = "Q8_0"
    if len(shape) == 1 or name.endswith(WIDE):
        asked = "F32"
    elif shape[-1] % KINDS[NUMBERS[asked]].n_values:
        asked = "F16"
    return KINDS[NUMBERS[asked]]


def _check_spec(spec: Spec, keys: JsonObject, entries: list[writer.Entry]) -> None:
    """WeightsError for facts that don't come back from the keys."""
    path = Path("the export")
    places = {entry.name: Place(entry.shape, entry.kind, 0, 0) for entry in entries}
    read = facts.spec_of(Header(path, keys, places))
    if isinstance(spec.stretch, Llama3):
        read = positions.with_divisors(read, positions.divisors(spec), Metadata(path, keys))
    one_group = getattr(spec.ffn, "n_groups", 1) == 1
    unused = {"init_std": True, "ffn": {"group_score"} if one_group else set()}
    after = dict(_flat(read.model_dump(exclude=unused)))
    for key, before in _flat(spec.model_dump(exclude=unused)):
        if not _equal(before, after.get(key)):
            raise WeightsError(
                f"a GGUF file can't say {key} = {before}; read back it is {after.get(key)}; export it to hf"
            )


def _flat(table: JsonObject, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its place, such as ffn.n_shared."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _equal(one: Any, other: Any) -> bool:
    """Whether two facts are the same in float32."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-5 * max(abs(one), 1e-12)
    return one == other


@torch.no_grad()
def _compared(
    model: Transformer, architecture: str, path: Path, tokenizer: Tokenizer | None
) -> tuple[dict[str, int], float]:
    """Kinds and the largest error of a file beside the model; WeightsError where it is another one."""
    header = Header.of(path)
    read = names.slots(load(path), architecture)
    kinds: dict[str, int] = {}
    largest = 0.0
    for name, slot in names.slots(model, architecture).items():
        kind = header.tensors[name].kind.name
        kinds[kind] = kinds.get(kind, 0) + 1
        error = _error(slot.published().cpu().float(), read[name].published())
        if not error <= LARGEST_ERROR[kind]:
            raise WeightsError(
                f"{name} reads back with an error of {error:.2g} of its largest number; expected at most "
                f"{LARGEST_ERROR[kind]:.2g} in {kind}; choose a wider type"
            )
        largest = max(largest, error)
    if tokenizer is not None:
        back = vocabulary.table_of(path, header.meta)
        vocabulary.compare(tokenizer, back)
    return kinds, largest


def _error(before: Tensor, after: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    scale = float(before.abs().max())
    return float((before - after).abs().max()) / (scale or 1.0)
