"""Files and functions as tasks: each layout as it is, each fault with its line, nothing trusted unasked."""

import itertools
import json
import re

import pytest

from nomoat import sandbox
from nomoat.config import ConfigError, TaskError, UserError
from nomoat.data import documents
from nomoat.stages import recipe
from nomoat.tasks import authoring, base, find, jsonl, rewards


@pytest.fixture
def write(tmp_path):
    def written(rows, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), "utf-8")
        return str(path)

    return written


def all_of(task, split="train", n=300):
    return {p.key: p for p in itertools.islice(base.problems(task, 0, split=split, seed=0), n)}


GSM8K = {
    "question": "Natalia sold 48 clips, then half as many. How many?",
    "answer": "She sold 48/2 = <<48/2=24>>24 more.\nTogether 48+24 = <<48+24=72>>72.\n#### 72",
}
MATH = {
    "problem": "What is $1/2$ of $\\frac{2}{3}$?",
    "level": "Level 1",
    "type": "Algebra",
    "solution": "It is $\\frac{2}{6} = \\boxed{\\frac{1}{3}}$.",
}


def test_gsm8k_and_math_are_read_as_they_are(write):
    clips = jsonl.posed(GSM8K, "here", "exact")
    third = jsonl.posed(MATH, "here", "exact")
    assert (clips.witness, third.witness) == ("72", r"\frac{1}{3}")
    assert (clips.prompt, third.prompt) == (GSM8K["question"], MATH["problem"])
    task = jsonl.load(write([GSM8K, MATH]))
    assert (task.levels, task.form, base.short(task)) == ((0,), "line", "mine")
    assert task.work(clips) == "She sold 48/2 = 24 more.\nTogether 48+24 = 72."
    assert task.check(clips, "72")
    assert not task.check(clips, "48+24")
    assert task.check(third, r"\boxed{1/3}")
    assert not task.check(third, "0.33")


def test_the_stream_is_keyed_and_split_by_the_question(write):
    rows = [{"question": f"{n}+1?", "answer": n + 1} for n in range(200)]
    path = write(rows)
    task = jsonl.load(path)
    train = all_of(task, n=2000)
    held = all_of(task, "eval")
    assert not train.keys() & held.keys()
    assert len(train) + len(held) > 195
    blank = {"question": "  1+1? ", "answer": "2"}
    again = jsonl.load(write([*reversed(rows), blank], "other.jsonl"))
    assert all_of(again, "eval").keys() == held.keys()  # the order of the lines and blanks change nothing


def test_every_problem_is_held_out_where_that_is_asked_for(write):
    rows = [{"question": f"{n}+1?", "answer": n + 1} for n in range(200)]
    test = all_of(jsonl.load(write(rows) + ":exact:test"), "eval", 3000)
    assert len(test) == 200
    assert all(base.split_of(p) == "eval" for p in test.values())


def test_checkers_differ(write):
    row = {"prompt": "Half?", "answer": "0.5"}
    path, p = write([row]), jsonl.posed(row, "here", "exact")
    right = {
        "exact": ["1/2", "0.5"],
        "line": ["0.5"],
        "number": ["1/2", "0.5", "so 0.5", "it is 0.5 kg"],
    }
    for name, accepted in right.items():
        check = jsonl.load(f"{path}:{name}").check
        assert [t for t in ("1/2", "0.5", "so 0.5", "it is 0.5 kg") if check(p, t)] == accepted


@pytest.mark.parametrize("gold", ["25%", "3/4", "1 1/2", "$1,250", "0.(3)", "-7", "½", "88 cm"])
def test_the_number_of_a_row_is_right_for_itself(write, gold):
    row = {"question": "?", "answer": gold}
    task, p = jsonl.load(write([row]) + ":number"), jsonl.posed(row, "here", "number")
    assert task.check(p, gold)
    assert task.check(p, f"so it is {gold}")


@pytest.mark.parametrize(
    ("checker", "gold"),
    [("number", "Paris"), ("number", "(3,100)"), ("number", "x+1"), ("exact", r"\boxed{1} \boxed{2}")],
)
def test_an_answer_that_its_checker_cannot_judge_is_told_with_its_line(write, checker, gold):
    rows = [{"question": "Half?", "answer": "1/2"}, {"question": "?", "answer": gold}]
    with pytest.raises(TaskError, match=f"line 2: :{checker} can't judge the answer .*mend it or use :"):
        jsonl.load(f"{write(rows)}:{checker}")


def test_a_line_may_have_any_letters(write):
    for gold, right, wrong in (("Zürich", " Zürich.", "Zurich"), ("Yes.", "yes", "Yes, it is.")):
        row = {"question": "Wo?", "answer": gold}
        task, p = jsonl.load(write([row]) + ":line"), jsonl.posed(row, "here", "line")
        assert (task.check(p, right), task.check(p, wrong)) == (True, False)


def test_a_box_over_two_lines_is_one_answer():
    row = MATH | {"solution": "\\boxed{90\\text{ square\nunits}}"}
    assert jsonl.posed(row, "here", "exact").witness == "90\\text{ square units}"


def test_a_row_names_its_units_and_language(write):
    row = {"question": "Wie viel?", "answer": "1,5 m", "units": {"m": 100, "cm": 1}, "lang": "de"}
    task, p = jsonl.load(write([row])), jsonl.posed(row, "here", "exact")
    assert task.check(p, "150 cm")
    assert task.check(p, "1,50 m")
    assert not task.check(p, "15 m")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "is empty; expected a JSON object"),
        (["", "\n"], "is empty"),
        ([GSM8K, "{"], "line 2: .*expected a JSON object a line"),
        ([GSM8K, "", "[1]"], "line 3: "),
        ([{"question": "?"}], r"line 1: .*expected question\|problem\|prompt and answer"),
        ([{"answer": "?"}], "line 1: "),
        ([{"question": 7, "answer": "7"}], "line 1: "),
        ([{"question": [], "answer": "7"}], "line 1: "),
        ([{"question": ["x"], "answer": "7"}], "line 1, question: a message with the role 'x'"),
        ([GSM8K, '{"question": "\\ud800", "answer": "7"}'], "line 2: half a surrogate pair"),
        ([GSM8K, '{"question": "?", "answer": ' + "9" * 5000 + "}"], "line 2: a number of 5000 digits; exp"),
        ([GSM8K, '{"question": "?", "answer": NaN}'], "line 2: NaN or Infinity"),
        ([GSM8K, "[" * 200_000], "line 2: nested too deeply"),
        ([{"question": "?", "answer": "a\nb"}], "line 1: "),
        ([{"question": "?", "answer": "#### "}], "line 1: "),
        ([{"question": "?", "answer": "9" * 300}], "line 1: "),
        ([{"question": "<|eos|>?", "answer": "7"}], "line 1: .*special tokens"),
        ([{"question": q, "answer": 7 + (q < "a")} for q in ("half", "Half")], "line 2: .* another answer"),
    ],
)
def test_a_bad_file_is_told_its_line(write, rows, complaint):
    with pytest.raises(TaskError, match=complaint):
        jsonl.load(write(rows))


def test_names_that_are_none(write, tmp_path):
    path = write([GSM8K])
    complaints = {
        str(tmp_path / "none.jsonl"): "No such file",
        path + ":exactly": "no checker 'exactly'.*exact, number, line, code",
        path + ":exact:tset": "no checker 'tset' .*, or test; choose one",
        path + ":exact:number": "2 checkers for .*; expected one of",
        path + ":none.py:f": "no function 'f': nothing at none.py",
    }
    for name, complaint in complaints.items():
        with pytest.raises(TaskError, match=complaint):
            find.find(name)
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe4"}')
    with pytest.raises(TaskError, match="line 1: the byte 0xe4; expected text in UTF-8; convert it: `iconv"):
        jsonl.load(str(tmp_path / "latin.jsonl"))


# --- programs

PROGRAM = {
    "question": "f(x) doubles x.",
    "answer": "def f(x): return 2 * x",
    "inputs": [1, -4],
    "outputs": [2, -8],
}
TEST = """
def check(candidate):
    assert candidate(1, 2) == 2
    assert candidate(7, 3) == 7, 'told'
    assert candidate(-1, -2) == -1
    assert candidate((1, 2), (3,)) == (3,)
    assert abs(candidate(1, 1)) < 2
"""
HUMANEVAL = {
    "task_id": "Test/0",
    "entry_point": "larger",
    "canonical_solution": "    return max(a, b)  #### max\n",
    "prompt": 'import math\n\ndef larger(a, b):\n    """ The larger.\n    >>> larger(1, 2)\n    2\n    """\n',
    "test": TEST,
}


def test_asserts_become_calls_and_what_is_demanded_of_them(write):
    p = jsonl.posed(HUMANEVAL, "here", "code")
    assert len(p.facts["inputs"]) == len(p.facts["asserts"]) == 5
    assert p.facts["left"] == 0
    assert jsonl.load(write([HUMANEVAL])).form == "text"


def test_problems_with_few_tests_are_left_out(write):
    few = HUMANEVAL | {"test": "assert candidate(1) == 1"}
    with pytest.raises(TaskError, match="no problem that can be judged: left out: 1 of 1 problems"):
        jsonl.load(write([few]))
    enough = HUMANEVAL | {"prompt": "def larger(a, b):\n"}
    task = jsonl.load(write([few, enough]))
    assert len(all_of(task, n=20)) == 1
    assert task.notes == ["left out: 1 of 2 problems, which have fewer than 3 tests that can be judged"]


BAD_TESTS = [
    HUMANEVAL | {"test": "assert ("}, GSM8K | {"test": "x"},
    PROGRAM | {"outputs": [1]}, PROGRAM | {"outputs": 7},
]  # fmt: skip


@pytest.mark.parametrize("row", BAD_TESTS)
def test_bad_tests_are_told_their_line(write, row):
    with pytest.raises(TaskError, match="line 1: "):
        jsonl.load(write([row]) + ":code")


def test_programs_are_run_in_the_sandbox(write):
    try:
        sandbox.backend()
    except UserError as error:
        pytest.skip(str(error))
    task, p = jsonl.load(write([PROGRAM])), jsonl.posed(PROGRAM, "here", "code")
    assert task.check(p, p.witness)
    assert task.check(p, "Here:\n```python\ndef f(x):\n    return x + x\n```\n")
    assert not task.check(p, "def f(x): return x * x")
    task, p = jsonl.load(write([HUMANEVAL])), jsonl.posed(HUMANEVAL, "here", "code")
    anew = "def larger(a, b): return a if a > b else b"
    for answer in (p.witness, p.witness.strip(), HUMANEVAL["prompt"] + p.witness, anew):
        assert task.check(p, answer), answer
    with pytest.raises(TaskError, match="line 1: its solution fails its tests: 'def f"):
        jsonl.load(write([PROGRAM | {"answer": "def f(x): return 3 * x"}]))
    equal_to_all = "    return type('E', (), {'__eq__': lambda *_: True})()"
    for answer in ("    return a", "", "import sys; sys.exit(0)", equal_to_all):
        assert not task.check(p, answer), answer


# --- reward functions

REWARD = """
def right(prompts, completions, answer, **columns):
    return [1.0 if c == a else 0.2 for c, a in zip(completions, answer)]

def lax(completions, **columns):
    return [1.0 for c in completions]

def talk(completions, answer, **columns):
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer)]

def breaks(completions, **columns):
    return [float(int(c) > 0) for c in completions]

def wants(completions, difficulty):
    return [1.0]

def none(completions, **columns):
    return [None for c in completions]
"""


def test_a_reward_function_is_a_checker(write, tmp_path):
    (tmp_path / "reward.py").write_text(REWARD)
    path = write([{"question": f"{n}?", "answer": str(n)} for n in range(1, 40)])
    name = f"{path}:{tmp_path / 'reward.py'}:"
    task = find.find(name + "right")
    p = next(base.problems(task, 0, split="train", seed=0))
    assert task.check(p, p.witness)
    assert not task.check(p, p.witness + " ")
    task = jsonl.load(name + "breaks")
    assert task.check(p, "3")
    with pytest.warns(UserWarning, match="reward.py, line 12: ValueError.*counts as wrong"):
        assert task.check(p, "three") is False  # it raises, once it is trusted
    complaints = {
        "lax": "accepts '\\?'",
        "wants": "line 1: mine raises TypeError .*'difficulty'.* over '1' for '1\\?'",
        "none": "decides nothing about '1' for",
        "gone": "no function 'gone'",
    }
    for function, complaint in complaints.items():
        with pytest.raises(TaskError, match=complaint):
            jsonl.load(name + function)


def test_a_reward_function_may_judge_messages(write, tmp_path):
    (tmp_path / "reward.py").write_text(REWARD)
    rows = []
    for n in range(1, 40):
        message = {"role": "user", "content": f"{n}?"}
        rows.append({"prompt": [message], "answer": str(n)})
    task = jsonl.load(f"{write(rows)}:{tmp_path / 'reward.py'}:talk")
    p = next(base.problems(task, 0, split="train", seed=0))
    assert re.fullmatch(r"\d+\?", p.prompt)
    assert task.check(p, p.witness)
    assert not task.check(p, "0")


def test_the_threshold_is_the_caller_s():
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(1, 40)]

    def half(prompts, completions, answer, **columns):
        return [0.5 if c == a else 0.0 for c, a in zip(completions, answer)]

    named = {f"row {n}": row for n, row in enumerate(rows, 1)}
    problems = {place: jsonl.posed(row, place, "line") for place, row in named.items()}
    with pytest.raises(TaskError, match="row 1: reward rejects"):
        rewards.from_reward(half, named, problems)
    assert rewards.from_reward(half, named, problems, threshold=0.5).levels == (0,)


# --- how the split falls


def test_a_small_file_says_what_the_split_leaves(write):
    path = write([{"question": f"{n}+1?", "answer": n + 1} for n in range(5)])
    left = r"no problem to measure with: of 5 problems 5 are for training and 0 held out .*add problems"
    complaints, text = authoring.check(path)
    assert re.match(left, complaints[0])
    assert "split: of 5 problems" in text
    with pytest.raises(TaskError, match=left.replace("no problem", "has no problem")):
        all_of(jsonl.load(path), "eval")
    table = {"name": "x", "models": {}, "stages": [{"kind": "eval", "tasks": {path: [0]}}]}
    with pytest.raises(ConfigError, match=left):
        recipe.resolve(table)
    held = jsonl.load(path + ":exact:test")
    assert len(held.listed["eval"]) == 5
    table["stages"] = [{"kind": "reject", "tasks": {path + ":exact:test": [0]}}]
    with pytest.raises(ConfigError, match="no problem to train on: .*leave :test out"):
        recipe.resolve(table)


def test_no_problem_is_measured_twice_and_a_round_has_them_all(write):
    path = write([{"question": f"{n}+1?", "answer": n + 1} for n in range(100)])
    n_held, n_train = (len(jsonl.load(path).listed[split]) for split in ("eval", "train"))
    asked = [p.key for _, _, p in documents.problems({path: [0]}, 50, 3, "eval")]
    assert len(asked) == len(set(asked)) == n_held
    both = [f for f, _, _ in documents.problems({path: [0], "lamp": [4]}, 40, 3, "eval")]
    assert both.count("lamp") == 20
    stream = base.problems(find.find(path), 0, split="train", seed=3)
    rounds = [[p.key for p in itertools.islice(stream, n_train)] for _ in range(2)]
    assert len(set(rounds[0])) == n_train
    assert sorted(rounds[0]) == sorted(rounds[1])
    assert rounds[0] != rounds[1]
