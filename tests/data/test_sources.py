"""Sources: text that can be used comes through whole; text that cannot says what is wrong and what to do."""

import hashlib
import json
import lzma
import re
import sys
from importlib import resources
from types import SimpleNamespace

import pytest

from nomoat.config import ConfigError, DataError, Strict, parse
from nomoat.data import documents, readers, shown, sources
from nomoat.data.sources import DataSet, Document, from_hub, from_path
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import Message


def texts(path, **options):
    return [document.text for document in from_path(path, **options)]


# ------------------------------------------------------------------------------------------------- what ships


@pytest.fixture(scope="module")
def corpus():
    return {split: list(sources.shipped(split)) for split in ("train", "heldout")}


def test_the_shipped_text_is_large_bilingual_and_small_on_disk(corpus):
    n_bytes = {
        (side, lang): sum(len(d.text.encode()) for d in documents if d.lang == lang)
        for side, documents in corpus.items()
        for lang in ("en", "de")
    }
    assert n_bytes["train", "en"] + n_bytes["train", "de"] >= 8_000_000
    assert n_bytes["train", "de"] >= 1_000_000
    assert min(n_bytes["heldout", "en"], n_bytes["heldout", "de"]) >= 120_000
    folder = resources.files("nomoat.data") / "corpus"
    assert sum(len(f.read_bytes()) for f in folder.iterdir()) <= 4_000_000


def test_no_paragraph_is_on_both_sides_nor_twice(corpus):
    lines = [line for side in corpus.values() for document in side for line in document.text.split("\n")]
    keys = [re.sub(r"\W+", "", line).casefold() for line in lines]
    assert len(keys) == len(set(keys))


def test_the_shipped_text_is_clean(corpus):
    for document in corpus["train"] + corpus["heldout"]:
        assert document.source
        assert document.text == document.text.strip()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\ufffd]|  |\n\n|Gutenberg|</\w+>", document.text)


def test_the_shipped_files_are_those_of_the_manifest():
    folder = resources.files("nomoat.data") / "corpus"
    files = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    assert sorted(files) == sorted(f.name for f in folder.iterdir() if f.name.endswith(".xz"))
    for name, row in files.items():
        plain = lzma.decompress((folder / name).read_bytes())
        assert hashlib.sha256(plain).hexdigest() == row["sha256"], name


def test_the_shipped_text_may_be_used_freely():
    manifest = json.loads((resources.files("nomoat.data") / "corpus" / "manifest.json").read_text("utf-8"))
    assert {row["lang"] for row in manifest["sources"]} == {"en", "de"}
    for row in manifest["sources"]:
        assert re.match(
            r"(public domain|MIT|BSD-[23]-Clause|Apache-2\.0|CC0-1\.0|CC-BY-4\.0)(?![-\w])", row["licence"]
        )
        assert not re.search(r"GPL|MPL|EPL|GFDL|-(SA|NC|ND)\b", row["licence"])


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="no test text"):
        list(sources.shipped("test"))


# ------------------------------------------------------------------------------------------------- files


def test_plain_text_is_one_document_or_several_parted_by_form_feeds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Grüße\nund mehr\n\fzwei\n", "utf-8")
    one, two = from_path(path)
    assert one == Document("Grüße\nund mehr", None, "a.txt")
    assert two == Document("zwei", None, "a.txt")


def test_long_plain_text_is_cut_at_line_ends_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "DOCUMENT_BYTES", 100)
    lines = [f"line {i} of many" for i in range(100)]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n")
    parts = texts(tmp_path / "a.txt")
    assert len(parts) > 5
    assert "\n".join(parts).split("\n") == lines


def test_jsonl_has_texts_or_conversations(tmp_path):
    path = tmp_path / "a.jsonl"
    talk = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    path.write_text('\ufeff{"text": "one", "lang": "en"}\n\n' + json.dumps(talk) + "\n", "utf-8")
    turns = Message("user", "Hi"), Message("assistant", "Ho")
    read = [Document("one", "en", "a.jsonl"), Document("Hi\n\nHo", None, "a.jsonl", turns)]
    assert list(from_path(path)) == read


def test_messages_are_turns_with_their_chains(tmp_path):
    path = tmp_path / "a.jsonl"
    parts = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
    asked = [{"role": "system", "content": "Brief."}, {"role": "user", "content": parts}]
    replies = [
        {"role": "assistant", "content": "<think>\n1+1\n</think>\n\n4"},
        {"role": "assistant", "content": "4", "reasoning_content": "1+1"},
        {"role": "assistant", "content": "4"},
    ]
    path.write_text("\n".join(json.dumps({"messages": [*asked, reply]}) for reply in replies))
    chained, given, plain = (document.turns for document in from_path(path))
    whole = (Message("system", "Brief."), Message("user", "2+\n2?"), Message("assistant", "4", "1+1"))
    assert chained == given == whole
    assert plain[-1] == Message("assistant", "4")


def test_prose_and_conversations_are_rendered_in_their_order(tmp_path):
    path = tmp_path / "a.jsonl"
    talk = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    path.write_text("\n".join(map(json.dumps, [{"text": "one"}, talk, {"text": "two"}, talk])))
    tokenizer = bpe.train(["one two"], bpe.SMALLEST_VOCAB)
    lines = list(shown.show(path, tokenizer, 10))
    assert lines[:8] == [
        "document 1: 5 tokens, 5 learnt", "  + <|bos|>one<|eos|>", "",
        "document 2: 8 tokens, 3 learnt", "    <|bos|><|user|>Hi<|assistant|>", "  + Ho<|eos|>", "",
        "document 3: 5 tokens, 5 learnt",
    ]  # fmt: skip


def test_parquet_has_texts_or_conversations(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "id": [1, 2]}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"messages": [talk]}), tmp_path / "b.parquet")
    assert texts(tmp_path) == ["one", "two", "Hi\n\nHo"]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.txt").write_text("two")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    for name in ("notes.md", ".hidden.txt"):
        (tmp_path / name).write_text("not for us")
    with pytest.warns(UserWarning, match=r"files in \.md are not read"):
        assert texts(tmp_path) == ["one", "two"]


BAD = {
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b" \n\n", "is empty"),
    "empty.jsonl": (b"\n", "is empty"),
    "empty.parquet": (b"", "is empty"),
    "binary.txt": (b"text\x00\x01", r"is binary \(a zero byte at offset 4\)"),
    "utf16.txt": ("häh".encode("utf-16"), "is UTF-16.*iconv -f utf-16"),
    "latin.txt": (
        "ab\nzwölf".encode("latin1"),
        r"not UTF-8: byte 0xf6 at offset 5; convert it.*iconv -f latin1",
    ),
    "bom.txt": (b"\xef\xbb\xbfa\xff", r"byte 0xff at offset 4"),
    "twice.jsonl": (
        b'{"messages": [], "messages": [{"role": "assistant", "content": "a"}]}',
        r"twice\.jsonl:1 can't be read \(the key 'messages' is there twice\)",
    ),
    "cut.jsonl": (b'{"text": "a"}\n{"text": "b', r"cut\.jsonl:2 is not JSON.*expected one object a line"),
    "list.jsonl": (b'["a"]\n', r"list\.jsonl:1 is a list; expected \{"),
    "keys.jsonl": (b'{"txt": "a"}\n', r"keys\.jsonl:1 has the keys \['txt'\].*expected \{"),
    "talk.jsonl": (b'{"messages": [{"role": "user"}]}\n', "jsonl:1, message 1 has no text"),
    "tool.jsonl": (b'{"messages": [{"role": "tool", "content": "7"}]}\n', "jsonl:1, message 1 .*no call"),
    "mute.jsonl": (b'{"messages": [{"role": "user", "content": "a"}]}\n', "mute.jsonl:1 has no turn"),
    "both.jsonl": (
        b'{"text": "a", "messages": [{"role": "assistant", "content": "a"}]}\n',
        "jsonl:1 has a `text` and `messages`",
    ),
    "unlearnt.jsonl": (
        b'{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}\n',
        "jsonl:1, message 1 has weight 0",
    ),
    "none.jsonl": (b'{"messages": []}\n', "none.jsonl:1 has no turn of the assistant"),
    "call.jsonl": (
        b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}\n',
        r"call\.jsonl:1, message 1 has `tool_calls`",
    ),
    "half.jsonl": (b'{"text": "a"}\n{"text": "\\ud800"}\n', r"half\.jsonl:2 has half a surrogate pair"),
    "deep.jsonl": (b'{"text": "a"}\n' + b"[" * 200_000, r"deep\.jsonl:2 can't be read \(nested too deeply"),
    "long.jsonl": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", r"jsonl:1 can't be read \(Exceeds the limit"),
    "bad.parquet": (b"PAR1 but no more", "not a readable parquet file"),
    "book.pdf": (b"%PDF", r"ends in `\.pdf`; expected \.txt, \.jsonl, .*\.parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_says_what_is_wrong(tmp_path, name):
    content, complaint = BAD[name]
    if name == "bad.parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        list(from_path(tmp_path / name))


def test_a_huge_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST_LINE_BYTES", 2**20)
    (tmp_path / "a.jsonl").write_bytes(b"     \n" + b"x" * (2**20 + 1))
    with pytest.raises(DataError, match="longer than 1 MB at byte 6"):
        list(from_path(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("text", ["so it goes " * 40, "ö" * 300, "€" * 300, "😀" * 100 + "x", "a\r\n" * 90])
def test_a_long_line_comes_in_pieces_and_loses_nothing(tmp_path, monkeypatch, text):
    monkeypatch.setattr(readers, "DOCUMENT_BYTES", 50)
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    pieces = [document.text for document in from_path(path)]
    assert max(len(piece.encode()) for piece in pieces) <= 100
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert len(list(documents.first([from_path(path)], 40))) == 1


def test_parquet_without_a_text_is_refused(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"body": ["one"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"columns \['body'\]; expected one named `text`"):
        list(from_path(tmp_path / "a.parquet"))
    parquet.write_table(pyarrow.table([["one"], ["two"]], names=["text"] * 2), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has the column `text` twice; expected it once"):
        list(from_path(tmp_path / "a.parquet"))


def test_a_missing_path_and_a_folder_without_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="nothing at"):
        list(from_path(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="no text in the folder"):
        list(from_path(tmp_path))


# ------------------------------------------------------------------------------------------------- a hub


def test_a_data_set_is_streamed(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    found = from_hub(DataSet(name=str(tmp_path)))
    assert [(d.text, d.lang, d.source) for d in found] == [(n, None, str(tmp_path)) for n in ("one", "two")]


ROWS = '{"text": "eins", "body": "zwei", "n": 1}\n{"text": "", "body": null, "n": 2}\n'
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
CARD = """---
configs:
- config_name: de
  data_files: [{split: train, path: de.jsonl}, {split: test, path: test.jsonl}]
- config_name: en
  data_files: [{split: train, path: en.jsonl}]
---
"""


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """Keys of a DataSet -> its texts; it has two configurations, three splits and three columns."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "de.jsonl").write_text(ROWS)
    (tmp_path / "test.jsonl").write_text('{"text": "drei"}\n')
    (tmp_path / "en.jsonl").write_text(json.dumps({"talk": TALK}))
    return lambda **keys: [d.text for d in from_hub(DataSet(name=str(tmp_path), **keys))]


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ({"config": "de"}, ["eins"]),
        ({"config": "de", "split": "test"}, ["drei"]),
        ({"config": "de", "column": "body"}, ["zwei"]),
        ({"config": "en", "column": "talk"}, ["Hi\n\nYes"]),
    ],
    ids=str,
)
def test_a_data_set_is_named_with_configuration_split_and_column(data_set, keys, texts):
    assert data_set(**keys) == texts


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, r"Config name is missing.*\['de', 'en'\]"),
        ({"config": "fr"}, r"configuration `fr`.*Available: \['de', 'en'\]"),
        ({"config": "de", "split": "dev"}, r"split `dev`.*Available splits: \['train', 'test'\]"),
        ({"config": "de", "column": "txt"}, r"row 0 has the columns \['body', 'n', .*none of them `txt`"),
        ({"config": "de", "column": "n"}, r"row 0 has a int in `n`; expected a text or messages"),
        ({"config": "en"}, r"row 0 has the keys \['talk'\]"),
    ],
    ids=str,
)
def test_a_data_set_that_is_named_wrongly_says_what_there_is(data_set, keys, complaint):
    with pytest.raises(DataError, match=f"(?s){complaint}"):
        data_set(**keys)


def test_what_is_asked_of_a_data_set_reaches_the_library(monkeypatch):
    def load(*names, **keys):
        assert (names, keys) == (("wiki", "de"), {"split": "dev", "revision": "v1", "streaming": True})
        yield {"body": "one", "lang": "de"}
        raise OSError("the line was cut")

    library = SimpleNamespace(load_dataset=load, exceptions=SimpleNamespace(DatasetsError=KeyError))
    monkeypatch.setitem(sys.modules, "datasets", library)
    rows = from_hub(DataSet(name="wiki", config="de", split="dev", column="body", revision="v1"))
    assert next(rows) == Document("one", "de", "wiki")
    with pytest.raises(DataError, match="configuration `de`, split `dev`, .*behind 1 rows: the line was cut"):
        next(rows)


def test_a_data_set_that_is_nowhere_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="cannot be read.*check name, config, split"):
        list(from_hub(DataSet(name=str(tmp_path / "none"))))


def test_a_name_alone_stands_for_a_data_set():
    class Reader(Strict):
        hub: DataSet | None = None

    short = parse(Reader, {"hub": "wiki"}, "x")
    assert short.hub == DataSet(name="wiki")
    assert short.model_dump() == {"hub": "wiki"}
    whole = parse(Reader, {"hub": {"name": "wiki", "config": "de"}}, "x")
    assert parse(Reader, whole.model_dump(), "x") == whole
    with pytest.raises(ConfigError, match=r"unknown key `x.hub.colum`; did you mean `column`"):
        parse(Reader, {"hub": {"name": "wiki", "colum": "body"}}, "x")


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install nomoat\[hub\]"):
        list(from_hub(DataSet(name="any")))
