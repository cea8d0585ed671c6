"""Programs as answers: read out of a reply, run in the sandbox, judged here by what they return.

HumanEval's tests are taken apart.  Each `assert` whose calls have arguments of their own becomes those
calls, made in the sandbox, and what it demands of their results, decided here as Python would: no expected
answer is ever in one process with the program that it judges.  Results keep their types on the way: tuples,
sets, keys that are numbers.  A program that fails behind its function (a demonstration that asks for input)
is judged by the function; one that leaves is wrong.
"""

import textwrap
from collections.abc import Iterator

from nomoat.tasks import demands, solutions
from nomoat.tasks.asserts import MIN_TESTS
from nomoat.tasks.base import MAX_TEXT, Problem, Undecided
from nomoat.tasks.fences import code_in

# Runs the program; what its main part fails over is no matter once the function is there.
LOADER = """
import builtins as _b, sys as _s
_b.exit = _b.quit = _s.exit
_m = _s.modules["__candidate__"] = _b.type(_s)("__candidate__")
_names = _m.__dict__
try:
    _b.exec(_b.compile({source!r}, "<candidate>", "exec"), _names)
except _b.Exception:
    if {entry!r} not in _names:
        raise
"""
PLAIN = "\nf = _names[{entry!r}]\n"
# Calls the function with arguments of their own, and says what came back, with types.
CALLER = """
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
        if _b.isinstance(v, (_b.bytes, _b.bytearray)):
            return ["bytes", *v]
        for kind in (_b.int, _b.str):
            if _b.isinstance(v, kind):
                return kind(v)
        if _b.isinstance(v, _b.range):
            return ["range", v.start, v.stop, v.step]
        if _b.type(v) in (_b.type({{}}.keys()), _b.type({{}}.items())):
            return [_b.type(v).__name__, *_b.map(said, v)]
        if _b.type(v).__name__ in ("Fraction", "Decimal"):
            return [_b.type(v).__name__, _b.str(v)]
        held = _b.list(_i.islice(v, {most})) if _b.hasattr(v, "__iter__") else None
        if held is not None and _b.len(held) == {most}:
            raise _b.ValueError("returned what has no end")
        return ["other", _b.bool(v), None if held is None else [*_b.map(said, held)]]
    args, kwargs = _b.eval(x, {{}})
    return said(_names[{entry!r}](*args, **kwargs))
import itertools as _i
"""
MOST = 10_000  # of what a generator gives


def check(problem: Problem, answer: str) -> bool:
    """Whether the program in the answer passes the problem's tests.  Undecided if the sandbox failed."""
    if not answer.strip() or len(answer) > MAX_TEXT:
        return False
    from nomoat import sandbox

    facts = problem.facts
    if "asserts" in facts:
        verdict = sandbox.run(program(problem, answer), facts["inputs"])
    else:
        verdict = sandbox.judge(loaded(code_in(answer, "f"), "f", PLAIN), facts["inputs"], facts["outputs"])
    if verdict.status == "infra":
        raise Undecided(verdict.detail)
    if "asserts" not in facts or verdict.status != "pass":
        return verdict.status == "pass"
    return demands.kept(facts["asserts"], verdict.outputs)


def loaded(source: str, entry: str, then: str) -> str:
    """What runs the program, and then calls its function."""
    return (LOADER + then).format(source=source, entry=entry, most=MOST)


def program(problem: Problem, answer: str) -> str:
    """HumanEval's beginning, what the answer adds or writes anew, and what calls it."""
    entry, before = problem.facts["entry"], problem.facts["before"]
    code = code_in(answer, entry)
    if solutions.rank_of(solutions.Block(code), entry):
        whole = before if solutions.parsed(before) else f"{before}\n    pass"  # it may end behind the colon
        source = solutions.joined(iter([f"{whole}\n", code]))
    else:
        source = f"{before}{at_depth(code)}\n"
    return loaded(source, entry, CALLER)


def at_depth(code: str) -> str:
    """The body of a function as deep as it stands in one; its first line alone may have lost its blanks."""
    if code.startswith((" ", "\t")):
        return code
    rest = code.split("\n")[1:]
    lost = all(line.startswith((" ", "\t")) for line in rest if line.strip())
    return f"    {code}" if lost else textwrap.indent(code, "    ")


def left_out(all_of_them: list[Problem], judged: list[Problem]) -> Iterator[str]:
    """How many problems, and asserts of the others, can't be judged, and why."""
    n, m = len(all_of_them) - len(judged), len(all_of_them)
    left = sum(problem.facts.get("left", 0) for problem in judged)
    if n:
        yield f"left out: {n} of {m} problems, which have fewer than {MIN_TESTS} tests that can be judged"
    if left:
        why = "with random inputs, loops, branches, or names from elsewhere"
        yield f"left out: {left} tests of the others, {why}"
