"""What a model replied to general questions is learnt again beside a task."""

import json

import pytest
from brought import saved

from nomoat.config import ConfigError, parse
from nomoat.evals import talk
from nomoat.files import shipped
from nomoat.rl import general
from nomoat.run.directory import Run
from nomoat.run.stop import Interrupted, Stop
from nomoat.stages import s5_reject
from nomoat.stages.pipeline import run_stages
from nomoat.stages.recipe import resolve


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("base") / "model"
    saved(place)
    return place


def recipe(place):
    asks = {"kind": "reject", "name": "said", "general": True, "problems": 6, "max_new_tokens": 4}
    learns = {"kind": "sft", "steps": 4, "rows": 2, "context": 128, "precision": "fp32", "replay": ["said"]}
    learns |= {"tasks": {"addition": [2]}, "task_documents": 20, "shares": {"tasks": 1.0}}
    learns |= {"lora": {"rank": 2}}
    table = {"name": "t", "threads": 1, "save_seconds": 0.0, "models": {"main": {"from": str(place)}}}
    return resolve({**table, "stages": [asks, learns]})


def ran(root, of, stop_at=None):
    run = Run.create(root, of.table)
    with Stop() as stop, run.locked():

        def hear(event):
            stop.requested |= event["kind"] == "step" and event["step"] == stop_at

        run.observers.append(hear)
        run_stages(run, of, stop)
    return run


def test_replies_are_learnt_beside_the_task_and_resumed_to_the_same_bits(place, tmp_path, weights):
    of = recipe(place)
    whole = ran(tmp_path / "whole", of)
    with pytest.raises(Interrupted):
        ran(tmp_path / "halved", of, stop_at=2)
    halved = ran(tmp_path / "halved", of)
    assert weights(halved.root, "sft") == weights(whole.root, "sft")
    steps = whole.curve("sft")
    assert [step["tokens"] for step in steps] == [3 * 128] * 4
    assert all(0 < step["replay_loss"] != step["loss"] > 0 for step in steps)
    table = of.table
    table["stages"][-1]["replay"] = []
    alone = ran(tmp_path / "alone", resolve(table)).curve("sft")
    assert alone[0]["loss"] == steps[0]["loss"]  # of the task's documents alone
    assert alone[-1]["loss"] != steps[-1]["loss"]
    records = [json.loads(line) for line in (whole.root / "said/samples.jsonl").read_text().splitlines()]
    assert [record["prompt"] for record in records] == [e.problem.prompt for e in general.asked(6)]
    assert all(0 < len(record["ids"]) - record["n_prompt"] <= 4 for record in records)


def test_reinforcement_keeps_the_replies_too(place, tmp_path, weights):
    """A row a step; a half is gone on with in bits; the more it weighs, the nearer the replies stay."""

    def of(**changes):
        table = recipe(place).table
        rl = {"kind": "rl", "steps": 4, "prompts": 2, "group": 2, "max_new_tokens": 3, "replay": ["said"]}
        rl |= {"tasks": {"addition": [2]}, "lora": {"rank": 2}, "rewards": {"accuracy": 1.0, "random": 1.0}}
        return resolve({**table, "stages": [table["stages"][1], {**rl, **changes}]})

    whole = ran(tmp_path / "whole", of())
    with pytest.raises(Interrupted):
        ran(tmp_path / "halved", of(), stop_at=2)
    assert weights(ran(tmp_path / "halved", of()).root, "rl") == weights(whole.root, "rl")
    steps = whole.curve("rl")
    assert steps[0]["replay_loss"] < 1e-6 < steps[-1]["replay_loss"]  # nothing has changed in the first
    kept = ran(tmp_path / "kept", of(replay_weight=30.0, optim={"matrices": "adamw", "adam_lr": 0.01}))
    loose = ran(tmp_path / "loose", of(replay_weight=1e-9, optim={"matrices": "adamw", "adam_lr": 0.01}))
    first, last = zip(*((of_run.curve("rl")[0], of_run.curve("rl")[-1]) for of_run in (kept, loose)))
    assert first[0]["loss"] == pytest.approx(first[1]["loss"])
    assert last[0]["replay_loss"] < last[1]["replay_loss"] / 2


def test_nothing_is_asked_that_is_measured_and_nothing_twice():
    questions = [e.problem.prompt.lower() for e in general.asked(10**6)]
    assert len(set(questions)) == len(questions) == len(shipped(general.__file__)["questions"])
    measured = {e.problem.prompt.lower() for asked in talk.common().values() for e in asked}
    assert not measured & set(questions)
    assert len(general.asked(50)) == 50


def test_what_goes_round_in_circles_is_left_out():
    kept = ["Hello! How can I assist you today?", "The sky is blue. The sky is wide.", "", "a" * 24]
    assert not any(map(general.circles, kept))
    left = ["I'm glad to have you here. I'm glad to have you here.", "🌟" * 25]
    assert all(map(general.circles, left))


@pytest.mark.parametrize("what", [{}, {"general": True, "tasks": {"lamp": [4]}}])
def test_a_stage_asks_tasks_or_general_questions(what):
    with pytest.raises(ConfigError, match="expected `tasks`, families and their levels, or general = true"):
        parse(s5_reject.Config, {"kind": "reject", "name": "said", **what}, "said")


def test_only_replies_to_general_questions_are_replayed(place):
    table = recipe(place).table
    table["stages"][1] |= {"general": False, "tasks": {"lamp": [4]}}
    with pytest.raises(ConfigError, match="`sft.replay` names said; expected a stage of kind reject"):
        resolve(table)
