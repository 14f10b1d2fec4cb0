"""What the check of a template knows about an expression: its types, whether it may be absent, and where it comes from.

The signatures of filters stand here too: which input each takes, and what it gives. `analysis.py` walks a template with them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from pillion.notifications.variables import ANYTHING, DEFAULT_MAX_ITEMS, TYPES, Variable, number_range

STRING: Final = Variable(types=frozenset({"string"}))
NUMBER: Final = Variable(types=frozenset({"number"}))
INTEGER: Final = Variable(types=frozenset({"integer"}))
BOOLEAN: Final = Variable(types=frozenset({"boolean"}))
NULL: Final = Variable(types=frozenset({"null"}))
COUNT: Final = Variable(types=frozenset({"integer"}), minimum=0)
MARKUP: Final = Variable(types=frozenset({"markup"}))
"""Text that is escaped already; only `nl2br` makes it and only printing takes it."""

NUMBERS: Final = frozenset({"number", "integer"})
SCALARS: Final = frozenset({"string", "boolean"}) | NUMBERS
ALL: Final = frozenset(TYPES) | {"markup", "pair"}

_POSITION: Final = Variable(types=frozenset({"integer"}), minimum=1)
LOOP: Final = Variable(
    types=frozenset({"object"}),
    properties={
        "index": _POSITION, "index0": COUNT, "revindex": _POSITION, "revindex0": COUNT, "first": BOOLEAN, "last": BOOLEAN,
        "length": _POSITION, "depth": _POSITION, "depth0": COUNT,
    },
    required=frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"}),
    extra=False,
)  # fmt: skip
"""The variable `loop` inside a loop."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the value of an expression.

    Args:
        variable: its types and bounds.
        label: how the template's writer calls it, for messages; empty for a computed value.
        place: identifies the place in the data that it is read from, so that a guard counts for the same place alone; empty for a computed value.
        absent: whether it may be missing.
        bits: upper bound of the bits of a number.
        known: False after a mistake that was told already: nothing more is said about it.
        constant: its value, where it is written in the template.
    """

    variable: Variable
    label: str = ""
    place: str = ""
    absent: bool = False
    bits: int = 64
    known: bool = True
    constant: object = msgspec.UNSET

    @property
    def types(self) -> frozenset[str]:
        """The JSON types that it may have."""
        return self.variable.types

    @property
    def name(self) -> str:
        """How messages call it."""
        return f'"{self.label}"' if self.label else "this value"


UNKNOWN: Final = Shape(variable=Variable(types=ALL), known=False)
"""Stands for whatever a mistake left open."""


def of(variable: Variable, **more: object) -> Shape:
    """Give the shape of a computed value."""
    return msgspec.structs.replace(Shape(variable=variable), **more)


def union(left: Shape, right: Shape) -> Shape:
    """Give what is known of a value that is one or the other."""
    if not (left.known and right.known):
        return UNKNOWN
    return Shape(
        variable=merge(left.variable, right.variable),
        label=left.label or right.label,
        absent=left.absent or right.absent,
        bits=max(left.bits, right.bits),
    )


def merge(left: Variable, right: Variable) -> Variable:
    """Give what holds for both variables."""
    if left == right:
        return left
    types = left.types | right.types
    objects = [v for v in (left, right) if "object" in v.types]
    arrays = [v for v in (left, right) if "array" in v.types]
    strings = [v for v in (left, right) if "string" in v.types]
    numbers = [v for v in (left, right) if v.types & NUMBERS]
    fields = objects[0] if len(objects) == 1 else None
    if len(objects) == 2:
        shared = {
            name: merge(child, (right.properties or {})[name])
            for name, child in (left.properties or {}).items()
            if name in (right.properties or {})
        }
        fields = Variable(
            types=types, properties=shared, required=left.required & right.required & shared.keys(), extra=False
        )
    items = [v.items or ANYTHING for v in arrays]
    return Variable(
        types=types - ({"integer"} if "number" in types else set()),
        properties=fields.properties if fields else None,
        required=fields.required if fields else frozenset(),
        extra=fields.extra if fields else True,
        items=(items[0] if len(items) == 1 else merge(items[0], items[1])) if items else None,
        min_items=min((v.min_items for v in arrays), default=0),
        max_items=max((v.max_items for v in arrays), default=DEFAULT_MAX_ITEMS),
        minimum=_common([limits(v)[0] for v in numbers], min),
        maximum=_common([limits(v)[1] for v in numbers], max),
        enum=(left.enum + right.enum if left.enum is not None and right.enum is not None else None),
        format=strings[0].format if strings and all(v.format == strings[0].format for v in strings) else "",
    )


def limits(variable: Variable) -> tuple[float | None, float | None]:
    """Give the least and the greatest number that *variable* may be; None where open."""
    bounds = {
        field: getattr(variable, field) for field in ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
    }
    return number_range(bounds, whole=variable.types & NUMBERS == {"integer"})


def _common(bounds: Sequence[float | None], choose: Callable[[list[float]], float]) -> float | None:
    """Give the bound that holds for all; None when one side is open."""
    known = [bound for bound in bounds if bound is not None]
    return choose(known) if known and len(known) == len(bounds) else None


def item_of(variable: Variable) -> Variable:
    """Give what is known of the items of a list."""
    return variable.items or ANYTHING


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """How a filter may be used.

    Args:
        takes: types of the value it is applied to.
        gives: what it makes of it.
        arguments: names of its arguments in order, and which constants or types each takes (see `analysis.py`).
        required: how many of them must be given.
        walks: whether it walks over the whole list, which is paid for in loop steps.
    """

    takes: frozenset[str]
    gives: Callable[[Variable], Variable]
    arguments: Mapping[str, str] = {}
    required: int = 0
    walks: bool = False


def _text(*, arguments: Mapping[str, str] | None = None, required: int = 0) -> Signature:
    return Signature(takes=SCALARS, gives=lambda _: STRING, arguments=arguments or {}, required=required)


def _number(
    gives: Variable | None = None, *, arguments: Mapping[str, str] | None = None, required: int = 0
) -> Signature:
    return Signature(
        takes=NUMBERS,
        gives=lambda found: gives or Variable(types=found.types & NUMBERS),
        arguments=arguments or {},
        required=required,
    )


def _pairs(found: Variable) -> Variable:
    value = found.extra if isinstance(found.extra, Variable) and not found.properties else ANYTHING
    pair = Variable(types=frozenset({"pair"}), properties={"0": STRING, "1": value}, required=frozenset({"0", "1"}))
    return Variable(
        types=frozenset({"array"}), items=pair, max_items=max(DEFAULT_MAX_ITEMS, len(found.properties or {}))
    )


_ARRAY = frozenset({"array"})
_STYLE = "style"

SIGNATURES: Final[Mapping[str, Signature]] = {
    "abs": _number(),
    "capitalize": _text(),
    "count": Signature(takes=frozenset({"string", "array", "object"}), gives=lambda _: COUNT),
    "currency": _number(STRING, arguments={"code": "string"}, required=1),
    "date": Signature(takes=frozenset({"string"}), gives=lambda _: STRING, arguments={"style": _STYLE}),
    "datetime": Signature(
        takes=frozenset({"string"}), gives=lambda _: STRING, arguments={"style": _STYLE, "zone": "zone"}
    ),
    "first": Signature(takes=_ARRAY, gives=item_of),
    "int": _number(INTEGER),
    "items": Signature(takes=frozenset({"object"}), gives=_pairs, walks=True),
    "join": Signature(takes=_ARRAY, gives=lambda _: STRING, arguments={"separator": "string"}, walks=True),
    "last": Signature(takes=_ARRAY, gives=item_of),
    "length": Signature(takes=frozenset({"string", "array", "object"}), gives=lambda _: COUNT),
    "lower": _text(),
    "map": Signature(takes=_ARRAY, gives=lambda found: found, arguments={"attribute": "path"}, required=1, walks=True),
    "nl2br": Signature(takes=SCALARS, gives=lambda _: MARKUP),
    "number": _number(STRING, arguments={"digits": "digits"}),
    "percent": _number(STRING),
    "replace": _text(arguments={"old": "string", "new": "string"}, required=2),
    "reverse": Signature(takes=_ARRAY, gives=lambda found: found, walks=True),
    "round": _number(arguments={"digits": "digits"}),
    "sort": Signature(
        takes=_ARRAY, gives=lambda found: found, arguments={"attribute": "path", "reverse": "boolean"}, walks=True
    ),
    "string": _text(),
    "sum": Signature(takes=_ARRAY, gives=lambda _: NUMBER, arguments={"attribute": "path"}, walks=True),
    "title": _text(),
    "trim": _text(),
    "truncate": _text(arguments={"length": "count", "end": "string"}),
    "upper": _text(),
    "urlencode": _text(),
}
"""Every filter but `default` and `d`, which the analysis knows by heart."""


def constant(value: object) -> Shape:
    """Give the shape of a value that is written in the template."""
    match value:
        case bool():
            variable = BOOLEAN
        case int():
            return of(
                Variable(types=frozenset({"integer"}), minimum=value, maximum=value),
                constant=value,
                bits=max(1, value.bit_length()),
            )
        case float():
            variable = Variable(types=frozenset({"number"}), minimum=value, maximum=value)
        case str():
            variable = STRING
        case _:
            variable = NULL
    return of(variable, constant=value)
