"""A first task keeps the contract; what is wrong with one is said; labelled answers bound the errors."""

import json
from collections import Counter
from pathlib import Path

import pytest

from nomoat.config import DataError, TaskError
from nomoat.tasks import authoring, base

ROOT = Path(base.__file__).parent


def test_a_full_disk_leaves_no_half_of_a_task(tmp_path, full_disk):
    with full_disk(100), pytest.raises(DataError, match=r"no space for .*mine.py"):
        authoring.new(tmp_path / "mine.py")
    assert list(tmp_path.iterdir()) == []


def test_a_new_task_works_and_says_what_comes_next(tmp_path):
    path = tmp_path / "mine.py"
    assert f"nomoat task check {path}" in authoring.new(path)
    complaints, text = authoring.check(path)
    assert complaints == []
    for word in ("levels 3, 4, 5", "prompt", "chain", "accepts", "rejects", "checked: witness"):
        assert word in text


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("mine")
    with pytest.raises(TaskError, match="mine.py: File exists; expected the name of a new file"):
        authoring.new(path)
    assert path.read_text() == "mine"
    with pytest.raises(TaskError, match="expected one that ends in .py"):
        authoring.new(tmp_path / "mine.jsonl")
    with pytest.raises(TaskError, match="No such file or directory"):
        authoring.new(tmp_path / "nowhere" / "mine.py")


def test_a_broken_task_is_told_what_is_wrong(tmp_path):
    path = tmp_path / "broken.py"
    text = (ROOT / "template.txt").read_text("utf-8")
    assert "return same(answer, problem.witness)" in text
    path.write_text(
        text.replace("return same(answer, problem.witness)", "return problem.witness in answer"), "utf-8"
    )
    complaints, shown = authoring.check(path)
    assert any("check accepts" in complaint for complaint in complaints)
    assert f"wrong: {complaints[0]}" in shown
    assert "checked:" not in shown


def test_a_checker_from_elsewhere_is_shown_what_it_lets_pass(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n}+{n}=?", "answer": str(2 * n)} for n in range(10, 60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert authoring.check(path)[0] == []
    complaints, _ = authoring.check(f"{path}:number")
    assert any(complaint.startswith("accepts 'not ") for complaint in complaints)


def test_the_samples_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "steer.jsonl"
    path.write_text(json.dumps({"question": "\x1b]52;c;x\x07 2+3?", "answer": "5"}))
    assert "\x1b" not in authoring.check(path)[1]


def test_the_labelled_answers_are_judged_as_they_are_labelled():
    found = authoring.audit()
    (accepted, wrong), (rejected, right) = found.accepted, found.rejected
    assert wrong + right >= 1000
    assert right >= 400
    assert accepted == 0
    assert rejected / right < 0.04
    text = found.text()
    assert f"wrong answers accepted: 0 of {wrong}, 0.00% (95 %: 0.00% to 0." in text
    assert len(text.splitlines()) == 2 + rejected


def test_the_labelled_answers_are_many_kinds_and_no_pair_twice():
    rows = [json.loads(line) for line in (ROOT / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len({(r["expected"], r["answer"], r.get("lang"), str(r.get("units"))) for r in rows}) == len(rows)
    assert len(Counter(r["kind"] for r in rows)) >= 15
    assert {type(r["equal"]) for r in rows} == {bool}
