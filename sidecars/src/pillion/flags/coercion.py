"""How JsonLogic values turn into one another: truth, numbers, text, equality, order.

JsonLogic inherits these conversions from ECMAScript (ECMA-262 section 7), and so do flagd's evaluators, each with slips of its own host
language. Here the standard decides: `true` is no number for `===`, null is less than no text, `-7 % 3` is -1, 0.1 + 0.2 reads
0.30000000000000004. Two deliberate differences: whole numbers stay exact up to 2^63 instead of 2^53, and text is counted in code points, not in
UTF-16 units. Everything that could grow without bound is charged to a `Meter`.
"""

import math
import re
from typing import Final

from pillion.kinds.model import JSON

MAX_STEPS: Final = 200_000
"""Work of one evaluation: one step per operator that a loop runs, per 64 characters of a long text and per item of a list. About 20 ms."""

MAX_TEXT: Final = 262_144
"""Characters of a text that an evaluation may build."""

_MAX_DEPTH: Final = 64
"""Levels of nested lists that are written as text."""

_EXACT: Final = 1 << 63
"""Whole numbers up to here are exact; beyond, they become floats, as every number is in ECMAScript."""

_LONG: Final = 1024
"""Characters from which on a text costs steps."""

_SPACE: Final = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""WhiteSpace and LineTerminator of ECMA-262 sections 12.2 and 12.3."""

_DECIMAL: Final = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_RADIX: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")
_SHORT_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")


class Exceeded(Exception):  # noqa: N818 - says what happened
    """An evaluation went over one of its bounds."""


class Meter:
    """What is left of an evaluation's bound. One per program; an evaluation begins by filling it up again."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Account for work that is about to be done.

        Raises:
            Exceeded: nothing is left.
        """
        self.left -= steps
        if self.left < 0:
            raise Exceeded(f"the rule does more than {MAX_STEPS} steps of work")

    def read(self, text: str) -> None:
        """Account for going through *text* once.

        Raises:
            Exceeded: nothing is left.
        """
        if len(text) > _LONG:
            self.spend(len(text) >> 6)


def truthy(value: JSON) -> bool:
    """Tell whether *value* counts as true: not null, false, 0, NaN, the empty text or the empty list; an empty object does."""
    kind = type(value)
    if kind is dict:
        return True
    if kind is float:
        return bool(value == value and value != 0.0)  # noqa: PLR0124 - NaN differs from itself
    return bool(value)


def number_text(value: float) -> str:
    """Write a number as ECMAScript does (ECMA-262 section 6.1.6.1.20): shortest digits that read back, exponent from 1e21 and below 1e-6."""
    if type(value) is int:
        return str(value)
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text.removesuffix(".0")
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "").rstrip("0")
    point = int(exponent) + 1
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if power > 0 else '-'}{abs(power)}"


def text(value: JSON, meter: Meter) -> str:
    """Write *value* as text, as `String(value)` does.

    Raises:
        Exceeded: it is a list too large to be written.
    """
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    if kind is int or kind is float:
        return number_text(value)
    if kind is list:
        return _joined(value, meter, 0)
    return "[object Object]"


def _joined(items: list[JSON], meter: Meter, depth: int) -> str:
    """Write a list as `Array.prototype.join` does: items apart by commas, null as nothing."""
    if depth > _MAX_DEPTH:
        raise Exceeded(f"a list is nested deeper than {_MAX_DEPTH} levels")
    meter.spend(len(items) + 1)
    parts = [
        "" if item is None else _joined(item, meter, depth + 1) if type(item) is list else text(item, meter)
        for item in items
    ]
    return bounded_text(",".join(parts), meter)


def bounded_text(built: str, meter: Meter) -> str:
    """Give back a text that an evaluation has built, if it may.

    Raises:
        Exceeded: it is too long.
    """
    if len(built) > _LONG:
        if len(built) > MAX_TEXT:
            raise Exceeded(f"the rule builds a text of more than {MAX_TEXT} characters")
        meter.spend(len(built) >> 6)
    return built


def number(value: JSON, meter: Meter) -> float:
    """Read *value* as a number, as `Number(value)` does; NaN where it is none.

    Raises:
        Exceeded: it is a list too large to be read.
    """
    kind = type(value)
    if kind is int:
        return int(value) if -_EXACT <= value <= _EXACT else as_float(value)
    if kind is float:
        return float(value)
    if kind is bool:
        return 1 if value else 0
    if value is None:
        return 0
    if kind is str:
        meter.read(value)
        return parse_number(value)
    if kind is list:
        return parse_number(_joined(value, meter, 0))
    return math.nan


def as_float(value: int) -> float:
    """Give the nearest float, infinity where there is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def exact(value: float) -> float:
    """Give back the result of a calculation; a whole number that grew too large becomes a float."""
    if type(value) is int and not -_EXACT <= value <= _EXACT:
        return as_float(value)
    return value


def parse_number(source: str) -> float:
    """Read text as a number (ECMA-262 section 7.1.4.1): surrounding space is ignored, nothing is 0, anything else but a numeral is NaN."""
    body = source.strip(_SPACE)
    if not body:
        return 0
    if _SHORT_INTEGER.fullmatch(body):
        return int(body)
    if _DECIMAL.fullmatch(body):
        return float(body)
    if _RADIX.fullmatch(body):
        return exact(int(body, 0))
    return math.nan


def _primitive(value: JSON, meter: Meter) -> JSON:
    """Give a list or an object as text, anything else as it is."""
    return text(value, meter) if type(value) is list or type(value) is dict else value


def loosely_equal(a: JSON, b: JSON, meter: Meter) -> bool:
    """Compare as `==` does: null equals only null, lists and objects only themselves or their text, the rest by number."""
    kind_a, kind_b = type(a), type(b)
    if kind_a is kind_b:
        return a is b if kind_a is list or kind_a is dict else bool(a == b)
    if a is None or b is None:
        return False
    if kind_a in _CONTAINERS and kind_b in _CONTAINERS:
        return False
    a, b = _primitive(a, meter), _primitive(b, meter)
    if type(a) is str and type(b) is str:
        return a == b
    return number(a, meter) == number(b, meter)


def strictly_equal(a: JSON, b: JSON) -> bool:
    """Compare as `===` does: same type and value; lists and objects equal only themselves."""
    kind_a, kind_b = type(a), type(b)
    if kind_a is kind_b:
        return a is b if kind_a is list or kind_a is dict else bool(a == b)
    return kind_a in _NUMBERS and kind_b in _NUMBERS and bool(a == b)


_NUMBERS: Final = frozenset({int, float})
_CONTAINERS: Final = frozenset({list, dict})


def less(a: JSON, b: JSON, meter: Meter) -> bool:
    """Compare as `<` does: two texts by code points, anything else by number."""
    a, b = _primitive(a, meter), _primitive(b, meter)
    if type(a) is str and type(b) is str:
        return a < b
    return number(a, meter) < number(b, meter)


def less_or_equal(a: JSON, b: JSON, meter: Meter) -> bool:
    """Compare as `<=` does; not the opposite of `>`, because NaN is neither."""
    a, b = _primitive(a, meter), _primitive(b, meter)
    if type(a) is str and type(b) is str:
        return a <= b
    return number(a, meter) <= number(b, meter)


def contains(needle: JSON, haystack: JSON, meter: Meter) -> bool:
    """Tell whether *needle* is an item of a list, or its text a part of a text; nothing else contains anything."""
    if type(haystack) is list:
        meter.spend(len(haystack) >> 4)
        if type(needle) is str:
            return needle in haystack
        return any(strictly_equal(needle, item) for item in haystack)
    if type(haystack) is str:
        meter.read(haystack)
        return text(needle, meter) in haystack
    return False


def divide(a: float, b: float) -> float:
    """Divide as IEEE 754 does: by zero gives an infinity, or NaN for 0/0."""
    if b == 0:
        if a == 0 or a != a:  # noqa: PLR0124 - NaN
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def remainder(a: float, b: float) -> float:
    """Give the remainder with the sign of the dividend, as `%` does in ECMAScript; NaN where there is none."""
    if b == 0 or math.isinf(a) or a != a or b != b:  # noqa: PLR0124 - NaN
        return math.nan
    if type(a) is int and type(b) is int:
        rest = abs(a) % abs(b)
        return -rest if a < 0 else rest
    return math.fmod(a, b)


def extreme(values: list[float], *, largest: bool) -> float:
    """Give the largest or smallest of *values*, NaN if one is; of none, the infinity that any value would beat."""
    if not values:
        return -math.inf if largest else math.inf
    if any(value != value for value in values):  # noqa: PLR0124 - NaN
        return math.nan
    return max(values) if largest else min(values)
