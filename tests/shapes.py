"""Specs of tests in one flat list of fields, each of which finds its place in attention, feed-forward or beside them."""

from nomoat.config import parse
from nomoat.model.spec import Dense, Grouped, Kernels, Latent, Routed, Spec
from nomoat.model.transformer import Transformer

PARTS = {"attention": (Latent, Grouped), "ffn": (Routed, Dense)}


def shape(**fields: object) -> Spec:
    """A spec; its attention is grouped where there is an `n_kv_heads`, its feed-forward routed where `n_routed` is not 0.

    `d_ffn` is the width of the dense layers.
    """
    fields = dict(fields)
    if not fields.get("n_routed"):
        fields = {k: v for k, v in fields.items() if k not in Routed.model_fields and k != "d_dense"}
    d_ffn = fields.pop("d_ffn", None)
    kinds = {"attention": Grouped if "n_kv_heads" in fields else Latent, "ffn": Routed if "n_routed" in fields else Dense}
    if d_ffn is not None:
        fields["d_dense" if kinds["ffn"] is Routed else "d_hidden"] = d_ffn
    table: dict[str, object] = {}
    for part, kind in kinds.items():
        inside = {key: fields.pop(key) for key in list(fields) if key in kind.model_fields and key != "kind"}
        table[part] = {"kind": kind.__name__.lower(), **inside}
    return parse(Spec, {**fields, **table}, "spec")


def flat(spec: Spec) -> dict[str, object]:
    """The fields of a spec in one list."""
    table = {name: getattr(spec, name) for name in Spec.model_fields if name not in PARTS}
    parts = {**spec.attention.model_dump(exclude={"kind"}), **spec.ffn.model_dump(exclude={"kind"})}
    return table | {"d_ffn" if name in ("d_dense", "d_hidden") else name: value for name, value in parts.items()}


def varied(spec: Spec, **fields: object) -> Spec:
    """The spec with some fields changed."""
    before = flat(spec)
    if fields.get("n_routed") == 0:
        before.pop("n_routed", None)
    gated = {"gated"} if fields.get("n_routed") else set()
    return shape(**{k: v for k, v in before.items() if k not in gated} | fields)


def built(spec: Spec, **fields: object) -> Transformer:
    """A model without values; `attention` and `experts` name its kernels, the other fields change the spec."""
    how = {key: fields.pop(key) for key in ("attention", "experts") if key in fields}
    return Transformer(varied(spec, **fields), Kernels(**how))


def dense_twin(spec: Spec) -> Spec:
    """The model without routing at equal active parameters: each layer as wide as its active experts."""
    f = spec.ffn
    if not isinstance(f, Routed):
        return spec
    active = (f.n_active + f.n_shared) * f.d_expert
    d_hidden = round((spec.n_moe_layers * active + f.n_dense_layers * f.d_dense) / spec.n_layers)
    return parse(Spec, {**spec.model_dump(), "ffn": {"kind": "dense", "d_hidden": d_hidden}}, "spec")
