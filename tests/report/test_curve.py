"""The course of a stage: which steps are looked at."""

from nomoat.report import curve


def test_tenths_are_the_ends_and_the_middle():
    assert [list(part) for part in curve.tenths(range(100))] == [
        list(range(10)), list(range(45, 55)), list(range(90, 100))]  # fmt: skip
    assert curve.tenths([7]) == [[7]] * 3
