"""Weights written: one safetensors file, or shards and the index that says which tensor is in which."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from nomoat.files import write_whole
from nomoat.weights import header
from nomoat.weights.files import INDEX, WEIGHTS
from nomoat.weights.header import Outgoing

SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def write(directory: Path, tensors: Mapping[str, Outgoing], shard_bytes: int) -> None:
    """`tensors` in files of at most `shard_bytes` each (or one tensor, where that is larger); what an earlier
    save left in other files is removed.
    """
    groups = _groups(tensors, shard_bytes)
    n = len(groups)
    files = [WEIGHTS] if n == 1 else [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    for file, group in zip(files, groups):
        n_bytes = sum(tensor.n_bytes for tensor in group.values())
        write_whole(directory / file, header.file_of(group), n_bytes)
    if n > 1:
        places = {name: file for file, group in zip(files, groups) for name in group}
        total = sum(tensor.n_bytes for tensor in tensors.values())
        table = {"metadata": {"total_size": total}, "weight_map": places}
        write_whole(directory / INDEX, json.dumps(table, indent=2))
    else:
        (directory / INDEX).unlink(missing_ok=True)
    for path in directory.iterdir():
        if path.name not in files and (path.name == WEIGHTS or SHARD.fullmatch(path.name)):
            path.unlink()


def in_order(tensors: Mapping[str, Outgoing], shard_bytes: int) -> list[str]:
    """The names of tensors in the order in which `write` makes them."""
    groups = _groups(tensors, shard_bytes)
    return [name for group in groups for name in header.in_order(group)]


def _groups(tensors: Mapping[str, Outgoing], shard_bytes: int) -> list[dict[str, Outgoing]]:
    """Tensors in their order, a new group where the next one wouldn't fit."""
    groups: list[dict[str, Outgoing]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.n_bytes > shard_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += tensor.n_bytes
    return groups
