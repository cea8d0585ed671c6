"""The truth table: what is equal is equal, what was trained is kept, and a verdict is what its rule says."""

import json
import tomllib
from pathlib import Path

import pytest
from shapes import dense_twin

from nomoat import config
from nomoat.config import ConfigError, parse
from nomoat.data import documents, shards
from nomoat.files import shipped
from nomoat.lab import truth
from nomoat.lab.arms import Arm, Trial
from nomoat.lab.series import Series, merged
from nomoat.model.spec import Spec
from nomoat.tokenizer import bpe

TABLE = shipped(truth.__file__)
CPU = tomllib.loads((Path(truth.__file__).parents[2] / "recipes" / "cpu.toml").read_text("utf-8"))
MODEL = {
    "n_layers": 2, "d_model": 16,
    "attention": {"kind": "latent", "n_heads": 2, "d_nope": 4, "d_rope": 4, "d_value": 8, "d_kv_latent": 8},
    "ffn": {"kind": "routed", "d_dense": 32, "n_routed": 4, "n_active": 2, "d_expert": 8},
}  # fmt: skip
GROUPED = {"attention": {"kind": "grouped", "n_heads": 2, "n_kv_heads": 1, "d_head": 8}}
LOSS = {"balance_speed": 0.0, "balance_weight": 0.1}
SIZE = {"vocab_size": 2048}
SMALL = {
    "corpus": {"shares": {"prose": 0.5, "tasks": 0.5}, "heldout_bytes": 1000},
    "learn": {"addition": [1]}, "judge": {"addition": [1]},
    "reference": {"name": "reference", "rows": 2, "context": 96, "model": MODEL},
    "pairs": [
        {"question": "latent or grouped", "against": {"name": "grouped", "model": GROUPED}},
        {"question": "one depth more", "of": {"name": "depth", "model": {"n_mtp": 1}}},
        {"question": "bias or loss", "against": {"name": "loss", "objective": LOSS}},
        {"question": "eight bits", "of": {"name": "fp8", "precision": "fp8"}},
    ],
    "decode": {
        "rounds": 2, "new_tokens": 3, "shape": {"context": 64}, "models": {"latent": {}, "grouped": GROUPED},
        "loads": [{"rows": 2, "prompt": 5}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A folder whose corpus is made already, of little text and few tasks."""
    root = tmp_path_factory.mktemp("truth")
    text = root / "text.txt"
    text.write_text(
        "\f\n".join(f"The {n}th sentence says that {n} and {n} are {2 * n}." * 5 for n in range(60))
    )
    tokenizer = bpe.train([text.read_text(), "<think>\n</think>What is 1 + 2? 3 carry"], 320)
    tokenizer.save(root / "out" / "corpus" / "tokenizer")
    worked = documents.worked({"addition": [1]}, 200, 1.0, tokenizer, 0)
    shards.write(root / "out" / "corpus" / "tasks", worked, tokenizer.vocab_size)
    return root / "out"


@pytest.fixture(scope="module")
def found(out):
    return truth.run(Series(out, 0.08, 2, str(out.parent / "text.txt")), SMALL)


def test_what_is_said_to_be_equal_is(found):
    assert [(r["question"], r["equal"]) for r in found["rows"]] == [
        (pair["question"], equal) for pair in SMALL["pairs"] for equal in ("time", "FLOPs")
        if (pair["question"], equal) != ("eight bits", "time")
    ]  # fmt: skip
    steps = found["setting"]["steps"]
    for row in found["rows"]:
        assert row["seeds"] == 2
        if row["equal"] == "FLOPs":
            assert row["flops"] == pytest.approx(
                1, abs=0.03 + 0.5 / min(steps["FLOPs"].values())
            )  # steps are whole
    assert (
        steps["time"]["loss"] == steps["time"]["reference"] == steps["FLOPs"]["loss"]
    )  # one shape, one duration
    assert "fp8" not in steps["time"]
    assert steps["FLOPs"]["fp8"] == steps["FLOPs"]["reference"]
    assert steps["FLOPs"]["depth"] < steps["FLOPs"]["reference"]


def test_each_run_stands_once_and_each_row_is_the_mean_of_its_runs(found):
    runs = [(r["arm"], r["steps"], r["seed"]) for r in found["results"]]
    assert len(runs) == len(set(runs))
    row = next(r for r in found["rows"] if r["question"] == "one depth more" and r["equal"] == "FLOPs")
    n = found["setting"]["steps"]["FLOPs"]
    of = [r["bpb"] for r in found["results"] if (r["arm"], r["steps"]) == ("depth", n["depth"])]
    against = [r["bpb"] for r in found["results"] if (r["arm"], r["steps"]) == ("reference", n["reference"])]
    assert row["arms"] == ["depth", "reference"]
    assert row["bpb"]["difference"] == pytest.approx((sum(of) - sum(against)) / 2)
    assert all(0 <= r["accuracy"] <= 1 for r in found["results"])


def test_a_second_call_trains_nothing_and_a_lost_seed_alone(found, out, monkeypatch):
    text, steps = str(out.parent / "text.txt"), []
    count = Trial.step
    monkeypatch.setattr(Trial, "step", lambda self: (steps.append(self.seed), count(self))[1])
    assert truth.run(Series(out, 0.08, 2, text), SMALL) == found
    assert not steps
    (out / "seed-1.json").unlink()
    again = truth.run(Series(out, 0.08, 2, text), SMALL)
    assert set(steps) == {1}
    assert [r["bpb"] for r in again["results"]] == [
        r["bpb"] for r in found["results"]
    ]  # a pure function of the seed
    for other, table in ((text, {**SMALL, "pairs": SMALL["pairs"][:1]}), (None, SMALL)):
        with pytest.raises(ConfigError, match="choose another --out"):
            truth.run(Series(out, 0.08, 2, other), table)


@pytest.mark.parametrize(
    ("pairs", "better", "verdict"),
    [
        ([(1.0, 1.2), (1.1, 1.3), (0.9, 1.11)], -1, "wins"),
        ([(1.0, 1.2), (1.1, 1.3), (0.9, 1.11)], 1, "loses"),
        ([(1.0, 1.2), (1.1, 1.3), (1.2, 1.11)], -1, "not shown to differ"),
        ([(1.0, 1.2)], -1, "not shown to differ"),
        ([(1.0, 1.0), (2.0, 2.0)], 1, "not shown to differ"),
    ],
)
def test_the_verdict_is_its_rule(pairs, better, verdict):
    assert truth.difference(pairs, better)["verdict"] == verdict


def test_the_interval_is_students():
    """Gaps 1, 2, 3: 2 +- 4.303 / sqrt(3)."""
    found = truth.difference([(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)], 1)
    assert (found["low"], found["high"]) == (
        pytest.approx(2 - 2.4843, abs=1e-3),
        pytest.approx(2 + 2.4843, abs=1e-3),
    )


def test_decoding_knows_the_caches(found):
    by_name = {row["model"]: row for row in found["decoding"]}
    assert by_name["latent"]["cache_bytes"] == 2 * 2 * (8 + 4)  # bf16, layers, C + R
    assert by_name["grouped"]["cache_bytes"] == 2 * 2 * (8 + 8)  # a key and a value
    assert all(0 < row["low"] <= row["tokens_per_second"] <= row["high"] for row in found["decoding"])


def test_the_tables_show_every_row(found):
    table, speeds = truth.tables(json.loads(json.dumps(found)))
    assert len(table.rows) == len(found["rows"])
    assert len(speeds.rows) == 2
    assert "latent or grouped" in table.text(200)
    first = [r for r in found["results"] if r["seed"] == 0]
    lonely = truth.tables({**found, "rows": truth.findings(SMALL, found["setting"]["steps"], first)})[0].text(
        200
    )
    assert lonely.count("not shown to differ") == 2 * len(found["rows"])
    assert "None" not in lonely


def test_the_shipped_pairs_differ_in_one_thing_and_can_be_built():
    reference = parse(Arm, TABLE["reference"], "reference")

    def shape(arm):
        return parse(Spec, arm.model | SIZE, arm.name)

    for pair in TABLE["pairs"]:
        change = pair.get("of") or pair["against"]
        arm = parse(Arm, merged(TABLE["reference"], change), change["name"])
        differing = {k for k in Arm.model_fields if getattr(arm, k) != getattr(reference, k)}
        assert len(differing - {"short"}) == 2  # of a curriculum, the length of its rows and its share
        assert "name" in differing
        shape(arm)
    dense = next(
        p["against"]["model"] for p in TABLE["pairs"] if p.get("against", {}).get("name") == "dense twin"
    )
    assert dense_twin(shape(reference)).ffn == parse(Spec, reference.model | dense | SIZE, "twin").ffn
    base = merged(TABLE["reference"]["model"], TABLE["decode"]["shape"], SIZE)
    for change in TABLE["decode"]["models"].values():
        parse(Spec, merged(base, change), "decode")


def test_the_panels_are_those_of_the_recipe():
    assert (TABLE["learn"], TABLE["judge"]) == (CPU["panels"]["learn"], CPU["panels"]["judge"])
    shares = next(s for s in CPU["stages"] if s["kind"] == "pretrain")["shares"]
    assert set(TABLE["corpus"]["shares"]) <= set(shares)  # its arms read no conversation


def test_nonsense_is_refused(tmp_path):
    for seconds, seeds in ((0.0, 1), (1.0, 0)):
        with pytest.raises(config.UserError, match="expected at least one seed"):
            truth.run(Series(tmp_path, seconds, seeds))
