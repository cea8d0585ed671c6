"""Bounds on the shape of source, measured; as a script it prints each room in nodes and lines.

A node is one of Python's syntax tree: it counts what a reader takes in, on however many lines.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ("nomoat", "examples", "benchmarks", "scripts")
MAX_LINES, MAX_NODES, MAX_DENSITY, DENSE_FROM = 50, 450, 14, 8  # of a function; density in nodes a line
MAX_FILE, MAX_WIDTH = 350, 110
OF_SOURCE = {"nodes", "density", "fmt"}  # rules that tests needn't keep: their examples and tables are dense
DISPLAYS = (ast.Tuple, ast.List, ast.Set, ast.Dict)
LEAVES = (ast.Constant, ast.Name, ast.Attribute, ast.UnaryOp, ast.USub, ast.Call, ast.keyword, ast.Load)
DECIDERS = {"bool", "any", "all", "isinstance", "hasattr", "startswith", "endswith"}
WRITERS = {"str", "join", "format", "strip", "repr"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Breach:
    """Where a rule is broken: `place` is a file, or file:function; `detail` says by how much."""

    place: str
    rule: str
    line: int
    detail: str


def measured() -> list[Breach]:
    """Every breach in the repository."""
    found = [breach for name, text in files(*SOURCE, "tests").items() for breach in breaches(name, text)]
    return [b for b in found if b.rule not in OF_SOURCE or not b.place.startswith("tests/")]


def files(*folders: str) -> dict[str, str]:
    """Path from the root -> text of each Python file."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}


def breaches(name: str, text: str) -> list[Breach]:
    """Everything in a file that is over its bounds."""
    tree = ast.parse(text)
    spans, nodes = list(functions(tree)), list(ast.walk(tree))

    def at(node: ast.AST, rule: str, detail: str = "") -> Breach:
        around = [name for name, function in spans if any(part is node for part in ast.walk(function))]
        return Breach(f"{name}:{around[-1]}" if around else name, rule, node.lineno, detail)  # the innermost

    found = [Breach(name, rule, line, detail) for rule, line, detail in of_file(text)]
    found += [at(node, rule, detail) for _, node in spans for rule, detail in of_function(node)]
    found += [at(node, rule) for rule, broken in of_statements(nodes).items() for node in broken]
    found += [at(node, "crowded") for node in crowded(nodes, text)]
    found += [at(node, "fmt") for node in unformatted(text, nodes)]
    return found


def of_file(text: str) -> Iterator[tuple[str, int, str]]:
    lines = text.splitlines()
    if len(lines) > MAX_FILE:
        yield "file", len(lines), f"{len(lines)} lines"
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_WIDTH:
            yield "width", number, f"{len(line)} characters"


def of_function(node: Function) -> Iterator[tuple[str, str]]:
    n_lines, n_nodes = node.end_lineno - node.lineno + 1, count(node)
    if n_lines > MAX_LINES:
        yield "lines", f"{n_lines} lines"
    if n_nodes > MAX_NODES:
        yield "nodes", f"{n_nodes} nodes"
    if n_lines >= DENSE_FROM and n_nodes > MAX_DENSITY * n_lines:
        yield "density", f"{n_nodes / n_lines:.1f} nodes a line"


def count(tree: ast.AST) -> int:
    return sum(1 for _ in ast.walk(tree))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """(qualified name, node) of each function, outer ones first."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):  # holds no function
            continue
        if not isinstance(node, Function | ast.ClassDef):
            yield from functions(node, prefix)
            continue
        if isinstance(node, Function):
            yield prefix + node.name, node
        yield from functions(node, f"{prefix}{node.name}.")


def of_statements(nodes: list[ast.AST]) -> dict[str, list[ast.AST]]:
    """Rule -> the nodes that break it."""
    truth = truths(nodes)
    return {
        "statement": [n for n in nodes if isinstance(n, ast.Expr) and not stands_alone(n.value)],
        "product": [n for n in nodes if isinstance(n, ast.BinOp) and text_times_truth(n, truth)],
        "lambda": [n for n in nodes if named_lambda(n) or long_lambda(n)],
    }


def stands_alone(value: ast.expr) -> bool:
    """A call, `yield`, `await`, a docstring, or `...` for a body."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str) or value.value is ...
    return isinstance(value, ast.Call | ast.Yield | ast.YieldFrom | ast.Await)


def truths(nodes: list[ast.AST]) -> frozenset[str]:
    """Names of variables, parameters and fields that are declared or set to be true or false."""
    declared = [(n.arg, n.annotation) for n in nodes if isinstance(n, ast.arg)]
    declared += [(last_name(n.target), n.annotation) for n in nodes if isinstance(n, ast.AnnAssign)]
    names = {name for name, kind in declared if isinstance(kind, ast.Name) and kind.id == "bool"}
    for node in nodes:
        if isinstance(node, ast.Assign) and is_truth(node.value, frozenset()):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def is_truth(node: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return True
    if isinstance(node, ast.BoolOp):
        return all(is_truth(value, names) for value in node.values)
    if isinstance(node, ast.Call):
        return last_name(node.func) in DECIDERS
    return last_name(node) in names or (isinstance(node, ast.Constant) and isinstance(node.value, bool))


def last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def text_times_truth(node: ast.BinOp, names: frozenset[str]) -> bool:
    sides = (node.left, node.right)
    truth = any(is_truth(side, names) for side in sides)
    return isinstance(node.op, ast.Mult) and truth and any(map(is_text, sides))


def is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Mod) and (is_text(node.left) or is_text(node.right))
    if isinstance(node, ast.Call):
        return last_name(node.func) in WRITERS
    literal = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return literal or isinstance(node, ast.JoinedStr)


def named_lambda(node: ast.AST) -> bool:
    """E731."""
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda)


def long_lambda(node: ast.AST) -> bool:
    return isinstance(node, ast.Lambda) and node.end_lineno > node.lineno


def crowded(nodes: list[ast.AST], text: str) -> Iterator[ast.stmt]:
    """E701 and E702: statements behind something else on their line; the `...` of a stub may be."""
    lines = text.encode().splitlines()
    for node in nodes:
        stub = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not stub and lines[node.lineno - 1][: node.col_offset].strip():
            yield node


def unformatted(text: str, nodes: list[ast.AST]) -> Iterator[ast.stmt]:
    """Statements that `# fmt: skip` or `# fmt: off` keeps as they are, though they are no tables."""
    if "fmt:" not in text:  # reading a file's tokens takes longer than all else here
        return
    statements = [node for node in nodes if isinstance(node, ast.stmt)]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and "fmt:" in token.string:
            line = token.start[0]
            kept = [node for node in statements if first_line(node) <= line <= node.end_lineno]
            if not kept or "skip" not in token.string or not is_table(value_at(kept[-1], line)):
                yield kept[-1] if kept else statements[0]


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def value_at(node: ast.stmt, line: int) -> ast.expr | None:
    """The value of a statement, or its decorator that ends at the line."""
    decorators = [d for d in getattr(node, "decorator_list", []) if d.end_lineno == line]
    return decorators[0] if decorators else getattr(node, "value", None)


def is_table(value: ast.expr | None) -> bool:
    """A display whose leaves are literals and names; or a call, if most of its leaves are literals."""
    if isinstance(value, ast.Call):
        given = [*value.args, *(keyword.value for keyword in value.keywords)]
        nodes = [node for part in given for node in ast.walk(part)]
        leaves = [node for node in nodes if isinstance(node, ast.Constant | ast.Name)]
        n_literals = sum(isinstance(leaf, ast.Constant) for leaf in leaves)
        return 2 * n_literals >= len(leaves) > 0 and all(map(is_plain, given))
    return isinstance(value, DISPLAYS) and is_plain(value)


def is_plain(value: ast.expr) -> bool:
    return all(isinstance(node, (*DISPLAYS, *LEAVES)) for node in ast.walk(value))


def rooms() -> dict[str, tuple[int, int]]:
    """Room -> (nodes, lines); the modules at the top of the package are one room."""
    out: dict[str, tuple[int, int]] = {}
    for name, text in files(*SOURCE, "tests").items():
        first, *rest = Path(name).parts
        room = f"nomoat/{rest[0]}" if first == "nomoat" and len(rest) > 1 else first
        n_nodes, n_lines = out.get(room, (0, 0))
        out[room] = n_nodes + count(ast.parse(text)), n_lines + len(text.splitlines())
    return out


def main() -> None:
    """The rooms; with --missing what is over its bounds; with --table the same as entries of the table."""
    if "--missing" in sys.argv:
        for breach in measured():
            print(f"{breach.place} {breach.rule}: line {breach.line} {breach.detail}")
    elif "--table" in sys.argv:
        rules: dict[str, set[str]] = {}
        for breach in measured():
            rules.setdefault(breach.place, set()).add(breach.rule)
        for place, names in rules.items():
            print(f'    "{place}": ("{" ".join(sorted(names))}", "not yet"),')
    else:
        print_rooms()


def print_rooms() -> None:
    table = rooms()
    package = [sizes for room, sizes in table.items() if room.startswith("nomoat")]
    total = tuple(map(sum, zip(*package)))
    print(f"{'room':20} {'nodes':>8} {'lines':>7} {'nodes a line':>13}")
    for room, (n_nodes, n_lines) in [*sorted(table.items()), ("the package", total)]:
        print(f"{room:20} {n_nodes:8,} {n_lines:7,} {n_nodes / max(n_lines, 1):13.1f}")


if __name__ == "__main__":
    main()
