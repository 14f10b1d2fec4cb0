"""How filters, tests and `range` are used: each with the values and the arguments that it can take, whatever the data."""

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from jinja2 import nodes

from pillion.notifications.judging import Judge
from pillion.notifications.shapes import (
    ALL,
    BOOLEAN,
    NUMBERS,
    SCALARS,
    SIGNATURES,
    STRING,
    UNKNOWN,
    Shape,
    Signature,
    constant,
    item_of,
    limits,
    of,
    union,
)
from pillion.notifications.variables import Variable

STYLES: Final = ("short", "medium", "long", "full")
"""How long a date is written, in CLDR's words."""


class UsageJudge(Judge):
    """Judges filters, tests and `range`."""

    def _filter(self, node: nodes.Filter) -> Shape:
        assert node.node is not None  # noqa: S101 - parse_checked refuses filter blocks
        shape = self.expression(node.node)
        if node.name in ("default", "d"):
            return self._default(node, shape)
        signature = SIGNATURES[node.name]
        arguments = self._arguments(node, signature)
        if not self._need(shape, signature.takes, node.lineno, f"be used with {node.name}") or arguments is None:
            return UNKNOWN
        if signature.walks:
            self._pay(shape.variable.max_items, node.lineno)
        variable = shape.variable
        match node.name:
            case "first" | "last":
                return of(item_of(variable), label=f"{shape.label} | {node.name}", absent=variable.min_items == 0)
            case "map" | "sum" | "sort":
                return self._over_items(node, shape, arguments)
            case "join":
                if not self._need(of(item_of(variable), label=f"{shape.label}[]"), SCALARS, node.lineno, "be joined"):
                    return UNKNOWN
            case "date" | "datetime":
                wanted = ("date", "date-time") if node.name == "date" else ("date-time",)
                if variable.format not in wanted:
                    return self._find(
                        node.lineno,
                        f"{shape.name} is not declared as a {' or '.join(wanted)}",
                        f"declare it with format: {wanted[-1]}",
                    )
        return of(signature.gives(variable), bits=shape.bits)

    def _over_items(self, node: nodes.Filter, shape: Shape, arguments: Mapping[str, Any]) -> Shape:
        item = of(item_of(shape.variable), label=f"{shape.label}[]")
        for name in str(arguments.get("attribute", "")).split(".") if arguments.get("attribute") else ():
            item = self._field(item, name, node.lineno)
        if not item.known:
            return UNKNOWN
        match node.name:
            case "map":
                if item.absent and not self._need(item, ALL, node.lineno, "be mapped", null=True):
                    return UNKNOWN
                return of(msgspec.structs.replace(shape.variable, items=item.variable), label=item.label)
            case "sum":
                if not self._need(item, NUMBERS, node.lineno, "be summed"):
                    return UNKNOWN
                return of(Variable(types=item.types & NUMBERS), bits=item.bits + 16)
            case _:
                takes = NUMBERS if item.types & NUMBERS else frozenset({"string"})
                return of(shape.variable) if self._need(item, takes, node.lineno, "be sorted by") else UNKNOWN

    def _default(self, node: nodes.Filter, shape: Shape) -> Shape:
        given = list(node.args) + [pair.value for pair in node.kwargs if pair.key in ("default_value", "other")]
        flags = [pair.value for pair in node.kwargs if pair.key == "boolean"]
        if len(given) > 2 or len(given) + len(flags) + (1 if not given else 0) > 2 or len(node.kwargs) != len(flags):
            return self._find(
                node.lineno, "default takes a value and, after it, true or false", 'write default("…", true)'
            )
        flag = flags[0] if flags else given[1] if len(given) == 2 else None
        boolean = False if flag is None else self.expression(flag).constant
        if not isinstance(boolean, bool):
            return self._find(
                node.lineno, "default takes true or false as its second argument", 'write default("…", true)'
            )
        other = self.expression(given[0]) if given else of(STRING)
        if not self._need(other, ALL, node.lineno, "be a default", null=True) or not shape.known:
            return UNKNOWN
        kept = shape.types - ({"null"} if boolean else set())
        if not kept:
            return other
        variable = msgspec.structs.replace(shape.variable, types=kept)
        return union(Shape(variable=variable, label=shape.label, bits=shape.bits), other)

    def _arguments(self, node: nodes.Filter, signature: Signature) -> Mapping[str, Any] | None:
        """Give the constants among the arguments by name; None after a mistake."""
        names = list(signature.arguments)
        usage = f"{node.name}({', '.join(names)})" if names else node.name
        given: dict[str, nodes.Expr] = {}
        for index, value in enumerate(node.args):
            if index >= len(names):
                self._find(
                    node.lineno, f'filter "{node.name}" takes at most {len(names)} arguments', f"write it as {usage}"
                )
                return None
            given[names[index]] = value
        for pair in node.kwargs:
            key = str(pair.key)
            if key not in names or key in given:
                self._find(node.lineno, f'filter "{node.name}" takes no argument "{key}"', f"write it as {usage}")
                return None
            given[key] = pair.value
        missing = [name for name in names[: signature.required] if name not in given]
        if missing:
            self._find(node.lineno, f'filter "{node.name}" needs the argument "{missing[0]}"', f"write it as {usage}")
            return None
        found: dict[str, Any] = {}
        for name, value in given.items():
            shape = self.expression(value)
            if not self._argument(node, name, signature.arguments[name], shape):
                return None
            found[name] = shape.constant
        return found

    def _argument(self, node: nodes.Filter, name: str, wanted: str, shape: Shape) -> bool:
        value = shape.constant
        number = isinstance(value, int) and not isinstance(value, bool)
        match wanted:
            case "string":
                return self._need(shape, frozenset({"string"}), node.lineno, f'be the argument "{name}" of {node.name}')
            case "digits":
                good, fix = number and 0 <= int(str(value)) <= 10, "write a whole number from 0 to 10"
            case "count":
                good, fix = number and 0 < int(str(value)) <= 100_000, "write a whole number from 1 to 100000"
            case "boolean":
                good, fix = isinstance(value, bool), "write true or false"
            case "path":
                good, fix = isinstance(value, str) and bool(value), 'write the field\'s name, as in "price"'
            case "style":
                good, fix = value in STYLES, f"write one of {', '.join(STYLES)}"
            case _:
                good, fix = _is_zone(value), "write an IANA zone, as in Europe/Berlin"
        if not good and shape.known:
            self._find(node.lineno, f'filter "{node.name}" does not understand its argument "{name}"', fix)
        return good

    def _test(self, node: nodes.Test) -> Shape:
        shape = self.expression(node.node)
        if node.name in ("defined", "undefined"):
            return of(BOOLEAN)
        arguments = [self.expression(argument) for argument in node.args]
        if node.kwargs or len(arguments) != (1 if node.name in ("divisibleby", "in") else 0):
            return self._find(node.lineno, f'test "{node.name}" has the wrong arguments', "see docs/notifications.md")
        match node.name:
            case "even" | "odd" | "divisibleby":
                self._need(shape, frozenset({"integer"}), node.lineno, f"be tested with {node.name}")
                if arguments and not (isinstance(arguments[0].constant, int) and arguments[0].constant):
                    self._find(node.lineno, "divisibleby needs a whole number other than 0", "write it out")
            case "in":
                if self._need(arguments[0], frozenset({"array"}), node.lineno, "be searched"):
                    self._need(shape, ALL, node.lineno, "be looked for", null=True)
            case _:
                self._need(shape, ALL, node.lineno, "be tested", null=True)
        return of(BOOLEAN)

    def _range(self, node: nodes.Call) -> Shape:
        shapes = [self.expression(argument) for argument in node.args]
        if not all(self._need(shape, frozenset({"integer"}), node.lineno, "be a bound of range") for shape in shapes):
            return UNKNOWN
        step = shapes[2].constant if len(shapes) == 3 else 1
        if not isinstance(step, int) or step == 0:
            return self._find(node.lineno, "range needs a step that is written out and not 0", "write range(0, 10, 2)")
        start = shapes[0] if len(shapes) > 1 else constant(0)
        stop = shapes[1] if len(shapes) > 1 else shapes[0]
        low, high = (
            (limits(start.variable)[0], limits(stop.variable)[1])
            if step > 0
            else (limits(stop.variable)[0], limits(start.variable)[1])
        )
        if low is None or high is None:
            return self._find(
                node.lineno,
                "range has no bound that is known in advance",
                "give the variable a minimum and a maximum in the schema",
            )
        count = int(max(0, high - low))
        number = Variable(types=frozenset({"integer"}), minimum=low, maximum=max(low, high))
        return of(Variable(types=frozenset({"array"}), items=number, max_items=count))


def _is_zone(value: object) -> bool:
    if not isinstance(value, str):
        return False
    if value == "UTC":
        return True
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
