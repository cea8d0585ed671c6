"""Meters say what they measured and what they guessed."""

import sys
import types

import pytest

from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices

PRICES = read_prices()


def domain(root, path, name, energy, wrap=10_000_000):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{wrap}\n")


def test_rapl_counts_packages_and_memory_once_and_goes_round(tmp_path):
    (tmp_path / "intel-rapl").mkdir()  # the control type itself, without a counter
    domain(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 5)
    domain(tmp_path, "intel-rapl:0:2", "dram", 100)
    domain(tmp_path, "intel-rapl:1", "psys", 77)
    meter = Energy(powercap=tmp_path, clock=lambda: 0.0)
    assert meter.read() == (0.0, "measured:rapl")
    domain(tmp_path, "intel-rapl:0", "package-0", 9_500_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 400_000)
    domain(tmp_path, "intel-rapl:1", "psys", 900_000)
    domain(tmp_path, "intel-rapl:0:2", "dram", 250_100)
    assert meter.lap() == (pytest.approx(0.75), "measured:rapl")
    domain(tmp_path, "intel-rapl:0", "package-0", 500_000)  # round: 0.5 J to the end, 0.5 J after it
    assert meter.lap() == (pytest.approx(1.0), "measured:rapl")
    assert meter.read() == (pytest.approx(1.75), "measured:rapl")


def test_a_counter_that_goes_away_becomes_an_estimate(tmp_path):
    now = [0.0]
    domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = Energy(powercap=tmp_path, clock=lambda: now[0])
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    now[0] = 2.0
    assert meter.read() == (2.0 * PRICES.device("cpu").watts, "estimated")


def test_without_a_counter_watts_times_time_marked_as_a_guess(tmp_path):
    now = [5.0]
    meter = Energy("cpu", units=3, powercap=tmp_path / "none", clock=lambda: now[0])
    now[0] = 7.0
    assert meter.lap() == (3 * 2.0 * PRICES.device("cpu").watts, "estimated")
    assert meter.lap() == (0.0, "estimated")


def fake_nvml(monkeypatch, millijoules):
    class NVMLError(Exception):
        pass

    def energy(card):
        if card not in millijoules:
            raise NVMLError("no such card")
        return millijoules[card]

    module = types.SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_nvml_counts_the_visible_cards(monkeypatch):
    cards = {1: 1000, 3: 5000}
    fake_nvml(monkeypatch, cards)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    meter = Energy("h100", units=2)
    cards[3] += 2500
    cards[1] += 500
    assert meter.lap() == (pytest.approx(3.0), "measured:nvml")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert Energy("h100").source == "estimated"  # a card without the counter
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Energy("h100").source == "estimated"
