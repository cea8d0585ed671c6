"""Keys that change what a message means, marks by their words, and messages that stand in a text."""

import json

import pytest

from nomoat.config import TaskError
from nomoat.tasks import find, messages

MARKS = (
    "weight", "loss_weight", "train", "trainable", "train_on_turn", "trainOn", "Train", "learn", "is_learnt",
    "calculate_loss", "loss_mask", "sample_weight", "supervised",
)  # fmt: skip
TURNED = ("no_loss", "skip", "ignore", "ignore_loss", "exclude_from_training", "notTrained")
NO_MARKS = ("question", "trainer", "weightlifting", "language", "label", "split", "unmasked_text", "input")
ASK, REPLY = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}


def test_a_mark_is_known_by_its_words():
    for name in MARKS:
        assert messages.mark_in({name: 0}) == f"{name} 0"
        assert messages.mark_in({name: 0.5}) and messages.mark_in({name: [1, 0]})
        assert all(messages.mark_in({name: value}) is None for value in (1, 1.0, True, "1", "true", None))
        assert messages.mark_in({name: True}, learnt=False) and not messages.mark_in({name: 0}, learnt=False)
    for name in TURNED:
        assert messages.mark_in({name: True}) and not messages.mark_in({name: False})
    for name in ("mask", "masked", "assistant_masks"):  # either may be meant
        assert messages.mark_in({name: 0}) and messages.mark_in({name: 1})
    assert messages.mark_in(dict.fromkeys(NO_MARKS, 0)) is None


@pytest.mark.parametrize("key", messages.MEANING)
def test_what_changes_the_meaning_of_a_message_is_not_dropped(key):
    assert f"`{key}`" in messages.wrong_with({**REPLY, key: "x"})
    assert messages.wrong_with({**REPLY, key: None}) is None


def test_a_chain_is_one_text_of_the_assistant():
    assert messages.chain_in({**REPLY, "reasoning_content": None, "thinking": "one"}) == "one"
    for wrong in (
        {**ASK, "thinking": "one"},
        {**REPLY, "thinking": ["one"]},
        {**REPLY, "thinking": "one", "reasoning_content": "two"},
        {**REPLY, "thinking": "one", "content": "<think>one</think>2"},
    ):
        assert "chain" in messages.wrong_with(wrong) or "no text" in messages.wrong_with(wrong)


def test_parts_of_a_message_are_texts():
    assert messages.text_in({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}) == "a\nb"
    assert messages.text_in({"content": [{"type": "image", "text": "a cat"}]}) is None


PLAIN = ("[1] + [1]?", "[1, 2, 3]", '{"a": 1}', "{'role'}?", '[{"role": "user"}] is what?', "", "[{")
OTHERWISE = (str([ASK]), json.dumps(ASK), json.dumps([ASK])[:-3] + "]", json.dumps({"messages": [ASK]}),
             "[{'content': '1+1?', 'role': 'user'}\n {'content': '2', 'role': 'assistant'}]")  # fmt: skip


def test_a_text_that_is_messages_is_read_as_such_or_refused():
    assert all(messages.spelled(text) is None for text in PLAIN)
    named = [{"name": "x", **ASK}]
    assert messages.spelled(f" {json.dumps(named)}\n") == named
    for text in OTHERWISE:
        with pytest.raises(ValueError, match="messages as a text"):
            messages.spelled(text)


TEMPLATES = ("<|im_start|>user\n1+1?<|im_end|>", "<s>[INST] 1+1? [/INST]")


@pytest.mark.parametrize("text", [*OTHERWISE, *TEMPLATES])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_such_a_text_is_never_asked(tmp_path, text, kind):
    path = tmp_path / f"a.{kind}"
    cell = text.replace('"', '""')
    rows = {"jsonl": json.dumps({"prompt": text, "answer": "2"}), "csv": f'prompt,answer\n"{cell}",2\n'}
    path.write_text(rows[kind])
    with pytest.raises(TaskError, match=r"a\.(jsonl|csv), line \d: prompt (holds messages|begins with)"):
        find.find(str(path))


ODD = {
    "list": ({"answer": ["1"]}, "answer that is a list"),
    "nothing in it": ({"answer": []}, "answer that is a list"),
    "table": ({"answer": {"value": 1}}, "answer that is a dict"),
    "picture": ({"answer": "1", "images": ["a.png"]}, "has images, which no question shows"),
    "untrained": ({"answer": "1", "train": False}, "has train False; expected problems to train on"),
    "weightless": ({"answer": "1", "loss_weight": 0}, "has loss_weight 0"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_row_is_told_its_line(tmp_path, name):
    row, complaint = ODD[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "1?", **row}))
    with pytest.raises(TaskError, match=f"line 1.*{complaint}"):
        find.find(str(path))


def test_what_is_compared_as_text_and_what_of_messages_is_not_read_is_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer,weight\nwhat?,nan,70\nwho?,None,70\nwhich?,\"['a']\",70\nhow?,7,70\n")
    first, unread = find.find(str(path)).notes
    assert "answers such as 'nan' (" in first and first.endswith("compared as text: 3 in all")
    assert unread == "not read: the columns weight"
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({"messages": [ASK, {**REPLY, "thinking": "1", "cache": 1, "weight": 0}]}))
    [note] = find.find(str(path)).notes
    assert note == "not read: the columns cache of messages, thinking of messages, weight of messages"
    held = tmp_path / "c.jsonl"
    held.write_text(json.dumps({"question": "1?", "answer": "1", "train": False, "split": "test"}))
    assert find.find(str(held)).listed["eval"]
