"""Files are there whole or not at all, and text that is shown cannot steer a terminal."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.config import DataError
from nomoat.files import new_directory, visible, write_whole


@pytest.mark.parametrize(
    ("data", "needs"),
    [("x" * 9_000, "needs 9,000 bytes"), ((b"x" * 3_000 for _ in range(3)), "needs more than 4,000 bytes")],
    ids=["whole", "in pieces"],
)
def test_a_file_for_which_there_is_no_space_stays_as_it_was(tmp_path, full_disk, data, needs):
    path = tmp_path / "a.txt"
    write_whole(path, "before")
    with full_disk(4_000), pytest.raises(DataError) as caught:
        write_whole(path, data)
    for part in ("no space for", str(path), needs, "room for", "free some"):
        assert part in str(caught.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_says_so(tmp_path):
    with pytest.raises(DataError, match=r"cannot write .*none/a.txt \(No such file or directory\); expected"):
        write_whole(tmp_path / "none" / "a.txt", "x")


def test_a_directory_takes_its_place_at_the_end_or_is_gone(tmp_path, full_disk):
    place = tmp_path / "model"

    def write(text):
        with new_directory(place) as beside:
            (beside / "sub").mkdir()
            (beside / "sub" / "a").write_text(text)
            assert not place.exists() or (place / "sub" / "a").read_text() == "one"

    write("one")
    (tmp_path / "model.partial").mkdir()  # of a process that was killed
    with full_disk(4_000), pytest.raises(DataError, match="no space"):
        write("x" * 9_000)
    with pytest.raises(TypeError):
        write(None)
    assert (place / "sub" / "a").read_text() == "one"
    assert list(tmp_path.iterdir()) == [place]
    write("two")
    assert (place / "sub" / "a").read_text() == "two"


@given(st.text())
def test_visible_text_cannot_steer_a_terminal(text):
    shown = visible(text)
    assert all(c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160) for c in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200e\u200f\u061c\ufeff\u2028\ud800")
    assert visible(shown) == shown


def test_visible_leaves_ordinary_writing_alone():
    text = string.printable[:95] + "\n\täöüß€ 日本語 👩\u200d🔬 e\u0301 नमस्ते می\u200cخواهم"
    assert visible(text) == text
    assert visible("\x1b[2J\r\x00\x9b") == "\\x1b[2J\\r\\x00\\x9b"
