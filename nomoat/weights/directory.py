"""Hugging Face directories of DeepSeek-V3: safetensors and JSON, in the published names and layout.

Each published tensor is a view of one of our parameters (`slots`), so that loading copies into the views and saving
copies out of them: a round trip is exact to the bit.  No pickle, no remote code.  Not here: quantised weights, and
what `deepseek_v3` cannot say (softmax affinities, groups scored by their best expert, experts without a shared one).
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack_tensors
from torch import Tensor

from nomoat.config import ConfigError, WeightsError, parse
from nomoat.files import read_json, shipped, write_whole
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.spec import ModelSpec, Yarn
from nomoat.model.transformer import Block, Transformer
from nomoat.tokenizer.bpe import Tokenizer

HOW = "nomoat"  # config.json's one key of ours: how to multiply, which changes no result
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in a Hugging Face directory, in evaluation mode; WeightsError where it isn't a DeepSeek-V3."""
    directory = Path(directory)
    config = _json(directory / "config.json")
    files = _tensor_files(directory)
    n_layers = config.get("num_hidden_layers")
    spec = spec_of(config, has_mtp=any(name.startswith(f"model.layers.{n_layers}.") for name in files))
    model = Transformer(spec).to(dtype).eval()
    for module in model.modules():
        if isinstance(module, Experts):
            module.bias_E = module.bias_E.float()
    into, copies = slots(model), _copies(model)
    _compare_names(set(into), set(files) - set(copies), directory)
    for path in sorted(set(files.values())):
        with _opened(path) as file, torch.no_grad():
            for name in into.keys() & file.keys():
                slot = into[name]
                slot.copy_(_checked(file.get_tensor(name), _published(slot).shape, name, path).view(slot.shape))
    for name in copies.keys() & files.keys():
        with _opened(files[name]) as file:
            if not torch.equal(file.get_tensor(name).to(dtype), copies[name]):
                raise WeightsError(f"{name} differs from the shared matrix; expected a copy; untie or drop it")
    return model


def save(model: Transformer, directory: str | Path, *, tokenizer: Tokenizer | None = None, card: str | None = None):
    """Write `model` as stock `transformers` and vLLM open it; config.json comes last and so vouches for the rest.

    `card` is the text of README.md.  WeightsError, before anything is written, for what `deepseek_v3` can't say.
    """
    directory = Path(directory)
    config = config_of(model.spec, str(model.embed.dtype).removeprefix("torch."), tokenizer)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: _published(slot.detach()).cpu().contiguous() for name, slot in slots(model).items()}
    write_whole(directory / WEIGHTS, pack_tensors(tensors, metadata={"format": "pt"}))
    (directory / INDEX).unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save(directory)
    if card is not None:
        write_whole(directory / "README.md", card)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_whole(directory / "generation_config.json", json.dumps(ids, indent=2))
    write_whole(directory / "config.json", json.dumps(config, indent=2))


def slots(model: Transformer) -> dict[str, Tensor]:
    """Published name -> view of our parameter.  A view of three axes is published with its first two flattened."""
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    if not model.spec.tied:
        out["lm_head.weight"] = model.head
    for i, block in enumerate(model.blocks):
        out |= {f"model.layers.{i}.{name}": slot for name, slot in _block_slots(block).items()}
    for i, depth in enumerate(model.depths, start=model.spec.n_layers):
        own = {"enorm": depth.norm_embed, "hnorm": depth.norm_hidden, "eh_proj": depth.w_join}
        own["shared_head.norm"] = depth.norm
        out |= {f"model.layers.{i}.{name}.weight": slot for name, slot in own.items()}
        out |= {f"model.layers.{i}.{name}": slot for name, slot in _block_slots(depth.block).items()}
    return out


def _block_slots(block: Block) -> dict[str, Tensor]:
    attention, ffn = block.attention, block.ffn
    query, key_value = attention.w_in.tensor_split([attention.d_query_in])
    out = {"input_layernorm": block.norm_attention, "post_attention_layernorm": block.norm_ffn}
    own = {"q_proj": query}
    if attention.spec.d_q_latent:
        own = {"q_a_proj": query, "q_a_layernorm": attention.norm_q, "q_b_proj": attention.w_uq}
    own |= {"kv_a_proj_with_mqa": key_value, "kv_a_layernorm": attention.norm_kv, "kv_b_proj": attention.w_ukv}
    out |= {f"self_attn.{name}": slot for name, slot in (own | {"o_proj": attention.w_o}).items()}
    swiglu = lambda prefix, gate, up, down: {
        f"{prefix}.gate_proj": gate, f"{prefix}.up_proj": up, f"{prefix}.down_proj": down
    }  # fmt: skip
    if isinstance(ffn, SwiGLU):
        out |= swiglu("mlp", *ffn.w_gate_up.chunk(2), ffn.w_down)
        return {f"{name}.weight": slot for name, slot in out.items()}
    n = ffn.spec.n_shared
    out["mlp.gate"] = ffn.w_router
    if n:
        out |= swiglu("mlp.shared_experts", *ffn.w_gate_up[:n].chunk(2, 1), ffn.w_down[:n].flatten(0, 1).T)
    for e in range(ffn.spec.n_routed):
        out |= swiglu(f"mlp.experts.{e}", *ffn.w_gate_up[n + e].chunk(2), ffn.w_down[n + e].T)
    return {f"{name}.weight": slot for name, slot in out.items()} | {"mlp.gate.e_score_correction_bias": ffn.bias_E}


def _copies(model: Transformer) -> dict[str, Tensor]:
    """Names under which published files repeat the embedding and the head; read, compared, never written."""
    out = {"lm_head.weight": model.embed} if model.spec.tied else {}
    for i in range(model.spec.n_layers, model.spec.n_layers + model.spec.n_mtp):
        out[f"model.layers.{i}.embed_tokens.weight"] = model.embed
        out[f"model.layers.{i}.shared_head.head.weight"] = model.head
    return out


def _published(slot: Tensor) -> Tensor:
    return slot.flatten(0, 1) if slot.ndim == 3 else slot


def _checked(tensor: Tensor, shape: torch.Size, name: str, path: Path) -> Tensor:
    if tensor.shape != shape:
        raise WeightsError(f"{name} in {path} is {list(tensor.shape)}; config.json expects {list(shape)}; "
                           "use the config.json that these weights came with")  # fmt: skip
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise WeightsError(f"{name} in {path} is {tensor.dtype}; expected float32, bfloat16 or float16; convert it")
    return tensor


def _compare_names(expected: set[str], found: set[str], directory: Path) -> None:
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing or extra:
        parts = [f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
                 for what, names in (("missing", missing), ("unknown", extra)) if names]  # fmt: skip
        raise WeightsError(f"{directory}: {' and '.join(parts)} of {len(expected)} expected tensors; the file is cut short or "
                           "config.json belongs to another model; fetch or export both together")  # fmt: skip


def _tensor_files(directory: Path) -> dict[str, Path]:
    """Tensor name -> file that holds it, from the index of a sharded directory or the one file."""
    if (directory / INDEX).is_file():
        shards = sorted(set(_json(directory / INDEX).get("weight_map", {}).values()))
    else:
        shards = [WEIGHTS]
    out = {}
    for shard in shards:
        path = directory / str(shard)
        if path.parent != directory or path.suffix != ".safetensors" or not path.is_file():
            raise WeightsError(f"no {path}; expected safetensors files beside config.json; fetch or export it again")
        with _opened(path) as file:
            out |= dict.fromkeys(file.keys(), path)
    return out


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {error}; expected a safetensors file; fetch or export it again") from None


def _json(path: Path) -> dict[str, Any]:
    expected = "a Hugging Face directory with config.json and safetensors"
    return read_json(path, WeightsError, expected, "fetch or export it again")


def spec_of(config: Mapping[str, Any], *, has_mtp: bool) -> ModelSpec:
    """The ModelSpec of a published config.json; WeightsError for what this architecture can't be."""
    kind = config.get("model_type")
    if kind != "deepseek_v3":
        raise WeightsError(f"config.json has model_type {kind!r}; expected 'deepseek_v3'; other models don't load here")
    names = shipped(__file__)
    for key, only in {**names["only"], "quantization_config": None}.items():
        if config.get(key, only) != only:
            raise WeightsError(f"config.json has {key} = {config[key]!r}; expected {only!r}; convert the weights first")
    heads, heads_kv = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads_kv not in (heads, None):
        raise WeightsError(f"num_key_value_heads is {heads_kv}; expected {heads}: latent attention doesn't group heads")
    n_layers = _number(config, "num_hidden_layers", 0)
    dense = _number(config, "first_k_dense_replace", 3) >= n_layers or not config.get("n_routed_experts")
    table = {ours: config[theirs] for ours, theirs in names["same"].items() if theirs in config}
    if dense:
        table["n_dense_layers"] = n_layers
    else:
        table |= {ours: config[theirs] for ours, theirs in names["routed"].items() if theirs in config}
    n_mtp = config.get("num_nextn_predict_layers", config.get("num_mtp_layers", 0))
    rope_theta, yarn = _rope_of(config)
    table |= {"n_mtp": n_mtp if has_mtp else 0, "rope_theta": rope_theta, "yarn": yarn}
    table |= {"tied": config.get("tie_word_embeddings", False), **config.get(HOW, {})}
    try:
        return parse(ModelSpec, table, "config.json")
    except ConfigError as error:
        raise WeightsError(f"{error}\nexpected a DeepSeek-V3 config.json (the keys above are ours)") from None


def _rope_of(config: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Base and YaRN from either spelling: `rope_theta` with `rope_scaling`, or `rope_parameters`."""
    newer = config.get("rope_parameters") or {}
    rope = config.get("rope_scaling") or newer
    theta = {"rope_theta": 10000.0, **config, **newer, **rope}["rope_theta"]
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "yarn" or set(rope) - set(shipped(__file__)["yarn"]) or not rope.get("truncate", True):
        raise WeightsError(f"rotary positions of type {kind!r} with {sorted(rope)}; expected 'default' or plain 'yarn'")
    context = _number(config, "max_position_embeddings", 4096)
    original = _number(rope, "original_max_position_embeddings", context)
    factor = _number(rope, "factor", context / max(original, 1))
    mscale, all_dim = _number(rope, "mscale", 0.0), _number(rope, "mscale_all_dim", 0.0)
    wanted = _number(rope, "attention_factor", 0.0)  # the scale of cos and sin; transformers' rule where it is absent:
    if not wanted and not (mscale and all_dim):
        wanted = 0.1 * math.log(max(factor, 1)) + 1.0
    table = {"factor": factor, "original_context": original, "mscale_all_dim": all_dim, "mscale": mscale}
    table |= {key: _number(rope, key, other) for key, other in (("beta_fast", 32.0), ("beta_slow", 1.0))}
    try:
        yarn = parse(Yarn, table, "rope_scaling")
    except ConfigError as error:
        raise WeightsError(f"{error}; expected YaRN's numbers in config.json") from None
    if wanted and factor > 1 and not math.isclose(wanted, yarn.turn_scale, rel_tol=1e-12):
        mscale = (wanted * yarn.magnitude(yarn.mscale_all_dim) - 1.0) / (0.1 * math.log(factor))
        yarn = yarn.model_copy(update={"mscale": round(mscale, 12)})
    return theta, yarn


def _number(table: Mapping[str, Any], key: str, absent: float) -> float:
    value = absent if table.get(key) is None else table[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"config.json has {key} = {value!r}; expected a number; fetch or export it again")
    return value


def config_of(spec: ModelSpec, dtype: str, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """config.json for transformers 4.5x and 5.x and vLLM: both spellings of the rotary positions and of the dtype."""
    names = shipped(__file__)
    if spec.mixer != "mla":
        raise WeightsError("the model has grouped-query attention, which deepseek_v3 can't say; train with mixer = mla")
    if spec.n_routed:
        wrong = {"scoring": spec.scoring != "sigmoid", "n_shared": spec.n_shared < 1,
                 "group_score": spec.n_groups > 1 and spec.group_score != "top2"}  # fmt: skip
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise WeightsError(f"the model has {name} = {getattr(spec, name)!r}, which deepseek_v3 can't say; expected sigmoid "
                               "affinities, groups scored by their best two and a shared expert; train with those to export")
        routed = {theirs: getattr(spec, ours) for ours, theirs in names["routed"].items()}
    else:  # experts that no layer has, in numbers that readers accept
        routed = dict.fromkeys(names["routed"].values(), 1)
        routed |= {"first_k_dense_replace": spec.n_layers + spec.n_mtp, "moe_intermediate_size": spec.d_ffn}
        routed |= {"n_routed_experts": 2, "norm_topk_prob": True, "routed_scaling_factor": 1.0}
    rope: dict[str, Any] = {"rope_type": "default"}
    if spec.yarn is not None:
        rope = {"rope_type": "yarn", **spec.yarn.model_dump()}
        rope["original_max_position_embeddings"] = rope.pop("original_context")
        if not (spec.yarn.mscale and spec.yarn.mscale_all_dim):
            rope["attention_factor"] = spec.yarn.turn_scale  # readers take an absent or zero factor for something else
    return {
        **names["written"],
        **{theirs: getattr(spec, ours) for ours, theirs in names["same"].items()},
        "num_key_value_heads": spec.n_heads,
        **routed,
        **names["only"],
        "num_nextn_predict_layers": spec.n_mtp,
        "tie_word_embeddings": spec.tied,
        "rope_theta": spec.rope_theta,
        "rope_scaling": {"type": "yarn", **rope} if spec.yarn else None,
        "rope_parameters": {"rope_theta": spec.rope_theta, **rope},
        "torch_dtype": dtype,
        "dtype": dtype,
        **{f"{name}_token_id": tokenizer and getattr(tokenizer.layout, f"{name}_id") for name in ("bos", "eos", "pad")},
        HOW: {"experts": spec.experts, "attention": spec.attention},
    }
