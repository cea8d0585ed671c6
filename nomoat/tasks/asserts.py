"""HumanEval's and unittest's tests taken apart: the calls that they make, and what they demand of the results.

Only what holds in every case is demanded, and only of the function itself: nothing behind a return or an exit,
in a loop or a branch, behind another meaning of the function's name, or with names from elsewhere.  What is
left out is counted.
"""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from nomoat.config import JsonObject
from nomoat.tasks.demands import understood

MIN_TESTS = 3  # a problem with fewer is left out
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
EXITS = ("exit", "quit", "sys.exit", "os._exit", "os.abort", "self.skipTest", "pytest.skip", "pytest.exit")
PURE = frozenset(
    "abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float frozenset hex "
    "int isinstance len list map max min oct ord pow range repr reversed round set slice sorted str sum tuple "
    "zip".split()
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
                left += sum(map(demands, ast.walk(node))) or mentions(node, names | helping)
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
    """(what a test runs: the module and its last `check`; where there is none, its functions and methods named
    test…; names of the functions that demand something and may be called there).
    """
    functions = [*functions_in(tree.body)]
    run = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"][-1:]
    is_check = bool(run)
    run = run or [node for node in functions if node.name.startswith("test")]
    found = Run()
    names = found.follow(tree.body, {"candidate", entry})
    names -= {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    for node in run:
        given = [argument.arg for argument in node.args.posonlyargs + node.args.args]
        own = set(given[:1]) if is_check else set()
        if node.decorator_list or isinstance(node, ast.AsyncFunctionDef):
            found.left += sum(map(demands, ast.walk(node)))
        else:
            found.follow(node.body, names - set(given) | own)
    others = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS[:2]) and node not in run]
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    inside = [part for body in bodies for part in body if not isinstance(part, DEFINITIONS)]
    found.left += sum(demands(node) for part in inside for node in ast.walk(part))
    return found, {node.name for node in others if any(map(demands, ast.walk(node)))}


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
        bound = {alias.asname or alias.name: alias.name for alias in node.names}
        return (names | {new for new, old in bound.items() if old in names}) - {
            new for new, old in bound.items() if old not in names
        }
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in names:
        return names | {target.id for target in node.targets if isinstance(target, ast.Name)}
    bound = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and not is_read(part)}
    return names - bound


def is_read(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def as_assert(node: ast.stmt) -> ast.stmt:
    """The assert that a method of a TestCase is, or the statement as it is."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return node
    form = OF_UNITTEST.get(call.func.attr)
    if form is None or ast.unparse(call.func.value) not in ("self", "cls"):
        return node
    n = form.count("{")
    with_message = len(call.args) == n + (call.func.attr != "assertAlmostEqual")
    if len(call.args) not in (n, n + with_message) or {keyword.arg for keyword in call.keywords} - {"msg"}:
        return node
    return ast.Assert(ast.parse(form.format(*map(ast.unparse, call.args)), mode="eval").body)


class Calls(ast.NodeTransformer):
    """Puts the name _n for the nth call of the function, and keeps what it is called with.

    `taken` are names that mean something else in this test than Python does, `names` those of the function.
    """

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.inputs = taken, []
        self.names: Collection[str] = ()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in self.names:
            return self.generic_visit(node)
        self._check(node)
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        number = len(self.inputs)
        self.inputs.append(f"({arguments(node.args)}, {options(named)})")
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
    """Whether these name nothing but PURE builtins, unless they are taken, and what they bind themselves."""
    parts = [n for node in nodes for n in ast.walk(node)]
    names = [n for n in parts if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not is_read(n)} | {n.arg for n in parts if isinstance(n, ast.arg)}
    free = {n.id for n in names if is_read(n)} - bound
    return not free & taken and free <= PURE


def bound_in(tree: ast.AST) -> set[str]:
    """Every name that a program binds, wherever."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not is_read(node):
            names.add(node.id)
        elif isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names - {"math"}


def mentions(node: ast.AST, names: Collection[str]) -> bool:
    """Whether the function is named there, but for check(candidate), its import and its other names."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
        return not all(isinstance(given, ast.Name) and given.id in names for given in node.args)
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
        return False
    if isinstance(node, ast.Name):
        return node.id in names
    return any(mentions(part, names) for part in ast.iter_child_nodes(node))


def demands(node: ast.AST) -> bool:
    vacuous = isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value
    return isinstance(node, ast.Assert | ast.Raise) and not vacuous
