"""Proof by reading: everything that a template does is allowed for every value that its schema admits.

The analysis walks the syntax tree once and knows of every expression which types it may have and whether it may be absent. A guard such as
`{% if order.note is defined %}` or `{% if order.note is string %}` counts inside its branch. What passes here renders with all valid data,
short of the bounds on length; what does not is named with its line and the fix. It errs on the strict side: a field of an object that declares
none is refused, because nobody could say what it holds.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from jinja2 import nodes

from pillion.notifications import markup
from pillion.notifications.budget import MAX_EVALUATIONS, MAX_STEPS
from pillion.notifications.expressions import ExpressionJudge
from pillion.notifications.judging import Finding, both
from pillion.notifications.shapes import LOOP, NUMBERS, SCALARS, UNKNOWN, Shape, item_of, of, union
from pillion.notifications.variables import Variable


class Report(msgspec.Struct, frozen=True):
    """What a reading of a template came to.

    Args:
        findings: what is wrong; empty when it is proven.
        evaluations: expressions that it evaluates at most.
    """

    findings: tuple[Finding, ...]
    evaluations: int


def analyse(tree: nodes.Template, variables: Variable, *, html: bool) -> Report:
    """Judge *tree* for all data described by *variables*.

    Args:
        tree: a template that `sandbox.parse_checked` let pass.
        variables: the schema's root.
        html: whether values stand in HTML, so that their position matters.
    """
    walker = _Walker(variables, html=html)
    walker.block(tree.body)
    walker.finish()
    return Report(tuple(walker.findings), walker.evaluations)


class _Walker(ExpressionJudge):
    def finish(self) -> None:
        """Judge what only shows at the end."""
        if self._steps > MAX_STEPS:
            self._find(
                self._overrun,
                f"may take {self._steps} loop steps, at most {MAX_STEPS} are allowed",
                "give the lists a smaller maxItems",
            )
        elif self.evaluations > MAX_EVALUATIONS:
            self._find(
                1,
                f"may evaluate {self.evaluations} expressions, at most {MAX_EVALUATIONS} are allowed",
                "give the lists a smaller maxItems, or do less inside loops",
            )
        if self._position is not None and self._position.place is not markup.Place.TEXT:
            self._find(1, f"ends {self._position.place.value}", "close the markup")

    def block(self, body: Iterable[nodes.Node]) -> None:
        """Walk statements in order."""
        for node in body:
            match node:
                case nodes.Output():
                    for child in node.nodes:
                        self._output(child)
                case nodes.If():
                    self._if(node)
                case nodes.For():
                    self._for(node)
                case nodes.Assign():
                    self._assign(node)
                case nodes.With():
                    self._with(node)

    def _output(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.TemplateData):
            if self._position is not None:
                self._position = markup.advance(self._position, node.data)
            return
        shape = self.expression(node)
        self._need(shape, SCALARS | {"markup"}, node.lineno, "be printed")
        if self._position is not None:
            refused = markup.refusal(
                self._position,
                numeric=shape.types <= NUMBERS or not shape.known,
                link=shape.variable.format == "uri" and shape.types == {"string"},
            )
            if refused is not None:
                self._find(node.lineno, f"{shape.name} {refused[0]}", refused[1])
            self._position = markup.after_value(self._position)

    def _if(self, node: nodes.If) -> None:
        before, scope, position = self._facts, self._scope, self._position
        ends: list[tuple[dict[str, Shape], markup.Position | None]] = []
        for branch in (node, *node.elif_):
            self._condition(branch.test)
            otherwise = both(self._facts, self._narrow(branch.test, truth=False))
            self._facts = both(self._facts, self._narrow(branch.test, truth=True))
            ends.append(self._branch(branch.body, scope, position))
            self._facts = otherwise
        ends.append(self._branch(node.else_, scope, position))
        self._facts = before
        self._scope = _merge_scopes([end[0] for end in ends])
        self._position = self._meet([end[1] for end in ends], node.lineno)

    def _branch(
        self, body: Sequence[nodes.Node], scope: Mapping[str, Shape], position: markup.Position | None
    ) -> tuple[dict[str, Shape], markup.Position | None]:
        self._scope, self._position = dict(scope), position
        self.block(body)
        return self._scope, self._position

    def _meet(self, positions: Sequence[markup.Position | None], line: int) -> markup.Position | None:
        first, *rest = positions
        if first is None:
            return None
        for other in rest:
            if other is not None and msgspec.structs.replace(other, started=first.started) != first:
                self._find(
                    line,
                    f"has a branch that ends {first.place.value} and another that ends {other.place.value}",
                    "open and close a tag, and its quotes, in the same branch",
                )
                return first
        return msgspec.structs.replace(first, started=all(p is not None and p.started for p in positions))

    def _for(self, node: nodes.For) -> None:
        shape = self.expression(node.iter)
        usable = self._need(shape, frozenset({"array"}), node.lineno, "be looped over")
        variable = shape.variable if usable else UNKNOWN.variable
        self._pay(variable.max_items if usable else 0, node.lineno)
        scope, facts, position, weight = self._scope, self._facts, self._position, self._weight
        self._scope = dict(scope)
        self._bind(node.target, item_of(variable), known=usable, label=f"{shape.label}[]" if shape.label else "")
        if node.test is not None:
            self._condition(node.test)
            self._facts = both(self._facts, self._narrow(node.test, truth=True))
        self._scope["loop"] = Shape(variable=LOOP, label="loop", place=self._new_place())
        self._weight = weight * max(1, variable.max_items if usable else 1)
        inside = self._branch(node.body, self._scope, position)[1]
        self._weight, self._facts = weight, facts
        after = self._branch(node.else_, scope, position)[1]
        self._scope = dict(scope)
        self._position = self._meet([position, inside, after], node.lineno)

    def _bind(self, target: nodes.Node, item: Variable, *, known: bool, label: str) -> None:
        if isinstance(target, nodes.Tuple):
            if not known:
                children = [UNKNOWN] * len(target.items)
            elif item.types == {"pair"} and len(target.items) == 2:
                children = [of((item.properties or {})[index]) for index in ("0", "1")]
            else:
                self._find(target.lineno, "takes items apart that are no pairs", "use one name, or loop over … | items")
                children = [UNKNOWN] * len(target.items)
            for name, child in zip(target.items, children, strict=True):
                self._name(name, child)
        else:
            self._name(target, Shape(variable=item, label=label) if known else UNKNOWN)

    def _name(self, target: nodes.Node, shape: Shape) -> None:
        if not isinstance(target, nodes.Name) or target.name in ("loop", "range"):
            self._find(target.lineno, "is a name that cannot be set", "choose another name")
            return
        self._scope[target.name] = msgspec.structs.replace(
            shape, place=self._new_place(), label=target.name if shape.known else ""
        )

    def _new_place(self) -> str:
        self._places += 1
        return f"#{self._places}"

    def _assign(self, node: nodes.Assign) -> None:
        self._name(node.target, self.expression(node.node))

    def _with(self, node: nodes.With) -> None:
        scope = self._scope
        shapes = [self.expression(value) for value in node.values]
        self._scope = dict(scope)
        for target, shape in zip(node.targets, shapes, strict=True):
            self._name(target, shape)
        self.block(node.body)
        self._scope = scope


def _merge_scopes(scopes: Sequence[dict[str, Shape]]) -> dict[str, Shape]:
    """Give what is known of every name after several branches, of which one was taken."""
    merged: dict[str, Shape] = {}
    for name in {name for scope in scopes for name in scope}:
        found = [scope.get(name) for scope in scopes]
        present = [shape for shape in found if shape is not None]
        shape = present[0]
        for other in present[1:]:
            if other != shape:
                shape = union(shape, other)
        if len(present) < len(found):
            shape = msgspec.structs.replace(shape, absent=True)
        merged[name] = shape
    return merged
