"""Which models a server has, and what they are called."""

import asyncio
import json

import pytest

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.run.directory import Run
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import Entry, Shelf, described, entries
from nomoat.weights import known, shelf


def test_a_run_is_its_best_model_and_each_of_its_stages(smoke):
    listed = entries([str(smoke.root)], [f"mine={smoke.root}"])
    stages = list(Run.open(smoke.root).all_weights())
    assert len(stages) > 1
    names = [entry.name for entry in listed]
    assert names == [
        name + end for name in ("run", "mine") for end in ("", *(f":{stage}" for stage in stages))
    ]
    assert described(listed[1], "f32")["parameters"] > 0
    stock = Shelf(listed, 1)
    other = next(stage for stage in stages if stage != listed[0].stage)
    first, again = asyncio.run(both(stock, "run", f"mine:{other}"))
    assert stock.entries["run"].served is first
    assert first.fingerprint != again.fingerprint
    assert stock.entries[f"run:{other}"].served is None  # until somebody asks


def test_what_ships_is_served_without_a_name_with_its_stages(tmp_path, monkeypatch):
    stages = {name: {} for name in ("sft", "rl")}
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "shelf.json").write_text(json.dumps({"default": "rl", "stages": stages}))
    monkeypatch.setattr(shelf, "SHELF", tmp_path)

    def named(*asked):
        return [(entry.name, entry.source) for entry in entries(*asked)]

    all_of_it = [("toy", "toy"), ("toy:rl", "toy:rl"), ("toy:sft", "toy:sft")]
    assert named(["toy"], []) == all_of_it
    beside = [(name, name) for name in known.openable()]
    assert named([], []) == [*all_of_it, *beside]
    assert named(["toy:sft"], ["a=toy:rl"]) == [("toy:sft", "toy:sft"), ("a", "toy:rl")]
    assert named([], ["a=toy"]) == [(name.replace("toy", "a"), source) for name, source in all_of_it]
    with pytest.raises(WeightsError, match="toy has no stage `x`"):
        entries(["toy:x"], [])
    monkeypatch.setattr(shelf, "SHELF", tmp_path / "none")
    with pytest.raises(ConfigError, match="no model ships"):
        entries([], [])


async def both(shelf, *names):
    return await asyncio.gather(*(shelf.get(name) for name in names))


def test_what_can_not_be_served_is_said_at_once(tmp_path):
    for sources, named, found in (
        ([], ["x"], "--model x; expected NAME=SOURCE"),
        (["smollm2", "smollm2"], [], "two models are called `smollm2`"), ([], ["=x"], "expected NAME=SOURCE"),
        ([], ["a b=smollm2"], "can't name a model"),
        ([], [f"{'x' * 97}=smollm2"], "can't name a model"), ([], ["../x=smollm2"], "can't name a model"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=found):
            entries(sources, named)
    with pytest.raises(WeightsError, match="no runs/none"):
        described(Entry("none", "runs/none"), "f32")
    with pytest.raises(DataError, match="has no config.json"):
        described(Entry("none", str(tmp_path)), "f32")


def test_a_model_that_is_gone_is_an_answer(tmp_path):
    with pytest.raises(Refusal) as refusal:
        asyncio.run(Shelf([Entry("gone", str(tmp_path / "gone"))], 1).get("gone"))
    assert (refusal.value.status, refusal.value.param) == (503, "model")
