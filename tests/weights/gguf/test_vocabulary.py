"""The tokenizer inside a GGUF file: ids as llama.cpp's, for every name of a way to cut text."""

import json

import pytest
import tokenizers
from ggufs import GROUPED, filled
from shapes import varied
from tokenizers import models, pre_tokenizers, trainers

from nomoat.config import WeightsError
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights.gguf import scores, vocabulary
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.save import save

llamacpp = pytest.importorskip("llamacpp")
ONE_EACH = ("gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-v3", "dbrx")
WORDS = {"eos_token": "<|endoftext|>", "bos_token": "<s>"}
SIZE = 900
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
PUBLISHED = {  # how tokenizer.json files spell what we spell in another way
    "qwen2": rf"{ENDINGS}|\p{{N}}{REST}",
    "dbrx": rf"{ENDINGS}|\p{{N}}{{1,3}}{REST}",
}


def trained(pre):
    """A tokenizer that cuts as `pre` says."""
    table = json.loads(tokenizers.Tokenizer(models.BPE()).to_str())
    table["pre_tokenizer"] = vocabulary._pre_tokenizer(pre)
    table["decoder"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    made = tokenizers.Tokenizer.from_str(json.dumps(table))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        llamacpp.texts(1000, 1),
        trainers.BpeTrainer(
            vocab_size=SIZE, special_tokens=[*WORDS.values()], initial_alphabet=alphabet, show_progress=False
        ),
    )
    table = json.loads(made.to_str())
    table["model"]["ignore_merges"] = pre in vocabulary.WHOLE_WORDS
    return table


def opened(pre, path, monkeypatch):
    """llama.cpp on a file that names `pre`, and the tokenizer that we read from it."""
    table = trained(pre)
    tokenizer = Tokenizer(table, foreign.layout_of(table, None, WORDS))
    monkeypatch.setattr(vocabulary, "pre_of", lambda table: pre)
    save(filled(varied(GROUPED, vocab_size=SIZE)), path, tokenizer=tokenizer)
    return llamacpp.Server(path), vocabulary.tokenizer_of(Header.of(path)), tokenizer


@pytest.mark.parametrize("pre", ONE_EACH)
def test_ids_are_llamacpps(tmp_path, monkeypatch, pre):
    pytest.importorskip("xllamacpp")
    server, read, written = opened(pre, tmp_path / "x.gguf", monkeypatch)
    assert read.fingerprint == written.fingerprint
    for text in llamacpp.texts(60, 2):
        assert server.tokenize(text) == read.encode(text)


@pytest.mark.check
@pytest.mark.parametrize("pre", vocabulary.CUTS_OF)
def test_ids_are_llamacpps_under_every_name(tmp_path, monkeypatch, pre):
    server, read, _ = opened(pre, tmp_path / "x.gguf", monkeypatch)
    texts = llamacpp.texts(2000, 3)
    assert [text for text in texts if server.tokenize(text) != read.encode(text)] == []


@pytest.mark.parametrize("pre", ONE_EACH)
def test_the_name_of_a_cut_is_recognised(pre):
    assert vocabulary.pre_of(trained(pre)) == pre


@pytest.mark.parametrize("pre", PUBLISHED)
def test_the_name_of_a_published_cut_is_recognised(pre):
    table = trained(pre)
    table["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = PUBLISHED[pre]
    assert vocabulary.pre_of(table) == pre


def test_another_cut_is_refused():
    table = trained("qwen2")
    table["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
    with pytest.raises(WeightsError, match="for which llama.cpp has no name"):
        vocabulary.pre_of(table)


META = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.tokens": ["<e>", "a", "b", "ab"], "tokenizer.ggml.token_type": (3, 1, 1, 1),
    "tokenizer.ggml.eos_token_id": 0,
}  # fmt: skip
WRONG = {
    "another model": ({"model": "bert"}, "model 'bert' and pre 'smollm'"),
    "scores for none": ({"model": "llama"}, "no tokenizer.ggml.scores"),
    "another cut": ({"pre": "tekken"}, "pre 'tekken'; expected llama, or gpt2 with one of"),
    "no merges": ({"merges": None}, "no tokenizer.ggml.merges"),
    "a token twice": ({"tokens": ["<e>", "a", "a", "ab"]}, "4 tokens, 3 different"),
    "types for some": ({"token_type": (3, 1)}, "and 2 types"),
    "a merge of nothing": ({"merges": ["x y"]}, "merges 'x' and 'y'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(tmp_path, name):
    change, message = WRONG[name]
    meta = META | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(WeightsError, match=message):
        vocabulary.tokenizer_of(Header(tmp_path, meta, {}))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    table = trained("gpt-2")
    tokenizer = Tokenizer(table, foreign.layout_of(table, None, WORDS))
    with pytest.raises(WeightsError, match="900 ids, the model 320"):
        save(filled(GROUPED), tmp_path / "x.gguf", tokenizer=tokenizer)


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SCORED = {**WORDS, "unk_token": "<unk>", "eos_token": "</e>"}


def scored(blank_before):
    """A tokenizer of Llama 2's kind, whose merges follow from scores."""
    made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    specials = [*SCORED.values(), *BYTES]
    made.train_from_iterator(
        [text.replace(" ", "▁") for text in llamacpp.texts(1000, 1)],
        trainers.BpeTrainer(
            vocab_size=SIZE, special_tokens=specials, show_progress=False, limit_alphabet=120
        ),
    )
    table = json.loads(made.to_str())
    table["added_tokens"] = table["added_tokens"][:3]
    vocab = table["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    values = scores.of_merges(tokens, [tuple(pair) for pair in table["model"]["merges"]])
    table["model"]["merges"] = scores.merges(tokens, values, [token not in specials for token in tokens])
    return table | scores.steps(blank_before)


@pytest.mark.parametrize("blank_before", [True, False])
def test_ids_of_scored_tokenizers_are_llamacpps(tmp_path, blank_before):
    pytest.importorskip("xllamacpp")
    table = scored(blank_before)
    tokenizer = Tokenizer(table, foreign.layout_of(table, None, SCORED))
    path = save(filled(varied(GROUPED, vocab_size=SIZE)), tmp_path / "x.gguf", tokenizer=tokenizer).path
    server, read = llamacpp.Server(path), vocabulary.tokenizer_of(Header.of(path))
    for text in [*llamacpp.texts(100, 2), " ", " a", "a   b", "▁", "<0x0A>"]:
        assert server.tokenize(text) == read.encode(text) == tokenizer.encode(text)


def test_merges_that_follow_from_no_scores_are_refused(tmp_path):
    table = scored(True)
    table["model"]["merges"].reverse()
    tokenizer = Tokenizer(table, foreign.layout_of(table, None, SCORED))
    with pytest.raises(WeightsError, match="don't follow from scores"):
        save(filled(varied(GROUPED, vocab_size=SIZE)), tmp_path / "x.gguf", tokenizer=tokenizer)
