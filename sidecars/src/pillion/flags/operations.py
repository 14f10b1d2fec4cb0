"""Operators that are functions of their evaluated operands: comparison, arithmetic, text and lists."""

from collections.abc import Callable
from typing import Final

from pillion.flags.coercion import (
    Meter,
    bounded_text,
    contains,
    divide,
    exact,
    extreme,
    less,
    less_or_equal,
    loosely_equal,
    number,
    remainder,
    strictly_equal,
    text,
    truthy,
)
from pillion.flags.program import Build, Place, Program, is_literal
from pillion.kinds.model import JSON


def _binary(apply: Callable[[JSON, JSON, Meter], JSON]) -> Build:
    def build(place: Place) -> Program:
        left, right, meter = place.at(0), place.at(1), place.meter
        return lambda data: apply(left(data), right(data), meter)

    return build


def _unary(apply: Callable[[JSON], JSON]) -> Build:
    def build(place: Place) -> Program:
        operand = place.at(0)
        return lambda data: apply(operand(data))

    return build


def _equality(*, holds: bool) -> Build:
    """Build `==` or `!=`; one operand is a text in most rules, and texts are compared without detours."""

    def build(place: Place) -> Program:
        meter = place.meter
        for one, other in ((0, 1), (1, 0)):
            wanted = place.arguments[one] if one < len(place.arguments) else None
            if type(wanted) is str:
                return _against_text(place.at(other), wanted, meter, holds=holds)
        left, right = place.at(0), place.at(1)
        return lambda data: loosely_equal(left(data), right(data), meter) is holds

    return build


def _against_text(operand: Program, wanted: str, meter: Meter, *, holds: bool) -> Program:
    def run(data: JSON) -> JSON:
        value = operand(data)
        return (value == wanted if type(value) is str else loosely_equal(value, wanted, meter)) is holds

    return run


def _order(compare: Callable[[JSON, JSON, Meter], bool], *, swapped: bool = False) -> Build:
    """Build a comparison of two operands, or of a middle one with both its neighbours; *swapped* turns less into greater."""

    def build(place: Place) -> Program:
        left, right, meter = place.at(0), place.at(1), place.meter
        if len(place.arguments) < 3:
            if swapped:
                return lambda data: compare(right(data), left(data), meter)
            return lambda data: compare(left(data), right(data), meter)
        third = place.at(2)

        def between(data: JSON) -> JSON:
            a, b, c = left(data), right(data), third(data)
            if swapped:
                a, c = c, a
            return compare(a, b, meter) and compare(b, c, meter)

        return between

    return build


def _fold(start: float, step: Callable[[float, float], float]) -> Build:
    def build(place: Place) -> Program:
        compiled, meter = place.all(), place.meter

        def run(data: JSON) -> JSON:
            total = start
            for operand in compiled:
                total = exact(step(total, number(operand(data), meter)))
            return total

        return run

    return build


def _minus(place: Place) -> Program:
    left, right, meter = place.at(0), place.at(1), place.meter
    if len(place.arguments) < 2:
        return lambda data: exact(-number(left(data), meter))
    return lambda data: exact(number(left(data), meter) - number(right(data), meter))


def _extreme(*, largest: bool) -> Build:
    def build(place: Place) -> Program:
        compiled, meter = place.all(), place.meter
        return lambda data: extreme([number(operand(data), meter) for operand in compiled], largest=largest)

    return build


def _cat(place: Place) -> Program:
    compiled, meter = place.all(), place.meter

    def run(data: JSON) -> JSON:
        parts = [operand(data) for operand in compiled]
        return bounded_text("".join("" if part is None else text(part, meter) for part in parts), meter)

    return run


def _substr(place: Place) -> Program:
    source, start, length, meter = place.at(0), place.at(1), place.at(2), place.meter
    return lambda data: substring(source(data), start(data), length(data), meter)


def substring(source: JSON, start: JSON, length: JSON, meter: Meter) -> str:
    """Give a part of a text: from *start*, counted from the end if negative, of *length* characters, or without its last -*length* ones.

    Raises:
        Exceeded: the source is too large.
    """
    whole = text(source, meter)
    meter.read(whole)
    size = len(whole)
    begin = _index(number(start, meter), size)
    begin = max(size + begin, 0) if begin < 0 else begin
    if length is None:
        return whole[begin:]
    count = _index(number(length, meter), size)
    return whole[begin : max(size + count, begin)] if count < 0 else whole[begin : begin + count]


def _index(value: float, size: int) -> int:
    """Cut a number to a whole one that lies within a text of *size* characters, or just outside; NaN is 0."""
    if value != value:  # noqa: PLR0124 - NaN
        return 0
    return int(max(-size - 1, min(size + 1, value)))


def _merge(place: Place) -> Program:
    compiled, meter = place.all(), place.meter

    def run(data: JSON) -> JSON:
        merged: list[JSON] = []
        for operand in compiled:
            value = operand(data)
            if type(value) is list:
                meter.spend(len(value))
                merged += value
            else:
                merged.append(value)
        return merged

    return run


def _in(place: Place) -> Program:
    """Build `in`; a list that the rule fixes is a set of texts, as good as always, and perhaps some other values."""
    haystack = place.arguments[1] if len(place.arguments) > 1 else None
    if type(haystack) is not list or not is_literal(haystack):
        return _binary(contains)(place)
    needle = place.at(0)
    texts = frozenset(item for item in haystack if type(item) is str)
    others = [item for item in haystack if type(item) is not str]

    def run(data: JSON) -> JSON:
        value = needle(data)
        return value in texts if type(value) is str else any(strictly_equal(value, item) for item in others)

    return run


def _affix(test: Callable[[str, str], bool]) -> Build:
    """Build `starts_with` or `ends_with`: exactly two texts, else null."""

    def build(place: Place) -> Program:
        whole, part = place.at(0), place.at(1)
        fits = len(place.arguments) == 2

        def run(data: JSON) -> JSON:
            a, b = whole(data), part(data)
            return test(a, b) if fits and type(a) is str and type(b) is str else None

        return run

    return build


BUILDERS: Final[dict[str, Build]] = {
    "==": _equality(holds=True),
    "!=": _equality(holds=False),
    "===": _binary(lambda a, b, _meter: strictly_equal(a, b)),
    "!==": _binary(lambda a, b, _meter: not strictly_equal(a, b)),
    "<": _order(less),
    "<=": _order(less_or_equal),
    ">": _order(less, swapped=True),
    ">=": _order(less_or_equal, swapped=True),
    "!": _unary(lambda value: not truthy(value)),
    "!!": _unary(truthy),
    "+": _fold(0, lambda total, value: total + value),
    "*": _fold(1, lambda total, value: total * value),
    "-": _minus,
    "/": _binary(lambda a, b, meter: divide(number(a, meter), number(b, meter))),
    "%": _binary(lambda a, b, meter: remainder(number(a, meter), number(b, meter))),
    "min": _extreme(largest=False),
    "max": _extreme(largest=True),
    "in": _in,
    "cat": _cat,
    "substr": _substr,
    "merge": _merge,
    "starts_with": _affix(str.startswith),
    "ends_with": _affix(str.endswith),
}
"""The operators of this module by name."""
