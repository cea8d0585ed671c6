"""Laws of pieces for foreign tokenizers: as decoding at once, but as it comes."""

import borrowed
import pytest

from nomoat.tokenizer.pieces import pieces


@pytest.mark.parametrize("kind", ["gpt2", "qwen", "llama3", "deepseek", "llama2", "metaspace", "gemma"])
def test_pieces_are_what_decoding_gives(kind):
    tok = borrowed.made(kind)
    for text in ("It is so.", "\n a  b 🧠 é 日本\n", "", "<think>no mark</think>"):
        ids = [*tok.encode(text), tok.layout.eos_id, *tok.encode("never")]
        got = list(pieces(ids, tok, thinking=False))
        assert "".join(piece.text for piece in got) == tok.decode(tok.encode(text))
        assert sum(piece.n_tokens for piece in got) <= len(tok.encode(text)) + 1
        assert {piece.kind for piece in got} <= {"answer"}


def test_a_block_that_the_prompt_opened_is_thinking():
    tok = borrowed.made("deepseek")
    layout = tok.layout
    ids = [*tok.encode("hm\n"), layout.end_think_id, *tok.encode("\n\n42"), layout.eos_id]
    text = {"thinking": "", "answer": ""}
    for piece in pieces(ids, tok, thinking=True):
        text[piece.kind] += piece.text
    assert text == {"thinking": "hm\n", "answer": "\n\n42"}


def test_the_blank_before_the_first_word_is_dropped_once():
    tok = borrowed.made("llama2")
    ids = tok.encode("It is  so")
    assert b"".join(map(tok.token_bytes, ids)) == b" It is  so"
    assert "".join(piece.text for piece in pieces(ids, tok, thinking=False)) == "It is  so"
