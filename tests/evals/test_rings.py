"""The rings: the same problems every time, none of them trained on."""

import itertools
import re

from nomoat.evals import rings
from nomoat.tasks import base

TAUGHT = rings.Taught(
    trained={"addition": [2], "ordering": [2]},
    shown=frozenset({("addition", 2), ("addition", 3), ("ordering", 2)}),
)


def suite(**more):
    return rings.suite(rings.Config(before="sft", after="rl", quick=True, problems=8, **more), TAUGHT)


def test_the_suite_is_the_same_every_time_and_new_with_every_seed():
    assert suite().fingerprint == suite().fingerprint
    assert suite().fingerprint != suite(seed=2).fingerprint


def test_no_problem_of_the_suite_is_ever_trained_on():
    items = suite().items
    assert {base.split_of(item.exercise.problem) for item in items} == {"eval"}
    cells = [(i.part, i.cluster) for i in items]
    assert len(set(cells)) == len(cells)


def test_rewording_keeps_the_computation():
    items = suite().items
    trained = {i.cluster for i in items if i.ring == "R0"}
    for item in (i for i in items if i.ring == "R2"):
        assert item.cluster in trained
        assert item.exercise.task.check(item.exercise.problem, item.exercise.problem.witness)
    for part, lang in (("German", "de"), ("English", "en")):
        assert {i.exercise.problem.facts["lang"] for i in items if i.part == part} == {lang}


def test_harder_levels_lie_above_and_say_whether_they_were_shown():
    items = suite(steps_up=2).items
    found = {(i.exercise.family, i.exercise.level, i.part) for i in items if i.ring == "R1"}
    assert ("addition", 3, "harder, shown worked") in found
    assert ("addition", 4, "harder, never shown") in found
    assert {level for family, level, _ in found if family == "addition"} == {3, 4}


def test_asides_hold_nothing_that_a_question_could_be_about():
    for texts in (rings.ASIDES, rings.FRAMES):
        for text in itertools.chain(*texts.values()):
            assert not re.search(rings.GIVEN, text.format(""))
    assert len({len(v) for v in rings.ASIDES.values()}) == 1


def test_a_blanked_question_has_no_numbers_left_and_names_stay():
    problem = base.Problem("Sort: 3, 14, 5 and q r s", "k", "x")
    assert rings.blanked(problem).prompt == "Sort: … and …"
    names = base.Problem("Karl is taller than David.", "k", "x")
    assert rings.blanked(names) is None


def test_unseen_families_are_those_that_no_stage_trained_on():
    items = suite(unseen=["addition", "weekday"]).items
    assert {i.exercise.family for i in items if i.ring == "R3"} == {"weekday"}
    assert 0 <= rings.modal_share([i for i in items if i.ring == "R3"]) <= 1
    assert any("R3" in note for note in suite(unseen=["addition"]).notes)
