"""The house's rules, executed on the source: who may import whom, who may print, what nobody may call."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nomoat

ROOT = Path(nomoat.__file__).parent
TESTS = Path(__file__).parents[1]
PACKAGE = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
FILES = PACKAGE
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
LAYERS = (  # imports go up this list only; rooms of one line don't know each other
    ("config",),
    ("files", "stats"),
    ("run", "sandbox", "tokenizer"),
    ("tasks", "report", "model"),
    ("weights", "parallel", "data", "engine"),
    ("serve", "train"),
    ("rl",),
    ("evals",),
    ("stages",),
    ("plan",),
    ("lab",),
    ("cli",),
    ("__main__",),
)
RANK = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
N_WITHOUT_TORCH = 4  # layers, of the last of them all but `model`, which keeps spec.py free of it
FAMILY_IMPORTS = ("nomoat.tasks.base", "nomoat.tasks.exact")  # and the standard library
SPEAKERS = {"cli/say.py", "__main__.py", "serve/terminal.py"}  # who may print and exit
# Who may catch anything.
BOUNDARIES = ("sandbox/", "serve/app.py", "tasks/guest.py", "tasks/trl.py", "cli/ranks.py")


def room(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of each import: that of `from package import module`, "." of a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "."
            else:
                yield from ((node.lineno, module_of(node.module, alias.name)) for alias in node.names)


def module_of(package: str, name: str) -> str:
    """What `from package import name` imports: a module of this package, or the package itself."""
    whole = f"{package}.{name}"
    path = whole.removeprefix("nomoat.").replace(".", "/")
    return (
        whole if package == "nomoat" or f"{path}.py" in FILES or f"{path}/__init__.py" in FILES else package
    )


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
            if (
                name.startswith("tasks/families/")
                and top not in sys.stdlib_module_names
                and module not in FAMILY_IMPORTS
            ):
                wrong.append(f"{name}:{line} imports {module}")
            if name.startswith("stages/s") and module.startswith("nomoat.stages.s"):
                wrong.append(f"{name}:{line}: a stage imports a stage, {module}")
    assert not wrong


def test_no_two_modules_import_each_other():
    """Loops inside a room too, at module level or inside a function."""
    graph = {name: {to for _, module in imports(tree) if (to := file_of(module)) and to != name}
             for name, tree in TREES.items()}  # fmt: skip
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    assert not sorted(name for name in graph if name in reach[name])


def file_of(module: str) -> str | None:
    path = module.removeprefix("nomoat.").replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in FILES), None)


def without_torch() -> list[str]:
    rooms = {room for rooms in LAYERS[:N_WITHOUT_TORCH] for room in rooms} - {"model"}
    files = [name for name in FILES if room(name) in rooms and name != "sandbox/jail.py"] + ["model/spec.py"]
    return [
        "nomoat." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in files
    ]


def test_the_first_rooms_never_load_torch():
    modules = without_torch()
    assert {"nomoat.tasks.base", "nomoat.report.page", "nomoat.run.directory", "nomoat.tokenizer.bpe"} <= set(
        modules
    )
    code = f"""
import sys, importlib
for module in {modules}:
    importlib.import_module(module)
    assert 'torch' not in sys.modules, module
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def test_a_test_is_where_its_module_is():
    """tests/ROOM/test_MODULE….py, or a test of a module at the top; style and story are about the whole."""
    wrong = []
    for path in sorted(TESTS.rglob("test_*.py")):
        *rooms, file = path.relative_to(TESTS).parts
        if rooms[:1] in (["style"], ["story"]):
            continue
        stem = file.removesuffix(".py").removeprefix("test_")
        modules = [
            name.rpartition("/")[2].removesuffix(".py")
            for name in FILES
            if name.rpartition("/")[0] == "/".join(rooms)
        ]
        if not any(stem == module or stem.startswith(f"{module}_") for module in [*modules, *rooms[-1:]]):
            wrong.append(str(path.relative_to(TESTS)))
    assert not wrong


def test_only_the_command_line_prints_and_exits():
    wrong = []
    for name, tree in TREES.items():
        if name in SPEAKERS:
            continue
        spoken = (
            "print",
            "exit",
            "quit",
            "sys.exit",
            "os._exit",
            "sys.stdout.write",
            "sys.stderr.write",
            "SystemExit",
        )
        wrong += [f"{name}:{line} calls {call}" for line, call, _ in calls(tree) if call in spoken]
        raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
        wrong += [f"{name}:{n.lineno} raises SystemExit" for n in raised if dotted(n.exc) == "SystemExit"]
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
            if module.partition(".")[0] in (
                "pickle",
                "cPickle",
                "marshal",
                "shelve",
                "dill",
                "cloudpickle",
                "joblib",
            ):
                wrong.append(f"{name}:{line} imports {module}")
        for line, call, node in calls(tree):
            trusting = [k for k in node.keywords if k.arg in ("allow_pickle", "trust_remote_code")]
            if call in (
                "eval",
                "exec",
                "compile",
                "__import__",
                "torch.load",
                "torch.save",
                "torch.jit.load",
            ) or any(not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in trusting):
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


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (test_imports_go_left_only, "model/wrong.py", "from nomoat.serve import app"),
        (test_imports_go_left_only, "model/wrong.py", "from nomoat import cli"),
        (test_imports_go_left_only, "tasks/wrong.py", "import nomoat.report.table"),
        (test_rooms_keep_to_themselves, "stages/s4_wrong.py", "from nomoat.stages import s2_pretrain"),
        (
            test_rooms_keep_to_themselves,
            "stages/s4_wrong.py",
            "def f():\n    import nomoat.stages.s2_pretrain",
        ),
        (test_rooms_keep_to_themselves, "tasks/families/wrong.py", "from nomoat.tasks import contract"),
        (test_only_the_command_line_prints_and_exits, "model/wrong.py", "def f():\n    raise SystemExit"),
        (
            test_nobody_catches_everything,
            "model/wrong.py",
            "try:\n    x = 1\nexcept (OSError, Exception):\n    pass",
        ),
        (test_nothing_executes_data, "model/wrong.py", "import numpy\nx = numpy.load('', allow_pickle=True)"),
    ],
)
def test_the_rules_find_what_they_forbid(rule, file, source, monkeypatch):
    monkeypatch.setitem(TREES, file, ast.parse(source))
    with pytest.raises(AssertionError, match="wrong"):
        rule()
