"""Rotary positions of a config.json, spelled `rope_theta` with `rope_scaling`, or `rope_parameters`.

With both in one file the old one wins, as in transformers 5.24: a `rope_scaling` replaces `rope_parameters`
whole, and its base is the one inside it, else `rope_theta`, else the family's.
"""

import math
from collections.abc import Mapping
from typing import Any

from nomoat.config import ConfigError, WeightsError, parse
from nomoat.model.spec import Interpolation, Latent, Llama3, Spec, Yarn
from nomoat.weights.families.configs import number

Config = Mapping[str, Any]
Stretch = Yarn | Llama3 | Interpolation
COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
KNOWN = {  # with any other key the positions are of another kind
    "default": None,
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {
        "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "attention_factor", "truncate",
    },
}  # fmt: skip


def read(config: Config, theta: float = 10000.0, *, scores: bool = False) -> dict[str, Any]:
    """`rope_theta` and `stretch` of a Spec; `theta` is the base of a config without one.

    `scores`: the family multiplies scores by YaRN's scale too (DeepSeek's does), not only cos and sin.
    """
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise WeightsError(f"rope_scaling is {rope!r}; expected a table; fetch config.json again")
    kind = rope.get("rope_type", rope.get("type", "default"))
    unknown = _unknown(kind, rope)
    if unknown or rope.get("truncate") is False or number(rope, "partial_rotary_factor", 1.0) != 1:
        raise WeightsError(
            f"rotary positions of type {kind!r} with {sorted(rope)}; expected {', '.join(map(repr, KNOWN))} "
            "over the whole head; other ways to stretch a context are not computed here"
        )
    base = number(rope, "rope_theta", number(config, "rope_theta", theta))
    try:
        return {"rope_theta": base, "stretch": _stretch(kind, rope, config, scores=scores)}
    except ConfigError as error:
        raise WeightsError(f"{error}; expected the numbers of {kind!r} in config.json") from None


def _unknown(kind: object, rope: Config) -> bool:
    if not isinstance(kind, str) or kind not in KNOWN:
        return True
    keys = KNOWN[kind]
    return keys is not None and bool(set(rope) - keys - COMMON)


def _stretch(kind: str, rope: Config, config: Config, *, scores: bool) -> Stretch | None:
    context = number(config, "max_position_embeddings", 4096)
    original = number(rope, "original_max_position_embeddings", context)
    original = number(config, "original_max_position_embeddings", original)
    factor = number(rope, "factor", context / max(original, 1))
    if kind == "default":
        return None
    if kind == "linear":
        return parse(Interpolation, {"factor": factor}, "rope_scaling")
    if kind == "llama3":
        low, high = (number(rope, f"{name}_freq_factor", math.nan) for name in ("low", "high"))
        table = {"factor": factor, "original_context": original, "low": low, "high": high}
        return parse(Llama3, table, "rope_scaling")
    table = {
        "factor": factor,
        "original_context": original,
        "beta_fast": number(rope, "beta_fast", 0) or 32.0,
        "beta_slow": number(rope, "beta_slow", 0) or 1.0,
        "mscale": number(rope, "mscale", 0.0),
        "mscale_all_dim": number(rope, "mscale_all_dim", 0.0),
    }
    yarn = parse(Yarn, table, "rope_scaling")
    return _scaled(yarn, number(rope, "attention_factor", 0.0), scores=scores)


def _scaled(yarn: Yarn, turn_scale: float, *, scores: bool) -> Yarn:
    """With the scale of cos and sin that the config names, or, where it names none, transformers' rule."""
    if not turn_scale:
        both = yarn.mscale and yarn.mscale_all_dim
        turn_scale = yarn.turn_scale if both else yarn.magnitude(1.0)
    if not scores:
        yarn = yarn.model_copy(update={"mscale_all_dim": 0.0})
    if math.isclose(turn_scale, yarn.turn_scale, rel_tol=1e-12):
        return yarn
    if yarn.factor <= 1:
        raise ConfigError(f"attention_factor = {turn_scale} beside factor = {yarn.factor}")
    magnitude = turn_scale * yarn.magnitude(yarn.mscale_all_dim)
    mscale = (magnitude - 1.0) / (0.1 * math.log(yarn.factor))
    return yarn.model_copy(update={"mscale": round(mscale, 12)})


def write(spec: Spec, *, scores: bool = False) -> dict[str, Any]:
    """Both spellings, the older `rope_scaling` and the newer `rope_parameters`.  WeightsError where YaRN
    scales scores and the family can't.
    """
    rope: dict[str, Any] = {"rope_type": spec.stretch.kind if spec.stretch else "default"}
    match spec.stretch:
        case Interpolation(factor=factor):
            rope |= {"factor": factor}
        case Llama3(factor=factor, original_context=original, low=low, high=high):
            rope |= {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
            rope["original_max_position_embeddings"] = original
        case Yarn():
            rope |= _yarn(spec, spec.stretch, scores=scores)
    return {
        "rope_theta": spec.rope_theta,
        "rope_scaling": {"type": rope["rope_type"], **rope} if spec.stretch else None,
        "rope_parameters": {"rope_theta": spec.rope_theta, **rope},
    }


def _yarn(spec: Spec, yarn: Yarn, *, scores: bool) -> dict[str, Any]:
    table = yarn.model_dump(exclude={"kind"})
    table["original_max_position_embeddings"] = table.pop("original_context")
    if not scores:  # a whole head is turned: a scale of scores is the square of one of cos and sin
        del table["mscale"], table["mscale_all_dim"]
        table["attention_factor"] = yarn.magnitude(yarn.mscale)
        partly = spec.unrotated or isinstance(spec.attention, Latent)
        if partly and yarn.magnitude(yarn.mscale_all_dim) != 1:
            raise WeightsError(
                "YaRN scales the scores of layers that aren't rotated, which this family can't say; "
                "expected mscale_all_dim = 0"
            )
    elif not (yarn.mscale and yarn.mscale_all_dim):
        table["attention_factor"] = yarn.turn_scale  # readers take an absent or zero scale for another
    return table
