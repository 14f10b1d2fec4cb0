"""Judging data by a schema: every mistake with a pointer to it, and nothing that could take long.

`integer` admits 3.0 as JSON Schema does; `format` is checked. Numbers beyond 63 bits are refused, whatever the schema says.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.violations import did_you_mean
from pillion.notifications.formats import FORMATS
from pillion.notifications.variables import DEFAULT_MAX_ITEMS, MAX_MAGNITUDE, Variable, types_of

JSON = Any

MAX_ERRORS: Final = 20
"""Errors that one validation reports."""


class DataError(msgspec.Struct, frozen=True):
    """One thing wrong with data.

    Args:
        pointer: where, as a JSON Pointer (RFC 6901) below the data.
        detail: what is wrong and what to write instead.
    """

    pointer: str
    detail: str


def validate(value: JSON, variable: Variable) -> list[DataError]:
    """Give what is wrong with *value*, at most `MAX_ERRORS` of it; empty when it fits."""
    found: list[DataError] = []
    for error in _errors(value, variable, ""):
        found.append(error)
        if len(found) >= MAX_ERRORS:
            break
    return found


def _errors(value: JSON, variable: Variable, pointer: str) -> Iterator[DataError]:
    types = types_of(value)
    if not variable.types.intersection(types):
        yield DataError(pointer, f"must be {' or '.join(sorted(variable.types))}, not {types[0]}")
        return
    if variable.enum is not None and not any(same(value, allowed) for allowed in variable.enum):
        shown = ", ".join(msgspec.json.encode(allowed).decode() for allowed in variable.enum[:12])
        yield DataError(pointer, f"must be one of {shown}")
        return
    match value:
        case str():
            yield from _string_errors(value, variable, pointer)
        case bool() | None:
            return
        case int() | float():
            yield from _number_errors(value, variable, pointer)
        case Mapping():
            yield from _object_errors(value, variable, pointer)
        case _:
            if not variable.min_items <= len(value) <= variable.max_items:
                yield DataError(
                    pointer, f"has {len(value)} items; allowed are {variable.min_items} to {variable.max_items}"
                )
                return
            if variable.items is not None:
                for index, item in enumerate(value):
                    yield from _errors(item, variable.items, f"{pointer}/{index}")


def _string_errors(value: str, variable: Variable, pointer: str) -> Iterator[DataError]:
    if not variable.min_length <= len(value) <= variable.max_length:
        yield DataError(
            pointer, f"has {len(value)} characters; allowed are {variable.min_length} to {variable.max_length}"
        )
    elif variable.format and not FORMATS[variable.format][0](value):
        yield DataError(pointer, f"must be {FORMATS[variable.format][1]}")


def _number_errors(value: float, variable: Variable, pointer: str) -> Iterator[DataError]:
    if not -MAX_MAGNITUDE < value < MAX_MAGNITUDE:
        yield DataError(pointer, "has more digits than are supported; allowed are numbers between -2^63 and 2^63")
    elif variable.minimum is not None and value < variable.minimum:
        yield DataError(pointer, f"must be {variable.minimum} or more")
    elif variable.maximum is not None and value > variable.maximum:
        yield DataError(pointer, f"must be {variable.maximum} or less")
    elif variable.exclusive_minimum is not None and value <= variable.exclusive_minimum:
        yield DataError(pointer, f"must be above {variable.exclusive_minimum}")
    elif variable.exclusive_maximum is not None and value >= variable.exclusive_maximum:
        yield DataError(pointer, f"must be below {variable.exclusive_maximum}")


def _object_errors(value: Mapping[str, JSON], variable: Variable, pointer: str) -> Iterator[DataError]:
    declared = variable.properties or {}
    for name in sorted(variable.required):
        if name not in value:
            yield DataError(f"{pointer}/{escape(name)}", "is missing")
    if len(value) > max(DEFAULT_MAX_ITEMS, len(declared)):
        yield DataError(pointer, f"has {len(value)} entries; allowed are {DEFAULT_MAX_ITEMS}")
        return
    for name, item in value.items():
        where = f"{pointer}/{escape(name)}"
        if name in declared:
            yield from _errors(item, declared[name], where)
        elif variable.extra is False:
            yield DataError(where, f"is no variable; {did_you_mean(name, declared)}")
        elif isinstance(variable.extra, Variable):
            yield from _errors(item, variable.extra, where)


def escape(name: str) -> str:
    """Write *name* as a reference token of a JSON Pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def same(left: JSON, right: JSON) -> bool:
    """Compare scalars as JSON does: 1 and 1.0 are the same number, but true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
