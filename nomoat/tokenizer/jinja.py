"""A foreign chat template: rendered in a sandbox that it can't leave, in bounded time and memory.

The names that templates are written for are those of transformers: `raise_exception`, `strftime_now`,
`tojson`, loop controls, `generation` blocks.  Every loop, call, list, printed value and operator that makes
text grow is charged to a Budget; a filter or method that isn't listed here, and so isn't charged, is refused.
"""

import html
import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from nomoat.config import DataError
from nomoat.files import visible
from nomoat.tokenizer import costs
from nomoat.tokenizer.budget import Budget, BudgetError

BEGIN, END = "\U0010fffe", "\U0010ffff"  # around what a `generation` block holds; no characters of Unicode
LONGEST = 100_000  # characters of a template: compiling it takes seconds
_BUDGET = " budget"  # among a template's variables, where none can spell it
_FILTERS = (
    "abs attr batch capitalize center count d default dictsort first float format groupby indent int items "
    "join last length list lower map max min reject rejectattr replace reverse round select selectattr slice "
    "sort string title trim truncate unique upper urlencode wordcount"
)
_ERRORS = (
    jinja2.TemplateError, BudgetError, ArithmeticError, AssertionError, AttributeError, LookupError,
    MemoryError, NameError, RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


_CALLABLE = (Macro, LoopContext, BlockReference, jinja2.Undefined)


class RefusedError(jinja2.TemplateError):
    """What `raise_exception` raises."""


def render(source: str, variables: Mapping[str, Any], n_given: int) -> str:
    """The text of a template whose variables hold about `n_given` characters; DataError where it refuses
    them, fails, leaves its sandbox or doesn't end.
    """
    budget = Budget(n_given)
    try:
        template = _compiled(source)
        context = template.new_context({**variables, _BUDGET: budget})
        return "".join(template.root_render_func(context))
    except RefusedError as error:
        raise DataError(
            f"the chat template refuses this conversation: {visible(error)}; "
            "expected messages as its author meant them; change their roles or their order"
        ) from None
    except _ERRORS as error:
        raise DataError(
            f"the chat template stopped: {type(error).__name__}, {visible(error)[:300]}; expected one that "
            "renders a conversation in bounded time; mend its chat_template.jinja"
        ) from None


@dataclass(frozen=True, slots=True)
class Words:
    """What stands in a template, without rendering it."""

    printed: tuple[str, ...]  # between its tags and in its constants
    looked_up: frozenset[str]  # behind a dot or, as a constant, in brackets


@lru_cache(64)
def words(source: str) -> Words:
    """What stands in a template; DataError where it can't be read."""
    try:
        if len(source) > LONGEST:
            raise ValueError(f"{len(source):,} characters; expected at most {LONGEST:,}")
        tree = _Sandbox().parse(source)
        constants = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
        texts = [node.data for node in tree.find_all(nodes.TemplateData)]
        names = [node.attr for node in tree.find_all(nodes.Getattr)]
    except _ERRORS as error:
        raise DataError(
            f"the chat template can't be read: {type(error).__name__}, {visible(error)[:300]}; "
            "expected a Jinja template; mend its chat_template.jinja"
        ) from None
    return Words((*texts, *constants), frozenset([*names, *constants]))


@lru_cache(64)
def _compiled(source: str) -> jinja2.Template:
    words(source)
    sandbox = _Sandbox()
    tree = _Charging().visit(sandbox.parse(source))
    return jinja2.Template.from_code(sandbox, sandbox.compile(tree), sandbox.make_globals(None))


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what the assistant wrote, between BEGIN and END."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in (BEGIN, END))
        return nodes.Scope([begin, *body, end], lineno=line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with nothing in it that a Budget doesn't see."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_made
        )
        known = {name: _charged(name, self.filters[name]) for name in _FILTERS.split()}
        self.filters = {**known, **_OWN_FILTERS}
        self.globals = {
            "range": self.globals["range"],
            "dict": _dict,
            "namespace": _Namespace,
            "raise_exception": _raise,
            "strftime_now": _strftime_now,
        }

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A function, macro or method, if the template may; a charge for what it makes."""
        budget = __context[_BUDGET]
        budget.step()
        if isinstance(__obj, types.MethodType | types.BuiltinMethodType):
            args = costs.charge_method(budget, __obj, args, kwargs)
            __obj = super().wrap_str_format(__obj) or __obj
        elif not isinstance(__obj, _CALLABLE) and not __self.offers(__obj):
            raise SecurityError(f"a template may not call {type(__obj).__name__}")
        return budget.copied(super().call(__context, __obj, *args, **kwargs))

    def offers(self, function: Any) -> bool:
        return any(function is known for known in self.globals.values())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        costs.charge_operator(context[_BUDGET], operator, left, right)
        return super().call_binop(context, operator, left, right)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise SecurityError(f"a template may not read {attribute!r} of {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is wrapped where it is called, and so charged."""


class _Charging(NodeTransformer):
    """Puts a charge around each loop, each list, each joined or printed text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(node.iter, " steps")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through(nodes.List(node.nodes, lineno=node.lineno), " joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _through(self.generic_visit(node), " made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _through(self.generic_visit(node), " made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _through(node, " made") if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(node, " copied") if isinstance(node.arg, nodes.Slice) else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)


def _through(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Namespace(Namespace):
    """Jinja's, which takes no name that begins with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        Namespace.__init__(self)
        for name, value in dict(*given, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a template may not set {name!r}")
        super().__setitem__(name, value)


@pass_context
def _dict(context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return context[_BUDGET].made(dict(*args, **kwargs))


def _raise(message: Any) -> None:
    raise RefusedError(str(message))


def _strftime_now(form: str) -> str:
    if re.search(r"%[^%A-Za-z]*[0-9]", form):
        raise BudgetError("it asks for a date of a certain width")
    return datetime.now().strftime(form)


@pass_context
def _made(context: Context, value: Any) -> Any:
    return context[_BUDGET].made(value)


@pass_context
def _copied(context: Context, value: Any) -> Any:
    context[_BUDGET].step()
    return context[_BUDGET].copied(value)


@pass_context
def _steps(context: Context, items: Any) -> Any:
    return context[_BUDGET].steps(items)


@pass_context
def _joined(context: Context, items: list[Any]) -> str:
    return "".join(map(str, context[_BUDGET].made(items)))


@pass_context
def _sum(context: Context, items: Any, attribute: Any = None, start: float = 0) -> float:
    """Of numbers: Jinja's also adds lists, each copied as often as others follow it."""
    get = make_attrgetter(context.environment, attribute)
    numbers = [start, *map(get, context[_BUDGET].steps(items))]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("a sum of what are no numbers")
    return sum(numbers)


@pass_context
def _tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: no HTML is escaped, so that tools read as they were written."""
    if (indent or 0) > 16 or sum(map(len, separators or ())) > 16:
        raise BudgetError("it asks for JSON that is mostly blank")
    context[_BUDGET].make(context[_BUDGET].size(value) * 6 * (1 + (indent or 0)))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _escape(value: Any) -> str:
    return html.escape(str(value))


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that charges before it works."""
    wants = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def charged(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        if name == "join":
            value = [*context[_BUDGET].steps(value)]
        costs.charge(context[_BUDGET], name, value, [*args, *kwargs.values()])
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        made = function(*([first[wants.name]] if wants else []), value, *args, **kwargs)
        return context[_BUDGET].copied(made)

    return charged


_OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    " made": _made,
    " copied": _copied,
    " steps": _steps,
    " joined": _joined,
    "e": _escape,
    "escape": _escape,
    "safe": str,
    "sum": _sum,
    "tojson": _tojson,
}
