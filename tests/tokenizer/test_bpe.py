"""Laws of the byte-level BPE: lossless, deterministic, unable to emit a special id from text."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import NOMOAT

SPECIALS = tuple(NOMOAT.specials)

_rng = random.Random("words")
_WORDS = ["".join(_rng.choices("enrstaiduhlgoämßü", k=_rng.randrange(2, 9))) for _ in range(400)]
TEXTS = [
    " ".join(_rng.choices(_WORDS, k=40)) + f" {n * 37}, it's a <think> test </think> ... --- <|eos|> über 12"
    for n in range(200)
]
TRAIN = "import sys,json; from nomoat.tokenizer import bpe; print(bpe.train(json.load(sys.stdin), 600).fingerprint)"


@pytest.fixture(scope="module")
def tok() -> bpe.Tokenizer:
    return bpe.train(TEXTS, 600)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decode_undoes_encode(tok, text):
    ids = tok.encode(text)
    assert tok.decode(ids) == text
    assert tok.decode(ids, specials=True) == text
    assert b"".join(map(tok.token_bytes, ids)) == text.encode()
    assert all(len(SPECIALS) <= id < tok.vocab_size for id in ids)


def test_every_byte_has_a_token(tok):
    assert {tok.token_bytes(id) for id in range(len(SPECIALS), tok.vocab_size)} >= {
        bytes([b]) for b in range(256)
    }
    assert tok.decode([*tok.encode("é"), *tok.encode("é")[:1]]) == "é\ufffd"


def test_special_spellings_are_ordinary_text_and_special_ids_are_left_out_or_spelled(tok):
    for n, spelling in enumerate(SPECIALS):
        for text in (
            spelling,
            f"a{spelling}b",
            spelling * 3,
            spelling[:-1],
            spelling[1:],
            f"<th{spelling}ink>",
        ):
            assert min(tok.encode(text)) >= len(SPECIALS)
            assert tok.decode(tok.encode(text)) == text
        assert tok.decode([n, *tok.encode("x")]) == "x"
        assert tok.decode([n, *tok.encode("x")], specials=True) == spelling + "x"
        assert tok.token_bytes(n) == b""


def test_thinking_is_shown_to_readers_that_leave_special_tokens_out(tok):
    table = json.loads(tok.canonical)
    assert [t["content"] for t in table["added_tokens"] if not t["special"]] == ["<think>", "</think>"]
    for token in table["added_tokens"]:
        token["special"] = True  # as older versions wrote it
    assert bpe.Tokenizer(table).canonical == tok.canonical


def test_special_spellings_seen_in_training_make_no_token(tok):
    greedy = bpe.train(["".join(SPECIALS) * 50, "<think><think></think>" * 500], 600)
    assert min(greedy.encode("<think></think><|eos|>" * 5)) >= len(SPECIALS)


def test_digits_stand_alone(tok):
    assert [tok.decode([i]) for i in tok.encode("x 370037")][-6:] == list("370037")
    assert not any(
        len(t) > 1 and any(48 <= b < 58 for b in t) for t in map(tok.token_bytes, range(tok.vocab_size))
    )


def test_the_pre_tokenizer_is_the_one_llama_cpp_calls_smollm(tok):
    parts = json.loads(tok.canonical)["pre_tokenizer"]
    assert [p["type"] for p in parts["pretokenizers"]] == ["Digits", "ByteLevel"]
    assert parts["pretokenizers"][0]["individual_digits"] is True
    assert (parts["pretokenizers"][1]["add_prefix_space"], parts["pretokenizers"][1]["use_regex"]) == (
        False,
        True,
    )


def test_batch_is_single_and_compression_is_bytes_over_tokens(tok):
    texts = [*TEXTS[:5], "", "ä", "<think>"]
    assert tok.encode_batch(texts) == [tok.encode(t) for t in texts]
    assert tok.encode_batch([]) == []
    n_bytes, n_tokens = sum(len(t.encode()) for t in texts), sum(len(tok.encode(t)) for t in texts)
    assert tok.bytes_per_token(texts) == n_bytes / n_tokens > 2
    with pytest.raises(DataError, match="no text"):
        tok.bytes_per_token([""])


def test_training_is_deterministic_across_processes_and_threads(tok):
    assert tok.vocab_size == 600
    assert bpe.train(iter(TEXTS), 600).fingerprint == tok.fingerprint
    env = {**os.environ, "RAYON_NUM_THREADS": "3", "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", TRAIN], input=json.dumps(TEXTS), text=True, capture_output=True, env=env
    )
    assert run.stdout.strip() == tok.fingerprint, run.stderr
    assert bpe.train(TEXTS[:100], 600).fingerprint != tok.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "".join(_rng.choices("abcdefghij", k=300_000)),
        "".join(_rng.choices("日月火水木金土曜", k=100_000)),
        "".join(_rng.choices("-=+*/", k=300_000)),
        " " * 1_000_000,
    ],
    ids=["letters", "Han", "punctuation", "blanks"],
)
def test_a_word_of_any_length_is_learned_from_in_about_linear_time(text):
    begin = time.process_time()
    trained = bpe.train([text], 600)
    assert time.process_time() - begin < 20  # in one piece it takes minutes
    assert trained.decode(trained.encode(text[:5_000])) == text[:5_000]
    assert json.loads(trained.canonical)["pre_tokenizer"] == json.loads(bpe.train(TEXTS, 300).canonical)["pre_tokenizer"]


def test_words_of_up_to_a_thousand_bytes_are_learned_from_whole():
    word = "".join(_rng.choices("abcdef", k=bpe.WORD_BYTES))
    trained = bpe.train([word, word], 2_000)
    assert len(trained.encode(word)) == 1
    assert len(trained.encode(word + word)) == 2


def test_save_then_load_is_the_same_tokenizer(tok, tmp_path):
    tok.save(tmp_path / "a")
    again = bpe.Tokenizer.load(tmp_path / "a")
    assert again.fingerprint == tok.fingerprint
    assert hashlib.sha256((tmp_path / "a/tokenizer.json").read_bytes()).hexdigest() == tok.fingerprint
    assert again.encode_batch(TEXTS) == tok.encode_batch(TEXTS)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    whole = tokenizers.Tokenizer.from_file(str(tmp_path / "a/tokenizer.json"))
    assert whole.encode(TEXTS[0].replace("<", "")).ids == tok.encode(TEXTS[0].replace("<", ""))
    assert whole.encode("".join(SPECIALS)).ids == list(range(8))


def test_text_that_is_not_unicode_is_a_clear_error(tok):
    for call in (lambda: tok.encode("a\ud800"), lambda: tok.encode_batch(["fine", "b\udfff"])):
        with pytest.raises(DataError, match=r"lone surrogate .* expected Unicode text"):
            call()
    with pytest.raises(DataError, match="lone surrogate"):
        bpe.train(["fine " * 20, "b\udfff"], 300)
    with pytest.raises(TypeError, match="text 0 is bytes"):
        tok.encode(b"bytes")


def test_what_cannot_be_trained_or_loaded_says_why(tok, tmp_path):
    with pytest.raises(ConfigError, match="vocab_size = 100"):
        bpe.train(TEXTS, 100)
    with pytest.raises(DataError, match="no text to train"):
        bpe.train(["", ""], 300)
    with pytest.raises(DataError, match="of a run, run its stage first"):
        bpe.Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        bpe.Tokenizer.load(tmp_path)
    table = json.loads(tok.canonical)
    foreign = json.loads(tok.canonical)
    foreign["added_tokens"][6]["content"] = "<thought>"
    forging = json.loads(tok.canonical)
    forging["model"]["vocab"]["".join(table["model"]["merges"][0])] = 6
    lossy = {**table, "normalizer": {"type": "NFC"}}
    other = {"model": {"type": "Unigram"}}
    for bad, word in (
        (foreign, "not ours"),
        (forging, "could become"),
        (lossy, "normalizer"),
        (other, "byte-level"),
    ):
        with pytest.raises(WeightsError, match=word):
            bpe.Tokenizer(bad)
