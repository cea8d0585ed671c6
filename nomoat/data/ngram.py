"""What a language model has to beat: byte n-grams with interpolated modified Kneser-Ney smoothing.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (TR-10-98, Harvard,
1998), section 3.  With h a context of k - 1 bytes, h' the same without its first byte, and a(.) the counts of
the order:

    p_k(w | h) = max(a(hw) - D(a(hw)), 0) / sum_v a(hv) + g(h) p_{k-1}(w | h')  (K1)
    g(h)       = (D1 N1(h) + D2 N2(h) + D3 N3+(h)) / sum_v a(hv)  (K2)
    Y = n1 / (n1 + 2 n2),  D1 = 1 - 2 Y n2/n1,  D2 = 2 - 3 Y n3/n2,  D3 = 3 - 4 Y n4/n3  (K3)

a is the number of occurrences at the highest order and of distinct bytes before hw at the lower ones.  Below
order one stands the uniform distribution over 256 bytes, so that no byte is impossible.  An n-gram is an
integer, its bytes in order, so counting is sorting.
"""

from dataclasses import dataclass

import numpy as np

MAX_ORDER = 8  # bytes in a uint64


@dataclass(frozen=True)
class Order:
    """One order's tables, sorted: grams with their discounted probability, contexts with what they leave
    below.
    """

    grams: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left: np.ndarray  # g(h)


Model = tuple[Order, ...]  # from order 1 up


def train(text: bytes, order: int = 5) -> Model:
    """The model of a text; about a second a million bytes at order 5."""
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order {order}; expected 1 to {MAX_ORDER}")
    grams, counts = np.unique(_keys(text, order), return_counts=True)
    orders = [_order(grams, counts)]
    for k in range(order - 1, 0, -1):
        last_k_bytes = 2 ** (8 * k) - 1
        grams, counts = np.unique(grams & last_k_bytes, return_counts=True)
        orders.append(_order(grams, counts))
    return tuple(reversed(orders))


def log2_probabilities(model: Model, text: bytes) -> np.ndarray:
    """log2 of the probability of each byte after those before it."""
    p = np.full(len(text), 1 / 256)
    for k, order in enumerate(model, 1):
        keys = _keys(text, k)
        grams, back = np.unique(keys, return_inverse=True)
        place, has_context = _find(order.contexts, grams >> 8)
        left = np.where(has_context, order.left[place], 1.0)  # g(h)
        place, has_gram = _find(order.grams, grams)
        discounted = np.where(has_gram, order.discounted[place], 0.0)
        p *= left[back]
        p += discounted[back]  # (K1)
    return np.log2(p)


def bits_per_byte(model: Model, text: bytes) -> float:
    """The mean cost of a byte of held-out text."""
    return float(-log2_probabilities(model, text).mean())


def _keys(text: bytes, k: int) -> np.ndarray:
    """At each byte, the integer of the k bytes that end there; line ends stand before the text."""
    padded = np.frombuffer(b"\n" * (k - 1) + text, np.uint8)
    keys = np.zeros(len(text), np.uint64)
    for i in range(k):
        keys = (keys << 8) | padded[i : i + len(text)]
    return keys


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place, whether it is there) of each key in a sorted table."""
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return place, table[place] == keys


def _order(grams: np.ndarray, counts: np.ndarray) -> Order:
    """The tables of an order: all grams that end a text's bytes, sorted, and how often each is counted."""
    discounts = _discounts(counts)
    taken = discounts[np.minimum(counts, 3)]
    contexts, first = np.unique(grams >> 8, return_index=True)
    n_grams = np.diff(first, append=len(grams))  # of each context
    total = np.add.reduceat(counts, first).astype(np.float64)
    all_taken = np.add.reduceat(taken, first)
    left = all_taken / total  # (K2)
    discounted = (counts - taken) / np.repeat(total, n_grams)  # the first term of (K1)
    return Order(grams, discounted, contexts, left)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D of what was counted 0, 1, 2, and 3 times or more often."""
    usual = np.array([0.0, 0.5, 0.5, 0.5])  # where a small text leaves (K3) undefined
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if 0 in (n1, n2, n3):
        return usual
    y = n1 / (n1 + 2 * n2)  # (K3)
    exact = np.array(
        [
            0.0,
            1 - 2 * y * n2 / n1,
            2 - 3 * y * n3 / n2,
            3 - 4 * y * n4 / n3,
        ]
    )
    possible = (exact > 0) & (exact <= [0, 1, 2, 3])
    return np.where(possible, exact, usual)
