"""What an expression may be, whatever the data: its types, whether it may be absent, and what is wrong with it."""

import msgspec
from jinja2 import nodes

from pillion.notifications.judging import ABSENT, Facts, both, either, excluded
from pillion.notifications.sandbox import MAX_BITS
from pillion.notifications.shapes import (
    ALL,
    BOOLEAN,
    INTEGER,
    NUMBER,
    NUMBERS,
    SCALARS,
    STRING,
    UNKNOWN,
    Shape,
    constant,
    item_of,
    limits,
    merge,
    of,
    union,
)
from pillion.notifications.usage import UsageJudge
from pillion.notifications.variables import Variable


class ExpressionJudge(UsageJudge):
    """Judges expressions, and learns from guards."""

    def _narrow(self, node: nodes.Node, *, truth: bool) -> Facts:
        """Give what is excluded where *node* came out as *truth*."""
        match node:
            case nodes.Not():
                return self._narrow(node.node, truth=not truth)
            case nodes.And() | nodes.Or():
                left, right = self._narrow(node.left, truth=truth), self._narrow(node.right, truth=truth)
                return (both if isinstance(node, nodes.And) == truth else either)(left, right)
            case nodes.Test():
                without = excluded(node.name, truth=truth)
                return self._fact(node.node, without) if without else {}
            case nodes.Name() | nodes.Getattr() | nodes.Getitem() if truth:
                return self._fact(node, frozenset({"null", ABSENT}))
            case _:
                return {}

    def _fact(self, node: nodes.Node, excluded: frozenset[str]) -> Facts:
        self._quiet += 1
        place = self.expression(node).place
        self._quiet -= 1
        return {place: excluded} if place else {}

    def _within(self, facts: Facts, node: nodes.Node) -> Shape:
        before, self._facts = self._facts, both(self._facts, facts)
        shape = self.expression(node)
        self._facts = before
        return shape

    def expression(self, node: nodes.Node) -> Shape:
        """Give what is known of *node*, and find what is wrong in it."""
        if not self._quiet:
            self.evaluations += self._weight
        match node:
            case nodes.Const():
                return constant(node.value)
            case nodes.Name():
                return self._lookup(node)
            case nodes.Getattr():
                return self._field(self.expression(node.node), node.attr, node.lineno)
            case nodes.Getitem():
                return self._item(node)
            case nodes.List() | nodes.Tuple():
                return self._list(node)
            case nodes.CondExpr():
                return self._choice(node)
            case nodes.And() | nodes.Or():
                return self._junction(node)
            case nodes.Not():
                self._condition(node.node)
                return of(BOOLEAN)
            case nodes.Compare():
                return self._compare(node)
            case nodes.Concat():
                for part in node.nodes:
                    self._need(self.expression(part), SCALARS, part.lineno, "be joined")
                return of(STRING)
            case nodes.Neg() | nodes.Pos():
                return self._sign(node)
            case nodes.BinExpr():
                return self._arithmetic(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Test():
                return self._test(node)
            case nodes.Call():
                return self._range(node)
        return self._find(node.lineno, f"{type(node).__name__.lower()} is not supported here", "write it more simply")

    def _item(self, node: nodes.Getitem) -> Shape:
        base = self.expression(node.node)
        if isinstance(node.arg, nodes.Slice):
            for bound in (node.arg.start, node.arg.stop, node.arg.step):
                value = 1 if bound is None else self.expression(bound).constant
                if not isinstance(value, int) or (bound is node.arg.step and value == 0):
                    return self._find(
                        node.lineno, "is a slice whose bounds are not written out", "write whole numbers, as in [:10]"
                    )
            if not self._need(base, frozenset({"string", "array"}), node.lineno, "be sliced"):
                return UNKNOWN
            cut = msgspec.structs.replace(base.variable, min_items=0, format="", enum=None)
            return of(cut, label=base.label)
        index = self.expression(node.arg)
        if isinstance(index.constant, str):
            return self._field(base, index.constant, node.lineno)
        if isinstance(index.constant, int) and not isinstance(index.constant, bool):
            if not self._need(base, frozenset({"array"}), node.lineno, "be indexed with a number"):
                return UNKNOWN
            needed = index.constant + 1 if index.constant >= 0 else -index.constant
            place = f"{base.place}[{index.constant}]" if base.place else ""
            return self._guarded(
                Shape(
                    variable=item_of(base.variable),
                    label=f"{base.label}[{index.constant}]",
                    place=place,
                    absent=base.variable.min_items < needed,
                )
            )
        if not index.known:
            return UNKNOWN
        return self._find(node.lineno, "is read with a computed key", "write the field's name, or loop over … | items")

    def _list(self, node: nodes.List | nodes.Tuple) -> Shape:
        items = [self.expression(item) for item in node.items]
        for item, child in zip(items, node.items, strict=True):
            self._need(item, SCALARS, child.lineno, "be listed here", null=True)
        if not items:
            # Of the items of an empty list everything is true, so it may stand in for any list: `order.items | default([])`.
            return of(Variable(types=frozenset({"array"}), items=Variable(types=frozenset()), max_items=0))
        merged = items[0].variable
        for item in items[1:]:
            merged = merge(merged, item.variable)
        return of(Variable(types=frozenset({"array"}), items=merged, min_items=len(items), max_items=len(items)))

    def _choice(self, node: nodes.CondExpr) -> Shape:
        self._condition(node.test)
        then = self._within(self._narrow(node.test, truth=True), node.expr1)
        if node.expr2 is None:
            return msgspec.structs.replace(then, absent=True, place="")
        return union(then, self._within(self._narrow(node.test, truth=False), node.expr2))

    def _junction(self, node: nodes.And | nodes.Or) -> Shape:
        self._condition(node.left)
        truth = isinstance(node, nodes.And)
        left = self.expression(node.left)
        right = self._within(self._narrow(node.left, truth=truth), node.right)
        if not left.known:
            return UNKNOWN
        # `a or b` gives a only where a is true, so never null.
        variable = left.variable if truth else msgspec.structs.replace(left.variable, types=left.types - {"null"})
        if not variable.types:
            return right
        return union(msgspec.structs.replace(left, variable=variable), right)

    def _compare(self, node: nodes.Compare) -> Shape:
        left = self.expression(node.expr)
        self._need(left, ALL, node.lineno, "be compared", null=True)
        for operand in node.ops:
            right = self.expression(operand.expr)
            usable = self._need(right, ALL, node.lineno, "be compared", null=True) and left.known
            if usable and operand.op in ("in", "notin"):
                if self._need(right, frozenset({"array", "string", "object"}), node.lineno, "be searched") and (
                    right.types != {"array"}
                ):
                    self._need(left, frozenset({"string"}), node.lineno, "be looked for in a text or an object")
            elif usable and operand.op not in ("eq", "ne") and not _comparable(left, right):
                self._find(
                    node.lineno,
                    f"{left.name} and {right.name} cannot be ordered",
                    "compare numbers with numbers, texts with texts",
                )
            left = right
        return of(BOOLEAN)

    def _sign(self, node: nodes.Neg | nodes.Pos) -> Shape:
        shape = self.expression(node.node)
        if not self._need(shape, NUMBERS, node.lineno, "be computed with"):
            return UNKNOWN
        if isinstance(shape.constant, int | float):
            return constant(-shape.constant if isinstance(node, nodes.Neg) else shape.constant)
        return of(Variable(types=shape.types), bits=shape.bits)

    def _arithmetic(self, node: nodes.BinExpr) -> Shape:
        left, right = self.expression(node.left), self.expression(node.right)
        if (
            isinstance(node, nodes.Add)
            and left.types == right.types == {"string"}
            and not (left.absent or right.absent)
        ):
            return of(STRING)
        usable = [self._need(side, NUMBERS, node.lineno, "be computed with") for side in (left, right)]
        if not all(usable):
            return UNKNOWN
        whole = left.types | right.types == {"integer"}
        bits = max(left.bits, right.bits) + 1
        if isinstance(node, nodes.Mul):
            bits = left.bits + right.bits
        elif isinstance(node, nodes.Div | nodes.FloorDiv | nodes.Mod):
            if not _nonzero(right):
                return self._find(
                    node.lineno,
                    f"{right.name} may be zero, and is divided by",
                    "give it exclusiveMinimum: 0 in the schema, or guard with {% if … %} and compute it before",
                )
            whole = whole and not isinstance(node, nodes.Div)
            bits = max(left.bits, right.bits)
        if bits > MAX_BITS:
            return self._find(node.lineno, f"computes numbers of more than {MAX_BITS} bits", "multiply less often")
        return of(INTEGER if whole else NUMBER, bits=bits)


def _comparable(left: Shape, right: Shape) -> bool:
    both = left.types | right.types
    return both <= NUMBERS or both <= {"string"}


def _nonzero(shape: Shape) -> bool:
    low, high = limits(shape.variable)
    return (low is not None and low > 0) or (high is not None and high < 0)
