"""What is kept of a model's answers and of its own texts."""

from nomoat.evals import transfer


def test_a_text_that_says_the_same_again_is_told_from_one_that_does_not():
    assert transfer.distinct([list(range(20))]) == 1.0
    assert transfer.repeats([list(range(20))]) == 0.0
    assert transfer.distinct([[1, 2] * 10]) < 0.2
    assert transfer.repeats([[1, 2] * 10]) > 0.8
