"""Data sets of reasoning-gym as tasks: asked before they are trusted, refused with the reason."""

import itertools
import sys

import pytest

from nomoat.config import TaskError
from nomoat.tasks import base, find, gym

GYM = """
import random

class Data:
    def __init__(self, name, seed, size):
        self.name, self.seed = name, seed

    def __getitem__(self, i):
        source = random if self.name == "fickle" else random.Random(self.seed + i)
        n = source.randrange(10**6)
        answer = None if self.name == "silent" else str(n + 1)
        return {"question": f"{n}+1?", "answer": answer, "metadata": {}}

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
    task = gym.load("sums")
    assert base.short(task) == "rg_sums"
    p, q = itertools.islice(base.problems(task, 0, split="train", seed=0), 2)
    assert p == next(base.problems(gym.load("sums"), 0, split="train", seed=0))
    assert task.check(p, p.witness)
    assert not task.check(p, q.witness)
    complaints = {
        "gone": "not registered",
        "evaluates": "evaluates what a model wrote",
        "lax": "rg_lax accepts",
        "silent": "rejects ''",
        "fickle": "asks another question the second time",
        "acre": "not freely licensed",
        "ransom_note": "differ from process to process",
    }
    for name, complaint in complaints.items():
        with pytest.raises(TaskError, match=complaint):
            gym.load(name)


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(TaskError, match=r"needs reasoning-gym.*pip install 'nomoat\[gym\]'"):
        gym.load("chain_sum")


@pytest.mark.check
def test_the_real_reasoning_gym_where_it_is_installed():
    pytest.importorskip("reasoning_gym")
    for name in ("chain_sum", "lcm", "syllogism", "mini_sudoku"):
        stream = base.problems(find.find(f"rg:{name}"), 0, split="train", seed=0)
        assert len({p.key for p in itertools.islice(stream, 20)}) == 20
    for name in ("countdown", "graph_color", "game_of_life_halting", "prime_factorization"):
        with pytest.raises(TaskError):
            gym.load(name)
