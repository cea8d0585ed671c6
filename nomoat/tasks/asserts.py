"""HumanEval's and unittest's tests taken apart: the calls that they make, and what they demand of the
results.

Only what holds in every case is demanded, and only of the function itself: nothing behind a return or an
exit, in a loop or a branch, behind another meaning of the function's name, or with names from elsewhere.
What is left out is counted.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from nomoat.config import JsonObject
from nomoat.tasks.demands import understood
from nomoat.tasks.solutions import named

MIN_TESTS = 3  # a problem with fewer is left out
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
EXITS = ("exit", "quit", "sys.exit", "os._exit", "os.abort", "self.skipTest", "pytest.skip", "pytest.exit")
PURE = re.compile(
    "(?:abs|all|any|ascii|bin|bool|bytearray|bytes|chr|complex|dict|divmod|enumerate|filter|float|frozenset"
    "|hex|int|isinstance|len|list|map|max|min|oct|ord|pow|range|repr|reversed|round|set|slice|sorted|str|sum"
    "|tuple|zip)$"
)
OF_UNITTEST = {  # what a method of a TestCase demands of its first arguments
    "assertEqual": "({0}) == ({1})", "assertEquals": "({0}) == ({1})", "assertNotEqual": "({0}) != ({1})",
    "assertListEqual": "({0}) == ({1})", "assertTupleEqual": "({0}) == ({1})",
    "assertDictEqual": "({0}) == ({1})", "assertSetEqual": "({0}) == ({1})",
    "assertSequenceEqual": "list({0}) == list({1})", "assertMultiLineEqual": "({0}) == ({1})",
    "assertTrue": "({0})", "assertFalse": "not ({0})", "assertIsNone": "({0}) is None",
    "assertIsNotNone": "({0}) is not None", "assertIs": "({0}) is ({1})", "assertIsNot": "({0}) is not ({1})",
    "assertIn": "({0}) in ({1})", "assertNotIn": "({0}) not in ({1})", "assertGreater": "({0}) > ({1})",
    "assertGreaterEqual": "({0}) >= ({1})", "assertLess": "({0}) < ({1})",
    "assertLessEqual": "({0}) <= ({1})", "assertIsInstance": "isinstance({0}, {1})",
    "assertAlmostEqual": "round(abs(({0}) - ({1})), 7) == 0",
}  # fmt: skip


@dataclass(slots=True)
class Run:
    """What a test runs, in order: each statement, whether it runs in every case, and the names that mean the
    function there.
    """

    statements: list[tuple[ast.stmt, bool, frozenset[str]]] = field(default_factory=list)
    left: int = 0  # demands of what does not run here as it is written

    def follow(self, body: list[ast.stmt], names: set[str]) -> set[str]:
        """Adds a body; gives the names that mean the function behind it."""
        names = set(names)
        for node, sure in straight(body):
            self.statements.append((node, sure, frozenset(names)))
            names = meant_behind(node, names)
        return names


def tests(test: str, entry: str) -> JsonObject:
    """Facts of a problem: the calls of HumanEval's test as inputs, what it asserts of their results, `left`:
    how many asserts, raises, other uses of the function aren't judged.  No inputs below MIN_TESTS asserts."""
    tree = ast.parse(test)
    taken = bound_in(tree)
    run, helping = followed(tree, entry)
    calls, asserts, left = Calls(taken), [], run.left
    for written, sure, names in run.statements:
        before, calls.names = len(calls.inputs), names
        node = as_assert(written)
        try:
            if not isinstance(node, ast.Assert):
                left += n_demands(node) or mentions(node, names | helping)
                continue
            if not demands(node):
                continue
            demand = calls.visit(node.test)
            if len(calls.inputs) == before or not sure:
                raise LookupError("calls nothing, or may not run")
            understood(demand, taken)
            asserts.append(ast.unparse(demand))
        except LookupError:
            del calls.inputs[before:]
            left += 1
    few = len(asserts) < MIN_TESTS
    return {"inputs": [] if few else calls.inputs, "asserts": asserts, "left": left}


def followed(tree: ast.Module, entry: str) -> tuple[Run, set[str]]:
    """(what a test runs: the module and its last `check`, or, where there is none, its functions and methods
    named test…; names of the functions that demand something and may be called there).
    """
    functions = list(functions_in(tree.body))
    check = next((node for node in reversed(tree.body) if called_check(node)), None)
    run = [check] if check else [node for node in functions if node.name.startswith("test")]
    found = Run()
    names = found.follow(tree.body, {"candidate", entry})
    names -= {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    for node in run:
        given = parameters(node)
        if node.decorator_list or isinstance(node, ast.AsyncFunctionDef):
            found.left += n_demands(node)  # it may be skipped, or called otherwise
        else:
            meant = given[:1] if check else ()
            found.follow(node.body, names - {*given} | {*meant})
    found.left += sum(map(n_demands, in_classes(tree)))
    return found, {node.name for node in helping(tree, run) if n_demands(node)}


def called_check(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "check"


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [argument.arg for argument in node.args.posonlyargs + node.args.args]


def in_classes(tree: ast.Module) -> Iterator[ast.stmt]:
    """What the bodies of classes run."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (part for part in node.body if not isinstance(part, DEFINITIONS))


def helping(tree: ast.Module, run: list) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions that are run only where they are called."""
    functions = (node for node in ast.walk(tree) if isinstance(node, DEFINITIONS[:2]))
    return (node for node in functions if node not in run)


def functions_in(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a module, and the methods of its classes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions_in(node.body)
        elif isinstance(node, DEFINITIONS):
            yield node


def straight(body: list[ast.stmt], sure: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a body up to where it ends, each with whether it runs in every case."""
    for node in body:
        if isinstance(node, DEFINITIONS):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            yield from straight(node.body, sure)
            continue
        yield node, sure
        if isinstance(node, ast.Return | ast.Raise) or exits(node):
            return
        if any(isinstance(part, ast.Return) or exits(part) for part in ast.walk(node)):
            sure = False


def exits(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and ast.unparse(call.func) in EXITS


def meant_behind(node: ast.stmt, names: set[str]) -> set[str]:
    """The names that mean the function behind a statement."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return meant_by_import(node, names)
    bound = named(node, ast.Store | ast.Del)
    return names | bound if renames(node, names) else names - bound


def meant_by_import(node: ast.Import | ast.ImportFrom, names: set[str]) -> set[str]:
    bound = {alias.asname or alias.name: alias.name for alias in node.names}
    meant = {new for new, old in bound.items() if old in names}
    return names - bound.keys() | meant


def renames(node: ast.AST, names: Collection[str]) -> bool:
    """candidate = f"""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in names


def as_assert(node: ast.stmt) -> ast.stmt:
    """The assert that a method of a TestCase is, or the statement as it is."""
    call = node.value if isinstance(node, ast.Expr) else None
    form = OF_UNITTEST.get(method(call)) if isinstance(call, ast.Call) else None
    if form is None:
        return node
    n = form.count("{")
    most = n if "round" in form else n + 1  # a message
    if not n <= len(call.args) <= most or {keyword.arg for keyword in call.keywords} - {"msg"}:
        return node
    given = map(ast.unparse, call.args)
    return ast.Assert(ast.parse(form.format(*given), mode="eval").body)


def method(call: ast.Call) -> str:
    """The name of a TestCase's own method that is called, or ''."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    return name if owner in ("self", "cls") else ""


class Calls(ast.NodeTransformer):
    """Puts the name _n for the nth call of the function, and keeps what it is called with.

    `taken` are names that mean something else in this test than Python does, `names` those of the function.
    """

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.inputs = taken, []
        self.names: Collection[str] = ()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """The name of the result, in the place of a call of the function."""
        if ast.unparse(node.func) not in self.names:
            return self.generic_visit(node)
        self._check(node)
        given = f"({arguments(node.args)}, {options(node.keywords)})"
        self.inputs.append(given)
        return ast.Name(f"_{len(self.inputs) - 1}", ast.Load())

    def _check(self, node: ast.Call) -> None:
        """LookupError where what it is called with stands elsewhere."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if any(keyword.arg is None for keyword in node.keywords) or not closed(given, self.taken):
            raise LookupError("arguments from elsewhere")


def arguments(args: list[ast.expr]) -> str:
    return f"({''.join(f'{ast.unparse(arg)}, ' for arg in args)})"


def options(keywords: list[ast.keyword]) -> str:
    return f"{{{', '.join(f'{given.arg!r}: {ast.unparse(given.value)}' for given in keywords)}}}"


def closed(nodes: list[ast.expr], taken: set[str]) -> bool:
    """Whether these name nothing but PURE builtins, unless they are taken, and what they bind themselves."""
    whole = ast.List(nodes, ast.Load())
    own = {part.arg for part in ast.walk(whole) if isinstance(part, ast.arg)} | named(whole, ast.Store)
    free = named(whole, ast.Load) - own
    return not free & taken and all(map(PURE.match, free))


def bound_in(tree: ast.AST) -> set[str]:
    """Every name that a program binds, wherever."""
    names = named(tree, ast.Store)
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names - {"math"}


def mentions(node: ast.AST, names: Collection[str]) -> bool:
    """Whether the function is named there, but for check(candidate) and where it gets another name."""
    if renames(node, names):
        return False
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "check":
        given = set(map(ast.unparse, node.args))
        return not given <= set(names)
    if isinstance(node, ast.Name):
        return node.id in names
    return any(mentions(part, names) for part in ast.iter_child_nodes(node))


def n_demands(node: ast.AST) -> int:
    """How many asserts and raises are within."""
    return sum(map(demands, ast.walk(node)))


def demands(node: ast.AST) -> bool:
    vacuous = isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value
    return isinstance(node, ast.Assert | ast.Raise) and not vacuous
