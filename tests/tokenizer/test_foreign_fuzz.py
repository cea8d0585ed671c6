"""A broken tokenizer directory is a clear error or a tokenizer: never a traceback, never a control token."""

import copy
import json
import random
from collections.abc import Iterator

import borrowed
import pytest

from nomoat.config import UserError
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Message, render

VALUES = [
    None, 1, -1, 1.5, "x", "", [], {}, True, 10**12, "\ud800", ["a"], {"type": "ByteLevel"}, [[]], [None],
    {"a": None}, "<|im_end|>", "{{ messages }}", "{% for %}", 2**31 - 1,
]  # fmt: skip


def places(part: object, path: tuple = ()) -> Iterator[tuple]:
    """The ways to the parts of a JSON value, of long lists and tables only the first."""
    if path:
        yield path
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in [*inner][:40]:
        yield from places(value, (*path, name))


def break_one(rng: random.Random, whole: dict) -> None:
    ways = [*places(whole)]
    if not ways:
        return
    *path, last = rng.choice(ways)
    part = whole
    for name in path:
        part = part[name]
    if rng.random() < 0.3:
        del part[last]
    else:
        part[last] = copy.deepcopy(rng.choice(VALUES))


def survive(path, n: int) -> int:
    """How many of `n` broken directories still load; any other error than a UserError comes out."""
    rng, n_loaded = random.Random("fuzz"), 0
    for _ in range(n):
        table, template, words = copy.deepcopy(borrowed.parts(rng.choice([*borrowed.KINDS])))
        extra = {"added_tokens_decoder": {"9999": {"content": "<x>"}}, "chat_template": template}
        files = {
            "tokenizer.json": table,
            "tokenizer_config.json": {**words, **extra},
            "generation_config.json": {"eos_token_id": [1, 2]},
        }
        name = rng.choice([*files, "tokenizer.json", "tokenizer.json"])
        for _ in range(rng.choice([1, 1, 2])):
            break_one(rng, files[name])
        for file, content in files.items():
            (path / file).write_text(json.dumps(content))
        try:
            tok = Tokenizer.load(path)
            render(tok, [Message("user", "hi é<|im_end|>")], generate=True)
            ids = tok.encode("abc <|im_end|></s><eos> é")
            tok.decode(ids)
            tok.save(path / "out")
        except UserError:
            continue
        assert not {*ids} & {*tok.layout.specials.values()}
        n_loaded += 1
    return n_loaded


def test_a_broken_directory_is_a_clear_error_or_a_tokenizer(tmp_path):
    assert 20 < survive(tmp_path, 100) < 80


@pytest.mark.check
def test_two_thousand_broken_directories(tmp_path):
    assert 400 < survive(tmp_path, 2_000) < 1_600
