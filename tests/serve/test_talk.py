"""Laws of the chat's commands, without a terminal."""

import errno
import json
import os

import pytest

from nomoat.serve.talk import COMMANDS, Effect, Exchange, Talk, obey
from nomoat.tokenizer.layout import Message


@pytest.fixture
def talk() -> Talk:
    return Talk("Be brief.", None, [Exchange("1+1?", "2", "one and one"), Exchange("2+2?", "4", "")])


def test_plain_text_and_double_slash_are_questions(talk):
    assert obey(talk, "hello\nyou") == Effect(ask="hello\nyou")
    assert obey(talk, "//new is a command") == Effect(ask="/new is a command")
    assert len(talk.exchanges) == 2


def test_new_undo_and_retry_take_back_what_they_say(talk):
    assert obey(talk, "/retry") == Effect(ask="2+2?")
    assert [m.content for m in talk.messages()] == ["Be brief.", "1+1?", "2"]
    assert "1+1?" in obey(talk, "/undo").say
    assert talk.messages() == [Message("system", "Be brief.")]
    assert obey(talk, "/undo").say == "nothing to undo yet"
    assert obey(talk, "/retry") == Effect("nothing to retry yet")
    talk.exchanges.append(Exchange("a", "b", ""))
    obey(talk, "/new")
    assert talk.messages("c") == [Message("system", "Be brief."), Message("user", "c")]


def test_what_fills_the_context_is_said_once_each_and_again_after_new(talk):
    steps = [(74, 0), (75, 0), (80, 0), (90, 2), (90, 4)]
    for _ in range(2):
        said = [talk.fills(n_tokens, 100, n_forgotten) for n_tokens, n_forgotten in steps]
        assert [text is not None for text in said] == [False, True, False, True, False]
        assert said[1].startswith("75 of 100 tokens of the context are used")
        assert said[3].startswith("the context is full: the first 2 messages are forgotten")
        obey(talk, "/new")


def test_no_more_is_used_than_there_is(talk):
    """A reply may take what is kept for it, behind a conversation without room left."""
    assert talk.fills(120, 100, 0).startswith("the context is full: with the next question, the first")
    assert talk.fills(121, 100, 2).startswith("the context is full: the first 2 messages are forgotten")


@pytest.mark.parametrize("word", ["/new", "/undo", "/retry", "/show", "/help", "/quit"])
def test_what_stands_behind_a_command_that_takes_nothing_is_not_lost(talk, word):
    said = obey(talk, f"{word} 2+2?")
    assert (said.ask, said.quit, len(talk.exchanges)) == (None, False, 2)
    assert f"{word} takes nothing behind it" in said.say
    assert "2+2?" in said.say


def test_an_exchange_that_was_stopped_before_its_answer_is_not_sent(talk):
    talk.exchanges.append(Exchange("3+3?", "", "three and"))
    assert [m.content for m in talk.messages("x")] == ["Be brief.", "1+1?", "2", "2+2?", "4", "x"]
    assert obey(talk, "/show").say == "three and"
    assert obey(talk, "/retry").ask == "3+3?"


def test_system_think_show_help_quit_and_unknown(talk):
    obey(talk, "/system  Answer in German. ")
    assert talk.messages()[0] == Message("system", "Answer in German.")
    obey(talk, "/system")
    assert talk.messages()[0].role == "user"
    for word, value in (("on", True), ("off", False), ("auto", None)):
        assert obey(talk, f"/think {word}").say == f"thinking: {word}"
        assert talk.think is value
    assert "expected on, off or auto" in obey(talk, "/think maybe").say
    assert obey(talk, "/think").say == "thinking: auto"
    assert obey(talk, "/show").say == "no thinking behind the last answer"
    assert all(c in obey(talk, "/help").say for c in COMMANDS)
    assert obey(talk, "/quit").quit
    said = obey(talk, "/rety").say
    assert "// starts a text" in said
    assert "did you mean `/retry`" in said


def test_save_writes_json_or_markdown_and_no_foreign_file(talk, tmp_path):
    for name in ("a.json", "a.md"):
        assert "saved 5 messages" in obey(talk, f"/save {tmp_path / name}").say
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [Message(**row) for row in rows] == talk.messages()
    assert "## user\n\n1+1?\n\n## assistant\n\n> one and one\n\n2\n" in (tmp_path / "a.md").read_text()
    obey(talk, "/undo")
    assert "saved 3 messages" in obey(talk, f"/save {tmp_path / 'a.json'}").say
    (tmp_path / "mine").write_text("precious")
    assert "exists already" in obey(talk, f"/save {tmp_path / 'mine'}").say
    assert (tmp_path / "mine").read_text() == "precious"
    assert "could not write" in obey(talk, f"/save {tmp_path / 'no' / 'a'}").say
    assert "needs a file name" in obey(talk, "/save").say


def test_a_save_that_fails_leaves_the_file_as_it_was(talk, tmp_path, monkeypatch):
    assert "saved" in obey(talk, f"/save {tmp_path / 'a.md'}").say
    before = (tmp_path / "a.md").read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("a.md", "new.md"):
        assert "could not write it: no space for" in obey(talk, f"/save {tmp_path / name}").say
    assert (tmp_path / "a.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]


def test_a_model_without_marks_is_not_made_to_think():
    talk = Talk(marks=False)
    assert "marks no thinking; expected auto" in obey(talk, "/think on").say
    assert talk.think is None
    assert obey(talk, "/think auto").say == "thinking: auto"
