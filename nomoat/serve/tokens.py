"""Log-probabilities of tokens, as OpenAI's two routes write them."""

from collections.abc import Sequence

from nomoat.config import JsonObject
from nomoat.engine.request import Token
from nomoat.serve.asked import Delta
from nomoat.tokenizer.bpe import Tokenizer

LOWEST = -9999.0  # instead of minus infinity, which JSON can't hold


def chat_logprobs(deltas: Sequence[Delta], tokenizer: Tokenizer) -> JsonObject | None:
    """Of the answer's tokens under `content`, of the thinking's under `reasoning_content`; None where there
    is neither.
    """
    lists: dict[str, list[JsonObject]] = {"answer": [], "thinking": []}
    marks = tokenizer.layout
    silent = marks.turn_ends | {marks.think_id, marks.end_think_id}  # no text of the reply
    for delta in deltas:
        lists[delta.kind] += [entry(token, tokenizer) for token in delta.tokens if token.id not in silent]
    if not any(lists.values()):
        return None
    thinking = {"reasoning_content": lists["thinking"]} if lists["thinking"] else {}
    return {"content": lists["answer"], "refusal": None, **thinking}


def entry(token: Token, tokenizer: Tokenizer) -> JsonObject:
    top = [named(id, logp, tokenizer) for id, logp in token.top or ()]
    return named(token.id, token.plain_logp, tokenizer) | {"top_logprobs": top}


def named(id: int, logp: float, tokenizer: Tokenizer) -> JsonObject:
    data = bytes_of(id, tokenizer)
    text = data.decode("utf-8", "replace")
    return {"token": text, "logprob": max(logp, LOWEST), "bytes": list(data), "token_id": id}


def text_of(id: int, tokenizer: Tokenizer) -> str:
    """What a token reads as, or `bytes:` and its bytes where these are no characters."""
    data = bytes_of(id, tokenizer)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def bytes_of(id: int, tokenizer: Tokenizer) -> bytes:
    """What a token stands for, a control token for its spelling."""
    return tokenizer.token_bytes(id) or tokenizer.decode([id], specials=True).encode()
