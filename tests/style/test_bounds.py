"""Bounds on functions, files and statements, executed; what is over them stands in the table, with a reason.

`python tests/style/bounds.py --missing` prints all that is over a bound, tabled or not; `--table` as entries.
"""

import functools

import pytest

from tests.style import bounds

EXCEPTIONS: dict[str, tuple[str, str]] = {  # file or file:function -> rules, reason
    "nomoat/engine/native/runner.py:needs": ("density", "what step.c takes, a line each"),
    "nomoat/model/gqa.py:GroupedBehind.__call__": ("density", "an equation a line"),
    "nomoat/model/kernels.py:PlainAttention.forward": ("density", "an equation a line"),
    "nomoat/model/kernels.py:PlainAttention.backward": ("density", "an equation a line"),
    "nomoat/model/kernels.py:RMSNorm.backward": ("density", "an equation a line"),
    "nomoat/model/mla.py:AbsorbedAttention.__call__": ("density", "an equation a line"),
    "benchmarks/builds.py": ("width", "not yet"),
    "tests/conftest.py": ("width", "not yet"),
    "tests/conftest.py:weights": ("lambda", "not yet"),
    "tests/forge.py": ("width", "not yet"),
    "tests/forge.py:arm": ("lambda", "not yet"),
    "tests/model/test_gqa.py": ("width", "not yet"),
    "tests/model/test_mla.py": ("width", "not yet"),
    "tests/model/test_mla.py:test_rotation_keeps_lengths_and_depends_on_distance_alone": ("lambda", "not yet"),
    "tests/model/test_mla.py:test_attention_equals_a_loop_over_the_equations": ("lambda", "not yet"),
    "tests/model/test_moe.py": ("width", "not yet"),
    "tests/model/test_mtp.py": ("width", "not yet"),
    "tests/model/test_spec_counts.py": ("width", "not yet"),
    "tests/run/test_ledger.py": ("width", "not yet"),
    "tests/run/test_log.py:test_threads_do_not_tear_each_others_lines": ("statement", "not yet"),
    "tests/serve/test_loading.py": ("width", "not yet"),
    "tests/serve/test_terminal.py:Session.__init__": ("lambda", "not yet"),
    "tests/shapes.py": ("width", "not yet"),
    "tests/story/test_bad_input.py": ("width", "not yet"),
    "tests/story/test_golden.py": ("width", "not yet"),
    "tests/story/test_it_survives.py": ("width", "not yet"),
    "tests/story/test_it_survives.py:measured": ("lambda", "not yet"),
    "tests/story/test_teacup.py": ("width", "not yet"),
    "tests/story/test_whole_chain.py": ("width", "not yet"),
    "tests/style/test_bounds.py": ("width", "not yet"),
    "tests/test_files.py": ("width", "not yet"),
    "tests/tokenizer/test_bpe.py": ("width", "not yet"),
    "tests/tokenizer/test_layout.py": ("width", "not yet"),
}


@functools.cache
def measured() -> dict[tuple[str, str], bounds.Breach]:
    return {(breach.place, breach.rule): breach for breach in bounds.measured()}


def tabled() -> set[tuple[str, str]]:
    return {(place, rule) for place, (rules, _) in EXCEPTIONS.items() for rule in rules.split()}


def test_everything_is_within_its_bounds():
    over = [breach for key, breach in measured().items() if key not in tabled()]
    assert not over, "\n".join(f"{b.place} {b.rule}: line {b.line} {b.detail}" for b in over)


def test_c_is_no_wider_than_python():
    sources = [path for ending in "ch" for path in (bounds.ROOT / "nomoat").rglob(f"*.{ending}")]
    assert sources
    numbered = ((path.name, path.read_text("utf-8").splitlines()) for path in sources)
    wide = [(name, n) for name, lines in numbered for n, line in enumerate(lines, 1)
            if len(line) > bounds.MAX_WIDTH]  # fmt: skip
    assert not wide


def test_no_exception_outlives_its_need():
    assert not sorted(tabled() - set(measured())), "take them out of the table"


def test_every_exception_has_a_reason():
    assert all(rules and reason for rules, reason in EXCEPTIONS.values())


LONG = "def f(x):\n" + "    x = x\n" * 50
BROKEN = {
    "lines": LONG,
    "nodes": "def f(x):\n" + "    x = x(x, x, x, x, x, x)\n" * 40,
    "density": "def f(x):\n" + "    x = x(x, x, x, x, x, x)\n" * 8,
    "file": "# a line\n" * 351,
    "width": "# " + "a" * 109,
    "statement": "def f(x, y):\n    x(), y()",
    "product": "def f(n):\n    return 'apple' + 's' * (n != 1)",
    "lambda": "double = lambda x: 2 * x",
    "crowded": "def f(x):\n    if x: return 1",
    "fmt": "x = [y + 1 for y in\n     z]  # fmt: skip",
}
ALSO_BROKEN = [
    ("statement", "def f(x):\n    x.go() if x else None"),
    ("statement", "def f(x):\n    x and x()"),
    ("product", "def f(x, many: bool):\n    return f'{x}' * many"),
    ("product", "class A:\n    many: bool\n    def f(self):\n        return self.many * 's'"),
    ("product", "def f(x):\n    many = x > 1\n    return 's' * many"),
    ("lambda", "f(lambda x:\n    x)"),
    ("crowded", "x = 1; y = 2"),
    ("crowded", "try:\n    f()\nexcept OSError: pass"),
    ("crowded", "class A: x = 1"),
    ("fmt", "# fmt: off\nx = 1"),
    ("fmt", "x = make(a,\n         b)  # fmt: skip"),
    ("fmt", "def f(a,\n      b):  # fmt: skip\n    return a"),
    ("density", "class A:\n" + "    async def f(x):\n" + "        x = x(x, x, x, x, x, x)\n" * 8),
]
FINE = {
    "lines": LONG.replace("    x = x\n", "", 1),
    "statement": """
class A:
    'Says what.'
    async def f(x):
        yield
        await x
        x()
""",
    "product": "def f(n, mask):\n    return '-' * n + 'a', (n > 1) * mask",
    "lambda": "sorted(x, key=lambda y: -y)",
    "crowded": "class A:\n    def f(x): ...\n\nif f:\n    f()\nelif g:\n    g()\nelse:\n    h()",
    "fmt": """
x = make(1, 2, b=(3, -4),
         c={'d': E})  # fmt: skip
@table([(1, f),
        (2, g)])  # fmt: skip
def f(): ...
""",
}


@pytest.mark.parametrize(("rule", "source"), [*BROKEN.items(), *ALSO_BROKEN])
def test_each_bound_finds_what_it_forbids(rule, source):
    assert rule in {breach.rule for breach in bounds.breaches("wrong.py", source)}


@pytest.mark.parametrize("rule", FINE)
def test_each_bound_lets_stand_what_keeps_it(rule):
    assert not bounds.breaches("right.py", FINE[rule])


def test_every_rule_of_the_table_can_be_broken():
    assert {rule for _, rule in tabled()} <= set(BROKEN)


def test_a_breach_says_where_it_is():
    found = bounds.breaches("wrong.py", "class A:\n    def f(self):\n        def g(x):\n            x, x")
    assert [breach.place for breach in found] == ["wrong.py:A.f.g"]


def test_the_rooms_add_up():
    rooms = bounds.rooms()
    assert {"nomoat", "nomoat/model", "tests"} <= set(rooms)
    assert sum(lines for _, lines in rooms.values()) == sum(
        len(text.splitlines()) for text in bounds.files(*bounds.SOURCE, "tests").values()
    )
