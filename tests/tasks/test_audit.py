"""Labelled answers bound the errors of the exact comparison; golds are themselves and no others."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import audit, exact


@pytest.fixture(scope="module")
def found():
    return audit.audit(every=12)


def test_the_labelled_answers_are_judged_as_they_are_labelled(found):
    (accepted, wrong), (rejected, right) = found.accepted, found.rejected
    assert wrong >= 1500
    assert right >= 1000
    assert accepted == 0
    assert rejected / right < 0.01
    text = found.text()
    assert f"wrong answers accepted: 0 of {wrong}, 0.00% (95 %: 0.00% to 0." in text
    assert len(text.splitlines()) == 4 + len(found.errors)


def test_a_share_of_the_golds_are_themselves_in_every_dressing_and_no_others(found):
    assert found.undressed[0] == found.confused[0] == 0
    assert found.undressed[1] == 10 * 48


@pytest.mark.check
def test_all_golds_are_themselves_in_every_dressing_and_no_others():
    everything = audit.audit()
    assert everything.undressed == (0, 5750)
    assert everything.confused == (0, 575 * 574)


def test_an_error_of_each_kind_is_counted(monkeypatch):
    monkeypatch.setattr(audit.exact, "equal", lambda *of, **options: True)
    monkeypatch.setattr(audit.exact, "matched", lambda *of: (True, ""))
    lax = audit.audit(every=50)
    assert lax.accepted[0] == lax.accepted[1]
    assert lax.confused[0] > 0
    monkeypatch.setattr(audit.exact, "equal", lambda *of, **options: False)
    hard = audit.audit(every=50)
    assert (hard.rejected[0], hard.undressed[0]) == (hard.rejected[1], hard.undressed[1])


def test_the_labelled_answers_are_many_kinds_and_no_pair_twice():
    rows = audit.table("answers.jsonl")
    options = ("lang", "units", "question")
    assert len({(r["expected"], r["answer"], *(str(r.get(o)) for o in options)) for r in rows}) == len(rows)
    assert len(Counter(r["kind"] for r in rows)) >= 30
    assert {type(r["equal"]) for r in rows} == {bool}


def test_golds_are_listed_once_and_name_their_likes():
    golds = audit.table("golds.jsonl")
    texts = [row["gold"] for row in golds]
    assert len(set(texts)) == len(texts)
    assert {row["of"] for row in golds} == {"MATH-500", "GSM8K"}
    assert all(texts.index(row.get("same", row["gold"])) <= i for i, row in enumerate(golds))


TEXT = st.text("0123456789.,+-*/^()[]{}%$= \\x!|mhUABor≤<∞", max_size=30)
# Rules about what an answer has to be, not about equality.
ROLES = ("worked out", "denies", "one box", "no formula", "same product", "same list")


def alike_both_ways(a, b, **options):
    one, other = exact.compared(a, b, **options), exact.compared(b, a, **options)
    of_role = any(role in rule for _, rule in (one, other) for role in ROLES)
    assert one[0] == other[0] or of_role, (a, b, one, other)


def test_equality_is_symmetric_over_the_labelled_answers():
    for row in audit.table("answers.jsonl"):
        options = {"units": row.get("units"), "lang": row.get("lang", "en")}
        options["question"] = row.get("question", "")
        alike_both_ways(row["answer"], row["expected"], **options)


@pytest.mark.check
def test_equality_is_symmetric_over_all_golds_in_every_dressing():
    for row in audit.table("golds.jsonl"):
        for dress in audit.DRESSINGS.values():
            alike_both_ways(row["gold"], dress(row["gold"]))


@given(TEXT, TEXT)
@settings(max_examples=200, deadline=None)
def test_equality_is_symmetric_over_any_text(a, b):
    alike_both_ways(a, b)
    alike_both_ways(a, f"({a})")
