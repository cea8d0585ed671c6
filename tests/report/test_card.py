"""The model card says what the log says: what it was made from, what that cost, how well it does."""

from nomoat.report import card
from nomoat.run.directory import Run

RECIPE = {
    "name": "small",
    "seed": 3,
    "stages": [
        {"kind": "tokenizer", "name": "tokenizer"},
        {"kind": "pretrain", "name": "pretrain", "tasks": {"lamp": [1], "addition": [1]}},
        {"kind": "extend", "name": "extend", "text": "mine.txt"},
        {"kind": "sft", "name": "sft", "tasks": {"lamp": [1]}},
    ],
}


def test_a_run_tells_data_cost_and_scores(tmp_path):
    run = Run.create(tmp_path / "run", RECIPE)
    run.log("stage_start", stage="sft", config={})
    run.log("step", stage="sft", step=1, tokens=1000, flops_model=5, flops_executed=6, seconds=36.0)
    where = {"model": "sft", "family": "lamp", "level": 1}
    run.log("score", name="accuracy/greedy", value=0.5, low=0.4, high=0.6, n=80, **where)
    run.log("score", name="bpb/en", model="sft", value=1.75)
    run.log("score", name="bpb/en", model="base", value=2.5)
    text = card.of_run(run, "sft", "1,234,567 parameters (7,654 active)")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "1,234,567 parameters (7,654 active)" in text
    assert "- pretrain: the text that ships with nomoat" in text
    assert "- pretrain: tasks that a program makes and decides: addition, lamp\n" in text
    assert "- extend: text of whoever ran the recipe, under a licence that is not recorded\n" in text
    assert "| accuracy/greedy lamp/1 | 0.5000 | 0.400 to 0.600 | 80 |" in text
    assert "| bpb/en | 1.7500 |  |  |" in text
    assert "2.5" not in text
    assert "| sft |" in text
    assert "## Limits" in text


def test_what_came_in_keeps_its_name_and_licence():
    text = card.of_origin(card.Origin("SmolLM2", "apache-2.0"), "5 parameters (5 active)")
    assert "license: apache-2.0" in text
    assert "`SmolLM2`" in text
    unknown = card.of_origin(card.Origin("X", None), "5 parameters (5 active)")
    assert "license: other" in unknown
    assert "unknown, ask its publisher" in unknown
