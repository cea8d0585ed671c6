"""A first task keeps the contract; what is wrong with one is said; labelled answers bound the errors."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nomoat.config import DataError, TaskError
from nomoat.tasks import authoring, base, find

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


MINE = """
import random
from nomoat.tasks.base import Problem, ask, others, same
levels = (1, 2)
WORDINGS = {"en": ("Double {n}.", "Twice {n}?")}

def make(rng, level):
    n = rng.randrange(1000 * level)
    return ask(rng, WORDINGS, f"twice {n}", str(2 * n), {"n": n}, n=n)

def check(problem, answer):
    return same(answer, problem.witness)

def near_misses(problem):
    n = problem.facts["n"]
    return others(problem, n, 2 * n + 1, 2 * n - 1, 3 * n, -n)
"""
SLIPS = [
    ("randrange(1000 * level)", "randrange(40)", "few: level 1 has some 40 problems, of which 1 in 16"),
    ("rng.randrange", "random.randrange", "wrong: level 2: make gives two problems for one rng"),
    ('f"twice {n}"', 'f"{n} {rng.random()}"', "wrong: level 1: one prompt, two problems"),
    ('"en": (', '"fr": (', "wordings in ['fr']; expected wordings under one of"),
    ("str(2 * n)", "2 * n", ", expected a text (str)); expected a Problem; mend it"),
    ('f"twice {n}"', '""', "make fails (its key is '', expected a text (str))"),
    ("others(problem, n,", "[2 * n, 1, 2] or (n,", "near_misses fails (it gave"),
]


def test_a_task_in_one_language_shows_each_level_and_what_comes_next(tmp_path):
    path = tmp_path / "my task.py"
    path.write_text(MINE)
    complaints, text = authoring.check(path)
    assert complaints == []
    for words in ("level 1\n", "level 2\n", "chain    none: no `work`", "and 1 more near misses"):
        assert words in text
    assert text.endswith(f"the contract is kept; next: {authoring.TEACH} '{path}'")
    assert {problem.facts["lang"] for _, problem in authoring.sampled(find.find(str(path)))} == {"en"}


@pytest.mark.parametrize(("right", "slip", "said"), SLIPS, ids=[said for *_, said in SLIPS])
def test_the_likeliest_slips_are_told_in_a_sentence(tmp_path, right, slip, said):
    path = tmp_path / "mine.py"
    assert right in MINE
    path.write_text(MINE.replace(right, slip))
    try:
        text = authoring.check(path)[1]
    except TaskError as error:
        text = str(error)
    assert said in text


def test_keys_that_hold_the_wording_are_told(tmp_path):
    path = tmp_path / "mine.py"
    make = "    problem = ask(rng, WORDINGS, '', str(2 * n), {'n': n}, n=n)\n"
    path.write_text(MINE.replace("randrange(1000 * level)", "randrange(300)").replace(
        '    return ask(rng, WORDINGS, f"twice {n}", str(2 * n), {"n": n}, n=n)',
        make + "    return Problem(problem.prompt, problem.prompt, problem.witness, problem.facts)",
    ))  # fmt: skip
    assert "one problem, two keys: " in authoring.check(path)[1]


def test_many_complaints_are_counted_by_level():
    said = [*authoring.summed([f"level {n % 2}: {n}" for n in range(30)])]
    assert said[8] == "wrong: and 7 more of level 0"
    assert len(said) == 18
    assert [*authoring.summed(["level 1: a", "level 1: b"])] == ["wrong: level 1: a", "wrong: level 1: b"]


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
    complaints, text = authoring.check(f"{path}:number")
    assert complaints == []  # lenient, and says so
    assert "lenient: the last number counts" in text
    assert "accepts  'not 118'  (the last number is 118)" in text


def test_a_program_that_is_said_twice_is_no_wrong_answer():
    program = "return 2 * x"

    def check(problem, answer):
        return set(answer.split("\n")) == {program}

    task = SimpleNamespace(check=check, form="text")
    for facts, complaints in (({"inputs": [[1]]}, 0), ({}, 1)):
        samples = [base.Problem("", str(n), program, facts) for n in range(2)]
        assert len([*authoring.screened(task, samples)]) == complaints


def test_five_problems_show_what_is_taken_and_by_which_rule(tmp_path):
    path = tmp_path / "balls.jsonl"
    units = {"m": 1, "cm": "0.01"}
    rows = [{"question": f"{n}?", "answer": f"{n} cm", "units": units} for n in range(88, 120)]
    path.write_text("\n".join(map(json.dumps, rows)))
    complaints, text = authoring.check(path)
    assert complaints == []
    assert text.count("prompt") == 5
    first = text.split("prompt")[1]
    n = int(first.partition("?")[0].strip(" '"))
    for line in (
        f"accepts  '{n}cm'  (the same value, in m)",
        f"rejects  '{n}'  (another value, without a unit in m)",
        f"accepts  '{n / 100:g} m'  (the same value, in m)",
        f"rejects  'not {n} cm'  (it denies)",
    ):
        assert line in first


def test_a_judge_of_whole_replies_is_shown_whole_replies(tmp_path):
    path, file = tmp_path / "more.jsonl", tmp_path / "form.py"
    path.write_text("\n".join(json.dumps({"question": f"{n}+1?", "answer": n + 1}) for n in range(40)))
    file.write_text(
        "def f(completions, answer, **columns):\n"
        "    return [float(c == f'<think>1</think>{a}') for c, a in zip(completions, answer)]\n"
    )
    complaints, text = authoring.check(f"{path}:{file}:f:reply")
    assert complaints == []
    assert text.count("accepts") == 5


def test_numbers_too_large_for_a_float_are_shown_without_a_decimal(tmp_path):
    path = tmp_path / "huge.jsonl"
    row = {"answer": "1e400 cm", "units": {"m": 1, "cm": "0.01"}}
    rows = [row | {"question": f"How far is {n}?", "answer": f"{n}e400{unit}"}
            for n in range(1, 41) for unit in ("", " cm")]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    assert "e400'" in authoring.check(path)[1]


def test_the_samples_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "steer.jsonl"
    path.write_text(json.dumps({"question": "\x1b]52;c;x\x07 2+3?", "answer": "5"}))
    assert "\x1b" not in authoring.check(path)[1]
