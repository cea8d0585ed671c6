"""Text that is shown cannot steer a terminal."""

import string

from hypothesis import given
from hypothesis import strategies as st

from nomoat.files import visible


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
