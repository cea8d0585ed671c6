"""`olmo2`: norms behind attention and feed-forward, and one over all heads of queries and of keys."""

from nomoat.model.spec import Spec
from nomoat.model.transformer import Block, Transformer
from nomoat.weights.families import configs, rotary, views
from nomoat.weights.slots import Slots

FAMILY = "olmo2"
LIMITS = {**configs.DENSE, "attention.qk_norm": ("whole",), "norm_place": ("after",)}
DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
NORMS = "post_attention_layernorm", "post_feedforward_layernorm"
copies = views.copies


def slots(model: Transformer) -> Slots:
    return views.whole(model, _block)


def _block(at: str, layer: Block) -> views.Views:
    return views.block(at, layer, norms=NORMS)


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    config = {**DEFAULTS, **config}
    configs.refuse(config, {"attention_bias": (False,)})
    configs.refuse_windows(config, in_use=True)
    parts = {"attention": {**configs.heads(config), "qk_norm": "whole"}, "ffn": configs.hidden(config)}
    return configs.spec(config, FAMILY, norm_place="after", **parts, **rotary.read(config))


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, LIMITS)
    table = configs.grouped(spec, FAMILY, "Olmo2ForCausalLM")
    table |= {"intermediate_size": spec.ffn.d_hidden, "attention_bias": False}
    return table | rotary.write(spec)
