"""`nomoat bench device`: what it counts, whom it compares, what it says of cards that are not there."""

import tomllib
from itertools import groupby
from pathlib import Path

import pytest
import torch

from nomoat.config import parse
from nomoat.files import shipped
from nomoat.lab import device
from nomoat.model import counts
from nomoat.model.kernels import keys_read
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.plan.hardware import read_hardware
from nomoat.run.ledger import read_prices
from nomoat.train.optim import OptimConfig, Optimizer

CPU = tomllib.loads((Path(device.__file__).parents[2] / "recipes" / "cpu.toml").read_text("utf-8"))
SPEC = {
    "vocab_size": 16, "n_layers": 2, "d_model": 8, "context": 8,
    "attention": {"kind": "latent", "n_heads": 1, "d_nope": 4, "d_rope": 4, "d_value": 8, "d_kv_latent": 8},
    "ffn": {"kind": "routed", "d_dense": 16, "n_routed": 2, "n_active": 1, "d_expert": 8},
}  # fmt: skip
TINY = {
    "seconds": 0.001, "array_bytes": 4096, "products": {"square": {"cpu": [8, 16, 32]}},
    "models": {"small": {"rows": {"cpu": 2}, "optim": {}, "spec": SPEC},
               "larger": {"beside_gpu": True, "rows": {"cpu": 2}, "optim": {}, "spec": SPEC}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def readings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return device.measure(2, rounds=3, table=TINY)


def here(readings):
    return [r for r in readings if not r.source.startswith(device.SHEET)]


def test_every_row_is_measured_in_every_place_and_compared_with_the_first(readings):
    for row, found in groupby(
        sorted(here(readings), key=lambda r: (r.what, r.unit)), lambda r: (r.what, r.unit)
    ):
        found = list(found)
        assert [r.place for r in found] == ["1 thread", "2 threads"], row
        for r in found:
            assert 0 < r.low <= r.value <= r.high
            assert r.times == pytest.approx(r.value / found[0].value)


def test_a_step_s_tokens_and_flops_are_those_of_the_spec_and_its_optimiser(readings):
    spec = parse(Spec, SPEC, "spec")
    rate = {r.unit: r.value for r in readings if r.place == "1 thread" and r.what.startswith("training")}
    optimiser = Optimizer(Transformer(spec).initialise(0), OptimConfig()).flops() / (2 * spec.context)
    step = counts.flops_train(spec, keys_read(Kernels(), spec.context), Kernels()) + optimiser
    assert rate["FLOP/s"] / rate["token/s"] == pytest.approx(step)


def test_what_a_call_does_is_counted():
    works = device.works_on(torch.device("cpu"), TINY)
    assert works["product square, bf16"].amounts == {"FLOP": 2 * 8 * 16 * 32}
    triad = works["memory, triad"]
    assert triad.amounts == {"B": 3 * TINY["array_bytes"]}
    assert torch.equal(triad.call(), torch.full((1024,), 4.0))
    assert "training, larger model, bf16" not in works  # it waits for a card


def test_without_a_card_every_card_stands_there_by_its_data_sheet(readings):
    sheets = [r for r in readings if r.source.startswith(device.SHEET)]
    cards = read_hardware().devices
    assert {r.place for r in sheets} == set(cards) - {"cpu"}
    first = {(r.what, r.unit): r.value for r in here(readings) if r.place == "1 thread"}
    for r in sheets:
        assert r.times * first[r.what, r.unit] == pytest.approx(r.value)
        peak = cards[r.place].bytes_per_second if r.unit.startswith("B") else cards[r.place].flops_bf16
        assert r.value == pytest.approx(
            peak / (read_prices().device(r.place).watts if r.unit.endswith("J") else 1)
        )
    assert "not measured" in device.tables(readings)[1].text()


def test_a_card_that_was_measured_has_no_data_sheet(readings):
    assert {r.place for r in device.sheets(here(readings), {"cpu", "h100"})} == set(
        read_hardware().devices
    ) - {"cpu", "h100"}


def test_joules_are_the_meter_s_and_say_whose_they_are(monkeypatch):
    class Meter:
        def __init__(self, name, units):
            self.joules = 6.0 * units

        def read(self):
            return self.joules, "measured:rapl"

    monkeypatch.setattr(device, "Energy", Meter)
    found = device.measure(2, rounds=1, table=TINY | {"seconds": 0.0})
    joules = {r.place: r for r in here(found) if r.unit == "token/J"}
    assert {place: 16 / r.value for place, r in joules.items()} == {"1 thread": 6.0, "2 threads": 12.0}
    assert {r.source for r in joules.values()} == {"measured:rapl"}
    text = device.tables(found)[0].text()
    assert "0.38 J/token (1)" in text
    assert "measured:rapl (1 thread)" in text


def test_threads_are_as_before():
    before = torch.get_num_threads()
    device.measure(before + 1, rounds=1, table=TINY)
    assert torch.get_num_threads() == before


def test_the_small_model_is_that_of_the_laptop_s_recipe():
    small = dict(shipped(device.__file__)["models"]["small"]["spec"])
    assert small.pop("vocab_size") == next(s for s in CPU["stages"] if s["kind"] == "tokenizer")["vocab_size"]
    assert small == CPU["models"]["main"]
    for model in shipped(device.__file__)["models"].values():
        parse(Spec, model["spec"], "spec")
        parse(OptimConfig, model["optim"], "optim")
