"""Programs as answers: read out of a reply, run in the sandbox, judged here by what they return.

HumanEval's tests are taken apart.  Each `assert` whose calls have arguments of their own becomes those
calls, made in the sandbox, and what it demands of their results, decided here as Python would: no expected
answer is ever in one process with the program that it judges.  Results keep their types on the way: tuples,
sets, keys that are numbers.  An assert with names from elsewhere (random inputs, loops, helpers) is left out
and counted.
"""

import ast
import builtins
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from nomoat.config import JsonObject
from nomoat.tasks import base
from nomoat.tasks.base import MAX_TEXT, Problem, Undecided
from nomoat.tasks.fences import code_in
from nomoat.tasks.solutions import defined

MIN_TESTS = 3  # a problem with fewer is left out
FUNCTIONS: dict[str, Callable] = {
    "abs": abs, "len": len, "sorted": sorted, "tuple": tuple, "list": list, "set": set, "sum": sum,
    "min": min, "max": max, "round": round, "str": str, "int": int, "float": float, "bool": bool,
    "frozenset": frozenset,
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
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MAX_OPERAND = 10**6  # of what * and % are given: a result times a text could fill the memory
FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)
# Put after the program: calls its function with arguments of their own, and says what came back, with types.
CALLER = """
import builtins as _b
_names = {{"__name__": "candidate"}}
_b.exec(_b.compile({source!r}, "<candidate>", "exec"), _names)

def f(x):
    def said(v):
        if v is None or _b.type(v) in (_b.bool, _b.int, _b.str):
            return v
        if _b.isinstance(v, _b.float):
            return v if v - v == 0 else ["float", _b.str(v)]
        if _b.isinstance(v, _b.dict):
            return ["dict", *([said(k), said(w)] for k, w in v.items())]
        for kind in (_b.list, _b.tuple, _b.set, _b.frozenset):
            if _b.isinstance(v, kind):
                return [kind.__name__, *_b.map(said, v)]
        if _b.isinstance(v, _b.complex):
            return ["complex", v.real, v.imag]
        if _b.isinstance(v, _b.bytes):
            return ["bytes", *v]
        for kind in (_b.int, _b.str):
            if _b.isinstance(v, kind):
                return kind(v)
        raise _b.TypeError("returned " + _b.type(v).__name__)
    args, kwargs = _b.eval(x)
    return said(_names[{entry!r}](*args, **kwargs))
"""


def check(problem: Problem, answer: str) -> bool:
    """Whether the program in the answer passes the problem's tests.  Undecided if the sandbox failed."""
    if not answer.strip() or len(answer) > MAX_TEXT:
        return False
    if "asserts" not in problem.facts:
        return base.by_tests(problem, code_in(answer, "f"))
    from nomoat import sandbox

    verdict = sandbox.run(program(problem, answer), problem.facts["inputs"])
    if verdict.status == "infra":
        raise Undecided(verdict.detail)
    return verdict.status == "pass" and kept(problem.facts["asserts"], verdict.outputs)


def program(problem: Problem, answer: str) -> str:
    """HumanEval's beginning, what the answer adds or writes anew, and what calls it."""
    entry, code = problem.facts["entry"], code_in(answer, problem.facts["entry"])
    if entry in defined(code):
        joint = "\n"
    else:
        joint = "" if code.startswith((" ", "\t")) else "    "
    return CALLER.format(source=f"{problem.facts['before']}{joint}{code}\n", entry=entry)


def left_out(all_of_them: list[Problem], judged: list[Problem]) -> Iterator[str]:
    """How many problems, and asserts of the others, can't be judged, and why."""
    n, m = len(all_of_them) - len(judged), len(all_of_them)
    left = sum(problem.facts.get("left", 0) for problem in judged)
    if n:
        yield f"left out: {n} of {m} problems, which have fewer than {MIN_TESTS} tests that can be judged"
    if left:
        why = "with random inputs, loops, branches, or names from elsewhere"
        yield f"left out: {left} tests of the others, {why}"


class Calls(ast.NodeTransformer):
    """Puts the name _n for the nth call of the function, and keeps what it is called with.

    `taken` are names that mean something else in this test than Python does.
    """

    def __init__(self, names: tuple[str, ...], taken: set[str]) -> None:
        self.names, self.taken, self.inputs = names, taken, []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in self.names:
            return self.generic_visit(node)
        self._check(node)
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        number = len(self.inputs)
        given = f"({arguments(node.args)}, {options(named)})"
        self.inputs.append(given)
        return ast.Name(f"_{number}", ast.Load())

    def _check(self, node: ast.Call) -> None:
        """LookupError where what it is called with stands elsewhere."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if any(keyword.arg is None for keyword in node.keywords) or not closed(given, self.taken):
            raise LookupError("arguments from elsewhere")


def arguments(args: list[ast.expr]) -> str:
    return f"({''.join(f'{ast.unparse(arg)}, ' for arg in args)})"


def options(named: dict[str, ast.expr]) -> str:
    return f"{{{', '.join(f'{name!r}: {ast.unparse(given)}' for name, given in named.items())}}}"


def closed(nodes: list[ast.AST], taken: set[str]) -> bool:
    """Whether these name nothing but builtins, unless they are taken, and what they bind themselves."""
    names = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)]
    bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    free = {n.id for n in names if isinstance(n.ctx, ast.Load)} - bound
    return not free & taken and all(hasattr(builtins, name) for name in free)


def bound_in(tree: ast.AST) -> set[str]:
    """Every name that a program binds, wherever."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names - {"math"}


def straight(body: list[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
    """The statements that run in every case: none behind a return, or behind one that depends on anything
    but the function's results.
    """
    body = [statement for statement in body if not isinstance(statement, DEFINITIONS)]
    for at, statement in enumerate(body):
        ends = any(isinstance(node, ast.Return) for node in ast.walk(statement))
        if ends and (isinstance(statement, ast.Return) or not mentions(statement, names)):
            return body[:at]
    return body


def mentions(node: ast.AST, names: Collection[str]) -> bool:
    """Whether the function is named there, but for check(candidate) itself."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
        return False
    if isinstance(node, ast.Name):
        return node.id in names
    return any(mentions(part, names) for part in ast.iter_child_nodes(node))


def statements(tree: ast.Module, entry: str) -> tuple[list[ast.stmt], set[str]]:
    """(what a test runs, the names that mean the function there): the module and its `check`; where there is
    none, its functions and methods named test….
    """
    functions = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS[:2])]
    run = [node for node in functions if node.name == "check"][-1:]
    names = {"candidate", entry}
    for node in run:
        given = node.args.args[:1]
        names |= {argument.arg for argument in given}
    run = run or [node for node in functions if node.name.startswith("test")]
    found = straight(tree.body, names)
    for node in run:
        found = [*found, *straight(node.body, names)]
    others = set(functions) - set(run)
    return found, names | helpers(others)


def helpers(functions: Collection[ast.AST]) -> set[str]:
    """The names of the functions that demand something."""
    return {node.name for node in functions if any(map(demands, ast.walk(node)))}


def demands(node: ast.AST) -> bool:
    vacuous = isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value
    return isinstance(node, ast.Assert | ast.Raise) and not vacuous


def tests(test: str, entry: str) -> JsonObject:
    """Facts of a problem: the calls of HumanEval's test as inputs, what it asserts of their results, `left`:
    how many asserts, raises, other uses of the function aren't judged.  No inputs below MIN_TESTS asserts."""
    tree = ast.parse(test)
    taken = bound_in(tree)
    run, names = statements(tree, entry)
    calls, asserts, left = Calls(("candidate", entry), taken), [], 0
    for node in run:
        before = len(calls.inputs)
        try:
            if not isinstance(node, ast.Assert) or not demands(node):
                left += sum(map(demands, ast.walk(node))) or mentions(node, names)
                continue
            demand = calls.visit(node.test)
            if len(calls.inputs) == before:
                raise LookupError("calls nothing")
            understood(demand, taken)
            asserts.append(ast.unparse(demand))
        except LookupError:
            del calls.inputs[before:]
            left += 1
    few = len(asserts) < MIN_TESTS
    return {"inputs": [] if few else calls.inputs, "asserts": asserts, "left": left}


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
    for part in ast.iter_child_nodes(node):
        understood(part, taken)


def kept(asserts: list[str], outputs: list[Any]) -> bool:
    """Whether every assert is true of these results."""
    try:
        results = {f"_{n}": typed(output) for n, output in enumerate(outputs)}
        return all(value(ast.parse(text, mode="eval").body, results) for text in asserts)
    except FAULTS:
        return False


def typed(said: Any) -> Any:
    """The value that CALLER said came back."""
    if not isinstance(said, list):
        return said
    kind, *parts = said
    if kind == "dict":
        return {typed(key): typed(held) for key, held in parts}
    if kind == "float":
        return float(parts[0])
    if kind == "complex":
        return complex(*parts)
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "bytes": bytes}
    return kinds[kind](map(typed, parts))


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
    ast.UnaryOp: lambda node, names: OPERATORS[type(node.op)](value(node.operand, names)),
    ast.BinOp: lambda node, names: combined(type(node.op), value(node.left, names), value(node.right, names)),
    ast.BoolOp: decided,
    ast.Compare: compared,
}


def combined(kind: type, a: Any, b: Any) -> Any:
    sized = isinstance(a, int | float) and isinstance(b, int | float)
    if kind in (ast.Mult, ast.Mod) and not sized and max(map(size, (a, b))) > MAX_OPERAND:
        raise ValueError("too large")
    return OPERATORS[kind](a, b)


def size(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else len(value)
