"""The template language: Jinja2's syntax with everything taken out that could reach beyond the data or run without bound.

Only the constructs of `ALLOWED` exist: output, `if`, `for`, `set`, `with`, arithmetic, comparison, filters and tests of a fixed list. There are no
calls but `range(…)`, no attributes but the fields of the data (`order.items` is the field, never Python's method) and no raw output. What remains
is bounded: loop steps are counted, texts and numbers may not outgrow their limits, output is measured while it is made.

This is the first line only. Rendering of what users send happens in a process that can be killed (`worker.py`), because a bound that nobody
thought of must not stop the sidecar.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from pillion.kinds.violations import did_you_mean
from pillion.notifications.budget import BUDGET_KEY, MAX_STEPS, Budget, LimitError
from pillion.notifications.filters import FILTERS, TESTS, text_of

MAX_BITS: Final = 512
"""Bits of a whole number: far beyond any amount, far below what costs time."""

MAX_NESTING: Final = 40
"""Depth of a template's syntax tree."""

MAX_LOOPS: Final = 5
"""Loops inside loops."""

ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.With,
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos,
    nodes.Not, nodes.And, nodes.Or, nodes.Compare, nodes.Operand, nodes.Keyword, nodes.Call,
)  # fmt: skip
"""Every construct that a template may use."""

LOOP_FIELDS: Final = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"}
)
"""Fields of `loop` that a template may read."""

_NAMES: Final = {
    nodes.Macro: "macro", nodes.CallBlock: "call", nodes.FilterBlock: "filter", nodes.AssignBlock: "set … endset", nodes.Import: "import",
    nodes.FromImport: "from … import", nodes.Include: "include", nodes.Extends: "extends", nodes.Block: "block", nodes.Pow: "**", nodes.Dict: "{…}",
    nodes.NSRef: "namespace", nodes.Scope: "autoescape",
    nodes.Scope: "autoescape", nodes.ScopedEvalContextModifier: "autoescape", nodes.EvalContextModifier: "autoescape",
}  # fmt: skip


class Forbidden(ValueError):  # noqa: N818 - says what it is
    """A template uses a construct that does not exist here.

    Args:
        line: line of the template, from 1.
        rule: what is not allowed.
        fix: what to write instead.
    """

    def __init__(self, line: int, rule: str, fix: str) -> None:
        super().__init__(f"line {line}: {rule}; {fix}")
        self.line = line
        self.rule = rule
        self.fix = fix


class _Counted(Sequence[Any]):
    """A list whose every step is paid for."""

    def __init__(self, items: Sequence[Any], budget: Budget) -> None:
        self._items = items
        self._budget = budget

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._budget.step()
            yield item


@pass_context
def _counted(context: Context, value: Any) -> Any:
    if isinstance(value, Undefined):
        value = list(value)  # raises, with the name of what is missing
    if not isinstance(value, list | tuple | range):
        raise TypeError(f"only a list can be looped over, not {type(value).__name__}")
    return _Counted(value, context[BUDGET_KEY])


@pass_context
def _joined(context: Context, parts: Iterable[Any]) -> str:
    budget: Budget = context[BUDGET_KEY]
    return budget.write("".join(text_of(part) for part in parts))


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that the text that it takes and the text that it makes are paid for."""
    # How jinja2 marks a filter that wants to be handed the context first.
    wants_context = hasattr(function, "jinja_pass_arg")

    @pass_context
    def paying(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget: Budget = context[BUDGET_KEY]
        if isinstance(value, str):
            budget.write(value)
        made = function(context, value, *args, **kwargs) if wants_context else function(value, *args, **kwargs)
        return budget.write(made) if isinstance(made, str) else made

    return paying


def bounded_range(*limits: Any) -> range:
    """Give whole numbers as Python's `range` does, at most `MAX_STEPS` of them."""
    found = range(*(int(limit) for limit in limits))
    if len(found) > MAX_STEPS:
        raise LimitError(f"range is longer than {MAX_STEPS}")
    return found


class _Rewrite(NodeTransformer):
    """Puts the bounds into the tree: loops are counted, joined texts measured."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 names visitors after the node
        self.generic_visit(node)
        node.iter = _call_filter("counted", node.iter, node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - jinja2 names visitors after the node
        self.generic_visit(node)
        return _call_filter("joined", nodes.List(node.nodes, lineno=node.lineno), node.lineno)


def _call_filter(name: str, value: nodes.Node, line: int) -> nodes.Filter:
    return nodes.Filter(value, f" {name}", [], [], None, None, lineno=line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """One dialect of the language: with autoescape for HTML, without for plain text."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self, *, html: bool) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            finalize=text_of if not html else _for_html,
            # A constant expression would otherwise be computed at compile time, outside of every bound.
            optimized=False,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=0,
        )
        self.globals = {"range": bounded_range}
        self.filters = {
            **{name: _paid(function) for name, function in FILTERS.items()},
            " counted": _counted,
            " joined": _joined,
        }
        self.tests = dict(TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Give a field of the data; never an attribute of a Python object."""
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Give a field of an object, an item of a list, or a field of `loop`."""
        match obj:
            case Mapping() if isinstance(argument, str) and argument in obj:
                return obj[argument]
            case LoopContext() if argument in LOOP_FIELDS:
                return getattr(obj, argument)
            case str() | list() | tuple() if isinstance(argument, slice) or _is_index(argument, obj):
                return obj[argument]
            case Undefined():
                # Reading on from what is missing names what is missing.
                raise UndefinedError(obj._undefined_message)  # noqa: SLF001 - jinja2 has no public name for its own message
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute *left* operator *right* within the bounds."""
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            budget: Budget = context[BUDGET_KEY]
            return budget.write(left + right)
        for operand in (left, right):
            if isinstance(operand, Undefined):
                str(operand)  # raises, with the name of what is missing
            if not isinstance(operand, int | float) or isinstance(operand, bool):
                raise TypeError(f"{operator} computes with numbers, not with {type(operand).__name__}")
            if isinstance(operand, int) and operand.bit_length() > MAX_BITS:
                raise LimitError(f"a number has more than {MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)

    def compile_template(self, source: str) -> Any:
        """Parse, check and compile one template.

        Raises:
            Forbidden: it is no template of this language.
        """
        tree = self.parse_checked(source)
        try:
            code = self.compile(_Rewrite().visit(tree).set_environment(self))
        except (TemplateSyntaxError, RecursionError, SyntaxError, MemoryError, OverflowError) as error:
            raise Forbidden(getattr(error, "lineno", 1) or 1, "cannot be compiled", "make it simpler") from error
        return self.template_class.from_code(self, code, self.make_globals(None))

    def parse_checked(self, source: str) -> nodes.Template:
        """Parse one template and refuse every construct that does not exist here.

        Raises:
            Forbidden: with the line, the rule and the fix.
        """
        try:
            tree = self.parse(source)
        except TemplateSyntaxError as error:
            raise Forbidden(error.lineno, _syntax(error.message or ""), "correct the template's syntax") from error
        except RecursionError:
            raise Forbidden(1, "is nested too deeply", "use {% set %} for intermediate results") from None
        _check(tree, 0, 0)
        return tree


def _for_html(value: Any) -> Any:
    return value if hasattr(value, "__html__") else text_of(value)


def _is_index(argument: Any, obj: Sequence[Any]) -> bool:
    return isinstance(argument, int) and not isinstance(argument, bool) and -len(obj) <= argument < len(obj)


def _syntax(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    for tag in ("trans", "do", "break", "continue", "debug"):
        if f"unknown tag '{tag}'" in text:
            return f"{{% {tag} %}} is not supported"
    return f"has a syntax error: {text}"


def _check(node: nodes.Node, depth: int, loops: int) -> None:
    line = node.lineno or 1
    if depth > MAX_NESTING:
        raise Forbidden(
            line, f"is nested more than {MAX_NESTING} levels deep", "use {% set %} for intermediate results"
        )
    if not isinstance(node, ALLOWED) or type(node) not in ALLOWED:
        name = _NAMES.get(type(node), type(node).__name__.lower())
        raise Forbidden(line, f"{name} is not supported in a notification", _instead(node))
    match node:
        case nodes.For():
            loops += 1
            if node.recursive:
                raise Forbidden(line, "recursive loops are not supported", "write the levels out")
            if loops > MAX_LOOPS:
                raise Forbidden(line, f"loops are nested more than {MAX_LOOPS} deep", "flatten the data")
        case nodes.Call():
            if not (isinstance(node.node, nodes.Name) and node.node.name == "range"):
                raise Forbidden(line, "calls are not supported, except range(…)", _call_fix(node.node))
            if node.kwargs or node.dyn_args or node.dyn_kwargs or not 1 <= len(node.args) <= 3:
                raise Forbidden(line, "range takes one to three numbers", "write range(5) or range(1, 6)")
        case nodes.Filter():
            if node.name not in FILTERS:
                raise Forbidden(line, f'"{node.name}" is no filter', did_you_mean(node.name, FILTERS))
            if node.node is None or node.dyn_args or node.dyn_kwargs:
                raise Forbidden(line, f'filter "{node.name}" takes no * or ** arguments', "name each argument")
        case nodes.Test():
            if node.name not in TESTS:
                raise Forbidden(line, f'"{node.name}" is no test', did_you_mean(node.name, TESTS))
            if node.dyn_args or node.dyn_kwargs:
                raise Forbidden(line, f'test "{node.name}" takes no * or ** arguments', "name each argument")
        case nodes.Const() if isinstance(node.value, int) and abs(node.value) >= 2**63:
            raise Forbidden(line, "a number has more than 18 digits", "use a smaller number")
        case nodes.Const() if isinstance(node.value, float) and not (
            math.isfinite(node.value) and abs(node.value) < 2**63
        ):
            raise Forbidden(line, "a number has more than 18 digits", "use a smaller number")
        case nodes.Const() if isinstance(node.value, complex | bytes):
            raise Forbidden(line, "only texts and numbers can be written", "use a text or a number")
    for child in node.iter_child_nodes():
        _check(child, depth + 1, loops)


def _instead(node: nodes.Node) -> str:
    match node:
        case nodes.Pow():
            return "multiply instead"
        case nodes.Extends() | nodes.Block() | nodes.Include() | nodes.Import() | nodes.FromImport():
            return "write the text out here"
        case nodes.Macro() | nodes.CallBlock():
            return "write the text out, or loop over a list"
        case nodes.FilterBlock():
            return "filter the values: {{ name | upper }}"
        case nodes.AssignBlock():
            return "join texts with ~: {% set line = a ~ b %}"
        case _:
            return "see the list of constructs in docs/notifications.md"


def _call_fix(called: nodes.Expr) -> str:
    if isinstance(called, nodes.Getattr):
        if called.attr in FILTERS:
            return f"use the filter: {{{{ … | {called.attr} }}}}"
        if called.attr in ("items", "values", "keys"):
            return "loop over the filter: {% for name, value in … | items %}"
    return "use a filter"
