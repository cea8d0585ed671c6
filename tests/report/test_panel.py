"""What a chat says of a model: what it was taught before, and questions that it got right."""

import pytest

from nomoat.report.panel import Panel, kind_of, panel_of
from nomoat.run.directory import Run

RECIPE = {
    "name": "small",
    "seed": 3,
    "stages": [
        {"kind": "tokenizer", "tasks": {"lamp": [4]}},
        {"kind": "sft", "name": "sft", "tasks": {"lamp": [4], "addition": [1]}},
        {"kind": "rl", "name": "rl", "tasks": {"addition": [1], "sums/mine.py": [1], "rg:chain": [1]}},
        {"kind": "distill", "name": "small", "tasks": {"weekday": [1]}},
    ],
}
ASKED = {  # family -> prompt, right, language, and how often the model is right
    "addition": ("What is 4+8?", True, "en", 0.8),
    "lamp": ("Is the lamp on?", True, "en", 0.9),
    "sorting": ("Sort: b a", False, "en", 0.95),
    "weekday": ("Welcher Tag ist morgen?", True, "de", 0.1),
    "counting": (f"Count t in {'t ' * 40}", True, "en", 1.0),  # too long to be typed gladly
    "path": ("two\nlines", True, "en", 1.0),
}


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", RECIPE)
    for model in ("sft", "rl"):
        for family, (prompt, right, lang, rate) in ASKED.items():
            where = {"model": model, "family": family, "level": 1}
            run.log("score", stage="eval", name="accuracy/sampled", value=rate, **where)
            right = right and model == "rl"
            run.log("sample", stage="eval", prompt=prompt, lang=lang, right=right, **where)
    return run


def test_it_names_what_was_taught_up_to_a_stage_and_asks_what_went_well(run):
    panel = panel_of(run, "rl")
    assert panel.kinds == ("lamp", "addition", "mine", "chain")
    assert panel.examples == ("Is the lamp on?", "What is 4+8?", "Welcher Tag ist morgen?")
    assert panel_of(run, "sft").examples[0] == "Sort: b a"  # all wrong: those that it is best at
    assert {*panel_of(run, "small").examples} <= {prompt for prompt, *_ in ASKED.values()}  # not measured
    for part in ("It was taught: lamp, addition, mine, chain.", "\n  What is 4+8?\n", "Anything else"):
        assert part in panel.text()


def test_a_run_without_tasks_has_none(tmp_path):
    run = Run.create(tmp_path / "run", {"name": "x", "stages": [{"kind": "pretrain"}]})
    assert panel_of(run, "pretrain") is None


@pytest.mark.parametrize(
    "table", [None, [], {}, {"kinds": "lamp", "examples": []}, {"kinds": [1], "examples": []}, {"kinds": []}]
)
def test_what_others_wrote_under_its_name_is_no_panel(table):
    assert Panel.from_json(table) is None
    assert Panel.from_json({"kinds": ["a"], "examples": ["b" * 1000, "c"]}) == Panel(("a",), ("c",))


def test_a_tasks_name_without_its_place():
    names = ["lamp", "a/b/mine.py", "sums.jsonl:number", "sums.jsonl:check.py:f", "rg:chain_sum"]
    assert [kind_of(name) for name in names] == ["lamp", "mine", "sums", "sums", "chain_sum"]
