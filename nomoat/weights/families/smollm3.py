"""`smollm3`: grouped queries, dense layers, and every fourth layer, or those named, without rotation."""

from nomoat.config import WeightsError
from nomoat.model.spec import Spec
from nomoat.weights.families import configs, rotary, views

FAMILY = "smollm3"
DEFAULTS = {"max_position_embeddings": 32768, "num_key_value_heads": 4, "tie_word_embeddings": True}
THETA = 2_000_000.0
MOST_LAYERS = 100_000  # that are listed; a model with more can't be in any file
slots, copies = views.grouped, views.copies


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    config = {**DEFAULTS, **config}
    configs.refuse(config, {"attention_bias": (False,)})
    configs.refuse_windows(config, in_use=False)
    parts = {"attention": configs.heads(config), "ffn": configs.hidden(config)}
    parts |= rotary.read(config, THETA)
    return configs.spec(config, FAMILY, unrotated=_unrotated(config), **parts)


def _unrotated(config: configs.Config) -> tuple[int, ...]:
    """Layers whose flag is 0: `no_rope_layers` says 1 for those that are rotated."""
    n_layers = min(int(configs.number(config, "num_hidden_layers", 0)), MOST_LAYERS)
    interval = int(configs.number(config, "no_rope_layer_interval", 4)) or n_layers
    flags = config.get("no_rope_layers")
    if flags is None:
        return tuple(range(interval - 1, n_layers, interval))
    if not isinstance(flags, list):
        raise WeightsError(f"config.json has no_rope_layers = {flags!r}; expected a list; fetch it again")
    return tuple(layer for layer, flag in enumerate(flags[:n_layers]) if not flag)


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, {**configs.DENSE, "unrotated": (spec.unrotated,)})
    table = configs.grouped(spec, FAMILY, "SmolLM3ForCausalLM")
    table |= {"intermediate_size": spec.ffn.d_hidden, "attention_bias": False, "mlp_bias": False}
    table["no_rope_layers"] = [int(layer not in spec.unrotated) for layer in range(spec.n_layers)]
    return table | {"use_sliding_window": False, "sliding_window": None} | rotary.write(spec)
