"""What a page says of a run: its state and what is left, curves that are thin, rollouts page by page."""

import json
import os
from pathlib import Path

import pytest

from nomoat import stats
from nomoat.report import course, curves, snapshot
from nomoat.report.leaves import Leaves, fitting
from nomoat.run.directory import Run

STAGES = [{"kind": "pretrain"}, {"kind": "sft", "from": "pretrain"}, {"kind": "rl", "from": "sft"}]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {"name": "x", "seed": 3, "stages": STAGES})


def step(run, stage, number, n=10, **fields):
    costs = {"seconds": 2.0, "tokens": 5, "flops_model": 1, "flops_executed": 1}
    run.log("step", stage=stage, step=number, n_steps=n, loss=1.0 / number, **costs, **fields)


def planned(run, **seconds):
    rest = dict.fromkeys(("tokens", "flops", "memory_bytes", "joules", "money"), 1)
    lines = [{"stage": name, "seconds": value, "low_seconds": value / 2, "high_seconds": 2 * value, **rest}
             for name, value in seconds.items()]  # fmt: skip
    run.log("plan", stages=lines)


def test_a_run_is_new_then_runs_then_has_stopped_or_is_finished(run):
    assert course.course_of(run).state == "new"
    with run.locked():
        planned(run, pretrain=10.0, sft=40.0, rl=20.0)
        run.log("stage_start", stage="pretrain", config={}, units=1, device="cpu")
        for number in range(1, 6):
            step(run, "pretrain", number)
        at = course.course_of(run)
        assert at.state == "running"
        assert str(os.getpid()) in at.owner
        assert at.at.name == "pretrain"
        assert at.at.eta_seconds == 5 * 2.0
        assert [stage.state for stage in at.stages] == ["running", "waiting", "waiting"]
        assert at.eta_seconds == 10.0 + 40.0 + 20.0
    assert course.course_of(run).state == "stopped"
    with run.locked():
        for stage in ("pretrain", "sft", "rl"):
            run.log("stage_start", stage=stage, config={})
            run.log("work", stage=stage, what="all", seconds=20.0)
            run.log("stage_end", stage=stage, outputs={})
    at = course.course_of(run)
    assert (at.state, at.at, at.eta_seconds) == ("finished", None, 0)


def test_what_waits_is_planned_at_the_pace_of_what_is_done(run):
    with run.locked():
        planned(run, pretrain=10.0, sft=40.0, rl=20.0)
        run.log("stage_start", stage="pretrain", config={})
        run.log("work", stage="pretrain", what="all", seconds=20.0)
        run.log("stage_end", stage="pretrain", outputs={})
        assert [stage.eta_seconds for stage in course.course_of(run).stages] == [None, 80.0, 40.0]


def test_a_snapshot_is_json_and_tells_what_each_model_is_held_against(run):
    with run.locked():
        for model, right in (("pretrain", 4), ("sft", 8), ("rl", 16)):
            low, high = stats.wilson(right, 20)
            fields = {"model": model, "family": "lamp", "level": 1, "n": 20, "low": low, "high": high}
            run.log("score", stage="eval", name="accuracy/sampled", value=right / 20, lenient=1.0, **fields)
            run.log("sample", stage="eval", model=model, family="lamp", level=1, prompt="On?",
                    right=right > 9, reply="<think>off on</think>on")  # fmt: skip
    found = json.loads(json.dumps(snapshot.snapshot(run)))
    assert found["best"]["model"] == "rl"
    assert found["before"]["rl"]["sampled"]["model"] == "sft"
    assert found["before"]["rl"]["sampled"]["delta"] == pytest.approx(0.4)
    assert "pretrain" not in found["before"]
    (sample,) = found["samples"]
    assert [answer["model"] for answer in sample["answers"]] == ["pretrain", "sft", "rl"]
    assert sample["answers"][0]["thinking"] == "off on"
    assert found["line"] == 6


def test_curves_are_thin_however_long_and_keep_every_mean(run):
    steps = [{"kind": "step", "stage": "rl", "step": i, "reward": i, "rewards": {"lamp": 0.5},
              **({"kl": 1.0} if i == 7 else {})} for i in range(1, 2501)]  # fmt: skip
    found = curves.curves(steps, 100)
    assert len(found["steps"]) == 100
    assert found["steps"][-1] == 2500
    assert {len(values) for values in found["fields"].values()} == {100}
    assert stats.mean(found["fields"]["reward"]) == pytest.approx(1250.5)
    assert found["fields"]["kl"] == [1.0, *[None] * 99]
    assert set(found["fields"]["rewards/lamp"]) == {0.5}
    assert curves.curves([])["steps"] == []


def rollout(step, group, i, right):
    family = "lamp" if group else "path"
    return {"step": step, "group": group, "family": family, "reply": f"r{i}", "strict": right}


def write(path: Path, *records, mode="a", end="\n"):
    with path.open(mode) as file:
        file.write("".join(json.dumps(record) + "\n" for record in records).removesuffix("\n") + end)


def test_rollouts_are_leafed_through_from_the_newest_step_on(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    for number in (1, 2, 3):
        write(path, *(rollout(number, group, i, right=i == 1) for group in (0, 1) for i in (0, 1)))
    leaves = Leaves(path)
    every, seen, at = fitting(None, "all"), [], None
    while True:
        page = leaves.page(every, 5, at)
        seen += [record["id"] for record in page.records]
        at = page.following
        if at is None:
            break
    assert seen == [f"{number}.{place}" for number in (3, 2, 1) for place in range(4)]
    right = leaves.page(fitting("path", "right"), 9).records
    assert [record["step"] for record in right] == [3, 2, 1]
    assert {record["reply"] for record in right} == {"r1"}
    assert [r["id"] for r in leaves.page(every, 1, "2.3").records] == ["2.3"]
    assert [r["step"] for r in leaves.page(every, 9, step=2).records] == [2] * 4
    assert leaves.page(every, 9, "junk").records[0]["id"] == "3.0"


def test_what_was_sampled_again_after_a_resume_counts_once_and_a_torn_line_not_at_all(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    leaves = Leaves(path)
    write(path, *(rollout(number, 0, i, True) for number in (1, 2, 3) for i in (0, 1)))
    assert leaves.steps() == [1, 2, 3]
    write(path, rollout(2, 0, 7, False), end="")
    assert leaves.steps() == [1, 2, 3], "it is not a line yet"
    write(path, rollout(2, 0, 8, False), rollout(2, 0, 9, False))
    assert leaves.steps() == [1, 2]
    assert [r["reply"] for r in leaves.page(fitting(None, "all"), 9, step=2).records] == ["r8", "r9"]
    write(path, rollout(1, 0, 5, True), mode="w")
    assert [r["reply"] for r in leaves.page(fitting(None, "all"), 9).records] == ["r5"]
    assert Leaves(tmp_path / "none").page(fitting(None, "all"), 9).records == []
