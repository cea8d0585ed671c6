"""transformers on the same card: the same shape by its own classes, its fastest product of experts."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.measure import Place, random_ids
from nomoat.model.spec import Spec
from nomoat.weights import families

EXPERTS = ("grouped_mm", "batched_mm", "eager")
TRIED_ROWS = 4


def absent() -> bool:
    return importlib.util.find_spec("transformers") is None


def model_of(place: Place, spec: Spec) -> Any:
    """The model in bf16 with weights of its own, attention by torch's fused kernels."""
    import transformers

    transformers.logging.set_verbosity_error()
    table = families.family("deepseek_v3").config_of(spec)
    config = transformers.DeepseekV3Config(**table)
    with torch.device(place.device):
        return transformers.DeepseekV3ForCausalLM._from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )


def fastest(place: Place, model: Any, step: Callable[[int], object]) -> str:
    """The expert product with which `step` of a few rows takes the shortest; the model keeps it."""
    seconds = {}
    for name in EXPERTS:
        try:
            model.set_experts_implementation(name)
            step(TRIED_ROWS)
            place.wait()
            start = time.perf_counter()
            step(TRIED_ROWS)
            place.wait()
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            continue
        seconds[name] = time.perf_counter() - start
    best = min(seconds, key=seconds.get)
    model.set_experts_implementation(best)
    return best


def training_step(place: Place, model: Any, spec: Spec) -> Callable[[int], None]:
    """A step on so many rows: forward, backward, clipping, AdamW in one kernel."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def step(rows: int) -> None:
        ids_BT = random_ids(spec, rows, spec.context).to(place.device)
        model(ids_BT, labels=ids_BT, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def decoding_step(place: Place, model: Any, spec: Spec, n_prompt: int, n_new: int) -> Callable[[int], Tensor]:
    """So many rows sampled without truncation and without an early end."""
    model.eval()
    model.generation_config.eos_token_id = None
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}

    def step(rows: int) -> Tensor:
        ids_BT = random_ids(spec, rows, n_prompt).to(place.device)
        mask_BT = torch.ones_like(ids_BT)
        return model.generate(ids_BT, attention_mask=mask_BT, max_new_tokens=n_new, **how)

    return torch.inference_mode()(step)
