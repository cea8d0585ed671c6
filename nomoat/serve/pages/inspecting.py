"""What a model thought of each token of a reply: probabilities, alternatives, experts; one forward pass."""

import torch
from torch import Tensor

from nomoat.config import JsonObject
from nomoat.model.moe import Routing
from nomoat.model.transformer import Transformer
from nomoat.serve.pages.bodies import InspectBody
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served
from nomoat.serve.tokens import LOWEST, text_of
from nomoat.serve.worker import Worker
from nomoat.tokenizer.bpe import Tokenizer

TOP = 5
ROWS = 64  # whose logits are in memory at the same time


def inspected(body: InspectBody, served: Served, worker: Worker) -> JsonObject:
    """The tokens of the reply; without one, only how the model's thinking ends.

    The engines rest meanwhile.  `experts` and `weights` are those that fired where the token was read, a list
    for each routed layer, the heaviest first.
    """
    marks = served.tokenizer.layout
    told: JsonObject = {"tokens": [], "end_thinking_id": marks.end_think_id}
    if not body.reply_tokens:
        return told
    check(body, served)
    with worker.resting():
        model = served.engine.model
        scores, routings = computed(model, body.prompt_tokens, body.reply_tokens)
    tokens = [
        token_of(id, score, served.tokenizer) | experts_at(routings, len(body.prompt_tokens) + n)
        for n, (id, score) in enumerate(zip(body.reply_tokens, scores))
    ]
    return told | {"tokens": tokens}


def check(body: InspectBody, served: Served) -> None:
    """Refusal for what the model can't read."""
    if not body.prompt_tokens:
        raise Refusal("`prompt_tokens` is empty; expected one id or more before a reply", "prompt_tokens")
    spec = served.engine.model.spec
    for name in ("prompt_tokens", "reply_tokens"):
        if wrong := [id for id in getattr(body, name) if id >= spec.vocab_size]:
            raise Refusal(f"`{name}`: id {wrong[0]}; expected 0 to {spec.vocab_size - 1}", name)
    n = len(body.prompt_tokens) + len(body.reply_tokens)
    if n > spec.context:
        name = "prompt_tokens" if len(body.prompt_tokens) >= spec.context else "reply_tokens"
        found = f"`{name}`: {n} tokens in all; expected {spec.context} at most, this model's context"
        raise Refusal(found, name, code="context_length_exceeded")


Score = tuple[float, list[tuple[int, float]]]


@torch.inference_mode()
def computed(
    model: Transformer, prompt: list[int], reply: list[int]
) -> tuple[list[Score], list[Routing]]:
    """(log-probability, the likeliest with theirs) of each of the reply's ids, and what the routers chose."""
    ids_BT = torch.tensor([prompt + reply], device=model.device)
    h_BTD, routings = model.hidden(ids_BT)
    n = len(reply)
    read_MD = h_BTD[0, -n - 1 : -1]
    said_M = ids_BT[0, -n:]
    return scores_of(model, read_MD, said_M), routings


def scores_of(model: Transformer, h_MD: Tensor, id_M: Tensor) -> list[Score]:
    scores: list[Score] = []
    for first in range(0, len(id_M), ROWS):
        rows = slice(first, first + ROWS)
        scores += scored(model.logits(h_MD[rows]), id_M[rows])
    return scores


def scored(logits_MV: Tensor, id_M: Tensor) -> list[Score]:
    logp_MV = logits_MV.log_softmax(-1)
    best = logp_MV.topk(min(TOP, logp_MV.shape[1]), -1)
    own_M = logp_MV.gather(1, id_M[:, None])[:, 0]
    rows = zip(own_M.tolist(), best.indices.tolist(), best.values.tolist())
    return [(own, [*zip(ids, logps)]) for own, ids, logps in rows]


def token_of(id: int, score: Score, tokenizer: Tokenizer) -> JsonObject:
    logp, best = score
    return named(id, logp, tokenizer) | {"top": [named(*each, tokenizer) for each in best]}


def named(id: int, logp: float, tokenizer: Tokenizer) -> JsonObject:
    return {"id": id, "text": text_of(id, tokenizer), "logprob": max(logp, LOWEST)}


def experts_at(routings: list[Routing], place: int) -> JsonObject:
    experts, weights = [], []
    for routing in routings:
        gate_K, order_K = routing.gate_MK[place].sort(descending=True)
        experts.append(routing.expert_MK[place][order_K].tolist())
        weights.append(gate_K.tolist())
    return {"experts": experts, "weights": weights}
