"""`llama`: Llama 2 and 3, SmolLM2, TinyLlama, the R1 distillations into Llama: grouped queries, dense layers.

Their `attention_bias` is of all four projections.  A model with biases of queries, keys and values alone is
written with zeros for the fourth, which is the same function.
"""

import torch

from nomoat.config import WeightsError
from nomoat.model.spec import Spec
from nomoat.model.transformer import Block, Transformer
from nomoat.weights.families import configs, rotary, views
from nomoat.weights.slots import Slots

FAMILY = "llama"
LIMITS = {**configs.DENSE, "attention.qkv_bias": (False, True), "attention.out_bias": (False, True)}
copies = views.copies


def slots(model: Transformer) -> Slots:
    return views.whole(model, _block)


def _block(at: str, layer: Block) -> views.Views:
    table = views.block(at, layer)
    a = layer.attention
    if a.shape.qkv_bias and not a.shape.out_bias:
        table[f"{at}.self_attn.o_proj.bias"] = torch.zeros_like(a.w_o.weight[:, 0])
    return table


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    configs.refuse(config, {})
    configs.refuse_windows(config, in_use=True)
    biased = bool(config.get("attention_bias"))
    attention = {**configs.heads(config), "qkv_bias": biased, "out_bias": biased}
    defaults = {"max_position_embeddings": 2048, **config}
    ffn = configs.hidden(config)
    return configs.spec(defaults, FAMILY, attention=attention, ffn=ffn, **rotary.read(config))


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, LIMITS)
    a = spec.attention
    if spec.d_model % a.n_heads or (a.out_bias and not a.qkv_bias):
        raise WeightsError(
            f"the model has d_model = {spec.d_model}, n_heads = {a.n_heads}, out_bias = {a.out_bias}, which "
            "llama can't say; expected n_heads to divide d_model, and biases of queries too; train with that"
        )
    table = configs.grouped(spec, FAMILY, "LlamaForCausalLM")
    rest = {"intermediate_size": spec.ffn.d_hidden, "attention_bias": a.qkv_bias, "mlp_bias": False}
    return table | rest | rotary.write(spec)
