"""Streams are keyed by index and seed, in one language or both; an answer may be what the prompt allows."""

import itertools

import pytest

from nomoat.config import TaskError
from nomoat.tasks import base, find


def test_streams_are_keyed_by_index_and_seed():
    task = find.find("sorting")
    first = list(itertools.islice(base.problems(task, 5, split="train", seed=0), 50))
    assert first == list(itertools.islice(base.problems(task, 5, split="train", seed=0), 50))
    later = {p.key for p in itertools.islice(base.problems(task, 5, split="train", seed=1), 50)}
    assert len({p.key for p in first} & later) < 5


def test_a_stream_keeps_to_one_language_and_the_same_problems():
    task = find.find("weekday")
    streams = (base.problems(task, 3, split="eval", seed=0, lang=lang) for lang in ("en", "de"))
    english, german = (list(itertools.islice(stream, 20)) for stream in streams)
    assert {p.facts["lang"] for p in english} == {"en"}
    assert {p.facts["lang"] for p in german} == {"de"}
    assert [p.key for p in english] == [p.key for p in german]


def test_unknown_level_and_split_say_what_is_known():
    task = find.find("lamp")
    with pytest.raises(TaskError, match="no level 99.*expected one of"):
        next(base.problems(task, 99, split="train", seed=0))
    with pytest.raises(TaskError, match="no problem of the test split"):
        next(base.problems(task, 4, split="test", seed=0))


def test_only_what_the_prompt_allows_is_normalised():
    p = base.Problem("", "", " Anna")
    assert all(base.same(text, p.witness) for text in ("Anna", " Anna.", "anna\n", "ANNA"))
    assert not any(
        base.same(text, p.witness) for text in ("Anna..", "An na", "Anna!", "Αnna", "Anna Ben", "")
    )
    assert not base.same("\u212a", "k")  # the kelvin sign
