"""`qwen3`: a norm on each head of queries and keys, heads of their own width."""

from nomoat.model.spec import Spec
from nomoat.weights.families import configs, rotary, views

FAMILY = "qwen3"
LIMITS = {**configs.DENSE, "attention.qk_norm": ("head",)}
DEFAULTS = {
    "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768, "sliding_window": 4096,
    "max_window_layers": 28,
}  # fmt: skip
slots, copies = views.grouped, views.copies


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    config = {**DEFAULTS, **config}
    configs.refuse(config, {"attention_bias": (False,)})
    configs.refuse_windows(config, in_use=False)
    attention = {**configs.heads(config), "qk_norm": "head"}
    ffn = configs.hidden(config)
    return configs.spec(config, FAMILY, attention=attention, ffn=ffn, **rotary.read(config))


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, LIMITS)
    table = configs.grouped(spec, FAMILY, "Qwen3ForCausalLM")
    table |= {"intermediate_size": spec.ffn.d_hidden, "attention_bias": False}
    return table | {"use_sliding_window": False, "sliding_window": None} | rotary.write(spec)
