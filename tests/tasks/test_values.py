"""Each rule of what is left undone, at its own operation and at the nearest one that is done."""

import pytest

from nomoat.tasks import exact, values


@pytest.mark.parametrize(
    ("rule", "undone", "done"),
    [
        ("like_terms", "17+25", r"1+\sqrt{2}"),
        ("power", "2^{10}", r"\pi^2"),
        ("product", "6*7", r"6\sqrt{7}"),
        ("quotient", "84/2", "84/5"),
        ("mixed_number", "1 2/4", "1 1/2"),
        ("root", r"\sqrt{12}", r"\sqrt{3}"),
    ],
)
def test_each_rule_counts_its_own_operation_alone(rule, undone, done, monkeypatch):
    assert exact.parse(undone).undone == 1
    assert exact.parse(done).undone == 0
    monkeypatch.setattr(values, rule, lambda *of: False)
    assert exact.parse(undone).undone == 0
