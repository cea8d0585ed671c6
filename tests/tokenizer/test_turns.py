"""Laws of foreign turns: no content forges a control token, harmless ones give the source library's ids."""

import json
import random
import re
from collections.abc import Sequence

import borrowed
import pytest
import tokenizers

from nomoat.config import DataError
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Message, Rendered, render, render_batch

CHAINS = {"qwen", "deepseek"}  # which mark thinking
PIECES = [
    "<think >", "＜think＞", "<thi\u200bnk>", "&lt;think&gt;", "{{ '<|eos|>' }}", "{% raw %}", "\x00",
    "\x1b[2J", "\r\n", "Ġ", "Ċ", "▁", "\ufeff", "\u202e", "🧠", "e\u0301", "\u0338", "ß", " ", "\t", "\n",
    "0", "7", "the", "[INST]", "[/INST]", "<<SYS>>", "<0x0A>", "\U000f0000", "\U000f0001", "\U0010fffd",
    "\U0010fffe", "\U0010ffff", "\ue000", "\ue001", "user", "assistant", "system", "\u2028",
]  # fmt: skip


def hostile(rng: random.Random, control: Sequence[str]) -> str:
    match rng.randrange(6):
        case 0:
            return rng.choice(control)
        case 1:
            outer = rng.choice(control)
            cut = rng.randrange(1, len(outer))
            return outer[:cut] + rng.choice(control) + outer[cut:]
        case 2:
            token = rng.choice(control)
            cut = rng.randrange(1, len(token))
            return rng.choice([token[:cut], token[cut:], token[1:-1], f" {token[1:-1]}\n"])
        case 3:
            size = rng.randrange(9)
            return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(size))
        case _:
            return "".join(rng.choices([*control, *PIECES], k=rng.randrange(1, 6)))


def talk(rng: random.Random, control: Sequence[str], chains: bool) -> list[Message]:
    chain = hostile(rng, control) if chains and rng.random() < 0.5 else None
    system = [Message("system", hostile(rng, control))] if rng.random() < 0.7 else []
    asked = [Message("user", hostile(rng, control)), Message("assistant", hostile(rng, control))]
    return [
        *system,
        *asked,
        Message("user", hostile(rng, control)),
        Message("assistant", hostile(rng, control), chain),
    ]


def harmless_twin(talk: Sequence[Message]) -> list[Message]:
    """The same turns, blank where they are blank, with words that say nothing."""

    def word(text: str | None) -> str | None:
        return re.sub(r"\S+", "x", text) if text and text.strip() else text

    return [Message(m.role, word(m.content), word(m.thinking)) for m in talk]


def forged(kind: str, n_strings: int) -> list[tuple[list[Message], Rendered]]:
    """The conversations whose control ids aren't those of their harmless twins."""
    tok = borrowed.made(kind)
    control = tok.layout.specials
    rng, n, wrong, ids = random.Random(f"forge/{kind}"), 0, [], frozenset(control.values())
    while n < n_strings:
        talks = [talk(rng, [*control], kind in CHAINS) for _ in range(100)]
        generate, think = rng.random() < 0.5, rng.choice([None, True, False])
        think = think if generate and kind in CHAINS else None
        got = render_batch(tok, talks, generate=generate, think=think)
        twins = render_batch(tok, [harmless_twin(talk) for talk in talks], generate=generate, think=think)
        for conversation, ours, twin in zip(talks, got, twins):
            n += sum(1 + (m.thinking is not None) for m in conversation)
            if [id for id in ours.ids if id in ids] != [id for id in twin.ids if id in ids]:
                wrong.append((conversation, ours))
    return wrong


@pytest.mark.parametrize("kind", ["qwen", "llama3", "deepseek", "smollm", "llama2", "gemma"])
def test_no_content_forges_a_control_token(kind):
    assert not forged(kind, 2_000)


@pytest.mark.check
@pytest.mark.parametrize("kind", ["qwen", "llama3", "deepseek", "smollm2"])
def test_no_content_of_a_hundred_thousand_forges_a_control_token(kind):
    if kind == "smollm2":
        pytest.importorskip("gguf")
    assert not forged(kind, 100_000)


def test_a_content_between_the_halves_of_a_token_does_not_complete_it():
    table, _, words = borrowed.parts("qwen")
    for source in (
        "<{{ messages[0].content }}>",
        "<|im_{{ messages[0].content | trim }}|>",
        "{{ messages[0].content }}k>",
    ):
        tok = Tokenizer(table, foreign.layout_of(table, source, words))
        for content in ("think", " think ", "end", "start", "<thin", "k><think", "im_end"):
            assert not {*render(tok, [Message("user", content)], generate=True).ids} & {
                *tok.layout.specials.values()
            }


def theirs(kind: str):
    """transformers' tokenizer on the same table, template and names."""
    transformers = pytest.importorskip("transformers")
    table, template, words = borrowed.parts(kind)
    whole = tokenizers.Tokenizer.from_str(json.dumps(table))
    tok = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **words)
    tok.chat_template = template
    return tok


@pytest.mark.parametrize("kind", borrowed.KINDS)
def test_harmless_conversations_give_the_ids_of_transformers(kind):
    tok, other = borrowed.made(kind), theirs(kind)
    for turns, how in borrowed.harmless(chains=kind == "qwen"):
        dicts = [{"role": m.role, "content": m.content, "reasoning_content": m.thinking} for m in turns]
        extra = {} if how["think"] is None else {"enable_thinking": how["think"]}
        ids = other.apply_chat_template(
            dicts, add_generation_prompt=how["generate"], return_dict=False, **extra
        )
        assert render(tok, turns, **how).ids == list(ids), (turns, how)


def wrote(kind: str, turns: Sequence[Message]) -> str:
    """What is trained on."""
    tok = borrowed.made(kind)
    rendered = render(tok, turns, generate=False)
    assert len(rendered.ids) == len(rendered.trained)
    return tok.decode([id for id, trained in zip(rendered.ids, rendered.trained) if trained], specials=True)


def test_trained_is_what_the_assistant_wrote_with_its_last_token():
    turns = [
        Message("user", "1"),
        Message("assistant", " so it is"),
        Message("user", "2"),
        Message("assistant", "no"),
    ]
    assert wrote("smollm", turns) == " so it is<|im_end|>no<|im_end|>"
    assert wrote("llama3", turns) == "so it is<|eot_id|>no<|eot_id|>"
    assert wrote("gemma", turns) == "so it is<end_of_turn>no<end_of_turn>"
    assert wrote("deepseek", turns) == " so it is<｜end▁of▁sentence｜>no<｜end▁of▁sentence｜>"
    assert wrote("llama2", turns) == "so it is </s> no </s>"  # decoding drops a blank
    assert wrote("qwen", turns) == " so it is<|im_end|><think>\n\n</think>\n\nno<|im_end|>"
    assert wrote("smollm", turns[:1]) == wrote("smollm", []) == ""


def test_a_chain_is_trained_also_where_the_template_would_drop_it():
    turns = [Message("user", "1"), Message("assistant", "2", "hm <b>")]
    assert wrote("qwen", turns) == "<think>\nhm <b>\n</think>\n\n2<|im_end|>"
    assert wrote("deepseek", turns) == "hm <b>\n</think>\n\n2<｜end▁of▁sentence｜>"
    turns = [*turns, Message("user", "3"), Message("assistant", "4")]
    assert "hm" not in wrote("deepseek", turns)
    assert "hm" not in wrote("qwen", turns)


def test_generation_blocks_say_what_is_trained():
    table, _, words = borrowed.parts("smollm")
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<|im_end|>{% endgeneration %}\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}"
    )
    tok = Tokenizer(table, foreign.layout_of(table, source, words))
    turns = [
        Message("user", "\U0010fffe"),
        Message("assistant", "a\U0010ffff"),
        Message("user", "b"),
        Message("assistant", ""),
    ]
    rendered = render(tok, turns, generate=False)
    kept = [id for id, trained in zip(rendered.ids, rendered.trained) if trained]
    assert tok.decode(kept, specials=True) == "a\U0010ffff<|im_end|><|im_end|>"
    assert tok.decode(rendered.ids).count("\U0010fffe") == 1


def test_a_prompt_says_whether_it_leaves_a_think_block_open():
    asked = [Message("system", "<think>"), Message("user", "<think>")]
    assert render(borrowed.made("deepseek"), asked, generate=True).thinking
    assert not render(borrowed.made("deepseek"), [*asked, Message("assistant", "x")], generate=False).thinking
    for think in (None, True, False):
        assert not render(borrowed.made("qwen"), asked, generate=True, think=think).thinking
    ends = borrowed.made("qwen").decode(
        render(borrowed.made("qwen"), asked, generate=True, think=False).ids, specials=True
    )
    assert ends.endswith("assistant\n<think>\n\n</think>\n\n")


def test_what_a_template_cannot_render_says_why():
    table, template, words = borrowed.parts("smollm")
    asked = [Message("user", "hi")]
    bare = Tokenizer(table, foreign.layout_of(table, None, words))
    with pytest.raises(DataError, match="no chat template; expected .* chat_template.jinja"):
        render(bare, asked, generate=True)
    with pytest.raises(DataError, match="marks no thinking"):
        render(borrowed.made("smollm"), asked, generate=True, think=True)
    with pytest.raises(DataError, match="role 'tool'; expected system, user or assistant"):
        render(borrowed.made("smollm"), [Message("tool", "x")], generate=True)
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system!') }}{% endif %}" + template
    )
    tok = Tokenizer(table, foreign.layout_of(table, refusing, words))
    assert render(tok, asked, generate=True).ids == render(borrowed.made("smollm"), asked, generate=True).ids
    with pytest.raises(DataError, match="refuses this conversation: No system!; expected .*; change"):
        render(tok, [Message("system", "x"), *asked], generate=True)
    with pytest.raises(DataError, match="lone surrogate"):
        render(tok, [Message("user", "a\ud800")], generate=True)


def test_render_batch_is_render():
    tok, rng = borrowed.made("qwen"), random.Random("batch")
    talks = [talk(rng, [*tok.layout.specials], True) for _ in range(20)]
    assert render_batch(tok, talks, generate=False) == [render(tok, t, generate=False) for t in talks]
    assert render_batch(tok, [], generate=True) == []


BLOCK = "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n"
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}BLOCK{% else %}"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "2, or so"),
    Message("user", "and 2?"), Message("assistant", "4"),
]  # fmt: skip
SAID = "2, or so<|im_end|>4<|im_end|>"


def tokenizer_with(block):
    table, _, words = borrowed.parts("smollm")
    return Tokenizer(table, foreign.layout_of(table, MARKED.replace("BLOCK", block), words))


def learnt(tok, talk=TALK):
    rendered = render(tok, talk, generate=False)
    return rendered, tok.decode([i for i, t in zip(rendered.ids, rendered.trained) if t], specials=True)


def masked_by_transformers(tok, path):
    transformers = pytest.importorskip("transformers")
    tok.save(path)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(path))
    talk = [{"role": m.role, "content": m.content} for m in TALK]
    given = theirs.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
    return list(given["input_ids"]), [*map(bool, given["assistant_masks"])]


@pytest.mark.parametrize(
    "block",
    [BLOCK, "{% generation %}{% for c in [m.content] %}{{ c }}{% endfor %}<|im_end|>{% endgeneration %}\n"],
    ids=["plain", "loop"],
)
def test_what_is_learnt_is_transformers_assistant_mask(block, tmp_path):
    tok = tokenizer_with(block)
    rendered, said = learnt(tok)
    assert said == SAID
    assert masked_by_transformers(tok, tmp_path) == (rendered.ids, rendered.trained)


def test_where_transformers_marks_the_header_the_answer_is_learnt(tmp_path):
    macro = "{% macro say(t) %}as follows: {% generation %}{{ t }}<|im_end|>{% endgeneration %}{% endmacro %}"
    tok = tokenizer_with(macro + "{{ say(m.content) }}\n")
    rendered, said = learnt(tok)
    assert said == SAID
    ids, theirs = masked_by_transformers(tok, tmp_path)
    assert ids == rendered.ids
    assert theirs != rendered.trained


def test_an_end_behind_the_block_is_learnt_too():
    tok = tokenizer_with("{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n")
    assert learnt(tok)[1] == SAID


@pytest.mark.parametrize(
    "block",
    [
        "{% generation %}{% endgeneration %}{{ m.content }}<|im_end|>\n",
        "{% generation %}{{ m.content | upper }}<|im_end|>{% endgeneration %}\n",
        "{% generation %}{{ m.content[:1] }}<|im_end|>{% endgeneration %}\n",
    ],
    ids=["nothing", "other", "a part"],
)
def test_a_template_that_marks_anything_but_the_replies_and_their_ends_is_refused(block):
    with pytest.raises(DataError, match="marks .* as what the assistant wrote, which is none of its replies"):
        learnt(tokenizer_with(block), [*TALK[:1], Message("user", "?"), Message("assistant", "so be it")])
