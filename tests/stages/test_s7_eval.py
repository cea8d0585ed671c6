"""An evaluation is of the models as they are: what came later is measured, what was measured is not again."""

import json
import shutil

import pytest

from nomoat.report.scores import is_done, unmeasured
from nomoat.run.directory import Run
from nomoat.run.log import last_scores


def scores(root):
    """What was measured last of each thing, without the clock."""
    events = last_scores(Run.open(root).events("score"))
    return sorted(({k: v for k, v in e.items() if k != "t"} for e in events), key=json.dumps)


@pytest.fixture
def killed(smoke, tmp_path):
    """The smoke run as it was before its distillation."""
    root = tmp_path / "run"
    shutil.copytree(smoke.root, root)
    gone = ("distill", "eval", "export")
    for stage in gone:
        shutil.rmtree(root / stage, ignore_errors=True)
    lines = (root / "events.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["stage"] not in gone]
    (root / "events.jsonl").write_text("".join(kept))
    return root


@pytest.mark.check
def test_a_student_that_came_after_an_evaluation_is_measured(forge, smoke, recipe, killed):
    assert forge("eval", killed).code == 0
    run = Run.open(killed)
    assert is_done(run, "eval")
    before = run.finished("eval")["outputs"]["means"]
    assert "distill" not in before
    assert forge("distill", "--out", killed).code == 0
    assert unmeasured(run, "eval") == ["distill"]
    done = forge("run", recipe, "--out", killed)
    assert done.code == 0
    assert "problems for distill" not in done.out
    undisturbed = Run.open(smoke.root).finished("eval")["outputs"]
    assert run.finished("eval")["outputs"]["means"] == undisturbed["means"]
    assert scores(killed) == scores(smoke.root)
    works = [e["what"] for e in run.events("work", "eval")]
    assert len(works) == len(set(works))  # nothing was measured twice
    assert forge("eval", killed).err == ""
    (killed / "report.html").write_text("of before")
    again = forge("eval", killed, "--again")
    assert again.code == 0
    assert (killed / "report.html").read_text("utf-8") != "of before"
    assert len(run.events("work", "eval")) == 2 * len(works)
    assert scores(killed) == scores(smoke.root)


def test_what_an_evaluation_is_of(tmp_path):
    stages = [{"kind": "tokenizer"}, {"kind": "pretrain"}, {"kind": "eval", "name": "first"}, {"kind": "sft"},
              {"kind": "eval"}, {"kind": "eval", "name": "named", "models": ["sft"]}]  # fmt: skip
    run = Run.create(tmp_path / "run", {"name": "r", "stages": stages})
    left = {"model": "x", "spec": {}}

    def end(stage, **outputs):
        run.log("stage_end", stage=stage, outputs=outputs)

    end("tokenizer", tokenizer="tokenizer", fingerprint="")
    end("pretrain", **left)
    assert [unmeasured(run, name) for name in ("first", "eval")] == [["pretrain"], ["pretrain"]]
    assert unmeasured(run, "named") == []  # it is to come
    assert not is_done(run, "named")
    end("first", means={"pretrain": 0.5})  # as older runs have it
    end("eval", controls={"pretrain, thinking": 0.5})
    assert is_done(run, "first")
    assert is_done(run, "eval")
    end("sft", **left)
    assert is_done(run, "first")  # what comes after it is none of its models
    assert [unmeasured(run, name) for name in ("eval", "named")] == [["sft"], ["sft"]]
    when = run.events("stage_end", "sft")[0]["t"]
    end("named", means={"sft": 0.5}, measured={"sft": when})
    assert is_done(run, "named")
    end("named", means={"sft": 0.5}, measured={"sft": when - 1})  # measured when it was another one
    assert unmeasured(run, "named") == ["sft"]
