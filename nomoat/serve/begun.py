"""A reply that has begun: ids that a client has of it already, and what of its thinking is left."""

from collections.abc import Sequence
from dataclasses import replace

from nomoat.engine.request import Thinking
from nomoat.serve.fields import ChatBody
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Served
from nomoat.tokenizer import layout

FIELD = "reply_tokens"


def begun_of(
    body: ChatBody, served: Served, prompt: layout.Rendered, *, formed: bool
) -> tuple[int, ...]:
    """The ids that the reply begins with; Refusal where nothing can stand behind them.

    `formed`: the reply is held to a grammar or to tools, which have to see all of it.
    """
    begun = tuple(body.reply_tokens or ())
    if not begun:
        return begun
    if formed:
        message = f"`{FIELD}` beside tools or a form of the reply; expected one of them"
        raise Refusal(message, FIELD, code="unsupported_parameter")
    most = served.engine.model.spec.vocab_size
    if wrong := [id for id in begun if id >= most]:
        raise Refusal(f"`{FIELD}`: id {wrong[0]}; expected 0 to {most - 1}", FIELD)
    if not body.ignore_eos and not served.tokenizer.layout.turn_ends.isdisjoint(begun):
        raise Refusal(f"`{FIELD}` holds an id that ends a reply; expected those before it", FIELD)
    room = served.longest - len(prompt.ids)
    if len(begun) >= room > 0:
        message = f"`{FIELD}` has {len(begun)} ids; expected fewer than the {room} left behind the prompt"
        raise Refusal(message, FIELD, code="context_length_exceeded")
    return begun


def left_of(limit: Thinking | None, begun: Sequence[int]) -> Thinking | None:
    """The bound of the thinking behind these ids."""
    if limit is None or not begun:
        return limit
    n = 0 if limit.opened else -1  # tokens since a block was opened; -1: outside of one
    for id in begun:
        if id in (limit.open_id, limit.close_id):
            n = 0 if id == limit.open_id else -1
        elif n >= 0:
            n += 1
    return replace(limit, opened=n >= 0, budget=max(limit.budget - max(n, 0), 0))
