"""What an operator, a filter or a method of a template makes at most: charged before it does."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2.runtime import LoopContext
from jinja2.sandbox import SecurityError

from nomoat.tokenizer.budget import Budget, BudgetError

WIDEST = 10_000  # that a number handed to a filter or method may be, and bits of a whole number
_METHODS = {
    str: "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal "
    "isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix "
    "removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip "
    "swapcase title upper zfill",
    dict: "get items keys values",
    list: "count index",
    tuple: "count index",
    LoopContext: "changed cycle",
}  # fmt: skip


def charge_operator(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """An operator between two values; BudgetError where it makes too much."""
    budget.step()
    if isinstance(left, int) and isinstance(right, int):
        n_bits = left.bit_length() * max(1, right if operator == "**" else 1)
        if max(n_bits, right.bit_length()) > WIDEST:
            raise BudgetError(f"it computes with whole numbers of more than {WIDEST:,} bits")
    elif operator == "%" and isinstance(left, str):
        charge(budget, "format", left, right if isinstance(right, tuple) else [right])
    elif operator == "*":
        times = [part for part in (left, right) if isinstance(part, int)]
        budget.make(budget.size([left, right]) * max(1, *times, 1))
    else:
        budget.made([left, right])


def charge_method(
    budget: Budget, method: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Sequence[Any]:
    """The arguments to call a method with; SecurityError where a template may not call it."""
    kind, name = type(method.__self__), method.__name__
    if name not in _METHODS.get(kind, "").split():
        raise SecurityError(f"a template may not call {kind.__name__}.{name}")
    if kind is str and name == "format":
        name = "str.format"
    if kind is str and name == "join":
        args = [[*budget.steps(items)] for items in args]
        charge(budget, "join", args[0] if args else (), [method.__self__])
    else:
        charge(budget, name, method.__self__, [*args, *kwargs.values()])
    return args


def charge(budget: Budget, name: str, value: Any, given: Sequence[Any]) -> None:
    """A filter or method, of `value` with what it is given."""
    budget.step()
    widths = [abs(number) for number in given if isinstance(number, int | float)]
    if name in _FIELDS:
        widths = _widths(_FIELDS[name], str(value))
    if max(widths, default=0) > WIDEST:
        raise BudgetError(f"{name} is asked for a width of more than {WIDEST:,}")
    times = _TIMES[name](value, given) if name in _TIMES else 1
    budget.make(times * (budget.size(given) + sum(widths)))
    if name == "join":
        budget.made(value)


_FIELDS = {"format": r"%(?:\([^)]*\))?([-+ #0-9.*]*)", "str.format": r"\{[^{}:!]*[:!]([^}]*)"}


def _widths(field: str, form: str) -> list[int]:
    """Of the fields of a text that is formatted; one that is given beside is too wide."""
    flags = " ".join(re.findall(field, form))
    widths = [int(width[:9]) for width in re.findall("[0-9]+", flags)]
    return [*widths, WIDEST + 1] if re.search("[*{]", flags) else widths


def _n_replaced(value: Any, given: Sequence[Any]) -> int:
    return str(value).count(str(given[0])) if given else 1


def _n_lines(value: Any, given: Sequence[Any]) -> int:
    return 1 + str(value).count("\n")


def _n_joined(value: Any, given: Sequence[Any]) -> int:
    return len(value)


def _n_formatted(value: Any, given: Sequence[Any]) -> int:
    return str(value).count("%") + str(value).count("{")


_TIMES: Mapping[str, Callable[[Any, Sequence[Any]], int]] = {  # how often it makes what it is given
    "replace": _n_replaced,
    "indent": _n_lines,
    "join": _n_joined,
    "format": _n_formatted,
    "str.format": _n_formatted,
}
