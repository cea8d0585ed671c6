"""config.json as families share it: ours = theirs where a value is the same, and what is refused.

What a family's Spec can't say and what its config.json asks beyond our model are refused with the reason, in
both directions; nothing is dropped silently.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.config import ConfigError, Strict, WeightsError, parse
from nomoat.model.spec import Spec

Config = Mapping[str, Any]
SPEC = {  # ours = theirs
    "vocab_size": "vocab_size", "n_layers": "num_hidden_layers", "d_model": "hidden_size",
    "context": "max_position_embeddings", "norm_eps": "rms_norm_eps", "init_std": "initializer_range",
    "tied": "tie_word_embeddings",
}  # fmt: skip
ONLY = {  # what no family here computes otherwise; an absent key or null means the same
    "hidden_act": ("silu", "swish"), "mlp_bias": (False,), "partial_rotary_factor": (1.0,),
    "attn_logit_softcapping": (), "final_logit_softcapping": (), "logit_scale": (1.0,),
    "embedding_multiplier": (1.0,), "residual_multiplier": (1.0,), "logits_scaling": (1.0,),
    "attention_multiplier": (), "clip_qkv": (), "alibi": (False,),
}  # fmt: skip
GROUPED = {  # of a Spec, what most families of grouped queries say; a family changes what differs
    "attention.kind": ("grouped",), "attention.qkv_bias": (False,), "attention.out_bias": (False,),
    "attention.qk_norm": (None,), "attention.n_windowed": (0,), "n_mtp": (0,), "positions": ("rope",),
    "unrotated": ((),), "norm_place": ("before",),
}  # fmt: skip
DENSE = {**GROUPED, "ffn.kind": ("dense",), "ffn.gated": (True,)}
LARGEST = 1e15
WORDS = {"grouped": "grouped-query attention", "latent": "latent attention"}


# --- reading ---


def number(table: Config, key: str, absent: float) -> float:
    """A number of config.json; `absent` where the key is missing or null."""
    value = absent if table.get(key) is None else table[key]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if table.get(key) is not None and not (numeric and abs(value) < LARGEST):
        raise WeightsError(f"config.json has {key} = {value!r}; expected a number; fetch or export it again")
    return value


def renamed(config: Config, names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: config[theirs] for ours, theirs in names.items() if theirs in config}


def said(record: Strict, names: Mapping[str, str]) -> dict[str, Any]:
    """The other way."""
    return {theirs: getattr(record, ours) for ours, theirs in names.items()}


def refuse(config: Config, only: Mapping[str, tuple[Any, ...]]) -> None:
    """WeightsError for a key that asks for something else than `only`, or than any model here computes."""
    for key, values in {**ONLY, **only}.items():
        value = config.get(key)
        if value is not None and value not in values:
            expected = " or ".join(map(repr, values)) if values else "none"
            raise WeightsError(
                f"config.json has {key} = {value!r}, which isn't computed here; expected {expected}; "
                "take another model, or convert the weights first"
            )


def refuse_windows(config: Config, *, in_use: bool) -> None:
    """WeightsError where a layer would attend to a window; `in_use`: so the family takes a width without a
    word whether it is used.
    """
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        windowed = any(kind != "full_attention" for kind in kinds)
    else:
        first = number(config, "max_window_layers", 0)
        windowed = config.get("use_sliding_window", in_use) and config.get("sliding_window") is not None
        windowed = windowed and first < number(config, "num_hidden_layers", 0)
    if windowed:
        raise WeightsError(
            f"config.json has sliding windows in use (sliding_window = {config.get('sliding_window')!r}); "
            "expected full attention in every layer; windows are not computed here"
        )


def heads(config: Config) -> dict[str, Any]:
    """Grouped queries: heads, those of keys and values (by default as many), width of one."""
    n_heads = number(config, "num_attention_heads", 1)
    n_kv_heads = number(config, "num_key_value_heads", n_heads)
    d_head = number(config, "head_dim", number(config, "hidden_size", 0) // max(n_heads, 1))
    return {"kind": "grouped", "n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": d_head}


def hidden(config: Config) -> dict[str, Any]:
    """A dense feed-forward."""
    return {"kind": "dense", **renamed(config, {"d_hidden": "intermediate_size"})}


def spec(config: Config, family: str, **parts: Any) -> Spec:
    """The Spec of what stands in a config under the same names, and of `parts`."""
    try:
        return parse(Spec, {**renamed(config, SPEC), **parts}, "config.json")
    except ConfigError as error:
        expected = f"a config.json of {family} (the keys above are ours)"
        raise WeightsError(f"{error}\nexpected {expected}") from None


# --- writing ---


def check(spec: Spec, family: str, limits: Mapping[str, Sequence[Any]]) -> None:
    """WeightsError for a Spec that the family can't say: `limits` are the values it has words for."""
    for place, values in limits.items():
        part, _, name = place.rpartition(".")
        value = getattr(getattr(spec, part) if part else spec, name)
        if value not in values:
            has = WORDS.get(value) or f"{name} = {value!r}"
            raise WeightsError(
                f"the model has {has}, which {family} can't say; expected "
                f"{' or '.join(repr(v) for v in values)}; choose another family, or train with that"
            )


def common(spec: Spec, family: str, architecture: str) -> dict[str, Any]:
    """What every config.json begins with."""
    return {
        "architectures": [architecture],
        "model_type": family,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "use_cache": True,
        **said(spec, SPEC),
    }


def grouped(spec: Spec, family: str, architecture: str) -> dict[str, Any]:
    """The same of a family with grouped queries; WeightsError for values of another width than keys."""
    a = spec.attention
    if a.d_value != a.d_head:
        raise WeightsError(
            f"the model has d_value = {a.d_value} beside d_head = {a.d_head}, which {family} can't say; "
            "expected them equal; train with that"
        )
    table = {"num_attention_heads": a.n_heads, "num_key_value_heads": a.n_kv_heads, "head_dim": a.d_head}
    return common(spec, family, architecture) | table
