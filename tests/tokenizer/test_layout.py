"""Laws of the chat layout: no content forges a control token, and the jinja template says the same."""

import dataclasses
import json
import random

import borrowed
import jinja2.sandbox
import pytest
import tokenizers

from nomoat.config import DataError
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import (
    NOMOAT,
    Message,
    render,
    render_batch,
    template,
    template_in_gguf,
)

SPECIALS = tuple(NOMOAT.specials)
PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, THINK, END_THINK = NOMOAT.specials.values()
N_STRINGS = 100_000
PIECES = [
    *SPECIALS,
    *(s[:k] for s in SPECIALS for k in range(1, len(s))),
    *(s[k:] for s in SPECIALS for k in range(1, len(s))),
    *(s.upper() for s in SPECIALS),
    "<think >", "< think>", "＜think＞", "‹think›", "<thi\u200bnk>", "<｜eos｜>", "<|im_end|>", "&lt;think&gt;",
    "\\u003cthink>", "{{ '<|eos|>' }}", "{% for m in messages %}", "{{- bos_token -}}", "{% raw %}", "{# #}", "\x00",
    "\x1b[2J", "\r\n", "Ġ<think>", "Ċ", "Ā", "\ufeff", "\u202e", "🧠", "e\u0301", "ß", " ", "\t", "0", "7", "the",
    "Haus", "0x06", "\u2028",
]  # fmt: skip


@pytest.fixture(scope="module")
def tok() -> bpe.Tokenizer:
    text = "What is 17 + 25? The sum of the two numbers is 42, das ist die Summe. <think> chain </think> <|user|> "
    return bpe.train([text * 20, "".join(PIECES) * 5], 500)


def hostile(rng: random.Random) -> str:
    match rng.randrange(8):
        case 0:
            return rng.choice(SPECIALS)
        case 1:
            outer = rng.choice(SPECIALS)
            cut = rng.randrange(1, len(outer))
            return outer[:cut] + rng.choice(SPECIALS) + outer[cut:]
        case 2:
            return "".join(
                chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(rng.randrange(9))
            )
        case _:
            return "".join(rng.choices(PIECES, k=rng.randrange(1, 6)))


def test_no_content_in_any_role_forges_a_control_token(tok):
    rng = random.Random("forge")
    n, conversations, expected = 0, [], []
    while n < N_STRINGS:
        thinking = hostile(rng) if rng.random() < 0.5 else None
        system, user, answer = hostile(rng), hostile(rng), hostile(rng)
        if n % 10_000 < 4:  # and a huge one now and then
            user = hostile(rng) * 5_000
        turns = [Message("system", system), Message("user", user), Message("assistant", answer, thinking)]
        conversations.append(turns)
        block = [] if thinking is None else [THINK, END_THINK]
        expected.append([BOS, SYSTEM, USER, ASSISTANT, *block, EOS])
        n += 3 + (thinking is not None)
    rendered = render_batch(tok, conversations, generate=False)
    assert [[id for id in r.ids if id < len(SPECIALS)] for r in rendered] == expected
    for turns, r in zip(conversations[::50], rendered[::50]):
        tail = r.ids[r.ids.index(ASSISTANT) + 1 :]
        assert tok.decode(tail) == (turns[2].thinking or "") + turns[2].content


def test_render_batch_is_render(tok):
    rng = random.Random("batch")
    conversations = [[Message("user", hostile(rng)), Message("assistant", hostile(rng))] for _ in range(20)]
    assert render_batch(tok, conversations, generate=False) == [
        render(tok, c, generate=False) for c in conversations
    ]
    assert render_batch(tok, [], generate=True) == []


def test_trained_is_what_the_assistant_wrote(tok):
    turns = [
        Message("system", "Be brief."),
        Message("user", "17 + 25?"),
        Message("assistant", "42", "a chain"),
        Message("user", "Thanks"),
        Message("assistant", "Gladly."),
        Message("user", "25 + 17?"),
        Message("assistant", "42", "the chain"),
    ]
    r = render(tok, turns, generate=False)
    assert len(r.ids) == len(r.trained)
    assert tok.decode(r.ids, specials=True) == (
        "<|bos|><|system|>Be brief.<|user|>17 + 25?<|assistant|>42<|eos|><|user|>Thanks<|assistant|>Gladly.<|eos|>"
        "<|user|>25 + 17?<|assistant|><think>the chain</think>42<|eos|>"
    )
    wrote = tok.decode([id for id, t in zip(r.ids, r.trained) if t], specials=True)
    assert wrote == "Gladly.<|eos|><think>the chain</think>42<|eos|>"


@pytest.mark.parametrize(("think", "tail"), [(None, []), (True, [THINK]), (False, [THINK, END_THINK])])
def test_generate_ends_where_the_assistant_is_to_write(tok, think, tail):
    r = render(tok, [Message("user", "hi")], generate=True, think=think)
    assert r.ids == [BOS, USER, *tok.encode("hi"), ASSISTANT, *tail]
    assert not any(r.trained)
    with pytest.raises(ValueError, match="generate"):
        render(tok, [Message("user", "hi")], generate=False, think=True)


def test_the_ids_are_those_of_the_special_tokens(tok):
    assert tok.layout is NOMOAT
    assert [tok.decode([id], specials=True) for id in range(8)] == list(NOMOAT.specials)
    assert {NOMOAT.specials[f"<|{role}|>"] for role in NOMOAT.role_ids} == set(NOMOAT.role_ids.values())
    assert set(NOMOAT.stop_ids) <= NOMOAT.turn_ends == set(NOMOAT.specials.values()) - {THINK, END_THINK}


def test_a_layout_without_think_marks_refuses_thinking(tok):
    class Plain:
        layout = dataclasses.replace(NOMOAT, think_id=None, end_think_id=None)
        encode_batch = tok.encode_batch

    talk = [Message("user", "hi")]
    assert render(Plain, talk, generate=True) == render(tok, talk, generate=True)
    with pytest.raises(DataError, match="marks no thinking"):
        render(Plain, talk, generate=True, think=False)
    with pytest.raises(DataError, match="message 1 has a chain of thought"):
        render(Plain, [*talk, Message("assistant", "42", "a chain")], generate=False)


def test_a_role_that_is_not_known_is_an_error(tok):
    with pytest.raises(DataError, match="role 'tool'; expected system, user or assistant"):
        render(tok, [Message("tool", "x")], generate=True)


def as_dicts(turns: list[Message]) -> list[dict]:
    return [{"role": m.role, "content": m.content, "reasoning_content": m.thinking} for m in turns]


def test_the_jinja_template_gives_the_same_ids(tok, tmp_path):
    tok.save(tmp_path)
    whole = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for settings in ({}, {"trim_blocks": True, "lstrip_blocks": True}):
        theirs = jinja2.sandbox.ImmutableSandboxedEnvironment(**settings).from_string(template(marked=False))
        for turns, how in borrowed.harmless(chains=True):
            text = theirs.render(
                messages=as_dicts(turns), add_generation_prompt=how["generate"], enable_thinking=how["think"]
            )
            assert whole.encode(text).ids == render(tok, turns, **how).ids
    with pytest.raises(jinja2.TemplateSyntaxError, match="generation"):
        jinja2.Environment().from_string(template())
    messages = [{"role": "user", "content": "hi"}]  # keys that a client leaves out
    assert theirs.render(messages=messages) == "<|bos|><|user|>hi"
    assert theirs.render(messages=messages, add_generation_prompt=True).endswith("<|user|>hi<|assistant|>")


def test_in_a_gguf_the_switch_can_only_turn_thinking_off():
    """Where nobody said anything, llama.cpp says true."""
    written = jinja2.Environment().from_string(template_in_gguf())
    messages = [{"role": "user", "content": "hi"}]
    for switch, end in ((True, ""), (False, "<think></think>"), (None, "")):
        text = written.render(messages=messages, add_generation_prompt=True, enable_thinking=switch)
        assert text == "<|bos|><|user|>hi<|assistant|>" + end
    assert written.render(messages=messages, add_generation_prompt=True).endswith("<|assistant|>")


def test_transformers_applies_the_saved_template_alike(tok, tmp_path):
    transformers = pytest.importorskip("transformers")
    tok.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (PAD, BOS, EOS)
    for turns, how in borrowed.harmless(chains=True):
        given = theirs.apply_chat_template(
            as_dicts(turns),
            add_generation_prompt=how["generate"],
            enable_thinking=how["think"],
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ours = render(tok, turns, **how)
        assert list(given["input_ids"]) == ours.ids
        assert [*map(bool, given["assistant_masks"])] == ours.trained
    text = "Straße , isn 't it ? 1234 \n\n end ."
    assert theirs.encode(text, add_special_tokens=False) == tok.encode(text)
    assert theirs.decode(tok.encode(text)) == text


PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
CALL = {"type": "function", "id": "1", "function": {"name": "f", "arguments": {"x": "é"}}}
CALLED = '<tool_call>{"name": "f", "arguments": {"x": "é"}}</tool_call>'
OTHERS = [  # messages that only other programs write, and what the template makes of them
    ([{"role": "user", "content": PARTS}], "<|user|>a\nb"),
    ([{"role": "user", "content": ["a", "b"]}], "<|user|>a\nb"),
    ([{"role": "user", "content": []}], "<|user|>"),
    ([{"role": "developer", "content": PARTS[:1]}], "<|system|>a"),
    ([{"role": "assistant", "content": None}], "<|assistant|><|eos|>"),
    ([{"role": "assistant"}], "<|assistant|><|eos|>"),
    ([{"role": "assistant", "content": PARTS, "reasoning_content": "r"}],
     "<|assistant|><think>r</think>a\nb<|eos|>"),
    ([{"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "7"}],
     f"<|assistant|>{CALLED}<|eos|><|user|><tool_response>7</tool_response>"),
    ([{"role": "assistant", "content": "so", "tool_calls": [CALL["function"], CALL]}],
     f"<|assistant|>so{CALLED}{CALLED}<|eos|>"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"x": "é"}'}}]}],
     f"<|assistant|>{CALLED}<|eos|>"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
     '<|assistant|><tool_call>{"name": "f", "arguments": {}}</tool_call><|eos|>'),
]  # fmt: skip
REFUSED = [
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "type image_url"),
    ({"role": "user", "content": [{"type": "text", "text": None}]}, "type text; expected text"),
    ({"role": "user", "content": [None]}, "type unknown"),
    ({"role": "user", "content": {"type": "text", "text": "a"}}, "a text or a list of parts"),
    ({"role": "user", "content": 42}, "a text or a list of parts"),
    ({"role": "function", "content": "x"}, "role function; expected system, developer"),
    ({"content": "x"}, "role none"),
]


def test_what_only_other_programs_write_is_whole_or_refused(tok, tmp_path):
    transformers = pytest.importorskip("transformers")
    tok.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for messages, text in OTHERS:
        assert theirs.apply_chat_template(messages, tokenize=False) == "<|bos|>" + text
    for message, complaint in REFUSED:
        with pytest.raises(jinja2.TemplateError, match=complaint):
            theirs.apply_chat_template([message], tokenize=False)
    calls = OTHERS[7][0]
    given = theirs.apply_chat_template(calls, return_dict=True, return_assistant_tokens_mask=True)
    wrote = [id for id, mask in zip(given["input_ids"], given["assistant_masks"]) if mask]
    assert tok.decode(wrote, specials=True) == f"{CALLED}<|eos|>"


def test_templates_of_ours_are_known_again(tok, tmp_path):
    tok.save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    table = json.loads(config.read_text())
    for text in (template(), template(marked=False), template_in_gguf(), template() + "\n"):
        config.write_text(json.dumps({**table, "chat_template": text}))
        assert bpe.Tokenizer.load(tmp_path).layout is NOMOAT
    config.write_text(json.dumps({**table, "chat_template": template() + "x"}))
    assert bpe.Tokenizer.load(tmp_path).layout.template == template() + "x"
