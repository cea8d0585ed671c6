"""What an outside sampler is asked for beside the prompt, and its answers as samples."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from nomoat.config import JsonObject
from nomoat.engine.request import Sample

# whatever a server's defaults are: nothing is truncated, nothing punished, and an answer ends at the stop ids
# that are sent alone
PLAIN: Mapping[str, Any] = {
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "logprobs": 0, "return_token_ids": True,
    "ignore_eos": True,
}  # fmt: skip


class Unusable(Exception):
    """An answer that can't be learned from."""


def samples_of(table: JsonObject, asked: JsonObject, vocab_size: int) -> list[Sample]:
    """The samples of an answer to /v1/completions, in the order of their index."""
    choices, expected = table.get("choices"), asked["n"]
    if not isinstance(choices, list):
        raise Unusable(f"no choices; expected {expected}")
    if len(choices) != expected:
        raise Unusable(f"{len(choices)} choices; expected {expected}")
    ordered = sorted(choices, key=lambda choice: choice.get("index", 0))
    return [sample_of(choice, asked, vocab_size) for choice in ordered]


def sample_of(choice: JsonObject, asked: JsonObject, vocab_size: int) -> Sample:
    """One sample, up to its first stop id."""
    ids, logps = told(choice, vocab_size)
    if choice.get("prompt_token_ids") not in (None, asked["prompt"]):
        raise Unusable("it answers another prompt than was sent; expected these ids; it adds or drops some")
    stop_ids, longest, finish = asked["stop_token_ids"], asked["max_tokens"], choice.get("finish_reason")
    stops = [n for n, id in enumerate(ids, 1) if id in stop_ids]
    n = min(stops, default=len(ids))
    if not stops and (finish != "length" or n < longest):
        raise Unusable(
            f"an answer ends after {n} tokens by {finish!r}; expected a stop id "
            f"({', '.join(map(str, stop_ids))}), or {longest} tokens; it has another end of text, a shorter "
            "context or a limit of time"
        )
    logp_T = torch.tensor(logps[:n], dtype=torch.float32)
    return Sample(torch.tensor(ids[:n]), logp_T, "end" if stops else "length")


def told(choice: JsonObject, vocab_size: int) -> tuple[list[int], list[float]]:
    """The ids of a choice and their log-probabilities."""
    ids = choice.get("token_ids")
    logps = (choice.get("logprobs") or {}).get("token_logprobs")
    whole = isinstance(ids, list) and isinstance(logps, list) and 0 < len(ids) == len(logps)
    if not whole:
        raise Unusable(
            "an answer without the ids and log-probabilities of its tokens (`token_ids`, "
            "`logprobs.token_logprobs`); expected both, one of each token; take a server that tells them "
            "(docs/cluster.md)"
        )
    if wrong := [id for id in ids if not (type(id) is int and 0 <= id < vocab_size)]:
        raise Unusable(f"id {wrong[0]!r}; expected 0 to {vocab_size - 1}: it serves another model")
    if not all(isinstance(logp, int | float) and math.isfinite(logp) for logp in logps):
        raise Unusable("a log-probability that is no number; expected one of each token")
    return ids, logps
