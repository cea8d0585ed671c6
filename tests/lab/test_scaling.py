"""The ladder: its fit finds a known law, its runs keep to the budget, nothing is trained twice."""

import json

import numpy as np
import pytest

from nomoat.config import ConfigError, DataError
from nomoat.files import shipped
from nomoat.lab import arms, scaling
from nomoat.lab.law import Law
from nomoat.lab.series import Series
from nomoat.run.ledger import read_prices
from nomoat.tokenizer import bpe

TRUTH = Law(1.2, [2000.0], [0.3])
MODEL = {
    "n_layers": 1, "d_model": 8, "ffn": {"kind": "dense", "d_hidden": 16},
    "attention": {"kind": "latent", "n_heads": 1, "d_nope": 4, "d_rope": 4, "d_value": 8, "d_kv_latent": 8},
}  # fmt: skip
TABLE = {
    "shares": [0.25, 0.5, 1.0], "near": 2, "heldout_bytes": 500,
    "draws": 5, "gains": [0.01], "relative_gains": [0.01],
    "base": {"rows": 2, "context": 32, "model": MODEL},
    "sizes": [
        {"name": "8 x 1", "model": {}},
        {"name": "8 x 2", "model": {"n_layers": 2}},
        {"name": "16 x 1", "model": {"d_model": 16}},
    ],
}  # fmt: skip
SETTING = {"price": "cpu", "units": 1, "table": TABLE | {"draws": 40}}


def result(arm, flops, bpb, **more):
    costs = {
        "seconds": flops / 1e10,
        "joules": flops / 1e9,
        "tokens": flops / 1e6,
        "params_active": 1e5 * flops**0.1,
    }
    return {"arm": arm, "flops": flops, "bpb": bpb, **costs, **more}


LADDER = [result(f"{i}, {i}", c, TRUTH.at(c)) for i, c in enumerate(np.geomspace(1e11, 3e12, 5).tolist())]


@pytest.fixture
def out(tmp_path):
    """A folder whose tokenizer is small already."""
    text = tmp_path / "text.txt"
    text.write_text(
        "\f\n".join(f"The {n}th sentence says that {n} and {n} are {2 * n}." * 5 for n in range(60))
    )
    bpe.train([text.read_text()], 320).save(tmp_path / "out" / "corpus" / "tokenizer")
    return tmp_path / "out"


@pytest.fixture
def climb(out, monkeypatch):
    """Runs the tiny ladder, with FLOPs and losses that follow a law: five steps of training follow none."""
    real = scaling.findings

    def lawful(results, setting):
        return real([r | {"bpb": TRUTH.at(r["flops"] * 1e4)} for r in results], setting)

    monkeypatch.setattr(scaling, "findings", lawful)
    monkeypatch.setattr(scaling, "calibrate", lambda arms, *rest: {a.name: round(8 * a.share) for a in arms})
    text = str(out.parent / "text.txt")
    return lambda seconds=8.0, n_seeds=2: scaling.run(Series(out, seconds, n_seeds, text), TABLE)


# --- what it says ---------------------------------------------------------------------------------


def test_the_answers_follow_the_law_and_its_prices():
    dear, unfit = result("dear, 9", 2e12, TRUTH.at(1e12)), result("unfit, 4", 2.9e12, TRUTH.at(2e12))
    found = scaling.findings([*LADDER, dear, unfit], SETTING)
    assert [p["arm"] for p in found["points"] if not p["frontier"]] == ["dear, 9", "unfit, 4"]
    assert found["end"]["arm"] == "4, 4"
    assert found["half"][0] == pytest.approx(TRUTH.at(1.5e12) - TRUTH.at(3e12), rel=1e-2)
    (gain, times), (relative, _) = found["gains"]
    assert gain == 0.01
    assert relative == pytest.approx(0.01 * TRUTH.at(3e12))
    assert times[0] == pytest.approx(TRUTH.multiple(3e12, 0.01), rel=1e-3)
    prices = read_prices()
    assert found["end"]["money"] == pytest.approx(prices.money(prices.device("cpu"), 3e3, 300.0))
    text = "\n".join(table.text() for table in scaling.tables(found))
    assert f"{TRUTH.at(1.5e12) - TRUTH.at(3e12):.4f}"[:5] in text


def test_what_lies_below_the_floor_is_out_of_reach():
    found = scaling.findings(LADDER, SETTING | {"table": SETTING["table"] | {"gains": [1.0]}})
    assert found["gains"][0] == [1.0, [None, None, None]]
    json.dumps(found, allow_nan=False)
    assert "out of reach" in scaling.tables(found)[1].text()


def test_two_points_are_no_law():
    with pytest.raises(DataError, match="larger budget"):
        scaling.findings(LADDER[:2], SETTING)


def test_the_plot_is_a_picture(tmp_path):
    scaling.plot(scaling.findings(LADDER, SETTING), tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text("utf-8")


# --- the ladder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [TABLE, shipped(scaling.__file__)], ids=["tiny", "shipped"])
def test_the_ladder_has_every_share_at_the_sizes_near_it_under_names_of_their_own(table):
    arms = scaling.arms(table)
    expected = sum(len(table["sizes"][i:][: table["near"]]) for i in range(len(table["shares"])))
    assert len({a.name for a in arms}) == len(arms) == expected
    assert {a.share for a in arms} == set(table["shares"])
    assert all(a.schedule.factor(99, 100) < 0.05 for a in arms)  # annealed to the end


def test_the_ladder_keeps_to_its_budget(climb, monkeypatch):
    asked = []

    def steps(arms, corpus, seconds):
        asked.append(seconds)
        return {arm.name: 2 for arm in arms}

    monkeypatch.setattr(scaling, "calibrate", steps)
    found = climb(seconds=60.0, n_seeds=2)
    assert 2 * asked[0] * sum(a.share for a in scaling.arms(TABLE)) == pytest.approx(60.0)
    assert all(r["steps"] == 2 for r in found["results"])


def test_what_was_trained_is_not_trained_again(climb, out, monkeypatch):
    first, trained = climb(), []
    real = arms.Trial

    def trial(arm, corpus, seed, *rest):
        trained.append(seed)
        return real(arm, corpus, seed, *rest)

    monkeypatch.setattr(arms, "Trial", trial)
    assert climb() == first
    assert trained == []
    kept = (out / "seed-0.json").read_bytes()
    (out / "seed-1.json").unlink()
    again = climb()
    assert set(trained) == {1}
    assert (out / "seed-0.json").read_bytes() == kept
    assert [r["steps"] for r in again["results"]] == [r["steps"] for r in first["results"]]


def test_another_ladder_in_the_same_folder_is_refused(climb):
    climb()
    with pytest.raises(ConfigError, match="another comparison"):
        climb(seconds=9.0)


@pytest.mark.parametrize(("seconds", "seeds"), [(0.0, 1), (1.0, 0)])
def test_a_ladder_of_nothing_is_refused(tmp_path, seconds, seeds):
    with pytest.raises(ConfigError, match="at least one seed"):
        scaling.run(Series(tmp_path, seconds, seeds), TABLE)
