"""Rejection sampling keeps what is right, readable and new; a forked run begins with what both recipes
share."""

import json
from dataclasses import replace

import pytest
import torch

from nomoat.config import ConfigError
from nomoat.data import documents
from nomoat.plan.budget import resolve
from nomoat.rl import reward
from nomoat.rl.rollout import Exercise, Rollout, behind_solved
from nomoat.run.directory import Run
from nomoat.stages.s5_reject import accepted, repeats
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe, layout

TASK = find.find("addition")
PROBLEM = next(base.problems(TASK, 2, split="train", seed=1, lang="en"))


@pytest.fixture(scope="module")
def tokenizer():
    stream = base.problems(TASK, 2, split="train", seed=0)
    return bpe.train([p.prompt + TASK.work(p) for p, _ in zip(stream, range(50))], 280)


def reply(tokenizer, thinking, answer, opened=False):
    talk = [layout.Message("user", PROBLEM.prompt)]
    prompt = layout.render(tokenizer, talk, generate=True, think=True if opened else None).ids
    ids = [] if opened else [layout.NOMOAT.think_id]
    ids += [
        *tokenizer.encode(thinking),
        layout.NOMOAT.end_think_id,
        *tokenizer.encode(answer),
        layout.NOMOAT.eos_id,
    ]
    exercise, text = Exercise("addition", 2, TASK, PROBLEM), f"<think>{thinking}</think>{answer}"
    return Rollout(exercise, torch.tensor(prompt), torch.tensor(ids), torch.zeros(len(ids)), text, "end")


@pytest.mark.parametrize("opened", [False, True])
def test_only_right_readable_and_different_answers_are_kept(tokenizer, opened):
    good = PROBLEM.witness
    texts = [
        ("1+1", good),
        ("1+1", good),
        ("2+2", good),
        ("3", "-7"),
        ("7+2+0=09," * 9, good),
        ("das nicht", good),
    ]
    texts.append(("4", good))
    group = [reply(tokenizer, thinking, answer, opened) for thinking, answer in texts]
    kept = accepted(reward.judge([group])[0], 2)
    assert [r["thinking"] for r in kept] == ["1+1", "2+2"]
    assert {r["answer"] for r in kept} == {good}


def test_what_was_kept_is_read_as_the_same_tokens(tokenizer, tmp_path):
    rollout = reply(tokenizer, "1+1", PROBLEM.witness)
    record = accepted(reward.judge([[rollout]])[0], 1)[0]
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (document,) = documents.sampled([path], tokenizer)
    assert document.ids == rollout.prompt_T.tolist() + rollout.ids_T.tolist()
    assert document.trained == [False] * rollout.n_prompt + [True] * rollout.length


def test_three_times_the_same_in_a_row_is_a_repetition():
    assert repeats("so it goes, " * 3)
    assert not repeats("so it goes, " * 2 + "and then something else happened to all of them")


def recipe(**rl):
    stages = [{"kind": "tokenizer", "vocab_size": 300}, {"kind": "pretrain", "steps": 3}]
    stages += [{"kind": "rl", "steps": 2, "tasks": {"lamp": [4]}, **rl}]
    return resolve(
        {"name": "t", "models": {"main": {"preset": "deepseek-v2-lite", "vocab_size": 300}}, "stages": stages}
    ).table


def test_a_fork_takes_over_what_is_the_same_and_nothing_behind_a_change(tmp_path):
    with Run.create(tmp_path / "a", recipe()).locked() as run:
        for stage in ("tokenizer", "pretrain", "rl"):
            (run.stage_dir(stage) / "model").mkdir()
            (run.stage_dir(stage) / "model" / "weights").write_text(stage)
            run.log("stage_start", stage=stage)
            run.log("stage_end", stage=stage, outputs={})
    forked = Run.fork(Run.open(tmp_path / "a"), tmp_path / "b", recipe(kl=0.5))
    assert [s for s in ("tokenizer", "pretrain", "rl") if forked.finished(s)] == ["tokenizer", "pretrain"]
    assert (tmp_path / "b/pretrain/model/weights").read_text() == "pretrain"
    assert not (tmp_path / "b/rl").exists()
    (tmp_path / "b/pretrain/model/weights").write_text("spoilt")
    assert (tmp_path / "a/pretrain/model/weights").read_text() == "pretrain"  # nothing is shared on disk
    (tmp_path / "b/events.jsonl").unlink()  # as if it had been cut short
    forked = Run.fork(Run.open(tmp_path / "a"), tmp_path / "b", recipe(kl=0.5))
    assert forked.finished("pretrain")
    assert (tmp_path / "b/pretrain/model/weights").read_text() == "pretrain"
    other_seed = {**recipe(), "seed": 1}
    assert Run.open(tmp_path / "a").shared(other_seed) == []
    again = Run.fork(Run.open(tmp_path / "a"), tmp_path / "b", recipe(kl=0.5))
    assert again.finished("pretrain")
    with pytest.raises(ConfigError):
        Run.fork(Run.open(tmp_path / "a"), tmp_path / "b", recipe(kl=0.7))


def test_solved_turns_stand_before_a_question_and_are_of_its_level(tokenizer):
    asked = [Exercise("addition", level, TASK, PROBLEM) for level in (2, 3, 2)]
    shown = behind_solved(asked, 2, tokenizer, seed=1)
    assert [m.role for m in shown[0].before] == ["user", "assistant"] * 2
    assert len({e.before for e in shown}) == 3
    first = next(base.problems(TASK, 3, split="train", seed=2))
    assert shown[1].before[:2] == (
        layout.Message("user", first.prompt),
        layout.Message("assistant", first.witness, TASK.work(first)),
    )
    assert behind_solved(asked, 0, tokenizer, seed=1) == asked
    whole = replace(PROBLEM, facts={"messages": [{"role": "user", "content": "4+5?"}]})
    (alone,) = behind_solved([replace(asked[0], problem=whole)], 2, tokenizer, seed=1)
    assert alone.before == ()
