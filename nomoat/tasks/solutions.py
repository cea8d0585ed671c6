"""Which of a reply's blocks of code is the solution, and which others it needs.

A block makes a name where it binds it by itself: no import from a module that is not Python's (that is how
the solution is used elsewhere), no loop over it, no other language, no stub.
"""

import ast
import builtins
import re
import symtable
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BEGINNING = re.compile(r"(?:async )?def |class \w|@\w|import \w|from [\w.]+ import |lambda\b|\w+\s*=[^=]")
BOUND = re.compile(r"(?m)^(?:(?:async )?(?:def|class)\s+(\w+)\b|(\w+)\s*(?::[^=\n]+)?=)")
FUTURE = re.compile(r"(?m)^from __future__ import .*\n?")
ELSEWHERE = re.compile(
    r"(?:js|javascript|[jt]sx|ts|typescript|java|c|cpp|c\+\+|cs|csharp|c#|go|golang|rust|rs|ruby|rb|php"
    r"|kotlin|swift|scala|haskell|hs|r|julia|matlab|lua|perl|bash|sh|shell|zsh|console|terminal|powershell"
    r"|sql|json|ya?ml|toml|xml|html|css|diff|output)$"
)
MAX_BLOCKS = 200
FUNCTION_OR_CLASS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Block:
    code: str
    language: str = ""


def chosen(found: Sequence[Block], name: str) -> str | None:
    """The last of the blocks that makes the name, with those that it needs, in their order; a whole program
    before one that doesn't parse, Python before other languages, a function before a stub.
    """
    found = found[-MAX_BLOCKS:]
    ranks = {i: rank for i, block in enumerate(found) if (rank := rank_of(block, name)) is not None}
    if not ranks:
        return None
    last = max(ranks, key=lambda i: (ranks[i], i))
    codes = [at_margin(block.code) for block in found]
    parts = needed(codes, last)
    made = set().union(*(defined(codes[i]) for i in parts))
    return joined(without_own_imports(codes[i], made) for i in sorted(parts))


def at_margin(code: str) -> str:
    """A program that is indented as a whole, without that."""
    return textwrap.dedent(code) if code.startswith((" ", "\t")) and parsed(code) else code


def rank_of(block: Block, name: str) -> tuple[bool, ...] | None:
    """How far a block is a solution; None where it makes no such name."""
    tree = parsed(block.code)
    if tree is None:
        said = any(name in names for names in BOUND.findall(block.code))
        return (False, not ELSEWHERE.match(block.language), True) if said else None
    makers = [node for node in bound_at_top(tree.body) if makes(node, name)]
    if not makers:
        return None
    return (True, not ELSEWHERE.match(block.language), not stub(makers[-1]))


def bound_at_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements outside functions and loops."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from bound_at_top(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from bound_at_top(handler.body)


def makes(node: ast.stmt, name: str) -> bool:
    """Whether a statement alone binds the name to what may be a function."""
    if isinstance(node, FUNCTION_OR_CLASS):
        return node.name == name
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.asname or alias.name for alias in node.names]
        return name in names and not foreign(node)
    if not isinstance(node, ast.Assign | ast.AnnAssign) or isinstance(node.value, ast.Constant | None):
        return False
    reads = named(node.value, ast.Load)
    return name in named(node, ast.Store) - reads


def named(node: ast.AST, context: type) -> set[str]:
    """The names that are read (ast.Load) or bound (ast.Store, ast.Del) anywhere within."""
    names = (part for part in ast.walk(node) if isinstance(part, ast.Name))
    return {part.id for part in names if isinstance(part.ctx, context)}


def foreign(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether something is imported that is not Python's own."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
    return any(name.partition(".")[0] not in sys.stdlib_module_names for name in names)


def stub(node: ast.stmt) -> bool:
    """Whether a function has nothing in it: a docstring, `pass`, `...`, NotImplementedError."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplemented" in ast.unparse(part))
        for part in node.body
    )


def needed(codes: Sequence[str], last: int) -> set[int]:
    """The places of a block and of those that bind what it reads and nothing else binds."""
    names = [defined(code) for code in codes]
    places, missing, looked = {last}, free(codes[last]), set()
    while missing:
        name = missing.pop()
        looked.add(name)
        if any(name in names[i] for i in places):
            continue
        others = [i for i, bound in enumerate(names) if name in bound] or [
            i for i, bound in enumerate(names) if "*" in bound
        ]
        if others and others[-1] not in places:
            places.add(others[-1])
            missing |= free(codes[others[-1]]) - looked
    return places


def joined(codes: Iterator[str]) -> str:
    """The codes as one, what each imports from __future__ in front."""
    code = "".join(code if code.endswith("\n") else f"{code}\n" for code in codes)
    lines = list(dict.fromkeys(line.rstrip("\n") for line in FUTURE.findall(code)))
    return "".join(f"{line}\n" for line in lines) + FUTURE.sub("", code) if lines else code


def without_own_imports(code: str, made: set[str]) -> str:
    """The code without imports of what the blocks make themselves, from modules that are not Python's."""
    tree, lines = parsed(code), code.split("\n")
    for node in reversed(tree.body if tree else []):
        if isinstance(node, ast.ImportFrom) and not node.col_offset and of_ours(node, made):
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def of_ours(node: ast.ImportFrom, made: set[str]) -> bool:
    return foreign(node) and all(alias.name in made and not alias.asname for alias in node.names)


def parsed(code: str) -> ast.Module | None:
    """The tree of a program, or of the body of a function."""
    for text in (code, f"if 1:\n{code}"):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def defined(code: str) -> set[str]:
    """The names that a program binds outside its functions, `*` where it imports all of a module; of what
    doesn't parse, those of its lines.
    """
    tree = parsed(code)
    if tree is None:
        return {a or b for a, b in BOUND.findall(code)}
    names, waiting = set(), [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, FUNCTION_OR_CLASS):
            names.add(node.name)
            continue
        if isinstance(node, ast.ImportFrom) and foreign(node):
            continue
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)
    return names


def free(code: str) -> set[str]:
    """The names that a program reads and binds nowhere outside its functions."""
    try:
        top = symtable.symtable(code, "", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    read, bound, waiting = set(), defined(code), [top]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                read.add(symbol.get_name())
    return {name for name in read - bound if not hasattr(builtins, name)}
