"""The bot: whole characters, thinking apart from the answer, a context that forgets the oldest first."""

import itertools

import pytest
import torch
from shapes import shape

from nomoat.config import DataError, UserError
from nomoat.engine import generate
from nomoat.engine.request import Sampling
from nomoat.model.transformer import Transformer
from nomoat.serve import bot
from nomoat.tokenizer import bpe, layout, pieces
from nomoat.tokenizer.layout import NOMOAT, Message

EOS, THINK, END_THINK = NOMOAT.eos_id, NOMOAT.think_id, NOMOAT.end_think_id
SPEC = shape(
    vocab_size=300,
    n_layers=2,
    d_model=16,
    n_heads=2,
    d_nope=8,
    d_rope=4,
    d_value=8,
    d_kv_latent=8,
    d_ffn=24,
    context=64,
)


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["The lamp is on. Die Lampe ist grün. " * 9], 300)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return Transformer(SPEC).initialise(3).eval()


def said(tokenizer, ids, thinking=False):
    return [(p.kind, p.text) for p in pieces.pieces(ids, tokenizer, thinking=thinking)]


def merged(pieces):
    return [
        (kind, "".join(t for _, t in group)) for kind, group in itertools.groupby(pieces, key=lambda p: p[0])
    ]


def test_a_character_comes_whole_or_not_at_all(tokenizer):
    text = "grün 🙂 漢字 end"
    ids = tokenizer.encode(text)
    pieces = said(tokenizer, [*ids, EOS, *ids])
    assert merged(pieces) == [("answer", text)]
    assert len(pieces) < len(ids)
    assert all("\ufffd" not in t for _, t in pieces)
    cut = said(tokenizer, tokenizer.encode("🙂")[:-1])
    assert merged(cut) == [("answer", "\ufffd")]


def test_thinking_and_answer_are_told_apart(tokenizer):
    a, b = tokenizer.encode("is it on"), tokenizer.encode("on")
    assert merged(said(tokenizer, [THINK, *a, END_THINK, *b, EOS])) == [
        ("thinking", "is it on"),
        ("answer", "on"),
    ]
    assert merged(said(tokenizer, [*a, END_THINK, *b, EOS], thinking=True)) == [
        ("thinking", "is it on"),
        ("answer", "on"),
    ]
    assert merged(said(tokenizer, [*b, EOS])) == [("answer", "on")]


def test_tokens_are_counted(tokenizer):
    ids = tokenizer.encode("grün 🙂")
    assert sum(p.n_tokens for p in pieces.pieces([*ids, EOS], tokenizer, thinking=False)) == len(ids)


def test_the_stream_is_the_greedy_sample(model, tokenizer):
    talker = bot.Bot(model, tokenizer, max_new_tokens=12)
    messages = [Message("user", "The lamp")]
    got = "".join(p.text for p in talker.stream(messages, think=False, stop=lambda: False))
    prompt = layout.render(tokenizer, messages, generate=True, think=False).ids
    sampled = generate.sample(
        model,
        [prompt],
        max_new_tokens=12,
        seed=0,
        stop_ids=sorted(NOMOAT.turn_ends),
        greedy=True,
    )
    expected = "".join(t for _, t in said(tokenizer, sampled[0][0].ids_T.tolist()))
    assert got == expected
    assert got == "".join(p.text for p in talker.stream(messages, think=False, stop=lambda: False))


def test_it_stops_when_asked(model, tokenizer):
    asked = itertools.count()
    assert (
        len(
            list(
                bot.Bot(model, tokenizer).stream(
                    [Message("user", "on")], think=None, stop=lambda: next(asked) >= 3
                )
            )
        )
        <= 3
    )


def test_a_full_context_forgets_the_oldest_turns_and_keeps_the_system_prompt(model, tokenizer):
    talker = bot.Bot(model, tokenizer, max_new_tokens=32)
    turns = [Message(("user", "assistant")[i % 2], f"lamp {i}") for i in range(21)]
    system = Message("system", "grün")
    prompt = talker.fit([system, *turns], None)
    ids = prompt.ids
    assert prompt.n_forgotten == 20 - 2 * (tokenizer.decode(ids).count("lamp") // 2)
    assert len(ids) <= SPEC.context - SPEC.context // 4
    text = tokenizer.decode(ids, specials=True)
    assert text.startswith("<|bos|><|system|>grün<|user|>")
    assert text.endswith("lamp 20<|assistant|>")
    assert "lamp 1<" not in text
    short = talker.fit(turns[:3], None)
    assert (short, short.n_forgotten) == (layout.render(tokenizer, turns[:3], generate=True), 0)


def test_a_reply_says_why_it_ended(model, tokenizer):
    """Cut by its limit, by the context, by a person; or ended by the model."""
    asked = [Message("user", "lamp " * 9)]
    limited = bot.Bot(model, tokenizer, max_new_tokens=3).stream(asked, think=None, stop=lambda: False)
    n_seen = sum(piece.n_tokens for piece in limited)
    assert (limited.stop, limited.n_tokens) == ("length", 3)
    assert n_seen <= 3
    assert limited.mark("x") == "cut after 3 tokens; --max-tokens allows more"
    filled = bot.Bot(model, tokenizer).stream(asked, think=True, stop=lambda: False)
    assert [*filled]
    assert (filled.stop, filled.n_prompt + filled.n_tokens) == ("length", SPEC.context)
    assert 0 < filled.n_thinking <= filled.n_tokens
    assert filled.mark("") == "cut within its thinking: the context of 64 tokens is full"
    stopped = bot.Bot(model, tokenizer).stream(asked, think=None, stop=lambda: True)
    assert [*stopped] == []
    assert stopped.mark("") == "stopped before it began"
    ended = bot.Reply(iter(()), 3, 0, 64, n_tokens=2, stop="end")
    assert ended.mark("x") is None
    assert ended.mark(" ") == "no answer: the reply ended within its thinking"


def test_what_cannot_fit_or_be_is_said(model, tokenizer):
    with pytest.raises(DataError, match="context of 64"):
        bot.Bot(model, tokenizer).fit([Message("user", "lamp " * 90)], None)
    with pytest.raises(UserError, match="expected 0"):
        Sampling(temperature=-1.0)
    with pytest.raises(UserError, match="longest reply = 0; expected 1 token or more"):
        bot.Bot(model, tokenizer, max_new_tokens=0)
