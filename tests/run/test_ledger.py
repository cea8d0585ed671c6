"""The receipt is the log, added up exactly."""

from dataclasses import asdict
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomoat.config import ConfigError, DataError, parse
from nomoat.report.receipt import receipt_table
from nomoat.run.directory import Run
from nomoat.run.ledger import Prices, exact_sum, read_prices, receipt, shares

PRICES = read_prices()
KEYS = ("tokens", "flops_model", "flops_executed", "seconds", "joules")

numbers = st.one_of(
    st.none(), st.integers(0, 2**80), st.floats(0, 1e30, allow_nan=False), st.floats(0, 1e-9, allow_nan=False)
)
records = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["step", "work", "note", "score"]),
            "stage": st.sampled_from(["a", "b", "c"]),
        }
        | dict.fromkeys(KEYS, numbers)
        | {"step": st.just(1), "name": st.just("n"), "value": st.just(0.5)}
    ),
    max_size=30,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records)
def test_every_figure_is_the_exact_sum_of_the_log(events):
    bill = receipt(events)
    for key in KEYS[:4]:
        cost = [e for e in events if e["kind"] in ("step", "work")]
        exact = sum((Fraction(e[key]) for e in cost if e[key] is not None), Fraction(0))
        total = getattr(bill.total, key)
        assert total == exact if isinstance(total, int) else total == float(exact)
        for row in bill.rows:
            part = sum(
                (Fraction(e[key]) for e in cost if e["stage"] == row.stage and e[key] is not None),
                Fraction(0),
            )
            assert getattr(row, key) in (part, float(part))
    assert [r.stage for r in bill.rows] == list(dict.fromkeys(e["stage"] for e in events))


def test_whole_numbers_stay_whole_beyond_a_doubles_reach():
    assert exact_sum([2**60, 1, None, 2**70]) == 2**60 + 2**70 + 1
    assert exact_sum([0.1] * 10) == 1.0
    assert exact_sum([1e16, 1, -1e16]) == 1
    assert exact_sum([]) == 0
    for bad in (float("nan"), float("inf"), "12 tokens"):
        with pytest.raises(DataError, match="mend that line"):
            exact_sum([1, bad])


def test_a_run_on_disk_gives_its_receipt(tmp_path):
    run = Run.create(tmp_path, {})
    run.log("stage_start", stage="pretrain", config={})
    for step in (1, 2, 2):
        if step == 2:
            run.log("resume", stage="pretrain", step=1)
        run.log("step", stage="pretrain", step=step, seconds=0.5, tokens=10, flops_model=2**60 + 1, flops_executed=7,
                joules=3.5, joules_source="measured:rapl")  # fmt: skip
    run.log("stage_end", stage="pretrain", outputs={"bought": "1.98 bits per byte"})
    run.log("work", stage="eval", what="panel", seconds=2.0)
    run.log("score", stage="eval", name="accuracy/sort", value=0.9)
    bill = receipt(run.events(), units=2)
    first, second = bill.rows
    assert (first.tokens, first.flops_model, first.flops_executed) == (30, 3 * (2**60 + 1), 21)
    assert (first.seconds, first.redone_seconds, first.device_seconds) == (1.5, 0.5, 3.0)
    assert (first.joules, first.joules_source, first.bought) == (10.5, "measured:rapl", "1.98 bits per byte")
    assert (second.joules, second.joules_source) == (2.0 * 2 * PRICES.device("cpu").watts, "estimated")
    assert second.bought == "accuracy/sort 0.9"
    assert bill.total.joules == first.joules + second.joules
    assert bill.total.joules_source == "estimated + measured:rapl"
    assert asdict(bill)["rows"][0]["flops_model"] == 3 * (2**60 + 1)
    assert asdict(bill)["prices_date"] == PRICES.date
    table = receipt_table(bill)
    assert len(table.rows) == 3
    assert all(len(row) == len(table.header) == 9 for row in table.rows)


def test_a_run_that_went_on_elsewhere_is_billed_by_what_it_ran_on():
    second = {"kind": "work", "stage": "s", "what": "x", "seconds": 1.0}
    start = {"kind": "stage_start", "stage": "s", "device": "cpu", "units": 1}
    went_on = {"kind": "continue", "changes": ["threads: the run has 1, the recipe now has 4"]}
    bill = receipt([start, second, went_on, {"kind": "machine", "device": "cpu", "units": 4}, second,
                    {"kind": "machine", "device": "h800", "units": 2}, second])  # fmt: skip
    cpu, card = PRICES.device("cpu"), PRICES.device("h800")
    assert bill.total.device_seconds == 1 + 4 + 2
    assert bill.total.joules == pytest.approx(5 * cpu.watts + 2 * card.watts)
    assert bill.total.money == pytest.approx(5 * cpu.watts / 3.6e6 * PRICES.per_kwh + 2 / 3600 * card.per_hour)
    note = " ".join(receipt_table(bill).note.split())
    assert "1 cpu unit, then 4 cpu units, then 2 h800 units" in note
    assert "went on under changes, not to the same bits: threads: the run has 1" in note


def test_money_is_electricity_and_device_hours_and_never_both_for_a_rented_one():
    hour = [{"kind": "work", "stage": "s", "what": "x", "seconds": 3600, "joules": 3.6e6}]
    assert receipt(hour).total.money == pytest.approx(PRICES.per_kwh)
    amortised = PRICES.device("cpu-amortised").per_hour
    assert receipt(hour, device="cpu-amortised", units=2).total.money == pytest.approx(
        PRICES.per_kwh + 2 * amortised
    )
    assert receipt(hour, device="h800", units=8).total.money == pytest.approx(8 * 2.0)
    with pytest.raises(ConfigError, match="h800"):
        receipt(hour, device="h80")


def test_prices_are_dated_and_sourced_and_strict():
    assert len(PRICES.date) == 10
    assert all(d.watts > 0 and d.watts_source and d.per_hour_source for d in PRICES.devices.values())
    assert PRICES.device("cpu").per_hour == 0
    with pytest.raises(ConfigError, match="per_kwhh"):
        parse(Prices, {**PRICES.model_dump(), "per_kwhh": 3}, "prices")


def test_their_table_is_the_published_one_and_ours_stands_beside():
    assert sum(p.hours for p in PRICES.published if "V3" in p.what) == 2_788_000
    assert sum(p.hours for p in PRICES.published if "R1" in p.what) == 147_000
    names = {"tokenizer": 1, "pretrain": 5, "extend": 2, "sft": 1, "rl2": 0.5, "student": 0.5, "eval": 100}
    events = [{"kind": "work", "stage": name, "what": "x", "seconds": s} for name, s in names.items()]
    table = {
        s.part: s
        for s in shares(receipt(events), {n: n for n in names} | {"rl2": "rl", "student": "distill"})
    }
    assert {part: s.seconds for part, s in table.items()} == {"pretrain": 6, "extend": 2, "post-train": 2}
    assert table["pretrain"].ours == pytest.approx(0.6)
    assert table["post-train"].stages == ("sft", "rl2", "student")
    assert sum(s.theirs for s in table.values()) == pytest.approx(1)
    assert table["post-train"].theirs == 152 / 2935
    assert all(s.ours is None for s in shares(receipt([]), {}))
