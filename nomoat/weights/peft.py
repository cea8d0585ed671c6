"""Adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, read, matched and written.

Each tensor of a file belongs to a matrix of the base model, and each matrix that the configuration names has
its tensors: what is left over on either side is refused, where PEFT goes on without it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.files import write_whole
from nomoat.model.lora import Pair
from nomoat.model.transformer import Transformer
from nomoat.weights import adapters, header
from nomoat.weights.adapters import Pairs, Place
from nomoat.weights.files import Tensors, json_of
from nomoat.weights.header import Entry, Outgoing

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
NAME = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)(\.default)?\.weight")
PLAIN = {  # what a configuration may say of each: nothing that changes what is added to a matrix
    "peft_type": ("LORA",), "use_dora": (False, None), "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []), "lora_bias": (False, None), "trainable_token_indices": (None,),
    "use_qalora": (False, None), "alora_invocation_tokens": (None,),
}  # fmt: skip
NARROWED = ("layers_to_transform", "exclude_modules")  # with these, targets alone don't say what there is


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter by its header: the ends of each pair, by the published name of the matrix."""

    directory: Path
    config: Mapping[str, Any]
    ends: Mapping[str, tuple[Entry, Entry]]  # A (rank, d_in) and B (rows, rank)

    @property
    def base(self) -> str | None:
        """What it was made for: a path, as seen from here or from its own directory, or a name."""
        said = self.config.get("base_model_name_or_path")
        if not isinstance(said, str) or not said:
            return None
        beside = self.directory / said
        return str(beside) if not Path(said).exists() and beside.exists() else said

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return {name: (up.shape[0], down.shape[1]) for name, (down, up) in self.ends.items()}

    def match(self, known: Mapping[str, Place]) -> None:
        """WeightsError unless tensors and matrices belong together, both ways."""
        where = f"adapter {self.directory}"
        adapters.same_shapes(known, self.shapes, where)
        targets = self.config.get("target_modules")
        if not isinstance(targets, str | list) or any(self.config.get(key) for key in NARROWED):
            return
        parameters = self.config.get("target_parameters") or []
        asked = {name for name in known if _asked(name, targets)}
        asked |= {name for name in known if adapters.is_target(f"{name}.weight", parameters)}
        if lacking := sorted(asked - set(self.ends)):
            raise WeightsError(
                f"{where}: {CONFIG} names {len(asked)} matrices of the base model, and {len(lacking)} have "
                f"no tensors ({', '.join(lacking[:3])}); expected a pair for each; the file is of another "
                "base, or cut"
            )

    def pairs(self) -> dict[str, Pair]:
        """Its numbers, in float32."""
        entries = {f"{n}.{end}": entry for n, pair in self.ends.items() for end, entry in zip("AB", pair)}
        found = {name: t.float().clone() for name, t, _ in Tensors(self.directory, entries).read(entries)}
        return {name: self._pair(name, found[f"{name}.A"], found[f"{name}.B"]) for name in self.ends}

    def _pair(self, name: str, down: Tensor, up: Tensor) -> Pair:
        rank = _of(self.config, "rank_pattern", name, self.config.get("r", 8))
        alpha = _of(self.config, "alpha_pattern", name, self.config.get("lora_alpha", 8))
        if rank != len(down):
            raise WeightsError(
                f"adapter {self.directory}: {name} has rank {len(down)}, and {CONFIG} says {rank}; expected "
                "both of one adapter; fetch or export them together"
            )
        scale = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)
        if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise WeightsError(
                f"adapter {self.directory}: {name} holds numbers that are not finite; expected none; fetch "
                "or export it again"
            )
        return Pair(down, up, scale)


def _of(config: Mapping[str, Any], patterns: str, name: str, otherwise: float) -> float:
    """A number of a matrix: of the pattern that ends its name, else of all."""
    for pattern, value in (config.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise


def _asked(name: str, targets: str | list[str]) -> bool:
    if isinstance(targets, list):
        return adapters.is_target(name, targets)
    return targets != "all-linear" and re.fullmatch(targets, name) is not None


def is_adapter(directory: Path) -> bool:
    return (directory / CONFIG).is_file()


def opened(directory: Path) -> Adapter:
    """An adapter by its configuration and header; WeightsError for what isn't computed here."""
    config = json_of(directory / CONFIG)
    if not isinstance(config, dict):
        raise WeightsError(f"{directory / CONFIG} is no table; expected one; fetch it again")
    for key, values in PLAIN.items():
        if config.get(key, values[-1]) not in values:
            raise WeightsError(
                f"{directory / CONFIG} has {key} = {config[key]!r}; expected {values[0]!r}; merge it into "
                "its base with peft (merge_and_unload), and bring that"
            )
    if not (directory / FILE).is_file():
        raise WeightsError(
            f"no {directory / FILE}; expected one beside {CONFIG}; pickles (adapter_model.bin) are not read"
        )
    entries = header.read(directory / FILE)
    found: dict[str, dict[str, Entry]] = {}
    leftover = []
    for name, entry in entries.items():
        parts = NAME.fullmatch(name)
        if parts is None or len(entry.shape) != 2:
            leftover.append(name)
        else:
            found.setdefault(parts[1], {})[parts[2]] = entry
    odd = [name for name, pair in found.items() if not _is_pair(pair)]
    if leftover or odd or not found:
        raise WeightsError(
            f"{directory / FILE}: {len(leftover) + len(odd)} of {len(entries)} tensors are no pair of a "
            f"matrix ({', '.join([*leftover, *odd][:3])}); expected NAME.lora_A.weight and "
            "NAME.lora_B.weight; what adapts embeddings, heads, biases or stacked experts is not read here"
        )
    return Adapter(directory, config, {name: (pair["A"], pair["B"]) for name, pair in found.items()})


def _is_pair(ends: Mapping[str, Entry]) -> bool:
    return set(ends) == {"A", "B"} and ends["A"].shape[0] == ends["B"].shape[1]


def apply(model: Transformer, adapter: Adapter) -> tuple[int, float]:
    """Merges an adapter into a float32 model; gives how many matrices it was, and how far the logits are from
    the adapter's own forward, as a share of the largest.
    """
    known = adapters.places(model)
    adapter.match(known)
    parts = adapters.ours(known, adapter.pairs())
    return len(adapter.ends), adapters.merged(model, parts)


def save(directory: Path, pairs: Pairs, base: str, *, routed: bool) -> None:
    """An adapter as PEFT reads it: float32, every scale as alpha over rank; `routed`: of a model with routed
    experts."""
    ranks = {name: len(pair.down) for name, pair in pairs.items()}
    alphas = {name: pair.scale * ranks[name] for name, pair in pairs.items()}
    r, alpha = _most(ranks), _most(alphas)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "bias": "none",
        "lora_dropout": 0.0,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": {name: n for name, n in ranks.items() if n != r},
        "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
        **_targets(pairs, routed=routed),
    }
    tensors = {}
    for name, pair in pairs.items():
        for end, tensor in (("A", pair.down), ("B", pair.up)):
            kept = tensor.detach().float().contiguous()
            outgoing = Outgoing(torch.float32, tuple(kept.shape), partial(_same, kept))
            tensors[f"{PREFIX}{name}.lora_{end}.weight"] = outgoing
    directory.mkdir(parents=True, exist_ok=True)
    n_bytes = sum(tensor.n_bytes for tensor in tensors.values())
    write_whole(directory / FILE, header.file_of(tensors), n_bytes)
    write_whole(directory / CONFIG, json.dumps(config, indent=2))


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _most(values: Mapping[str, float]) -> float:
    """The most frequent value, whole where it is."""
    counted = list(values.values())
    most = max(counted, key=counted.count)
    return int(most) if float(most).is_integer() else most


def _targets(pairs: Pairs, *, routed: bool) -> dict[str, list[str]]:
    """Whole names: the ends of names may mean more matrices than have learnt.

    Beside routed experts, PEFT takes gate_proj, up_proj and down_proj among the modules for the experts'
    own, so that dense and shared ones are named as parameters.
    """
    as_parameters = [name for name in sorted(pairs) if routed and ".mlp." in name]
    modules = [name for name in sorted(pairs) if name not in as_parameters]
    named = {"target_modules": modules}
    if as_parameters:
        named["target_parameters"] = [f"{name}.weight" for name in as_parameters]
    return named
