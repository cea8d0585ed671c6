"""How far it carries: the rings, what follows from answers whose truth is known, and every branch of the sentence."""

import itertools
import json
import random
import re

import pytest

from nomoat import stats
from nomoat.config import DataError
from nomoat.evals import rings, transfer
from nomoat.files import shipped
from nomoat.report import page
from nomoat.run.directory import Run
from nomoat.tasks import base


class Stage:
    kind, name, tasks = "rl", "rl", {"addition": [2], "ordering": [2]}


class Sft(Stage):
    kind, name, tasks = "sft", "sft", {"addition": [2, 3], "ordering": [2]}


class Recipe:
    """What the suite reads of a recipe."""

    stages = (Sft, Stage)
    stage = staticmethod(lambda name: {"sft": Sft, "rl": Stage}[name])


def config(**more):
    return rings.Config(before="sft", after="rl", quick=True, problems=8, **more)


def result(gains, *, seed=0, n=60, bits=(1.0, 1.03), deep=((8, 2), (8, 2)), cost=True):
    """A result whose models are right with chance 0.4 and 0.4 + gain, part by part."""
    rng = random.Random(f"result/{seed}")
    items, a, b = [], [], []
    for (ring, part), gain in gains.items():
        for i in range(n):
            items.append({"ring": ring, "part": part, "family": "f", "level": 1, "up": 0, "cluster": f"{ring}/{i}"})
            for side, chance in ((a, 0.4), (b, 0.4 + gain)):
                rate = sum(rng.random() < chance for _ in range(16)) / 16
                side.append({"rate": rate, "lenient": rate, "greedy": int(rng.random() < chance), "majority": 1, "ended": 1.0,
                             "length": 9.0, "language": 1.0, "gave": 1.0, "refuses": 0.0, "confidence": 0.5})  # fmt: skip
    model = lambda answers, bit, d: {"answers": answers, "deep": [list(d)] * 20, "bits": {"en": bit, "de": bit},
                                     "distinct": 0.9, "repeats": 0.1}  # fmt: skip
    money = {"flops_executed": 1e15, "device_seconds": 100.0, "joules": 500.0, "money": 0.2, "currency": "EUR"}
    raw = {"config": {"before": "sft", "after": "rl"}, "suite": "s", "seed": seed, "commit": None, "samples": 4, "notes": [],
           "items": items, "models": {"sft": model(a, bits[0], deep[0]), "rl": model(b, bits[1], deep[1])},
           "cost": money if cost else None, "guessed": {"unseen families": None}}  # fmt: skip
    return json.loads(json.dumps(raw | transfer.summary([raw])))


FAR = {("R0", "trained tasks"): 0.3, ("R1", "harder, never shown"): 0.15, ("R2", "German"): 0.3, ("R3", "unseen families"): 0.0}


# --- statistics ---


def test_mcnemar_is_the_binomial_tail_on_both_sides():
    for b, c in itertools.product(range(7), repeat=2):
        tails = [sum(flips) for flips in itertools.product((0, 1), repeat=b + c)]
        extreme = sum(abs(t - (b + c) / 2) >= abs(b - c) / 2 for t in tails) / len(tails)
        assert stats.mcnemar(b, c) == pytest.approx(extreme)


def test_holm_matches_its_textbook_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


def test_curves_cross_where_the_one_before_catches_up():
    assert stats.crossover({1: 0.1, 2: 0.3, 4: 0.5}, {1: 0.3, 2: 0.4, 4: 0.5}) == 4
    assert stats.crossover({1: 0.1, 2: 0.2}, {1: 0.3, 2: 0.4}) is None
    assert stats.crossover({1: 0.5, 2: 0.6}, {1: 0.3, 2: 0.4}) is None  # never behind, so never catching up


def test_pairs_are_drawn_together():
    rows = [(x, x + 0.25) for x in [0.0, 1.0] * 50]
    assert all(b - a == pytest.approx(0.25) for a, b in stats.resampled([rows], draws=50))


def test_seeds_that_differ_widen_the_interval():
    one = transfer.difference([[(0.0, 0.1), (0.0, 0.3)] * 50])
    three = transfer.difference([[(0.0, 0.1 + s), (0.0, 0.3 + s)] * 50 for s in (-0.2, 0.0, 0.2)])
    assert one["delta"] == pytest.approx(three["delta"])
    assert three["high"] - three["low"] > 2 * (one["high"] - one["low"])


def test_a_difference_without_spread_is_not_certain():
    row = transfer.difference([[(0.0, 0.0)] * 20])
    assert row["low"] < 0 < row["high"]
    assert transfer.difference([[(None, 1.0)]])["delta"] is None


def test_calibration_of_an_honest_and_of_a_boastful_model():
    honest = [(0.75, 1)] * 3 + [(0.75, 0)]
    assert rings.calibration(honest)[0] == pytest.approx(0)
    assert rings.calibration([(1.0, 0)] * 4) == (1.0, 1.0)
    assert rings.calibration([]) == (None, None)


def test_a_text_that_says_the_same_again_is_told_from_one_that_does_not():
    assert rings.diversity([list(range(20))]) == (1.0, 0.0)
    distinct, repeats = rings.diversity([[1, 2] * 10])
    assert distinct < 0.2
    assert repeats > 0.8


# --- rings ---


def test_the_suite_is_the_same_every_time_and_new_with_every_seed():
    assert rings.suite_hash(config(), Recipe) == rings.suite_hash(config(), Recipe)
    assert rings.suite_hash(config(), Recipe) != rings.suite_hash(config(seed=2), Recipe)


def test_no_problem_of_the_suite_is_ever_trained_on():
    items, _ = rings.suite(config(), Recipe)
    assert {base.split_of(item.problem) for item in items} == {"eval"}
    cells = [(i.part, i.cluster) for i in items]
    assert len(set(cells)) == len(cells)


def test_rewording_keeps_the_computation():
    items, _ = rings.suite(config(), Recipe)
    trained = {i.cluster for i in items if i.ring == "R0"}
    for item in (i for i in items if i.ring == "R2"):
        assert item.cluster in trained
        assert item.task.check(item.problem, item.problem.witness)
    for part, lang in (("German", "de"), ("English", "en")):
        assert {i.problem.facts["lang"] for i in items if i.part == part} == {lang}


def test_harder_levels_lie_above_and_say_whether_they_were_shown():
    items, _ = rings.suite(config(steps_up=2), Recipe)
    found = {(i.family, i.level, i.part) for i in items if i.ring == "R1"}
    assert ("addition", 3, "harder, shown worked") in found
    assert ("addition", 4, "harder, never shown") in found
    assert {level for family, level, _ in found if family == "addition"} == {3, 4}


def test_asides_hold_nothing_that_a_question_could_be_about():
    words = shipped(rings.__file__)
    for texts in (words["asides"], words["frames"]):
        for text in itertools.chain(*texts.values()):
            assert not re.search(words["given"], text.format(""))
    assert len({len(v) for v in words["asides"].values()}) == 1


def test_a_blanked_question_has_no_numbers_left_and_names_stay():
    problem = base.Problem("Sort: 3, 14, 5 and q r s", "k", "x")
    assert rings.blanked(problem).prompt == "Sort: … and …"
    names = base.Problem("Karl is taller than David.", "k", "x")
    assert rings.blanked(names) is names


def test_unseen_families_are_those_that_no_stage_trained_on():
    items, notes = rings.suite(config(unseen=["addition", "weekday"]), Recipe)
    assert {i.family for i in items if i.ring == "R3"} == {"weekday"}
    assert 0 <= rings.modal_share([i for i in items if i.ring == "R3"]) <= 1
    assert any("R3" in note for note in rings.suite(config(unseen=["addition"]), Recipe)[1])


# --- what follows ---


def test_the_share_that_carries_is_the_ratio_of_the_gains():
    found = {r["part"]: r for r in result(FAR, n=300)["rings"]}
    for part, truth in (("harder, never shown", 0.5), ("unseen families", 0.0), ("German", 1.0)):
        carry, low, high = found[part]["carry"]
        assert low < carry < high
        assert carry == pytest.approx(truth, abs=0.15)


def test_a_rewording_is_held_against_the_same_problems():
    near = {f"{i}": (0.1 + i % 2 if i < 40 else 9.0) for i in range(80)}
    far = {c: g for c, g in near.items() if int(c) < 40}
    carry = transfer._carry([far], [near])
    assert carry == pytest.approx([1.0, 1.0, 1.0])
    assert transfer._carry([dict.fromkeys("ab", 0.0)], [near]) is None  # no spread, so no interval


def test_the_price_is_the_cost_of_the_stage_over_its_points():
    found = result(FAR)
    gain = next(r for r in found["rings"] if r["ring"] == "R0")["delta"]
    assert found["price"]["device_seconds"] == pytest.approx(100 / (100 * gain))
    assert result({("R0", "trained tasks"): 0.0}, n=20)["price"] is None


def test_seeds_combine_and_each_is_shown():
    found = transfer.combine([result(FAR, seed=s) for s in range(3)])
    assert [s["seed"] for s in found["seeds"]] == [0, 1, 2]
    assert all(row["p"] is None for row in found["rings"])
    assert transfer.tables(found)[0].header[-3:] == ("seed 0", "seed 1", "seed 2")
    with pytest.raises(DataError, match="2 suites"):
        transfer.combine([result(FAR), result(FAR) | {"suite": "another"}])


# --- the sentence ---


def test_a_gain_says_how_much_of_it_carried():
    said = transfer.verdict(result(FAR))
    assert said.startswith("RL raised the trained tasks by ")
    assert " (greedy answers: +" in said
    assert said.count("%") == 3
    assert "% [" in said
    assert said.count("of that carried to") == 1
    assert "prose worsened by 0.030 bits per byte" in said
    assert "pass@8 not shown to differ (+0.0 [" in said
    assert said.endswith(".")


def test_a_loss_is_told_as_one():
    said = transfer.verdict(result({("R0", "trained tasks"): -0.3, ("R2", "German"): -0.2}, bits=(1.0, 0.9)))
    assert said.startswith("RL lowered the trained tasks by ")
    assert "German changed by -" in said
    assert "carried" not in said
    assert "prose improved by 0.100" in said


def test_what_could_be_chance_has_nothing_to_carry():
    said = transfer.verdict(result({("R0", "trained tasks"): 0.0, ("R3", "unseen families"): 0.0}, n=20, bits=(1.0, 1.0)))
    assert "which includes 0" in said
    assert "carried" not in said
    assert "prose unchanged" in said


def test_nothing_measured_is_no_verdict():
    assert transfer.verdict(result({})) == "Nothing was measured on the tasks that RL trained on."


def test_more_tries_can_rise_and_fall():
    assert "pass@8 rose (" in transfer.verdict(result(FAR, deep=((8, 0), (8, 4))))
    assert "pass@8 fell (" in transfer.verdict(result(FAR, deep=((8, 4), (8, 0))))


def test_tables_and_section_come_from_json_and_escape_names(tmp_path):
    found = json.loads(json.dumps(result(FAR)).replace('"rl"', '"<b>rl"'))
    run = Run.create(tmp_path, {"name": "r", "stages": [{"kind": "rl"}]})
    (tmp_path / "transfer.json").write_text(json.dumps(found), encoding="utf-8")
    html = page.render(run)
    section = html[html.index("How far does it carry?") :]
    section = section[: section.index("</section>")]
    assert "<b>" not in section
    assert "&lt;b&gt;rl raised the trained tasks by" in section
    assert "<h3>Any of k samples right, %</h3>" in section
    text = "\n\n".join(t.text() for t in transfer.tables(found))
    assert "R3 unseen families" in text
