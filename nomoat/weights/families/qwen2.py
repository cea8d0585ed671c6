"""`qwen2`: Qwen2 and 2.5, the R1 distillations into Qwen: biases on queries, keys and values."""

from collections.abc import Mapping
from typing import Any

from nomoat.model.spec import Spec
from nomoat.weights.families import configs, rotary, views

FAMILY = "qwen2"
LIMITS = {**configs.DENSE, "attention.qkv_bias": (True,)}
DEFAULTS = {
    "num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096,
    "max_window_layers": 28,
}  # fmt: skip
slots, copies = views.grouped, views.copies


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    config = {**DEFAULTS, **config}
    configs.refuse(config, {})
    configs.refuse_windows(config, in_use=False)
    attention = {**configs.heads(config), "qkv_bias": True}
    ffn = configs.hidden(config)
    return configs.spec(config, FAMILY, attention=attention, ffn=ffn, **rotary.read(config))


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, LIMITS)
    table = configs.grouped(spec, FAMILY, "Qwen2ForCausalLM")
    table |= {"intermediate_size": spec.ffn.d_hidden, "use_sliding_window": False, "sliding_window": None}
    return table | rotary.write(spec)


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splits(table: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json splits as Qwen2's own class does.

    transformers 5.24 opens a directory of this model_type with that class, whatever tokenizer_config.json
    names, and puts its splitting in the place of the file's, and `<|endoftext|>` behind the last id where
    there is none.
    """
    own = {"type": "Split", "pattern": {"Regex": SPLIT}}, {"type": "ByteLevel"}
    steps = (table.get("pre_tokenizer") or {}).get("pretokenizers", [])
    same = len(steps) == 2 and all(step.items() <= given.items() for step, given in zip(own, steps))
    tokens = {token["content"] for token in table.get("added_tokens", [])}
    normal = (table.get("normalizer") or {}).get("type") == "NFC"
    return same and normal and "<|endoftext|>" in tokens
