"""Readers: every format gives the same documents, and parts of a file give what the whole file gives."""

import gzip
import json

import pytest

from nomoat.config import DataError
from nomoat.data import readers
from nomoat.data.readers import Span, read

TEXTS = ["One.\nTwo, ü and €.", "short", "line\n" * 40, "and a last one " * 9, "😀 " * 30]


def lines(texts=TEXTS):
    return "".join(json.dumps({"text": text, "n": 1}, ensure_ascii=False) + "\n" for text in texts)


def write(folder, kind, texts=TEXTS):
    """The texts as a file of a format."""
    pyarrow = pytest.importorskip("pyarrow") if kind in (".jsonl.zst", ".parquet") else None
    path = folder / f"texts{kind}"
    content = lines(texts).encode()
    if kind == ".txt":
        path.write_text("\f".join(texts), "utf-8")
    elif kind == ".jsonl":
        path.write_bytes(content)
    elif kind == ".jsonl.gz":
        path.write_bytes(gzip.compress(content[:99], mtime=0) + gzip.compress(content[99:], mtime=0))
    elif kind == ".jsonl.zst":
        with pyarrow.output_stream(str(path), compression="zstd") as file:
            file.write(content)
        path.write_bytes(path.read_bytes() * 2)  # two frames, as pzstd writes them
    else:
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=2)
    return path


@pytest.mark.parametrize("kind", readers.READERS)
def test_every_format_gives_the_same_documents(tmp_path, kind):
    found = [document.text.strip("\n") for document in read(Span(write(tmp_path, kind)))]
    expected = [text.strip("\n") for text in TEXTS]
    assert found == (expected * 2 if kind == ".jsonl.zst" else expected)


@pytest.mark.parametrize("kind", readers.READERS)
def test_a_column_may_be_called_otherwise(tmp_path, kind):
    path = write(tmp_path, kind)
    if kind == ".txt":
        return
    assert [d.text for d in read(Span(path), "text")][: len(TEXTS)] == TEXTS
    with pytest.raises(DataError, match="has the columns .*none of them `body`|expected one named `body`"):
        list(read(Span(path), "body"))


@pytest.mark.parametrize("end", [1, 60, 200, 421])
def test_a_part_gives_its_lines(tmp_path, end):
    path = write(tmp_path, ".jsonl")
    edge = path.read_bytes().index(b"\n", end) + 1
    parts = [Span(path, 0, edge), Span(path, edge, path.stat().st_size)]
    assert [d.text for part in parts for d in read(part)] == TEXTS


PACKED = {
    "cut.jsonl.gz": lambda content: gzip.compress(content)[:-9],
    "none.jsonl.gz": lambda content: content,
    "none.jsonl.zst": lambda content: content,
}


@pytest.mark.parametrize("name", PACKED)
def test_what_is_packed_wrongly_is_said(tmp_path, name):
    if name.endswith("zst"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(PACKED[name](lines().encode()))
    with pytest.raises(DataError, match=f"{name} can't be unpacked .*fetch or pack it again"):
        list(read(Span(tmp_path / name)))


class Noted(readers.Rows):
    def __init__(self):
        super().__init__()
        self.places = []

    def bad(self, place, error):
        self.places.append((place, str(error)))


def test_bad_rows_are_noted_with_their_place_and_left_out(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [b'{"text": "a"}', b"{", b'{"text": 3}', b'{"text": "\xff"}', b"", b'{"text": "b"}']
    path.write_bytes(b"\n".join(rows))
    noted = Noted()
    assert [d.text for d in read(Span(path), rows=noted)] == ["a", "b"]
    assert [place for place, _ in noted.places] == [f"{path}:2", f"{path}:3", f"{path}:4"]
    assert "is not UTF-8: byte 0xff" in noted.places[-1][1]
