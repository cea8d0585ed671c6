"""Text is read about as far as was asked, and what was read has a digest."""

import itertools
import json
import sys
from types import SimpleNamespace

import borrowed
import pytest

from nomoat.config import DataError
from nomoat.data import documents, sources
from nomoat.data.sources import Document
from nomoat.tasks import answers

MB = 2**20


def texts(lang, n=None, size=100):
    """Documents of a language, without end by default."""
    for i in itertools.count() if n is None else range(n):
        yield Document(f"{i:0{size}}", lang, "x")


def read(files, n_bytes):
    """(documents of each language that were kept, of all how many were looked at)."""
    looked_at = 0

    def counted(file):
        nonlocal looked_at
        for document in file:
            looked_at += 1
            yield document

    kept = {}
    for document in documents.first(map(counted, files), n_bytes):
        kept[document.lang] = kept.get(document.lang, 0) + 1
    return kept, looked_at


def mixed():
    while True:
        yield from texts("en", 3)
        yield from texts("de", 1)


@pytest.mark.parametrize(
    ("files", "n_bytes", "kept", "looked_at"),
    [
        ([texts(None)], 250, {None: 3}, 3),
        ([texts(None, 2), texts(None)], 250, {None: 3}, 3),
        ([texts(None, size=MB)], 100, {None: 1}, 1),
        ([mixed()], 250, {"en": 3, "de": 3}, 12),
        ([texts("en", 5), texts("de", 5)], 250, {"en": 3, "de": 3}, 8),
        ([texts("en"), texts("de")], 250, {"en": 3, "de": 3}, 3 + MB // 100 + 1 + 3),
        ([texts("en")], 250, {"en": 3}, 3 + MB // 100 + 1),
        ([texts("en", 5), texts("de", 5)], None, {"en": 5, "de": 5}, 10),
        ([], 100, {}, 0),
    ],
)
@pytest.mark.filterwarnings("ignore:x was left:UserWarning")
def test_about_as_much_is_read_as_was_asked(files, n_bytes, kept, looked_at):
    assert read(files, n_bytes) == (kept, looked_at)


def test_a_large_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    line = json.dumps({"text": "x" * 1000}) + "\n"
    (tmp_path / "a.jsonl").write_text(line * 50)
    (tmp_path / "b.jsonl").write_text("no JSON, which nobody sees\n")
    assert sum(len(d.text) for d in documents.text(str(tmp_path), 2_500)) == 3_000


def test_of_what_ships_each_language_is_read(monkeypatch):
    found = list(documents.text(None, 1_000))
    assert [document.lang for document in found] == ["de", "en"]
    assert found == [next(d for d in sources.shipped("train") if d.lang == lang) for lang in ("de", "en")]


@pytest.mark.parametrize(
    "other",
    [
        [("ab", None), ("c", None)],
        [("a", None), ("bc", "en")],
        [("bc", None), ("a", None)],
        [("abc", None)],
    ],
)
def test_the_digest_knows_texts_languages_and_their_order(other):
    def digest(pairs):
        reading = documents.Reading([Document(text, lang, "x") for text, lang in pairs])
        assert sum(len(document.text) for document in reading) == 3
        return reading.sha256

    assert digest(other) != digest([("a", None), ("bc", None)]) == digest([("a", None), ("bc", None)])


def test_a_reading_says_what_it_read_once_it_is_done():
    told = []
    reading = documents.Reading(texts("en", 2), lambda: told.append("next"), lambda: told.append("done"))
    assert len(list(reading)) == 2
    assert (told, dict(reading.n_bytes)) == (["next", "next", "done"], {"en": 200})


def test_where_a_tokenizer_marks_no_thinking_a_chain_is_spelled_out_before_the_answer():
    tokenizer = borrowed.made("smollm")
    (document,) = documents.worked({"addition": [1]}, 1, 1.0, tokenizer, 0)
    learnt = tokenizer.decode([i for i, t in zip(document.ids, document.trained) if t], specials=True)
    _, _, problem = next(documents.problems({"addition": [1]}, 1, 0))
    assert answers.strict_answer(learnt.removesuffix("<|im_end|>")) == problem.witness.strip()
    assert learnt.startswith("<think>")


def test_a_file_that_is_left_before_another_language_is_told():
    files = [[*texts("en", 30, MB // 10), *texts("de", 3)]]
    with pytest.warns(UserWarning, match=r"x was left behind 1 MB .*\(en\) .*mix its rows"):
        assert read(files, 1000)[0] == {"en": 1}


def test_rows_without_a_text_may_have_no_end(monkeypatch):
    blank = SimpleNamespace(
        load_dataset=lambda *_, **__: itertools.repeat({"text": " "}),
        exceptions=SimpleNamespace(DatasetsError=KeyError),
    )
    monkeypatch.setitem(sys.modules, "datasets", blank)
    with pytest.raises(DataError, match="row 99999: no text in 100,000 rows; choose another split or column"):
        list(sources.from_hub(sources.DataSet(name="wiki")))


def test_a_folder_has_no_revision(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    with pytest.raises(DataError, match="is a folder, beside revision = 'v1'"):
        list(sources.from_hub(sources.DataSet(name=str(tmp_path), revision="v1")))


def test_endings_may_be_in_capitals(tmp_path):
    (tmp_path / "A.TXT").write_text("one")
    (tmp_path / "b.Jsonl").write_text('{"text": "two"}')
    assert [d.text for d in sources.from_path(tmp_path)] == ["one", "two"]
    assert [d.text for d in sources.from_path(tmp_path / "A.TXT")] == ["one"]
