"""Files, functions and libraries as tasks: each layout as it is, each fault with its line, nothing trusted unasked."""

import importlib
import itertools
import json
import re
import sys
import types

import pytest

from nomoat import sandbox
from nomoat.config import TaskError, UserError
from nomoat.tasks import base, external, find


@pytest.fixture
def write(tmp_path):
    def written(rows, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), "utf-8")
        return str(path)

    return written


def all_of(task, split="train", n=300):
    return {p.key: p for p in itertools.islice(base.problems(task, 0, split=split, seed=0), n)}


GSM8K = {"question": "Natalia sold 48 clips, then half as many. How many?",
         "answer": "She sold 48/2 = <<48/2=24>>24 more.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"}  # fmt: skip
MATH = {"problem": "What is $1/2$ of $\\frac{2}{3}$?", "level": "Level 1", "type": "Algebra",
        "solution": "It is $\\frac{2}{6} = \\boxed{\\frac{1}{3}}$."}  # fmt: skip


def test_gsm8k_and_math_are_read_as_they_are(write):
    rows = [GSM8K, MATH]
    problems = [external.posed(row, "here", "exact") for row in rows]
    assert [p.witness for p in problems] == ["72", r"\frac{1}{3}"]
    assert [p.prompt for p in problems] == [GSM8K["question"], MATH["problem"]]
    task = external.load(write(rows))
    assert (task.levels, task.form, base.short(task)) == ((0,), "line", "mine")
    assert task.work(problems[0]) == "She sold 48/2 = 24 more.\nTogether 48+24 = 72."
    assert task.check(problems[0], "72")
    assert not task.check(problems[0], "48+24")
    assert task.check(problems[1], r"\boxed{1/3}")
    assert not task.check(problems[1], "0.33")


def test_the_stream_is_keyed_and_split_by_the_question(write):
    rows = [{"question": f"{n}+1?", "answer": n + 1} for n in range(200)]
    path = write(rows)
    task = external.load(path)
    train, held = all_of(task, n=2000), all_of(task, "eval")
    assert not train.keys() & held.keys()
    assert len(train) + len(held) > 195
    again = external.load(write([*reversed(rows), {"question": "  1+1? ", "answer": "2"}], "other.jsonl"))
    assert all_of(again, "eval").keys() == held.keys()  # the order of the lines and blanks change nothing
    test = external.load(path + ":exact:test")
    assert len(all_of(test, "eval", 3000)) == 200
    assert all(base.split_of(p) == "eval" for p in all_of(test, "eval").values())


def test_checkers_differ(write):
    path = write([{"prompt": "Half?", "answer": "0.5"}])
    p = external.posed({"prompt": "Half?", "answer": "0.5"}, "here", "exact")
    verdicts = {name: [external.load(f"{path}:{name}").check(p, t) for t in ("1/2", "0.5", "so 0.5", "it is 0.5 kg")]
                for name in ("exact", "number", "line")}  # fmt: skip
    assert verdicts["exact"] == [True, True, False, False]
    assert verdicts["line"] == [False, True, False, False]
    assert verdicts["number"] == [False, True, True, True]


def test_a_row_names_its_units_and_language(write):
    row = {"question": "Wie viel?", "answer": "1,5 m", "units": {"m": 100, "cm": 1}, "lang": "de"}
    task, p = external.load(write([row])), external.posed(row, "here", "exact")
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
        ([GSM8K, "7"], "line 2: "),
        (["[" * 10**5], "line 1: "),
        ([{"question": "?"}], r"line 1: .*expected question\|problem\|prompt and answer"),
        ([{"answer": "?"}], "line 1: "),
        ([{"question": 7, "answer": "7"}], "line 1: "),
        ([{"question": [], "answer": "7"}], "line 1: "),
        ([{"question": ["x"], "answer": "7"}], "line 1: "),
        ([{"question": "?", "answer": "a\nb"}], "line 1: "),
        ([{"question": "?", "answer": "#### "}], "line 1: "),
        ([{"question": "?", "answer": "9" * 300}], "line 1: "),
        ([{"question": "<|eos|>?", "answer": "7"}], "line 1: .*special tokens"),
        ([{"question": "a?", "answer": "7"}, {"question": "A?", "answer": "8"}], "line 2: the question has another answer"),
    ],
)
def test_a_bad_file_is_told_its_line(write, rows, complaint):
    with pytest.raises(TaskError, match=complaint):
        external.load(write(rows))


def test_names_that_are_none(write, tmp_path):
    path = write([GSM8K])
    for name, complaint in (
        (str(tmp_path / "none.jsonl"), "No such file"),
        (path + ":exactly", "no checker 'exactly'.*exact, number, line, code"),
        ("vf:gsm8k", "no task 'vf:gsm8k'.*rg:NAME"), (path + ":none.py:f", "no function 'f' in none.py"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=complaint):
            find.find(name)
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe4"}')
    with pytest.raises(TaskError, match="expected a JSON object a line, in UTF-8"):
        external.load(str(tmp_path / "latin.jsonl"))


# --- programs

PROGRAM = {"question": "f(x) doubles x.", "answer": "def f(x): return 2 * x", "inputs": [1, -4], "outputs": [2, -8]}
HUMANEVAL = {
    "task_id": "Test/0", "entry_point": "larger", "canonical_solution": "    return max(a, b)\n",
    "prompt": 'import math\n\ndef larger(a, b):\n    """ The larger.\n    >>> larger(1, 2)\n    2\n    """\n',
    "test": "def check(candidate):\n    assert candidate(1, 2) == 2\n    assert candidate(7, 3) == 7, 'told'\n"
            "    assert candidate(-1, -2) == -1\n    assert candidate((1, 2), (3,)) == (3,)\n    assert abs(candidate(1, 1)) < 2\n",  # noqa: E501
}  # fmt: skip


def test_tests_become_inputs_and_outputs_where_they_are_plain_data(write):
    p = external.posed(HUMANEVAL, "here", "code")
    assert p.facts["inputs"] == [[1, 2], [7, 3], [-1, -2]]
    assert p.facts["outputs"] == [2, 7, -1]
    assert external.load(write([HUMANEVAL])).form == "text"
    few = HUMANEVAL | {"test": "assert candidate(1) == 1"}
    with pytest.raises(TaskError, match="no problem with tests that are plain data"):
        external.load(write([few]))
    assert len(all_of(external.load(write([few, HUMANEVAL | {"prompt": "def larger(a, b):\n"}])), n=20)) == 1
    for row in (HUMANEVAL | {"test": "assert ("}, PROGRAM | {"outputs": [1]}, PROGRAM | {"outputs": 7}, {**GSM8K, "test": "x"}):
        with pytest.raises(TaskError, match="line 1: "):
            external.load(write([row]) + ":code")


def test_programs_are_run_in_the_sandbox(write):
    try:
        sandbox.backend()
    except UserError as error:
        pytest.skip(str(error))
    task, p = external.load(write([PROGRAM])), external.posed(PROGRAM, "here", "code")
    assert task.check(p, p.witness)
    assert task.check(p, "Here:\n```python\ndef f(x):\n    return x + x\n```\n")
    assert not task.check(p, "def f(x): return x * x")
    task, p = external.load(write([HUMANEVAL])), external.posed(HUMANEVAL, "here", "code")
    for answer in (p.witness, p.witness.strip(), HUMANEVAL["prompt"] + p.witness, "def larger(a, b): return a if a > b else b"):
        assert task.check(p, answer), answer
    for answer in ("    return a", "", "import sys; sys.exit(0)", "    return type('E', (), {'__eq__': lambda *_: True})()"):
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
    return [float(int(completions[0]) > 0)]

def wants(completions, difficulty):
    return [1.0]

def none(completions, **columns):
    return [None]
"""


def test_a_reward_function_is_a_checker(write, tmp_path):
    (tmp_path / "reward.py").write_text(REWARD)
    path = write([{"question": f"{n}?", "answer": str(n)} for n in range(1, 40)])
    name = f"{path}:{tmp_path / 'reward.py'}:"
    task = find.find(name + "right")
    p = next(base.problems(task, 0, split="train", seed=0))
    assert task.check(p, p.witness)
    assert not task.check(p, p.witness + " ")
    task = external.load(name + "breaks")
    assert task.check(p, "3")
    assert task.check(p, "three") is False  # it raises, once it is trusted
    for function, complaint in (
        ("lax", "accepts '\\?'"), ("wants", "raises TypeError over '"), ("none", "rejects '"), ("gone", "no function 'gone'"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=complaint):
            external.load(name + function)
    chat = write([{"prompt": [{"role": "user", "content": f"{n}?"}], "answer": str(n)} for n in range(1, 40)], "chat.jsonl")
    task = external.load(f"{chat}:{tmp_path / 'reward.py'}:talk")
    p = next(base.problems(task, 0, split="train", seed=0))
    assert re.fullmatch(r"\d+\?", p.prompt)
    assert task.check(p, p.witness)
    assert not task.check(p, "0")


def test_the_threshold_is_the_caller_s():
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(1, 40)]
    half = lambda prompts, completions, answer, **columns: [0.5 * (c == a) for c, a in zip(completions, answer)]
    with pytest.raises(TaskError, match="reward rejects"):
        external.from_reward(half, rows)
    assert external.from_reward(half, rows, threshold=0.5).levels == (0,)


# --- reasoning-gym

GYM = """
import random

class Data:
    def __init__(self, name, seed, size):
        self.name, self.seed = name, seed

    def __getitem__(self, i):
        n = random.Random(self.seed + i).randrange(10**6) if self.name != "fickle" else random.randrange(10**6)
        return {"question": f"{n}+1?", "answer": None if self.name == "silent" else str(n + 1), "metadata": {}}

    def score_answer(self, answer, entry):
        return 1.0 if answer == entry["answer"] or self.name == "lax" else 0.01

class Evaluates(Data):
    def score_answer(self, answer, entry):
        return float(eval(answer) == eval(entry["answer"]))

def create_dataset(name, seed, size):
    if name == "gone":
        raise ValueError("Dataset 'gone' not registered")
    return (Evaluates if name == "evaluates" else Data)(name, seed, size)
"""


def test_reasoning_gym_is_asked_before_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "reasoning_gym.py").write_text(GYM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # so that the stand-in is taken out again
    monkeypatch.delitem(sys.modules, "reasoning_gym")
    task = external.load("rg:sums")
    assert base.short(task) == "rg_sums"
    p, q = itertools.islice(base.problems(task, 0, split="train", seed=0), 2)
    assert p == next(base.problems(external.load("rg:sums"), 0, split="train", seed=0))
    assert task.check(p, p.witness)
    assert not task.check(p, q.witness)
    for name, complaint in (
        ("gone", "not registered"), ("evaluates", "evaluates what a model wrote"), ("lax", "rg_lax accepts"),
        ("silent", "rejects ''"),
        ("fickle", "asks another question the second time"), ("acre", "not freely licensed"),
        ("ransom_note", "differ from process to process"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=complaint):
            external.load(f"rg:{name}")


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(TaskError, match=r"needs reasoning-gym.*pip install 'nomoat\[gym\]'"):
        external.load("rg:chain_sum")


@pytest.mark.check
def test_the_real_reasoning_gym_where_it_is_installed():
    gym = pytest.importorskip("reasoning_gym")
    assert isinstance(gym, types.ModuleType)
    assert importlib.import_module("reasoning_gym") is gym
    for name in ("chain_sum", "lcm", "syllogism", "mini_sudoku"):
        assert len(all_of(external.load(f"rg:{name}"), n=20)) == 20
    for name in ("countdown", "graph_color", "game_of_life_halting", "prime_factorization"):
        with pytest.raises(TaskError):
            external.load(f"rg:{name}")
