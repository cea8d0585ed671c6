"""Two runs side by side say what differs, with an interval where one can be."""

import json

import pytest

from nomoat.report.beside import Beside
from nomoat.run.directory import Run
from nomoat.stats import wilson


def make(root, steps, right, prompt, reply):
    stages = [{"kind": "pretrain", "steps": steps}, {"kind": "eval"}]
    run = Run.create(root, {"name": "r", "seed": 0, "stages": stages})
    for step in range(1, steps + 1):
        run.log("step", stage="pretrain", step=step, n_steps=steps, loss=5.0 / step, seconds=1.0)
    low, high = wilson(right, 100)
    run.log("score", stage="eval", name="accuracy/sampled", model="pretrain", family="lamp", level=4, n=100,
            value=right / 100, low=low, high=high, lenient=1.0)  # fmt: skip
    run.log("score", stage="eval", name="bpb/en", model="pretrain", value=2.0 + right / 100, n=9)
    run.log("sample", stage="eval", model="pretrain", family="lamp", prompt=prompt, reply=reply, right=True)
    return Run.open(root)


@pytest.fixture
def beside(tmp_path):
    one = make(tmp_path / "one", 10, 20, "on?", "yes")
    return Beside(one, make(tmp_path / "other", 20, 60, "on?", "no\x1b[2J"))


def test_tables_say_what_differs(beside):
    text = "\n\n".join(table.text(110) for table in beside.tables())
    for line in (
        "stages.pretrain.steps  10   20",
        "pretrain  sampled, mean      20     60       +40.0  [+26.8, +51.2]*",
        "pretrain  bits per byte, en  2.200  2.600      +0.400",
        "total       10.0 s  20.0 s       100 J  200 J  < 0.0001  < 0.0001",
        "pretrain  one          5.000   1.000       0.500  █▄▃▂▁▁▁▁▁▁",
        "asked, both  on?",
        "one          ✓ yes",
        "other        ✓ no\\x1b[2J",
    ):
        assert line in text, text
    assert max(map(len, beside.tables()[1].text(50).splitlines())) <= 50


def test_all_of_it_is_in_the_json(beside):
    table = beside.to_json()
    assert table["recipe"] == [{"key": "stages.pretrain.steps", "one": "10", "other": "20"}]
    assert [len(values) for values in table["curves"]["pretrain"]] == [10, 20]
    assert {score["what"] for score in table["scores"]} == {
        "sampled, mean", "sampled, lamp", "bits per byte, en",
    }  # fmt: skip
    json.dumps({key: value for key, value in table.items() if key != "cost"})


def test_runs_without_anything_in_common(tmp_path):
    one = make(tmp_path / "a" / "run", 3, 1, "on?", "yes")
    other = Run.create(tmp_path / "b" / "run", {"name": "r", "stages": []})
    text = "\n".join(table.text() for table in Beside(one, other).tables())
    assert str(other.root) in text
    assert "Scores" not in text
    assert "nothing" in Beside(one, one).tables()[0].text()
