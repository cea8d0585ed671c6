"""Kneser-Ney: the sorted tables agree with the definition written out, and probabilities sum to one."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from nomoat.data import ngram

TEXT = (
    b"the cat sat on the mat. the dog sat on the log. a cat and a dog met on the mat, and the cat ran.\n"
    b"that man had a hat; the hat was on the cat. no dog has a hat. the log rolled on and on.\n"
) * 2
HELD_OUT = b"a dog sat on the hat, and the man met the cat. XYZ\n"


def written_out(text, order):
    """p(byte | context) straight from the definitions (K1) to (K3)."""
    padded = b"\n" * (order - 1) + text
    counts = {order: Counter(padded[i : i + order] for i in range(len(text)))}
    for k in range(order - 1, 0, -1):
        before = defaultdict(set)
        for gram in counts[k + 1]:
            before[gram[1:]].add(gram[0])
        counts[k] = Counter({gram: len(bytes_before) for gram, bytes_before in before.items()})
    discounts = {}
    for k, table in counts.items():
        n = [sum(c == i for c in table.values()) for i in range(5)]
        discounts[k] = [0, 0.5, 0.5, 0.5]
        if min(n[1:4]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            for i in (1, 2, 3):
                d = i - (i + 1) * y * n[i + 1] / n[i]
                if 0 < d <= i:
                    discounts[k][i] = d

    def p(context, byte, k):
        if k == 0:
            return 1 / 256
        context = context[len(context) - (k - 1) :]
        followers = {g[-1]: c for g, c in counts[k].items() if g[:-1] == context}
        below = p(context[1:], byte, k - 1)
        if not followers:
            return below
        total = sum(followers.values())
        left = sum(discounts[k][min(c, 3)] for c in followers.values()) / total
        c = followers.get(byte, 0)
        return max(c - discounts[k][min(c, 3)], 0) / total + left * below

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_the_definition(order):
    p = written_out(TEXT, order)
    padded = b"\n" * (order - 1) + HELD_OUT
    expected = [
        math.log2(p(padded[i : i + order - 1], padded[i + order - 1], order)) for i in range(len(HELD_OUT))
    ]
    model = ngram.train(TEXT, order)
    np.testing.assert_allclose(ngram.log2_probabilities(model, HELD_OUT), expected, rtol=1e-12)
    assert ngram.bits_per_byte(model, HELD_OUT) == pytest.approx(-sum(expected) / len(expected))


@pytest.mark.parametrize("context", [b"the ", b"cat a", b"\x00\xff\x00\xff", b""])
def test_probabilities_sum_to_one(context):
    model = ngram.train(TEXT, 5)
    total = sum(2 ** ngram.log2_probabilities(model, context + bytes([byte]))[-1] for byte in range(256))
    assert total == pytest.approx(1, abs=1e-9)


def test_more_context_helps_and_nothing_is_impossible():
    bits = [ngram.bits_per_byte(ngram.train(TEXT, order), HELD_OUT[:46]) for order in (1, 2, 3)]
    assert bits[0] > bits[1] > bits[2]
    assert math.isfinite(ngram.bits_per_byte(ngram.train(TEXT, 8), bytes(range(256))))


def test_order_is_bounded():
    with pytest.raises(ValueError, match="expected 1 to 8"):
        ngram.train(TEXT, 9)
