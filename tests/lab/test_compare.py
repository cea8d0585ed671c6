"""Side by side: fair turns, equal data, and a factor that is what the figures say."""

import json
import math

import pytest
import torch

from nomoat.config import ConfigError
from nomoat.data.packing import IGNORED
from nomoat.lab import compare
from nomoat.lab.arms import SLICES, Arm, Trial, build, calibrate, race
from nomoat.lab.corpus import Corpus
from nomoat.lab.gpt2 import Gpt2, spec_of
from nomoat.lab.series import Series
from nomoat.model import counts
from nomoat.model.spec import Kernels
from nomoat.run.energy import Energy
from nomoat.train.optim import OptimConfig, Optimizer

SMALL = {"n_layers": 1, "d_model": 16, "n_heads": 2}
LATENT = {
    "n_layers": 1, "d_model": 16, "init_std": 0.25, "ffn": {"kind": "dense", "d_hidden": 32},
    "attention": {"kind": "latent", "n_heads": 2, "d_nope": 4, "d_rope": 4, "d_value": 8, "d_kv_latent": 8},
}  # fmt: skip
COOKBOOK = Arm(
    name="cookbook", block="gpt2", model=SMALL, optim=OptimConfig(matrices="adamw"), rows=2, context=32
)
OWN = Arm(name="own", model=LATENT, rows=2, context=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    text = root / "text.txt"
    text.write_text(
        "\f\n".join(f"The {n}th sentence says that {n} and {n} are {2 * n}." * (n % 9 + 1) for n in range(90))
    )
    return Corpus.make(root / "made", text=str(text), vocab_size=300, heldout_bytes=2000)


def trial(arm, corpus, n_steps=4, seed=0):
    return Trial(arm, corpus, seed, n_steps, Energy("cpu"))


def test_a_corpus_is_the_text_that_it_was_made_of(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one fish two fish\n" * 20)
    made = {"text": str(text), "vocab_size": 270, "heldout_bytes": 200}
    Corpus.make(tmp_path / "made", **made)
    Corpus.make(tmp_path / "made", **made)
    text.write_text("red fish blue fish\n" * 20)
    with pytest.raises(ConfigError, match="made was made of other text"):
        Corpus.make(tmp_path / "made", **made)


def test_the_cookbook_counts_its_parameters_and_sees_no_future():
    spec = spec_of(vocab_size=50, context=16, **SMALL)
    model = Gpt2(spec).initialise(0)
    assert sum(p.numel() for p in model.parameters()) == counts.params_total(spec)
    ids_BT = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(0))
    changed_BT = ids_BT.clone()
    changed_BT[:, 9:] = (changed_BT[:, 9:] + 1) % 50
    before, after = model(ids_BT), model(changed_BT)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_the_cookbooks_attention_is_the_textbooks():
    ids_BT = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(1))
    spec = spec_of(vocab_size=50, context=16, **SMALL)
    plain, fused = (Gpt2(spec, Kernels(attention=a)).initialise(0) for a in ("plain", "fused"))
    assert torch.allclose(plain(ids_BT), fused(ids_BT), atol=1e-5)


def test_the_cookbooks_flops_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    spec = spec_of(vocab_size=50, context=16, **SMALL)
    model = Gpt2(spec).initialise(0)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 16, dtype=torch.int64))
    assert counter.get_total_flops() * 3 == pytest.approx(2 * 16 * counts.flops_train(spec, 16), rel=1e-6)


def test_embeddings_are_no_hidden_matrices():
    names = Optimizer(Gpt2(spec_of(vocab_size=50, context=16, **SMALL)).initialise(0), OptimConfig()).muon
    assert sorted(n.split(".")[-2] for n in names) == ["w_down", "w_o", "w_qkv", "w_up"]


def test_every_shipped_arm_can_be_built(corpus):
    for arm in compare.arms(waterfall=True):
        assert build(arm, corpus, 0).spec.vocab_size == corpus.tokenizer.vocab_size
    assert {"B0", "B1", "ours at 1/10"} <= {arm.name for arm in compare.arms()}


def test_arms_of_one_seed_read_the_same_rows(corpus):
    own, cookbook = trial(OWN, corpus), trial(COOKBOOK, corpus)
    assert torch.equal(own.batch().ids_BT, cookbook.batch().ids_BT)
    assert not torch.equal(own.batch().ids_BT, trial(OWN, corpus, seed=1).batch().ids_BT)


def test_a_stream_predicts_across_documents(corpus):
    many = OWN.model_copy(update={"rows": 60})
    whole = trial(many.model_copy(update={"packing": "stream"}), corpus).batch()
    apart = trial(many, corpus).batch()
    assert torch.equal(whole.ids_BT, apart.ids_BT)
    assert (whole.targets_BT[:, :-1] == whole.ids_BT[:, 1:]).all()
    assert whole.doc_BT.unique().tolist() == [0]
    ends = (apart.targets_BT[:, :-1] == IGNORED) & (apart.ids_BT[:, 1:] != 0)
    assert ends.any()  # where a document ends and another follows, one learns to go on and the other does not


def test_short_rows_first_hold_as_many_tokens(corpus):
    arm = OWN.model_copy(update={"short_context": 8, "short": 0.5})
    found = trial(arm, corpus, n_steps=4)
    shapes = []
    for found.steps in range(4):
        shapes.append(tuple(found.batch().ids_BT.shape))
    assert shapes == [(8, 8), (8, 8), (2, 32), (2, 32)]


def test_a_race_gives_turns_by_progress_and_finishes_all(corpus):
    trials = [trial(OWN, corpus, 30), trial(COOKBOOK, corpus, 10)]
    gaps = []
    race(trials, lambda share: gaps.append(abs(trials[0].steps / 30 - trials[1].steps / 10)))
    assert [t.steps for t in trials] == [30, 10]
    assert max(gaps) <= max(1 / SLICES, 1 / 10) + 1e-9
    assert all(t.seconds > 0 and t.joules > 0 and t.tokens == t.steps * 64 for t in trials)


def test_a_trial_learns_and_tells_what_it_cost(corpus):
    for arm in (OWN, COOKBOOK):
        taught = trial(arm, corpus, 30)
        race([taught])
        losses = [loss for _, _, loss in taught.curve]
        assert sum(losses[-5:]) < sum(losses[:5]) - 1
        last = taught.result()
        assert last["flops"] > 30 * 64 * counts.flops_train(build(arm, corpus, 0).spec, 16.5)
        assert json.loads(json.dumps(last))["arm"] == arm.name


def test_steps_fill_the_share_of_the_budget(corpus):
    shares = {"whole": 1.0, "half": 0.5}
    steps = calibrate(
        [OWN.model_copy(update={"name": n, "share": s}) for n, s in shares.items()], corpus, 60.0
    )
    assert steps["whole"] == pytest.approx(2 * steps["half"], abs=1)  # one shape, one measurement


def rows(name, cost, bpb, seeds=(0.0, 0.001, -0.001)):
    same = {"arm": name, "state_bytes": 1, "params_total": 1, "joules_source": "estimated"}
    costs = dict.fromkeys(compare.METRICS, cost)
    return [{**same, **costs, "seed": i, "bpb": bpb + error} for i, error in enumerate(seeds)]


def law(cost):
    return 3 - 0.2 * math.log(cost)


def sweep(law):
    return [rows(compare.at(s), 100 * s, law(100 * s)) for s in (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)]


def test_a_factor_is_the_ratio_of_costs_at_equal_quality():
    found = compare.factor(rows("B", 100, law(12.5)), sweep(law), "seconds")
    assert found["bound"] == "="
    assert found["value"] == pytest.approx(8, rel=1e-6)
    assert found["low"] <= found["value"] <= found["high"]


def test_seeds_that_disagree_widen_the_interval():
    one, other = (
        compare.factor(rows("B", 100, law(12.5), s), sweep(law), "flops")
        for s in ((0.0,) * 3, (0.0, 0.01, -0.02))
    )
    assert one["high"] - one["low"] < other["high"] - other["low"]


def test_a_factor_outside_the_sweep_is_a_bound():
    easy, hard = (compare.factor(rows("B", 100, law(x)), sweep(law), "flops") for x in (1, 90))
    assert (easy["bound"], easy["value"]) == (">", pytest.approx(80))
    assert (hard["bound"], hard["value"]) == ("<", pytest.approx(2.5))


def test_a_gain_beyond_the_smallest_run_is_a_bound():
    arms = {compare.at(share): rows("", 100 * share, law(100 * share)) for share in (0.4, 0.2, 0.1, 0.05)}
    arms |= {"B1": rows("", 100, 3.0), compare.at(0.2, "B1"): rows("", 20, 3.3)}
    arms |= {"short, off": rows("", 20, law(10)), "wide, off": rows("", 20, law(1))}
    table = {"waterfall_share": 0.2, "shares": [0.4, 0.2, 0.1, 0.05]}
    table["savings"] = [{"name": "short", "off": {}}, {"name": "wide", "off": {}}]
    some, much = compare.waterfall_of(table, arms)
    assert some["ours"]["gain"] == pytest.approx(2)  # half the budget reaches as far with it
    assert some["ours"]["known"] == pytest.approx(4)  # the smallest run is that much smaller
    assert compare.gain_cell(some["ours"]).startswith("2.00 (")
    assert compare.gain_cell(much["ours"]) == "> 4 off"


def test_tables_and_plot_come_from_the_results_alone(tmp_path):
    found = [r for b in ("B0", "B0-small", "B1") for r in rows(b, 100, law(20))] + [
        r for rs in sweep(law) for r in rs
    ]
    found = {"results": found, **compare.findings(found)}
    text = "\n".join(table.text() for table in compare.tables(found))
    assert "5.0 [" in text
    compare.plot(found, tmp_path / "x.svg")
    assert "</svg>" in (tmp_path / "x.svg").read_text()


@pytest.mark.check
def test_a_comparison_goes_on_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "arms", lambda waterfall: [OWN, COOKBOOK])
    monkeypatch.setattr(compare, "findings", lambda results: {})
    text = tmp_path / "text.txt"
    text.write_text("What is said once is said again and again. " * 400)

    def go(seeds, seconds=0.2):
        return compare.run(Series(tmp_path / "out", seconds, seeds, str(text)))

    first = go(1)["results"]
    both = go(2)["results"]
    assert both[:2] == first
    assert [r["seed"] for r in both] == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="another comparison"):
        go(2, 0.4)
