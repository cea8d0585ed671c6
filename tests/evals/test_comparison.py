"""What follows from answers whose truth is known."""

import json
import random

import pytest

from nomoat.config import DataError
from nomoat.evals import comparison
from nomoat.report import transfer as report


def result(gains, *, seed=0, n=60, bits=(1.0, 1.03), deep=((8, 2), (8, 2)), cost=True):
    """A result whose models are right with chance 0.4 and 0.4 + gain, part by part."""
    rng = random.Random(f"result/{seed}")
    items, answers = [], {"sft": [], "rl": []}
    for (ring, part), gain in gains.items():
        for i in range(n):
            where = {"family": "f", "level": 1, "up": 0, "cluster": f"{ring}/{i}"}
            items.append({"ring": ring, "part": part, **where})
            for model, chance in (("sft", 0.4), ("rl", 0.4 + gain)):
                rate = sum(rng.random() < chance for _ in range(16)) / 16
                right = {"rate": rate, "lenient": rate, "greedy": int(rng.random() < chance), "majority": 1}
                form = {"ended": 1.0, "length": 9.0, "language": 1.0, "gave": 1.0, "refuses": 0.0}
                answers[model].append({**right, **form, "confidence": 0.5})
    models = {}
    for model, bpb, counts in zip(("sft", "rl"), bits, deep):
        text = {"bits": {"en": bpb, "de": bpb}, "distinct": 0.9, "repeats": 0.1}
        models[model] = {"answers": answers[model], "deep": [list(counts)] * 20, **text}
    money = {
        "flops_executed": 1e15,
        "device_seconds": 100.0,
        "joules": 500.0,
        "money": 0.2,
        "currency": "EUR",
    }
    raw = {
        "config": {"before": "sft", "after": "rl"},
        "suite": "s",
        "seed": seed,
        "commit": None,
        "samples": 4,
        "notes": [],
        "items": items,
        "models": models,
        "cost": money if cost else None,
        "guessed": {"unseen families": None},
    }
    return json.loads(json.dumps(raw | comparison.summary([raw])))


FAR = {
    ("R0", "trained tasks"): 0.3,
    ("R1", "harder, never shown"): 0.15,
    ("R2", "German"): 0.3,
    ("R3", "unseen families"): 0.0,
}


def test_seeds_that_differ_widen_the_interval():
    one = comparison.difference([[(0.0, 0.1), (0.0, 0.3)] * 50])
    three = comparison.difference([[(0.0, 0.1 + s), (0.0, 0.3 + s)] * 50 for s in (-0.2, 0.0, 0.2)])
    assert one.delta == pytest.approx(three.delta)
    assert three.high - three.low > 2 * (one.high - one.low)


def test_a_difference_without_spread_is_not_certain():
    row = comparison.difference([[(0.0, 0.0)] * 20])
    assert row.low < 0 < row.high
    assert comparison.difference([[(None, 1.0)]]).delta is None


def test_calibration_of_an_honest_and_of_a_boastful_model():
    honest = [(0.75, 1)] * 3 + [(0.75, 0)]
    assert comparison.calibration(honest)[0] == pytest.approx(0)
    assert comparison.calibration([(1.0, 0)] * 4) == (1.0, 1.0)
    assert comparison.calibration([]) == (None, None)


def test_the_share_that_carries_is_the_ratio_of_the_gains():
    found = {r["part"]: r for r in result(FAR, n=300)["rings"]}
    for part, truth in (("harder, never shown", 0.5), ("unseen families", 0.0), ("German", 1.0)):
        carry, low, high = found[part]["carry"]
        assert low < carry < high
        assert carry == pytest.approx(truth, abs=0.15)


def test_a_rewording_is_held_against_the_same_problems():
    near = {f"{i}": (0.1 + i % 2 if i < 40 else 9.0) for i in range(80)}
    far = {c: g for c, g in near.items() if int(c) < 40}
    carry = comparison.carried([far], [near])
    assert carry == pytest.approx([1.0, 1.0, 1.0])
    assert comparison.carried([dict.fromkeys("ab", 0.0)], [near]) is None  # no spread, so no interval


def test_the_price_is_the_cost_of_the_stage_over_its_points():
    found = result(FAR)
    gain = next(r for r in found["rings"] if r["ring"] == "R0")["delta"]
    assert found["price"]["device_seconds"] == pytest.approx(100 / (100 * gain))
    assert result({("R0", "trained tasks"): 0.0}, n=20)["price"] is None


def test_seeds_combine_and_each_is_shown():
    found = comparison.combine([result(FAR, seed=s) for s in range(3)])
    assert [s["seed"] for s in found["seeds"]] == [0, 1, 2]
    assert all(row["p"] is None for row in found["rings"])
    assert report.tables(found)[0].header[-3:] == ("seed 0", "seed 1", "seed 2")
    assert report.verdict(found).startswith("RL raised the trained tasks by ")
    with pytest.raises(DataError, match="2 suites"):
        comparison.combine([result(FAR), result(FAR) | {"suite": "another"}])


def test_nothing_measured_is_no_verdict():
    assert report.verdict(result({})) == "Nothing was measured on the tasks that RL trained on."
