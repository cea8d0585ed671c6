"""Memory that a stage takes, planned: weights, what learns of them, activations, logits, and who is sampled.

Of given models, which are too large to be timed first (plan/probe.py); `fits` says before anything is loaded
what this machine can't hold, and what it could.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from nomoat.config import ConfigError
from nomoat.engine.engine import ROWS
from nomoat.engine.generate import products_for, room
from nomoat.model import counts
from nomoat.model.lora import Lora
from nomoat.model.loss import chunk_rows
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import fast_bf16
from nomoat.rl.rows import MICRO_BYTES, tokens_at_once
from nomoat.rl.step import LARGE
from nomoat.run import memory
from nomoat.run.ledger import short
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.train.optim import AT_ONCE
from nomoat.weights import adapters

PROCESS_BYTES = 0.4e9  # of Python, its libraries and a tokenizer
FLOAT = 4
PROMPT_TOKENS = 64  # of a question, about
HOLES = 1.35  # of a pass's tensors in a heap that has been used, as in plan/waves.py


@cache
def n_learning(spec: Spec, lora: Lora | None) -> int:
    """Parameters that learn."""
    if lora is None:
        return n_parameters(spec)
    with torch.device("meta"):
        known = adapters.places(Transformer(spec))
    targets = lora.targets
    chosen = [place for name, place in known.items() if adapters.is_target(name, targets)]
    return sum(lora.rank * sum(place.shape) for place in chosen)


def n_parameters(spec: Spec) -> int:
    return counts.params_total(spec) + counts.params_mtp(spec)


def itemsize(precision: str) -> int:
    return 2 if precision == "bf16" and fast_bf16(torch.device("cpu")) else FLOAT


def rows_at_once(config: StageConfig, spec: Spec, itemsize: int, kernels: Kernels) -> int | None:
    """Rows of a pass where documents are read: what the recipe says, or of a large model as many as leave
    MICRO_BYTES; None: all."""
    if config.micro_rows or n_parameters(spec) <= LARGE:
        return config.micro_rows
    most = tokens_at_once(spec, itemsize, recompute=kernels.recompute) // config.context
    return max(most, 1) if most < config.rows else None


def learning(spec: Spec, recipe: Recipe, config: StageConfig, row_tokens: int | None) -> float:
    """Bytes at most of a stage that learns from rows of `row_tokens` in all, or by reinforcement (None)."""
    each = itemsize(config.precision)
    n = n_parameters(spec)
    learns = n_learning(spec, config.lora)
    held = n * each + learns * 2 * FLOAT  # weights and moments
    if config.lora:
        held += learns * each
    if each != FLOAT:  # masters, which are a float32 model's own weights
        held += learns * FLOAT
    merging = n * each + 2 * n * FLOAT if config.lora else 0  # its weights as read, and with the adapters
    if row_tokens is not None:
        left = row_tokens * counts.activation_bytes(spec, each, recompute=recipe.kernels.recompute)
        return max(held + HOLES * left + updating(spec, config.lora, each), merging)
    if config.lora:  # the merged policy has its own of what is adapted, and shares tables of float32
        held += (n - (tables(spec) if each == FLOAT else 0)) * FLOAT
    elif keeps_reference(config, spec):
        held += n * each
    n_rows = config.prompts * config.group
    sampled = sampling(spec, n_rows, config.max_new_tokens, config.precision)
    return held + max(sampled, MICRO_BYTES + updating(spec, config.lora, each))


def tables(spec: Spec) -> int:
    """Parameters of embedding and head."""
    return spec.vocab_size * spec.d_model * (1 if spec.tied else 2)


def keeps_reference(config: StageConfig, spec: Spec) -> bool:
    """Whether RL without adapters keeps what it is held to, or loads it to look at the KL now and then."""
    return bool(config.kl or config.replay or config.refresh or n_parameters(spec) <= LARGE)


def sampling(spec: Spec, rows: int, max_new_tokens: int, precision: str = "fp32") -> float:
    """Bytes while answers are drawn: the weights once more, in the order of the compiled step, with two
    copies of the table in passing; a cache, the logits of a step."""
    longest = PROMPT_TOKENS + max_new_tokens
    limits = room(spec, min(rows, ROWS), longest)
    own = counts.cache_bytes(spec) * limits.rows * longest
    logits = limits.rows * spec.vocab_size * FLOAT
    table = spec.vocab_size * spec.d_model
    copied = n_parameters(spec) + 2 * table
    each = FLOAT if products_for(precision, torch.device("cpu")) == "as is" else 2
    return copied * each + min(limits.cache_bytes, own) + logits


def asking(spec: Spec, rows: int, max_new_tokens: int, precision: str = "fp32") -> float:
    """Bytes of a model that is only asked: its weights, twice while they are read, and then sampling."""
    n = n_parameters(spec) * FLOAT
    return n + max(n, sampling(spec, rows, max_new_tokens, precision))


def updating(spec: Spec, lora: Lora | None, each: int) -> float:
    """Bytes of logits, gradients and what the optimiser copies."""
    V, learns = spec.vocab_size, n_learning(spec, lora)
    logits = HOLES * 3 * chunk_rows(V) * V * FLOAT
    of_head = 0 if lora else V * spec.d_model * (FLOAT + each)
    return logits + of_head + learns * each + FLOAT * min(AT_ONCE, learns)


def fits(recipe: Recipe, config: StageConfig) -> None:
    """ConfigError for a stage that takes more memory than there is, with what would fit."""
    needed, free = planned(recipe, config), memory.available_bytes()
    if free is None or needed <= free:
        return
    smaller = [f"{how} ({short(size, 'B')})" for how, size in _smaller(recipe, config) if size <= free]
    cure = "neither adapters nor half of its rows would fit: choose a smaller model"
    if smaller:
        cure = f"what would fit: {'; '.join(smaller)}"
    raise ConfigError(
        f"stage {config.name} takes about {short(needed, 'B')} of memory, and {short(free, 'B')} are free; "
        f"expected as much; {cure}"
    )


def planned(recipe: Recipe, config: StageConfig) -> float:
    return (recipe.plan(config).get("memory_bytes") or 0) + PROCESS_BYTES


def _smaller(recipe: Recipe, config: StageConfig) -> Iterator[tuple[str, float]]:
    """Changes that a stage could take, one more each time, and its memory with them."""
    changes: dict[str, Any] = {}
    if "lora" in type(config).model_fields and config.lora is None:
        changes["lora"] = Lora()
        yield _with(recipe, config, changes)
    for key in ("rows", "context"):
        if getattr(config, key, 1) > 1:
            changes[key] = getattr(config, key) // 2
            yield _with(recipe, config, changes)


def _with(recipe: Recipe, config: StageConfig, changes: dict[str, Any]) -> tuple[str, float]:
    said = {k: f"{{rank={v.rank}}}" if isinstance(v, Lora) else v for k, v in changes.items()}
    how = " and ".join(f"{config.name}.{key}={value}" for key, value in said.items())
    return how, planned(recipe, config.model_copy(update=changes))
