"""What an assert demands of results, decided as Python would, of literals, results and a few functions."""

import ast
import math
import operator
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

FUNCTIONS: dict[str, Callable] = {
    "abs": abs, "len": len, "sorted": sorted, "tuple": tuple, "list": list, "set": set, "sum": sum,
    "min": min, "max": max, "round": round, "str": str, "int": int, "float": float, "bool": bool,
    "frozenset": frozenset, "isinstance": isinstance, "type": type, "bytes": bytes,
    "dict": dict, "any": any, "all": all,
}  # fmt: skip
OF_MATH = {
    f"math.{name}": getattr(math, name)
    for name in ("fabs", "isclose", "floor", "ceil", "sqrt", "pi", "e", "inf", "nan", "tau")
}
COMPARISONS: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
MAX_OPERAND = 10**6  # of what *, % and ** are given: a result times a text could fill the memory
MAX_EXPONENT = 1024
FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)


@dataclass(frozen=True, eq=False, slots=True)
class Other:
    """A result of a kind that no literal has: true or not, and what it holds, if it can be gone through."""

    truth: bool
    items: tuple | None

    def __bool__(self) -> bool:
        return self.truth

    def __iter__(self) -> Any:
        if self.items is None:
            raise TypeError("nothing to go through")
        return iter(self.items)


def understood(node: ast.AST, taken: Collection[str] = ()) -> None:
    """LookupError where `value` could not decide what is asserted; `taken` names are no functions of ours."""
    if isinstance(node, ast.Attribute):
        if ast.unparse(node) not in OF_MATH:
            raise LookupError(node.attr)
        return
    known = FUNCTIONS.keys() - set(taken)
    if isinstance(node, ast.Name) and node.id not in known and not re.fullmatch("_[0-9]+", node.id):
        raise LookupError(node.id)
    kind = type(node)
    if kind not in {*EVALUATORS, *COMPARISONS, *OPERATORS, ast.keyword, ast.Load, ast.And, ast.Or}:
        raise LookupError(kind.__name__)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) != 1:
        raise LookupError("a new type")
    if isinstance(node, ast.Compare) and not _lasting(node):
        raise LookupError("identity")
    if isinstance(node, ast.Dict) and None in node.keys:
        raise LookupError("**")
    for part in ast.iter_child_nodes(node):
        understood(part, taken)


def _lasting(node: ast.Compare) -> bool:
    """Whether more is compared than where two values lie: `is` stands with None, truth, or a type."""
    sides = [node.left, *node.comparators]
    same = [isinstance(op, ast.Is | ast.IsNot) for op in node.ops]
    return all(_single(sides[i]) or _single(sides[i + 1]) for i, one in enumerate(same) if one)


def _single(side: ast.expr) -> bool:
    """Whether there is but one of it: None, truth, a type."""
    if isinstance(side, ast.Name):
        return side.id in FUNCTIONS
    return isinstance(side, ast.Constant) and any(side.value is one for one in (None, True, False))


def kept(asserts: list[str], outputs: list[Any]) -> bool:
    """Whether every assert is true of these results."""
    try:
        results = {f"_{n}": typed(output) for n, output in enumerate(outputs)}
        return all(value(ast.parse(text, mode="eval").body, results) for text in asserts)
    except FAULTS:
        return False


def typed(said: Any) -> Any:
    """The value that came back, as programs.CALLER says it."""
    if not isinstance(said, list):
        return said
    kind, *parts = said
    if kind == "other":
        return Other(bool(parts[0]), None if parts[1] is None else tuple(map(typed, parts[1])))
    if kind == "dict":
        return {typed(key): typed(held) for key, held in parts}
    if kind == "dict_keys":
        return dict.fromkeys(map(typed, parts)).keys()
    if kind == "dict_items":
        return dict(map(typed, parts)).items()
    if kind == "float":
        return float(parts[0])
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "bytes": bytes}
    if kind in kinds:
        return kinds[kind](map(typed, parts))
    return {"complex": complex, "Fraction": Fraction, "Decimal": Decimal, "range": range}[kind](*parts)


def value(node: ast.AST, names: dict[str, Any]) -> Any:
    """What an expression of literals, results and FUNCTIONS is worth."""
    return EVALUATORS[type(node)](node, names)


def called(node: ast.Call, names: dict[str, Any]) -> Any:
    given = {keyword.arg: value(keyword.value, names) for keyword in node.keywords}
    return value(node.func, names)(*(value(arg, names) for arg in node.args), **given)


def mapped(node: ast.Dict, names: dict[str, Any]) -> dict:
    return {value(k, names): value(v, names) for k, v in zip(node.keys, node.values, strict=True)}


def collected(node: ast.List | ast.Tuple | ast.Set, names: dict[str, Any]) -> list | tuple | set:
    kinds = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
    return kinds[type(node)](value(part, names) for part in node.elts)


def compared(node: ast.Compare, names: dict[str, Any]) -> bool:
    sides = [value(side, names) for side in (node.left, *node.comparators)]
    return all(COMPARISONS[type(op)](*sides[i : i + 2]) for i, op in enumerate(node.ops))


def decided(node: ast.BoolOp, names: dict[str, Any]) -> Any:
    every = isinstance(node.op, ast.And)
    for part in node.values:
        last = value(part, names)
        if bool(last) is not every:
            break
    return last


def sliced(node: ast.Slice, names: dict[str, Any]) -> slice:
    return slice(*(part and value(part, names) for part in (node.lower, node.upper, node.step)))


EVALUATORS: dict[type, Callable[[Any, dict[str, Any]], Any]] = {
    ast.Constant: lambda node, names: node.value,
    ast.Name: lambda node, names: names[node.id] if node.id in names else FUNCTIONS[node.id],
    ast.Attribute: lambda node, names: OF_MATH[ast.unparse(node)],
    ast.List: collected,
    ast.Tuple: collected,
    ast.Set: collected,
    ast.Dict: mapped,
    ast.Call: called,
    ast.Subscript: lambda node, names: value(node.value, names)[value(node.slice, names)],
    ast.Slice: sliced,
    ast.UnaryOp: lambda node, names: OPERATORS[type(node.op)](value(node.operand, names)),
    ast.BinOp: lambda node, names: combined(type(node.op), value(node.left, names), value(node.right, names)),
    ast.BoolOp: decided,
    ast.Compare: compared,
}


def combined(kind: type, a: Any, b: Any) -> Any:
    sized = isinstance(a, int | float) and isinstance(b, int | float)
    if kind in (ast.Mult, ast.Mod) and not sized and max(map(size, (a, b))) > MAX_OPERAND:
        raise ValueError("too large")
    if kind is ast.Pow and not (sized and abs(b) <= MAX_EXPONENT and size(a) <= MAX_OPERAND):
        raise ValueError("too large")
    return OPERATORS[kind](a, b)


def size(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else len(value)
