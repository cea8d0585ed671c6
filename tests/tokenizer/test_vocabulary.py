"""Laws of vocabularies: ids as the source library's, and no way from a content to a control token."""

import copy
import random

import borrowed
import pytest

from nomoat.config import DataError, WeightsError
from nomoat.tokenizer import foreign, vocabulary
from nomoat.tokenizer.bpe import Tokenizer

PIECES = [
    " ", "  ", "   ", "    ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", "▁", "▁▁", "é", "e\u0301", "\u0338", "Å",
    "日本", "🧠", "The", "it's", "IT'S", "don't", "12345", "½²", "٣", "<0x0A>", "<unk>", "<table>", "\x00",
    "\x04", "\u2028", "\ufeff", "\U0010fffe", "\U000f0000", "\ue000", "a", "ß", "...", "--", "(", "\u00a0",
    "\u3000", "😀", "\u200d",
]  # fmt: skip


def strings(kind: str, n: int) -> list[str]:
    """Real, hostile and random ones."""
    control = [*borrowed.made(kind).layout.specials]
    pieces = [*PIECES, *control, *(token[:-1] for token in control), *borrowed.TEXTS[0].split()]
    rng, out = random.Random(f"strings/{kind}"), [*borrowed.TEXTS, *control, ""]
    while len(out) < n:
        out.append("".join(rng.choices(pieces, k=rng.randrange(1, 9))))
        out.append(" ".join(rng.choices(pieces, k=rng.randrange(1, 9))))
        size = rng.randrange(12)
        out.append("".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(size)))
    return out


def differing(kind: str, n: int) -> list[str]:
    """Texts whose ids aren't the source library's, or hold a control token."""
    tok, texts = borrowed.made(kind), strings(kind, n)
    control = frozenset(tok.layout.specials.values())
    theirs = borrowed.source(kind).encode_batch(texts, add_special_tokens=False)
    return [
        text
        for text, ids, other in zip(texts, tok.encode_batch(texts), theirs)
        if ids != other.ids or control & {*ids}
    ]


@pytest.mark.parametrize("kind", borrowed.KINDS)
def test_ids_of_contents_are_those_of_the_source(kind):
    assert not differing(kind, 1_000)


@pytest.mark.check
@pytest.mark.parametrize("kind", [*borrowed.KINDS, "smollm2"])
def test_ids_of_ten_thousand_contents_are_those_of_the_source(kind):
    if kind == "smollm2":
        pytest.importorskip("gguf")
    assert not differing(kind, 10_000)


@pytest.mark.parametrize("kind", sorted({*borrowed.KINDS} - {"gpt2_prefix"}))
def test_the_bytes_of_the_ids_are_those_of_the_text(kind):
    tok = borrowed.made(kind)
    for text in strings(kind, 600):
        if "▁" in text or (kind == "qwen" and not text.isascii()):
            continue  # which a byte-fallback BPE takes for a blank, and NFC composes
        spelled = b"".join(map(tok.token_bytes, tok.encode(text))).decode()
        assert spelled in (text, f" {text}") if tok.drops_first_blank else spelled == text
        assert tok.decode(tok.encode(text)) == spelled[int(tok.drops_first_blank and bool(text)) :]


def test_a_control_token_stands_for_no_bytes_and_is_spelled_if_asked():
    for kind in borrowed.KINDS:
        tok = borrowed.made(kind)
        for text, id in tok.layout.specials.items():
            assert tok.token_bytes(id) == b""
            assert tok.decode([id]) == ""
            assert tok.decode([id], specials=True) == text
        assert tok.token_bytes(10**6) == b""


def test_added_tokens_that_control_nothing_are_content():
    tok = borrowed.made("gemma")
    assert [tok.token_bytes(id) for id in tok.encode("a\n\n\n<table>b")] == [
        b"a",
        b"\n\n\n",
        b"<table>",
        b"b",
    ]
    assert len(tok.encode("<start_of_turn>")) > 1


def test_what_could_give_a_control_token_is_taken_out():
    """By a merge, as a whole word that needs no merges, or as the token for what is unknown."""
    table = copy.deepcopy(borrowed.parts("llama3")[0])
    vocab = table["model"]["vocab"]
    words = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    for token in table["added_tokens"]:
        vocab[token["content"]] = token["id"]
    eot, word = vocab["<|eot_id|>"], max(vocab.values()) + 1
    vocab |= {"<|eot_id|": word, "Ġ<think>": word + 1}
    table["model"]["merges"].append(["<|eot_id|", ">"])
    table["model"]["unk_token"] = "<|eot_id|>"
    tok = Tokenizer(table, foreign.layout_of(table, borrowed.LLAMA, words))
    assert all(
        eot not in tok.encode(text) for text in ("<|eot_id|>", "a<|eot_id|>", "<|eot_id|><|eot_id|>", "\x00")
    )
    assert tok.decode(tok.encode("<|eot_id|>")) == "<|eot_id|>"


def test_a_table_that_cannot_be_read_says_why():
    whole, _, words = borrowed.parts("qwen")
    layout = foreign.layout_of(whole, None, words)

    def broken(**changes) -> dict:
        table = copy.deepcopy(whole)
        for place, value in changes.items():
            *path, last = place.split("__")
            part = table
            for name in path:
                part = part[name]
            part[last] = value
        return table

    added, vocab = whole["added_tokens"], whole["model"]["vocab"]
    for table, word in (
        ({}, "is no BPE"),
        ([], "is no BPE"),
        (broken(model__type="Unigram"), "Unigram of another kind"),
        (broken(model__vocab=[]), "is no BPE"),
        (broken(model__merges=[["a", "b", "c"]]), "is no BPE"),
        (broken(model__merges=[["a", "never"]]), "merges 'a' and 'never'"),
        (broken(model__end_of_word_suffix="</w>"), "another kind"),
        (broken(model__vocab=vocab | {"new": 5}), "two tokens with one id"),
        (broken(model__vocab=vocab | {"new": -1}), "no whole numbers"),
        (broken(model__vocab=vocab | {"new": 1.5}), "no whole numbers"),
        (broken(added_tokens=[{**added[0], "id": 3}]), "contradicts its vocabulary"),
        (broken(pre_tokenizer=None, decoder=None), "another kind"),
        (broken(pre_tokenizer="ByteLevel"), "is no BPE"),
    ):
        with pytest.raises(WeightsError, match=word):
            Tokenizer(table, layout)
    for parts in vocabulary.pairs(whole)[:3]:
        assert "".join(parts) in vocab
    with pytest.raises(DataError, match="no token of this tokenizer ends a reply"):
        foreign.layout_of(whole, None, {})


def test_a_first_token_stands_before_a_text_where_the_files_say_so():
    begin, end = ({"SpecialToken": {"id": name}} for name in ("<s>", "</s>"))
    text = {"Sequence": {"id": "A"}}
    bos = {"type": "TemplateProcessing", "single": [begin, text]}
    plain = {"type": "TemplateProcessing", "single": [text, end]}
    both = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, bos]}
    for post, config, expected in (
        (bos, {}, True), (both, {}, True), (plain, {}, False), (None, {}, False),
        ("x", {}, False), ({"single": [5]}, {}, False),
        (bos, {"add_bos_token": False}, False), (None, {"add_bos_token": True}, True),
    ):  # fmt: skip
        assert vocabulary.adds_bos({"post_processor": post}, config) is expected
