"""What one rendering of a foreign template may cost: steps, characters made, seconds of processor time."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SECONDS = 2.0  # of processor time: a busy machine doesn't count
STEPS = 500_000
CHARS = 8_000_000  # made in all, printed or not, and
CHARS_PER_CHAR = 64  # for each one that is given to the template


class BudgetError(Exception):
    """A template that doesn't end or that makes too much."""


class Budget:
    """Counts one rendering down; a thread has its own."""

    def __init__(self, n_given: int = 0) -> None:
        self._n_steps = STEPS
        self._n_chars = CHARS + CHARS_PER_CHAR * n_given
        self._end = time.thread_time() + SECONDS

    def step(self, n: int = 1) -> None:
        """BudgetError where `n` more steps are too many, or the time is over."""
        self._n_steps -= n
        if self._n_steps < 0:
            raise BudgetError(f"it took more than {STEPS:,} steps")
        if time.thread_time() > self._end:
            raise BudgetError(f"it took more than {SECONDS:g} seconds")

    def make(self, n_chars: int) -> None:
        """BudgetError where `n_chars` more characters are too many; to be asked before they are made."""
        self._n_chars -= n_chars
        if self._n_chars < 0:
            raise BudgetError(f"it makes more than {CHARS:,} characters")

    def size(self, value: Any) -> int:
        """Characters that `value` prints as, about: a list that holds another one twice counts it twice.

        BudgetError where that is more than is left.
        """
        if isinstance(value, str):
            return len(value)
        n_chars, rest = 0, [value]
        while rest:
            item = rest.pop()
            n_chars += _weight(item)
            if n_chars > self._n_chars:
                self.make(n_chars)
            if isinstance(item, Mapping):
                rest += [*item, *item.values()]
            elif isinstance(item, list | tuple | set | frozenset):
                rest += item
        return n_chars

    def made(self, value: Any) -> Any:
        """`value`, charged."""
        self.make(self.size(value))
        return value

    def copied(self, value: Any) -> Any:
        """`value`, charged by its own length: what a text or list holds was there before."""
        if isinstance(value, str | list | tuple):
            self.make(len(value) if isinstance(value, str) else 8 * len(value))
        return value

    def steps(self, items: Iterable[Any]) -> Iterable[Any]:
        """`items`, each charged a step: at once where they can be counted."""
        if not hasattr(items, "__len__"):
            return self._one_by_one(items)
        self.step(len(items))
        return items

    def _one_by_one(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item


def _weight(item: Any) -> int:
    """Characters that a value takes by itself, about."""
    if isinstance(item, str):
        return len(item) + 2
    return 8 + item.bit_length() // 3 if isinstance(item, int) else 8
