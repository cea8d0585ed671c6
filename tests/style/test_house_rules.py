"""The house's rules, executed on the source: who may import whom, who may print, what nobody may call."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nomoat

ROOT = Path(nomoat.__file__).parent
PACKAGE = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
LAB = {f"lab/{path.name}": path for path in sorted(ROOT.with_name("nomoat_lab").glob("*.py"))}  # a room next door
FILES = PACKAGE | LAB
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
LAYERS = (
    ("config",),
    ("sandbox",),
    ("tasks", "tokenizer", "ledger", "run", "stats"),
    ("mesh", "checkpoint", "allocator", "contention"),
    ("model",),
    ("weights", "data", "plan"),
    ("infer", "train"),
    ("rl",),
    ("stages",),
    ("report", "serve"),
    ("lab",),
    ("cli",),
    ("__main__",),
)
RANK = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
MAX_LINES, MAX_LAB_LINES = 12_000, 1_200
AROUND_TASKS = {"tasks/base.py", "tasks/external.py", "tasks/authoring.py"}  # what families stand on, no families
SPEAKERS = {"cli.py", "__main__.py", "serve/terminal.py"}  # who may print and exit
BOUNDARIES = ("sandbox/", "serve/app.py")  # who may catch anything


def room(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of each import; `from nomoat import x` counts as nomoat.x, a relative one as '.'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.replace("nomoat_lab", "nomoat.lab")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "."
            elif node.module == "nomoat":
                yield from ((node.lineno, f"nomoat.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module.replace("nomoat_lab", "nomoat.lab")


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def calls(tree: ast.AST) -> Iterator[tuple[int, str, ast.Call]]:
    yield from ((n.lineno, dotted(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call))


def test_every_room_is_in_a_layer():
    assert {room(name) for name in FILES} - {"__init__"} <= set(RANK)


def test_imports_go_left_only():
    wrong = []
    for name, tree in TREES.items():
        here = room(name)
        for line, module in imports(tree):
            head, _, rest = module.partition(".")
            there = rest.partition(".")[0]
            elsewhere = head == "nomoat" and there in RANK and there != here and here != "__init__"
            if head == "" or (elsewhere and RANK[there] >= RANK[here]):
                wrong.append(f"{name}:{line} imports {module}")
    assert not wrong


def test_rooms_keep_to_themselves():
    wrong = []
    for name, tree in TREES.items():
        for line, module in imports(tree):
            top = module.partition(".")[0]
            if room(name) == "tasks":
                foreign = top not in sys.stdlib_module_names and not module.startswith("nomoat.tasks")
                if foreign and not (
                    name in AROUND_TASKS and module.startswith(("nomoat.config", "nomoat.sandbox", "nomoat.stats"))
                ):
                    wrong.append(f"{name}:{line} imports {module}")
            if name.startswith("stages/s") and module.startswith("nomoat.stages.s"):
                wrong.append(f"{name}:{line}: a stage imports a stage, {module}")
    assert not wrong


def test_the_first_rooms_never_load_torch():
    first = [n for n in FILES if room(n) in LAYERS[0] + LAYERS[1]] + ["model/spec.py"]
    modules = ["nomoat." + n.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for n in first]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def test_the_package_fits_a_weekend():
    lines = lambda files: sum(len(path.read_text("utf-8").splitlines()) for path in files.values())
    assert lines(PACKAGE) < MAX_LINES
    assert lines(LAB) < MAX_LAB_LINES


def test_only_the_command_line_prints_and_exits():
    wrong = []
    for name, tree in TREES.items():
        if name in SPEAKERS:
            continue
        spoken = ("print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write", "SystemExit")
        wrong += [f"{name}:{line} calls {call}" for line, call, _ in calls(tree) if call in spoken]
        wrong += [f"{name}:{n.lineno} raises SystemExit" for n in ast.walk(tree)
                  if isinstance(n, ast.Raise) and n.exc is not None and dotted(n.exc) == "SystemExit"]  # fmt: skip
    assert not wrong


def test_nobody_catches_everything():
    wrong = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler) or name.startswith(BOUNDARIES):
                continue
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or dotted(kind) in ("Exception", "BaseException") for kind in kinds):
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong


def test_nothing_executes_data():
    """But for the inside of the jail, which is there to do it."""
    wrong = []
    for name, tree in TREES.items():
        if name == "sandbox/jail.py":
            continue
        for line, module in imports(tree):
            if module.partition(".")[0] in ("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"):
                wrong.append(f"{name}:{line} imports {module}")
        for line, call, node in calls(tree):
            trusting = [k for k in node.keywords if k.arg in ("allow_pickle", "trust_remote_code")]
            if call in ("eval", "exec", "compile", "__import__", "torch.load", "torch.save", "torch.jit.load") or any(
                not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in trusting
            ):
                wrong.append(f"{name}:{line} calls {call}")
    assert not wrong


def test_nothing_happens_at_import():
    """Module level holds definitions: no loops, no bare calls, no `with`."""
    wrong = []
    for name, tree in TREES.items():
        for node in tree.body:
            bare_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            if (bare_call or isinstance(node, ast.For | ast.While | ast.With)) and name not in SPEAKERS:
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong


def test_every_module_says_what_it_is():
    wrong = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    assert not wrong


@pytest.mark.parametrize("kind", ["imports", "prints", "catches", "executes"])
def test_the_rules_find_what_they_forbid(kind, monkeypatch):
    source = {
        "imports": "from nomoat.serve import app",
        "prints": "def f():\n    raise SystemExit",
        "catches": "try:\n    x = 1\nexcept (ValueError, Exception):\n    pass",
        "executes": "import numpy\ny = numpy.load('x', allow_pickle=True)",
    }[kind]
    rule = {
        "imports": test_imports_go_left_only,
        "prints": test_only_the_command_line_prints_and_exits,
        "catches": test_nobody_catches_everything,
        "executes": test_nothing_executes_data,
    }[kind]
    monkeypatch.setitem(TREES, "model/wrong.py", ast.parse(source))
    with pytest.raises(AssertionError, match="wrong"):
        rule()
