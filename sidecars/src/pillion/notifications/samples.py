"""Data made from a schema, always the same: what a template is tried with before anybody sends it anything.

Four samples lie at the corners where templates break: `minimal` leaves out everything that may be absent and takes null wherever it may stand,
`typical` reads like a preview, `maximal` is as long and as large as the schema allows (within bounds that keep a check quick), `hostile` puts markup,
quotes, line breaks and template syntax into every text. Every sample is valid by its schema.
"""

import math
from typing import Any, Final, Literal

from pillion.notifications.variables import Variable, number_range

JSON = Any

Sample = Literal["minimal", "typical", "maximal", "hostile"]

SAMPLES: Final[tuple[Sample, ...]] = ("minimal", "typical", "maximal", "hostile")

_HOSTILE: Final = '<script>alert("1")</script>\'&amp;{{ 7*7 }}{% raw %}--></style>\r\nBcc: mallory@example.net\r\n\r\n\u2028\u202e\x00'
_TYPICAL: Final = "Ada Lovelace"
_MAXIMAL_LENGTH: Final = 300
_MAXIMAL_ITEMS: Final = 5
_FORMATTED: Final = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:30:00Z",
    "email": "ada@example.com",
    "uri": "https://shop.example/orders/4711?from=mail&lang=en",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}


def sample(variable: Variable, which: Sample) -> JSON:
    """Give data that is valid by *variable* and lies in the corner *which*."""
    return _value(variable, which, "")


def _value(variable: Variable, which: Sample, name: str) -> JSON:
    if variable.enum is not None:
        return variable.enum[-1 if which == "maximal" else 0]
    types = sorted(variable.types)
    if which == "minimal" and "null" in types:
        return None
    # Null and booleans last: of several types the one that shows most.
    order = ("object", "array", "string", "number", "integer", "boolean", "null")
    chosen = min(types, key=order.index)
    match chosen:
        case "object":
            return _object(variable, which)
        case "array":
            return _array(variable, which, name)
        case "string":
            return _string(variable, which, name)
        case "number" | "integer":
            return _number(variable, which, whole=chosen == "integer")
        case "boolean":
            return which != "minimal"
        case _:
            return None


def _object(variable: Variable, which: Sample) -> JSON:
    made = {
        name: _value(child, which, name)
        for name, child in (variable.properties or {}).items()
        if which != "minimal" or name in variable.required
    }
    if isinstance(variable.extra, Variable) and which != "minimal":
        made |= {name: _value(variable.extra, which, name) for name in ("first", "<second>") if name not in made}
    return made


def _array(variable: Variable, which: Sample, name: str) -> JSON:
    wanted = {"minimal": 0, "typical": 2, "maximal": _MAXIMAL_ITEMS, "hostile": 1}[which]
    count = max(variable.min_items, min(variable.max_items, wanted))
    item = variable.items
    return [None if item is None else _value(item, which, name) for _ in range(count)]


def _string(variable: Variable, which: Sample, name: str) -> str:
    if variable.format:
        return _FORMATTED[variable.format]
    match which:
        case "minimal":
            text, length = "", variable.min_length
        case "typical":
            text, length = (name.replace("_", " ").title() or _TYPICAL), 0
        case "maximal":
            text, length = "", max(variable.min_length, min(variable.max_length, _MAXIMAL_LENGTH))
        case "hostile":
            text, length = _HOSTILE, 0
    length = max(length or len(text), variable.min_length)
    return (text + "W" * (length - len(text)))[: variable.max_length]


def _number(variable: Variable, which: Sample, *, whole: bool) -> float:
    bounds = {
        field: getattr(variable, field) for field in ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
    }
    low, high = number_range(bounds, whole=whole)
    if which in ("minimal", "hostile"):
        wanted: float = -1_000_000 if which == "hostile" else 0
    else:
        wanted = 42 if which == "typical" else 1_000_000_000
        if not whole and which == "typical":
            wanted = 19.9
    if low is not None:
        wanted = max(wanted, low)
    if high is not None:
        wanted = min(wanted, high)
    return math.floor(wanted) if whole else wanted
