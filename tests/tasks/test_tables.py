"""Tables of problems: every kind of file, other columns, conversations, and each fault with its place."""

import json
import re

import pytest

from nomoat.config import TaskError
from nomoat.tasks import base, find, jsonl, tables
from nomoat.tokenizer.layout import Message, turns

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "Wie, »so«?", "answer": "a;b"}]
KINDS = {
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "crlf.jsonl": "\r\n\r\n".join(map(json.dumps, ROWS)).encode(),
    "mark.jsonl": b"\xef\xbb\xbf" + "\n".join(map(json.dumps, ROWS)).encode(),
    "a.json": json.dumps(ROWS, indent=2).encode(),
    "mark.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "inner.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "a.csv": 'question,answer\n1+1?,2\n"Wie, »so«?",a;b\n'.encode(),
    "semicolons.csv": '\ufeffquestion;answer\r\n1+1?;2\r\nWie, »so«?;"a;b"\r\n'.encode(),
    "tabs.csv": "question\tanswer\n1+1?\t2\n\nWie, »so«?\ta;b\n".encode(),
    "a.tsv": "question\tanswer\n1+1?\t2\nWie, »so«?\ta;b\n".encode(),
    "mark.TSV": "\ufeffquestion\tanswer\r\n1+1?\t2\r\nWie, »so«?\ta;b\r\n".encode(),
    "blanks.csv": 'question , answer\n1+1?,2\n"Wie, »so«?",a;b\n'.encode(),
    "turned.csv": 'answer,question\n2,1+1?\na;b,"Wie, »so«?"'.encode(),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_has_the_same_rows(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    assert [*tables.read(str(path)).values()] == ROWS
    task = find.find(str(path))
    assert [p.witness for side in task.listed.values() for p in side] == ["2", "a;b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_columns_may_have_other_names(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name].replace(b"question", b"q").replace(b"answer", b"a b"))
    task = find.find(f"{path}:question=q, answer=a b:line:test")
    assert [p.prompt for p in task.listed["eval"]] == ["1+1?", "Wie, »so«?"]
    with pytest.raises(TaskError, match="has no column 'p'; .*`?q`?"):
        tables.read(str(path), ["question=p"])
    with pytest.raises(TaskError, match="columns 'question='; expected such as question=q,answer=a"):
        tables.read(str(path), ["question="])
    for twice, found in (("question=q,question=a", "question"), ("question=q,answer=q", "q")):
        with pytest.raises(TaskError, match=f": {found} is there twice; expected it once"):
            find.find(f"{path}:{twice}")
    with pytest.raises(TaskError, match="other names of columns as in"):
        find.find(f"{path}:test")


def test_a_renamed_column_takes_the_place_of_one_of_that_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("answer,truth\nno,2\n")
    assert [*tables.read(str(path), ["answer=truth"]).values()] == [{"answer": "2"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_known_columns_may_be_in_other_case(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name].replace(b"question", b"Question").replace(b"answer", b" ANSWER"))
    assert [(r["question"], r["answer"]) for r in tables.read(str(path)).values()] == [
        (r["question"], r["answer"]) for r in ROWS
    ]
    twice = tmp_path / f"twice_{name}"
    twice.write_text('{"Question": "a", "QUESTION": "b", "answer": "1"}')
    if name == "a.jsonl":
        with pytest.raises(TaskError, match="line 1 has the columns 'Question' and 'QUESTION'; expected one"):
            tables.read(str(twice))


BAD = {
    "key.jsonl": (b'{"question": "?", "answer": "1", "answer": "2"}', "line 1: the key 'answer' is there tw"),
    "key.json": (b'[{"question": "?", "answer": "1", "answer": "2"}]', "the key 'answer' is there twice"),
    "role.jsonl": (b'{"messages": [{"role": "user", "role": "x"}]}', "line 1: the key 'role' is there twice"),
    "empty.tsv": (b"", "is empty; expected a first line that names the columns"),
    "wide.csv": ("question,answer\n1,2\n".encode("utf-16-le"), "line 1: UTF-16; .*iconv -f utf-16le"),
    "big.jsonl": ('{"question": "?"}'.encode("utf-16-be"), "line 1: UTF-16; .*iconv -f utf-16be"),
    "nul.csv": (b"question,answer\n1\0,2\n", "line 2: the byte 0x00; expected text in UTF-8; take it out"),
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"question,answer\n", "is empty"),
    "empty.json": (b" ", "is empty"),
    "none.json": (b"[]", "is empty"),
    "few.csv": (b"question,answer\n1,2\n3\n", r"few.csv, line 3 has 1 cells; expected 2"),
    "many.csv": (b"question,answer\n1,2,3\n", r"many.csv, line 2 has 3 cells; expected 2"),
    "twice.csv": (b"answer,answer\n1,2\n", "line 1 names the columns .*expected each once"),
    "case.csv": (b"question,answer,Answer\n?,1,2\n", "line 2 has the columns 'answer' and 'Answer'"),
    "quote.csv": (b'question,answer\n"1" 1,2\n', "line 2: .*expected"),
    "open.csv": (b'question,answer\n"1,2\n', "line 2: unexpected end of data"),
    "huge.csv": (b"question,answer\n" + b"1" * 200_000 + b",2\n", "line 2: field larger than field limit"),
    "utf16.csv": ("question,answer\n1,2\n".encode("utf-16"), "line 1: UTF-16; expected .*iconv"),
    "latin.csv": (b"question,answer\n1,2\n\xe4,2\n", "line 3: the byte 0xe4"),
    "tests.csv": (b"question,answer,inputs,outputs\nf,g,[1],[1\n", "line 2, outputs: .*JSON in this column"),
    "seven.json": (b"7", "holds a int; expected a JSON list of objects"),
    "lists.json": (b'{"a": [], "b": []}', "an object with 2 lists"),
    "inner.json": (b'[{"question": "?", "answer": "1"}, 7]', "inner.json, row 2: a int"),
    "cut.json": (b'[{"question": ', "cut.json: Expecting value"),
    "deep.json": (b"[" * 200_000, "deep.json: nested too deeply"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_told_its_place(tmp_path, name):
    content, complaint = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=complaint):
        find.find(str(tmp_path / name))


# --- conversations

SYSTEM = {"role": "system", "content": "Answer in German."}
EARLIER = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
LAST = {"role": "user", "content": [{"type": "text", "text": "Doubled?"}]}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, *EARLIER, LAST, {"role": "assistant", "content": "8"}]},
        {"messages": [SYSTEM, *EARLIER, LAST], "answer": "8"},
        {"prompt": [SYSTEM, *EARLIER, LAST], "answer": "8"},
        {"question": [SYSTEM, *EARLIER, LAST], "ground_truth": "8"},
    ],
)
def test_every_message_is_part_of_the_question(row):
    problem = jsonl.posed(row, "here", "exact")
    assert problem.witness == "8"
    asked = turns(problem.prompt, problem.facts)
    assert [turn.role for turn in asked] == ["system", "user", "assistant", "user"]
    assert asked[0] == Message("system", "Answer in German.")
    assert asked[-1] == Message("user", "Doubled?")
    assert all(turn.content in problem.prompt for turn in asked)
    other = jsonl.posed({**row, next(iter(row)): [*EARLIER, *row[next(iter(row))]]}, "here", "exact")
    assert other.key != problem.key


@pytest.mark.parametrize("family", find.FAMILIES)
def test_a_family_asks_its_prompt(family):
    task = find.find(family)
    problem = next(base.problems(task, task.levels[0], split="train", seed=0))
    assert turns(problem.prompt, problem.facts) == [Message("user", problem.prompt)]


def test_one_message_is_a_question():
    problem = jsonl.posed({"prompt": [{"role": "user", "content": "2+2?"}], "answer": 4}, "here", "exact")
    assert problem.prompt == "2+2?"
    assert "messages" not in problem.facts


WRONG = [
    ([SYSTEM], "end with system; expected a last turn of the user"),
    ([*EARLIER], "end with assistant; expected a last turn of the user"),
    ([{"role": "tool", "content": "7"}], "the role 'tool'; expected one of system, user, assistant"),
    ([{"role": "user", "content": None}], "no text as its content"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "no text as its content"),
    ([{"from": "human", "value": "?"}], "the role None"),
]


@pytest.mark.parametrize(("given", "complaint"), WRONG)
def test_turns_that_are_no_question_are_told_their_line(given, complaint):
    with pytest.raises(TaskError, match=f"here.*{complaint}"):
        jsonl.posed({"prompt": given, "answer": "7"}, "here", "exact")


ONE = {"role": "user", "content": "1?"}
ASKED_TWICE = {
    "other question": (
        {"question": "1?", "problem": "2?"},
        "its question and its problem ask different things ('2?')",
    ),
    "other turns": (
        {"prompt": "2?", "messages": [ONE]},
        "its prompt and its messages ask different things ('1?')",
    ),
    "other answer": (
        {"prompt": "1?", "messages": [ONE, {"role": "assistant", "content": "2"}]},
        "its answer is '1', but its ground_truth ends in '2'",
    ),
    "an earlier turn": (
        {"question": "1?", "messages": [{"role": "user", "content": "In base 2."}, *EARLIER[1:], ONE]},
        "its question and its messages ask different things",
    ),
    "a system prompt": (
        {"prompt": [ONE], "messages": [SYSTEM, ONE]},
        "its prompt and its messages ask different things ('system: Answer in German. user: 1?')",
    ),
    "nothing": ({"question": " "}, "no question in"),
    "nothing at last": (
        {"prompt": [ONE, {"role": "user", "content": " "}]},
        "end with user who says nothing",
    ),
    "no side": ({"question": "1?", "split": "holdout"}, "split is 'holdout'; expected one of train, test"),
    "a number as side": ({"question": "1?", "split": 0}, "split is 0; expected one of train, test"),
    "two systems": (
        {"system": "a", "messages": [{"role": "system", "content": "b"}, ONE]},
        "`system` beside messages",
    ),
}


@pytest.mark.parametrize("name", ASKED_TWICE)
def test_what_one_row_says_twice_has_to_be_the_same(tmp_path, name):
    row, found = ASKED_TWICE[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**row, "answer": "1"}))
    with pytest.raises(TaskError, match=f"line 1.*{re.escape(found)}"):
        find.find(str(path))


def test_the_same_said_twice_is_one_question(tmp_path):
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is 2"}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "1 + 1?", "messages": turns, "answer": "2"}))
    [problem] = [p for side in find.find(str(path)).listed.values() for p in side]
    assert (problem.prompt, problem.witness) == ("1 + 1?", "2")


def test_a_system_prompt_stands_before_the_question(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("system,prompt,answer\nBe brief.,1+1?,2\n,2+2?,4\n")
    first, second = [p for side in find.find(str(path) + "::test").listed.values() for p in side]
    assert turns(first.prompt, first.facts) == [Message("system", "Be brief."), Message("user", "1+1?")]
    assert second.prompt == "2+2?"


def test_messages_in_a_cell_are_messages_in_any_column(tmp_path):
    talk = json.dumps([{"role": "user", "content": "1+1?"}]).replace('"', '""')
    path = tmp_path / "a.csv"
    path.write_text(f'prompt,answer\n"{talk}",2\n[1] + [1]?,2\n')
    prompts = {p.prompt for side in find.find(str(path)).listed.values() for p in side}
    assert prompts == {"1+1?", "[1] + [1]?"}


def test_the_column_split_decides_what_is_held_out(tmp_path):
    path = tmp_path / "a.csv"
    sides = ["train", "test", "Validation", "dev", "eval", "train"]
    lines = [f"{n}+1?,{n + 1},{side}\n" for n, side in enumerate(sides)]
    path.write_text("".join(["question,answer,split\n", *lines]))
    listed = find.find(str(path)).listed
    assert {p.prompt for p in listed["train"]} == {"0+1?", "5+1?"}
    assert {p.prompt for p in listed["eval"]} == {"1+1?", "2+1?", "3+1?", "4+1?"}


def test_split_and_system_may_be_in_other_case(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer,SPLIT,System\n1+1?,2,Test,Be brief.\n2+2?,4,train,\n")
    task = find.find(str(path))
    assert [p.prompt for p in task.listed["train"]] == ["2+2?"]
    [problem] = task.listed["eval"]
    assert turns(problem.prompt, problem.facts)[0] == Message("system", "Be brief.")
    assert task.notes == []


@pytest.mark.parametrize("sides", [["", "test"], ["test", ""], ["", "test", ""], ["dev", "test"]])
def test_a_question_without_a_split_stands_where_another_row_says(tmp_path, sides):
    path = tmp_path / "a.csv"
    lines = [f"{n}+1?,{n + 1},{side}\n" for n in range(9) for side in sides]
    path.write_text("".join(["question,answer,split\n", *lines]))
    task = find.find(str(path))
    assert (len(task.listed["train"]), len(task.listed["eval"])) == (0, 9)
    again = f"{9 * len(sides) - 9} of {9 * len(sides)} rows"
    assert task.notes == [f"{again} say again what stands above, and count once"]


@pytest.mark.parametrize("between", ["", "1+1?,2,\n"])
def test_a_question_stands_on_one_side_of_the_split(tmp_path, between):
    path, judge = tmp_path / "a.csv", tmp_path / "f.py"
    path.write_text(f"question,answer,split\n{between}1+1?,2,train\n{between} 1+1?,2,test\n")
    judge.write_text("def right(completions, answer, **_): return [1.0 for _ in answer]\n")
    for name in (str(path), f"{path}:{judge}:right"):
        with pytest.raises(TaskError, match=r"the question stands in test and, above, in train \(.*line"):
            find.find(name)
    assert len(find.find(f"{path}:exact:test").listed["eval"]) == 1


def test_rows_with_tests_and_without_are_two_files(tmp_path):
    code = {"question": "Double", "answer": "def f(x): return 2*x"}
    code |= {"inputs": [1, 2, 3], "outputs": [2, 4, 6]}
    path = tmp_path / "a.jsonl"
    for rows, found in ([[*ROWS, code], "line 3 has tests"], [[code, *ROWS], "line 2 has no tests"]):
        path.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(TaskError, match=f"{found} .*make two files"):
            find.find(str(path))


def test_what_is_not_read_and_what_counts_once_is_said(tmp_path):
    rows = [{**row, "context": "c", "level": 3} for row in [*ROWS, ROWS[0]]]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert find.find(str(path)).notes == [
        "1 of 3 rows say again what stands above, and count once",
        "not read: the columns context, level",
    ]
