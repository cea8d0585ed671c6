"""Rejection sampling keeps what is right, readable and new; a forked run begins with what both recipes share."""

import json

import pytest
import torch

from nomoat.config import ConfigError
from nomoat.data import documents
from nomoat.files import shipped
from nomoat.plan.budget import resolve
from nomoat.rl import reward
from nomoat.rl.rollout import Rollout
from nomoat.run.directory import Run
from nomoat.stages import s5_rl
from nomoat.stages.s5_reject import accepted, repeats
from nomoat.stages.s5_rl import Config, split
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe, layout

TASK = find.find("addition")
PROBLEM = next(base.problems(TASK, 2, split="train", seed=1, lang="en"))


@pytest.fixture(scope="module")
def tokenizer():
    stream = base.problems(TASK, 2, split="train", seed=0)
    return bpe.train([p.prompt + TASK.work(p) for p, _ in zip(stream, range(50))], 280)


def reply(tokenizer, thinking, answer, opened=False):
    prompt = layout.render(tokenizer, [layout.Message("user", PROBLEM.prompt)], generate=True, think=True if opened else None).ids
    ids = [] if opened else [layout.NOMOAT.think_id]
    ids += [*tokenizer.encode(thinking), layout.NOMOAT.end_think_id, *tokenizer.encode(answer), layout.NOMOAT.eos_id]
    sampled = torch.tensor([False] * len(prompt) + [True] * len(ids))
    return Rollout(TASK, 2, PROBLEM, torch.tensor(prompt + ids), sampled, torch.zeros(len(prompt + ids)), "end")


@pytest.mark.parametrize("opened", [False, True])
def test_only_right_readable_and_different_answers_are_kept(tokenizer, opened):
    good = PROBLEM.witness
    texts = [("1+1", good), ("1+1", good), ("2+2", good), ("3", "-7"), ("7+2+0=09," * 9, good), ("das nicht", good)]
    texts.append(("4", good))
    group = [reply(tokenizer, thinking, answer, opened) for thinking, answer in texts]
    marks = reward.scores([group], tokenizer)[0]
    kept = accepted(group, marks, tokenizer, 2)
    assert [r["thinking"] for r in kept] == ["1+1", "2+2"]
    assert {r["answer"] for r in kept} == {good}


def test_what_was_kept_is_read_as_the_same_tokens(tokenizer, tmp_path):
    rollout = reply(tokenizer, "1+1", PROBLEM.witness)
    record = accepted([rollout], reward.scores([[rollout]], tokenizer)[0], tokenizer, 1)[0]
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(record) + "\n")
    ((ids, trained),) = documents.sampled([path], tokenizer)
    assert ids == rollout.ids_T.tolist()
    assert trained == rollout.sampled_T.tolist()


def test_three_times_the_same_in_a_row_is_a_repetition():
    assert repeats("so it goes, " * 3)
    assert not repeats("so it goes, " * 2 + "and then something else happened to all of them")


def test_minibatches_hold_every_group_once():
    parts = split(list(range(10)), 4, seed=1)
    assert sorted(x for part in parts for x in part) == list(range(10))
    assert len(parts) == 4
    assert split([1], 4, seed=1) == [[1], [], [], []]  # as many parts as the other ranks have
    assert split([], 0, seed=1) == [[]]


def test_the_preset_is_what_the_paper_says_and_what_is_given_wins():
    config = Config(kind="rl", tasks={"lamp": [4]}, steps=650, preset="r1", prompts=32)
    assert (config.variant, config.group, config.kl, config.clip) == ("grpo", 16, 0.001, (10.0, 10.0))
    assert config.rewards == reward.Weights(accuracy=1, format=1)
    assert config.optim.adam_lr == 3e-6
    assert config.prompts == 32
    published = shipped(s5_rl.__file__)["r1"]
    assert published["prompts"] * published["group"] == 8192
    assert published["refresh"] * published["minibatches"] == 400  # optimiser steps between two references
    assert Config(**config.model_dump(by_alias=True)) == config


def recipe(**rl):
    stages = [{"kind": "tokenizer", "vocab_size": 300}, {"kind": "pretrain", "steps": 3}]
    stages += [{"kind": "rl", "steps": 2, "tasks": {"lamp": [4]}, **rl}]
    return resolve({"name": "t", "models": {"main": {"preset": "deepseek-v2-lite", "vocab_size": 300}}, "stages": stages}).table


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
