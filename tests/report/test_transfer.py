"""How far it carries, told: the tables, and every branch of the sentence."""

import json

from nomoat.report import snapshot, transfer
from nomoat.run.directory import Run

GAIN = {("R0", "trained tasks"): 0.3, ("R1", "harder, never shown"): 0.15, ("R2", "German"): 0.3}
FAR = {**GAIN, ("R3", "unseen families"): 0.1}


def difference(delta, half=0.05):
    return {"delta": delta, "low": delta - half, "high": delta + half}


def result(gains, *, bits=(1.0, 1.03), tries=0.0):
    """A measured result in which parts changed by so much, each by 10 points more or less."""
    trained = gains.get(("R0", "trained tasks"))
    rings = []
    for (ring, part), delta in gains.items():
        carry = [delta / trained, 0.1, 1.2] if ring != "R0" and trained > 0.05 else None
        more = {"greedy": difference(delta), "p": 1e-4, "carry": carry}
        sides = {"n": 60, "before": 0.4, "after": 0.4 + delta}
        rings.append({"ring": ring, "part": part, **sides, **difference(delta), **more})
    before, after = ({"bits": {"en": b, "de": b}, "bpb": b, "distinct": 0.9, "repeats": None} for b in bits)
    row = {"n": 20, "before": 0.4, "after": 0.4 + tries, **difference(tries)}
    honest = {"ece": 0.1, "brier": 0.2, "gave": None, "refuses": 0.0}
    votes = {"value": 0.5, **difference(0.1)}
    return {
        "before": "sft",
        "after": "rl",
        "rings": rings,
        "notes": [],
        "guessed": {"unseen families": 0.1},
        "form": {key: [0.4, 0.5] for key in ("rate", "lenient", "ended", "language", "length")},
        "steps": {"0": [0.4, 0.7], "1": [0.2, 0.3]},
        "honesty": {"sft": honest, "rl": honest},
        "texts": {"sft": before, "rl": after},
        "pass": {"at": dict.fromkeys(("1", "8", "64"), row), "crossover": 8},
        "controls": [
            {"model": "sft, majority of 4", "bpb": 1.0, "R0": votes},
            {"model": "rl", "flops": 1e15, "bpb": 1.0},
        ],
        "price": None,
    }


def test_a_gain_says_how_much_of_it_carried():
    said = transfer.verdict(result(FAR))
    assert said == (
        "RL raised the trained tasks by 30.0 points [25.0, 35.0] (greedy answers: +30.0 [25.0, 35.0]); "
        "50 % [10, 120] of that carried to harder levels, 100 % [10, 120] to German, "
        "33 % [10, 120] to unseen families; "
        "prose worsened by 0.030 bits per byte; pass@8 not shown to differ (+0.0 [-5.0, 5.0])."
    )


def test_a_loss_is_told_as_one():
    said = transfer.verdict(result({("R0", "trained tasks"): -0.3, ("R2", "German"): -0.2}, bits=(1.0, 0.9)))
    assert said.startswith("RL lowered the trained tasks by 30.0 points [25.0, 35.0] (greedy answers: -30.0")
    assert "German changed by -20.0" in said
    assert "carried" not in said
    assert "prose improved by 0.100" in said


def test_what_could_be_chance_has_nothing_to_carry():
    said = transfer.verdict(
        result({("R0", "trained tasks"): 0.01, ("R3", "unseen families"): 0.0}, bits=(1.0, 1.0))
    )
    assert "changed the trained tasks by +1.0 points [-4.0, 6.0], which includes 0" in said
    assert "unseen families changed by +0.0" in said
    assert "carried" not in said
    assert "prose unchanged" in said


def test_nothing_measured_is_no_verdict():
    assert transfer.verdict(result({})) == "Nothing was measured on the tasks that RL trained on."


def test_more_tries_can_rise_and_fall():
    assert "pass@8 rose (" in transfer.verdict(result(GAIN, tries=0.2))
    assert "pass@8 fell (" in transfer.verdict(result(GAIN, tries=-0.2))


def test_tables_show_every_ring_and_leave_out_what_was_not_measured():
    rings, levels, tries, form, texts, held = transfer.tables(result(FAR))
    assert rings.rows[0] == (
        "R0 trained tasks", "60", "40.0", "70.0", "+30.0 [25.0, 35.0]", "", "+30.0 [25.0, 35.0]", "< 0.001",
    )  # fmt: skip
    assert [row[0] for row in levels.rows] == ["trained", "+1"]
    assert tries.note == "20 trained-task problems; from k = 8 on sft is no worse."
    assert ("answers the unanswerable, %", "", "") in form.rows
    assert ("Brier score", "0.200", "0.200") in form.rows
    assert texts.rows[1] == ("rl", "1.030", "1.030", "+0.030", "90.0", "")
    assert held.rows[0] == ("sft, majority of 4", "", "50.0 (+10.0 [5.0, 15.0])", "", "", "1.000")


def test_a_price_is_told_where_there_is_one():
    price = {"flops_executed": 1e12, "device_seconds": 3.0, "joules": 5.0, "money": 0.2, "currency": "EUR"}
    last = transfer.tables({**result(FAR), "price": price})[-1]
    assert last.header[-1] == "EUR"
    assert last.rows == (("1 TFLOPs", "3.0 s", "5 J", "0.20"),)


def test_the_page_has_what_was_measured_and_its_sentence(tmp_path):
    run = Run.create(tmp_path, {"name": "r", "stages": [{"kind": "rl"}]})
    assert snapshot.snapshot(run)["transfer"] is None
    found = json.loads(json.dumps(result(FAR)))
    (tmp_path / "transfer.json").write_text(json.dumps(found), encoding="utf-8")
    shown = snapshot.snapshot(run)["transfer"]
    assert shown["result"] == found
    assert shown["verdict"].startswith("RL raised the trained tasks by 30.0")
