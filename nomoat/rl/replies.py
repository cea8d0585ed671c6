"""What an outside sampler is asked for beside the prompt, and its answer as samples: ids and log-probabilities."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from nomoat.config import JsonObject
from nomoat.engine.request import Sample

# whatever a server's defaults are: nothing is truncated, nothing punished, and only the stop ids that are sent
# end an answer
PLAIN: Mapping[str, Any] = {
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "logprobs": 0, "return_token_ids": True,
    "ignore_eos": True,
}  # fmt: skip


class Unusable(Exception):
    """An answer that can't be learned from."""


def samples_of(table: JsonObject, asked: JsonObject, vocab_size: int) -> list[Sample]:
    """The samples of an answer to /v1/completions, in the order of their index."""
    choices = table.get("choices")
    if not isinstance(choices, list) or len(choices) != asked["n"]:
        n = len(choices) if isinstance(choices, list) else "no"
        raise Unusable(f"{n} choices; expected {asked['n']}; another server, or a lower bound on `n` there")
    choices = sorted(choices, key=lambda choice: choice.get("index", 0))
    return [sample_of(choice, asked, vocab_size) for choice in choices]


def sample_of(choice: JsonObject, asked: JsonObject, vocab_size: int) -> Sample:
    """One sample, up to its first stop id."""
    listed = choice.get("logprobs") or {}
    ids, logps = choice.get("token_ids"), listed.get("token_logprobs")
    if not isinstance(ids, list) or not isinstance(logps, list) or len(ids) != len(logps) or not ids:
        raise Unusable(
            "an answer without the ids and log-probabilities of its tokens (`token_ids`, "
            "`logprobs.token_logprobs`); expected both, one of each token: `nomoat serve`, vLLM from 0.10.2"
        )
    if choice.get("prompt_token_ids") not in (None, asked["prompt"]):
        raise Unusable("it answers another prompt than was sent; expected these ids; it adds or drops some")
    if wrong := [id for id in ids if not (type(id) is int and 0 <= id < vocab_size)]:
        raise Unusable(f"id {wrong[0]!r}; expected 0 to {vocab_size - 1}: it serves another model")
    if not all(isinstance(logp, int | float) and math.isfinite(logp) for logp in logps):
        raise Unusable("a log-probability that is no number; expected one of each token")
    stops = [n for n, id in enumerate(ids) if id in asked["stop_token_ids"]]
    n = stops[0] + 1 if stops else len(ids)
    if not stops and (choice.get("finish_reason") != "length" or n < asked["max_tokens"]):
        raise Unusable(
            f"an answer ends after {n} tokens by {choice.get('finish_reason')!r}; expected a stop id "
            f"({', '.join(map(str, asked['stop_token_ids']))}), or {asked['max_tokens']} tokens; it has "
            "another end of text, a shorter context or a limit of time"
        )
    logp_T = torch.tensor(logps[:n], dtype=torch.float32)
    return Sample(torch.tensor(ids[:n]), logp_T, "end" if stops else "length")
