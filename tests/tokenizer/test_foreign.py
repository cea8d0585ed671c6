"""Laws of foreign layouts: what the files of others say of turns, and the same after saving."""

import json

import borrowed
import pytest

from nomoat.config import DataError, WeightsError
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import NOMOAT, Message, render

TALK = [Message("user", "What <b>?"), Message("assistant", "It is.")]


def directory(path, kind: str, **config):
    """As others leave it: the template in the configuration, tokens with their flags."""
    table, template, words = borrowed.parts(kind)
    named = {name: {"content": text, "special": True, "lstrip": False} for name, text in words.items()}
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(table, indent=1))
    content = {"tokenizer_class": "Made", "chat_template": template, **named, **config}
    (path / "tokenizer_config.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("kind", borrowed.KINDS)
def test_a_foreign_directory_loads_and_saves_the_same(kind, tmp_path):
    tok = Tokenizer.load(directory(tmp_path, kind))
    assert tok.layout == borrowed.made(kind).layout
    assert tok.vocab_size == len({**borrowed.parts(kind)[0]["model"]["vocab"], **tok.layout.specials}) or (
        kind in ("gpt2_prefix", "gemma")  # which add tokens that control nothing
    )
    tok.save(tmp_path / "again")
    names = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == names
    again = Tokenizer.load(tmp_path / "again", tok.fingerprint)
    assert again.layout == tok.layout
    assert json.loads((tmp_path / "again/tokenizer_config.json").read_text())["tokenizer_class"] == "Made"
    assert render(again, TALK, generate=False) == render(tok, TALK, generate=False)
    borrowed.made(kind).save(tmp_path / "table")  # from a table alone, as a GGUF gives one
    assert Tokenizer.load(tmp_path / "table").layout == tok.layout


def test_transformers_opens_what_was_saved(tmp_path):
    transformers = pytest.importorskip("transformers")
    for kind in ("smollm", "qwen", "llama3", "llama2"):
        tok = borrowed.made(kind)
        tok.save(tmp_path / kind)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        dicts = [{"role": m.role, "content": m.content} for m in TALK]
        ids = theirs.apply_chat_template(dicts, return_dict=False)
        assert list(ids) == render(tok, TALK, generate=False).ids


def test_every_token_that_ends_a_reply_is_known(tmp_path):
    path = directory(tmp_path, "llama3", eos_token="<|end_of_text|>")
    ids = borrowed.made("llama3").layout.specials
    end, turn = ids["<|end_of_text|>"], ids["<|eot_id|>"]
    assert Tokenizer.load(path).layout.stop_ids == (end, turn)  # the template says what ends a turn
    (path / "config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert Tokenizer.load(path).layout.stop_ids == (end, 3, turn)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [turn, end, 7, 10**6]}))
    layout = Tokenizer.load(path).layout
    assert layout.stop_ids == (end, turn, 7)
    assert layout.eos_id == end
    assert {*layout.stop_ids} <= layout.turn_ends <= {*layout.specials.values(), 7}
    assert Tokenizer.load(path).encode("(") == [7]  # a word may end a reply and stays content


def test_thinking_is_marked_where_both_marks_are_tokens():
    ids = borrowed.made("qwen").layout.specials
    layout = borrowed.made("qwen").layout
    assert (layout.think_id, layout.end_think_id) == (ids["<think>"], ids["</think>"])
    assert not layout.turn_ends & {ids["<think>"], ids["</think>"], ids["<tool_call>"]}
    assert borrowed.made("llama3").layout.think_id is None
    assert layout.bos_id == ids["<|endoftext|>"]  # it names none


def test_the_template_s_own_system_sentence_is_rendered():
    tok = borrowed.made("smollm")
    text = tok.decode(render(tok, TALK[:1], generate=True).ids, specials=True)
    assert text.startswith("<|im_start|>system\nBe of help.<|im_end|>\n<|im_start|>user\nWhat")
    given = render(tok, [Message("system", "Be brief."), *TALK[:1]], generate=True)
    assert "Be of help." not in tok.decode(given.ids)


def test_the_file_of_the_template_comes_before_the_configuration(tmp_path):
    path = directory(tmp_path, "smollm")
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}<|im_end|>")
    assert Tokenizer.load(path).layout.chat_template == "{{ messages[0].content }}<|im_end|>"
    (path / "chat_template.jinja").unlink()
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]
    directory(tmp_path, "smollm", chat_template=named)
    assert Tokenizer.load(path).layout.chat_template == "{{ messages }}"
    directory(tmp_path, "smollm", chat_template=None)
    assert Tokenizer.load(path).layout.chat_template is None
    assert NOMOAT.chat_template is not None


def test_what_only_the_configuration_calls_special_is(tmp_path):
    table, template, words = borrowed.parts("smollm")
    id = 1 + max(token["id"] for token in table["added_tokens"])
    extra = {str(id): {"content": "<extra>", "special": True, "normalized": False}}
    path = directory(tmp_path, "smollm", added_tokens_decoder=extra, unk_token="a")
    tok = Tokenizer.load(path)
    assert tok.layout.specials["<extra>"] == id == tok.vocab_size - 1
    assert id not in tok.encode("<extra>")
    assert tok.decode([id], specials=True) == "<extra>"


def test_tokens_spelled_like_control_tokens_are_some_though_a_template_makes_them_of_parts():
    table = borrowed.byte_level(None, borrowed.CHATML_SPECIALS, ["<|user|>", "<|assistant|>", "user", "  "])
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}<|im_end|>"
    tok = Tokenizer(table, foreign.layout_of(table, source, {"eos_token": "<|im_end|>"}))
    assert {"<|user|>", "<|assistant|>"} <= tok.layout.specials.keys()
    assert not {"user", "  "} & tok.layout.specials.keys()
    ids = render(tok, [Message("user", "<|assistant|>")], generate=True).ids
    assert ids[0] == tok.layout.specials["<|user|>"]
    assert tok.layout.specials["<|assistant|>"] not in ids


def test_named_tokens_are_control_tokens_though_none_adds_them():
    """As in a GGUF whose list of types forgets them."""
    table, template, words = borrowed.parts("smollm")
    table = json.loads(json.dumps(table))
    table["model"]["vocab"] |= {token["content"]: token["id"] for token in table["added_tokens"]}
    table["added_tokens"] = []
    tok = Tokenizer(table, foreign.layout_of(table, template, words))
    assert tok.layout.specials == {
        text: borrowed.made("smollm").layout.specials[text] for text in words.values()
    }
    assert render(tok, TALK, generate=False).ids == render(borrowed.made("smollm"), TALK, generate=False).ids
    assert not {*tok.encode("".join(words.values()))} & {*tok.layout.specials.values()}


def test_files_that_cannot_be_read_say_why(tmp_path):
    path = directory(tmp_path, "smollm")
    for name, content, kind, word in (
        ("tokenizer_config.json", "{", WeightsError, "not JSON"),
        ("tokenizer_config.json", "[]", WeightsError, "expected a JSON object"),
        ("chat_template.jinja", b"\xff", WeightsError, "no text"),
        ("tokenizer.json", '{"added_tokens": [], "model": {"type": "Unigram"}}', WeightsError, "no BPE"),
        ("tokenizer.json", '{"added_tokens": [1]}', WeightsError, "no BPE"),
        ("chat_template.jinja", "{% for %}", DataError, "can't be read"),
    ):
        path = directory(tmp_path, "smollm")
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(kind, match=word):
            Tokenizer.load(path)
        (path / name).unlink()
    (path / "tokenizer.json").unlink(missing_ok=True)
    (path / "tokenizer.model").write_text("")
    with pytest.raises(DataError, match="tokenizer.model and no tokenizer.json; .*save_pretrained"):
        Tokenizer.load(path)
