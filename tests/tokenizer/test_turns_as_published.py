"""Laws of turns under templates that have the traits of published ones."""

import borrowed
import pytest

from nomoat.config import DataError
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Message, render

TALK = [
    Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "2, or so"),
    Message("user", "and 2?"), Message("assistant", "4"),
]  # fmt: skip
THOUGHT = [Message("user", "1"), Message("assistant", "2", "hm")]
SAID = "2, or so<|im_end|>4<|im_end|>"
TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
ASKED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def made_with(source, eos="<|im_end|>", stops=(), kind="smollm"):
    table, _, words = borrowed.parts(kind)
    ids = {token["content"]: token["id"] for token in table["added_tokens"]}
    stop_ids = [ids[text] for text in stops]
    return Tokenizer(table, foreign.layout_of(table, source, {**words, "eos_token": eos}, stop_ids))


def learnt(tok, talk=TALK):
    rendered = render(tok, talk, generate=False)
    return rendered, tok.decode([i for i, t in zip(rendered.ids, rendered.trained) if t], specials=True)


def test_the_end_of_a_content_is_no_end_of_a_reply_where_that_stands_behind_it():
    source = TURN + "{{ m.content }}</tool_call><|im_end|>\n{% endfor %}" + ASKED
    tok = made_with(source, kind="qwen")
    assert tok.layout.stop_ids == (tok.layout.specials["<|im_end|>"],)
    assert learnt(tok)[1] == SAID.replace("<|im_end|>", "</tool_call><|im_end|>")


@pytest.mark.parametrize("begin", ["", "{% generation %}"], ids=["bare", "marked"])
def test_what_a_template_writes_around_a_content_is_learnt(begin):
    end = "{% endgeneration %}" if begin else ""
    reply = "{% if m.role == 'assistant' %}" + begin + "to all: {{ m.content }}<|im_end|>" + end
    source = TURN + reply + "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    assert learnt(made_with(source + ASKED))[1] == "to all: 2, or so<|im_end|>to all: 4<|im_end|>"
    with pytest.raises(DataError, match="marks .* which is none of its replies"):
        learnt(made_with(source))  # nothing opens a turn: it may be a header
    if begin:
        headed = source.replace(TURN, TURN[: TURN.index("<")])
        headed = headed.replace("to all: ", "<|im_start|>assistant\n")
        with pytest.raises(DataError, match="marks '<.im_start.>assistant.* which is none of its replies"):
            learnt(made_with(headed + ASKED))


def test_a_last_reply_that_is_left_open_is_ended():
    between = TURN.replace("<|im_start|>", "{{ '' if loop.first else '<|im_end|>' }}<|im_start|>")
    asked = ASKED.replace("<|im_start|>", "<|im_end|><|im_start|>")
    assert learnt(made_with(between + "{{ m.content }}{% endfor %}" + asked))[1] == SAID
    tok = made_with(TURN + "{{ m.content }}{% endfor %}" + ASKED, "<|endoftext|>", ["<|im_start|>"])
    assert learnt(tok)[1] == "2, or so<|im_start|>4<|endoftext|>"


def test_an_end_of_all_hides_no_reply():
    turn = "{{ m.content }}<|im_end|>\n"
    end = "{% endfor %}{% if not add_generation_prompt %}BLOCK{% endif %}"
    bare = TURN + turn + end.replace("BLOCK", "<|endoftext|>") + ASKED
    assert learnt(made_with(bare, "<|endoftext|>", ["<|im_end|>"]))[1] == f"{SAID}\n<|endoftext|>"
    block = "{% generation %}TURN{% endgeneration %}"
    turn = f"{{% if m.role == 'assistant' %}}{block.replace('TURN', turn)}{{% else %}}{turn}{{% endif %}}"
    marked = TURN + turn + end.replace("BLOCK", block.replace("TURN", "<|endoftext|>")) + ASKED
    assert learnt(made_with(marked, "<|endoftext|>", ["<|im_end|>"]))[1] == f"{SAID}\n<|endoftext|>"


def test_a_reply_that_ends_otherwise_once_others_follow_is_not_learnt():
    end = "{{ '<|im_end|>' if loop.last else '<|endoftext|>' }}"
    source = TURN + "{{ m.content }}" + end + "\n{% endfor %}" + ASKED
    assert learnt(made_with(source))[1] == "4<|im_end|>"


def test_a_reply_that_nothing_ends_is_told():
    source = TURN + "{{ m.content }}\n{% endfor %}" + ASKED
    with pytest.raises(DataError, match=r"nothing that ends a reply \(<\|im_end\|>\) behind '2, or so\\n';"):
        learnt(made_with(source))


def test_a_system_turn_that_only_a_question_tells_is_told_before_the_last_reply():
    told = "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}"
    reply = "{% elif m.role == 'assistant' %}{{ m.content }}<|endoftext|>{% endif %}{% endfor %}"
    asked = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>"
    source = asked + told + "{{ m.content }}<|im_end|>" + reply
    tok = made_with(source, "<|endoftext|>")
    rendered, said = learnt(tok)
    prompt = render(tok, TALK[:-1], generate=True).ids
    assert said == "4<|endoftext|>"
    assert rendered.ids[: len(prompt)] == prompt
    assert "Be brief. and 2?" in tok.decode(prompt)
    assert learnt(tok, TALK[1:])[1] == "2, or so<|endoftext|>4<|endoftext|>"


def test_a_chain_that_only_a_thinking_mode_keeps_is_written_in_that_mode():
    chain = "{{ '<think>' + m.reasoning_content + '</think>' if thinking and m.reasoning_content }}"
    source = TURN + chain + "{{ m.content }}<|im_end|>\n{% endfor %}" + ASKED
    assert learnt(made_with(source, kind="qwen"), THOUGHT)[1] == "<think>hm</think>2<|im_end|>"


def test_a_dropped_chain_is_written_as_an_empty_one_is():
    answer = "{{ m.content.split('</think>')[-1] | trim }}<|im_end|>"
    source = TURN + "{{ '<think></think>' if m.role == 'assistant' }}" + answer + "\n{% endfor %}"
    assert learnt(made_with(source + ASKED, kind="qwen"), THOUGHT)[1] == "<think>hm</think>2<|im_end|>"
    marked = "{% generation %}" + answer + "{% endgeneration %}\n{% endfor %}" + ASKED
    again = [*THOUGHT, Message("user", "3"), Message("assistant", "4", "so")]
    tok = made_with(TURN + marked, kind="qwen")
    assert learnt(tok, again)[1] == "<think>\nso\n</think>\n\n4<|im_end|>"
    assert not {*"\U0010fffe\U0010ffff"} & {*tok.decode(render(tok, again, generate=False).ids)}
