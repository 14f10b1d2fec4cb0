"""The free-form parts of a flag: what JSON values may stand there, of which type variants are, and their one canonical form.

The API server's round trip turns `1.0` into `1`, and files do not: so both are written alike here. If any variant of a number flag has a fraction,
all become floats, because a client that asks for a float refuses a whole number; elsewhere whole floats become integers.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from pillion.kinds.model import JSON
from pillion.kinds.violations import FieldPath, Violation, at

VariantType = Literal["boolean", "string", "number", "object"]
"""What a flag's values are."""

_MAX_DEPTH: Final = 32
"""Levels of an object variant."""

_EXACT: Final = 2**53
"""Whole numbers up to here survive every JSON reader unchanged (RFC 8259 section 6)."""


def type_of(value: JSON) -> VariantType | None:
    """Give the type of a variant's value; None for what no variant may be."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "object" if isinstance(value, dict) else None


def check_json(value: JSON, path: FieldPath, depth: int = 0) -> Iterator[Violation]:
    """Yield what in a free-form value JSON cannot say, or not exactly. Rules are bounded by their own proof, so the depth is not theirs."""
    if depth > 2 * _MAX_DEPTH + 8:
        yield Violation(path=path, rule="is nested too deeply", fix="flatten it")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                yield Violation(path=path, value=name, rule="is a key that is no text", fix=f'quote it: "{name}"')
            else:
                yield from _check_text(name, path)
                yield from check_json(item, at(path, name), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from check_json(item, at(path, index), depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Violation(path=path, rule=f"is {value}, which JSON cannot say", fix="write a finite number, or a text")
    elif isinstance(value, str):
        yield from _check_text(value, path)
    elif value is not None and not isinstance(value, int | float):
        yield Violation(path=path, rule=f"is a {type(value).__name__}", fix="quote it")


def _check_text(value: str, path: FieldPath) -> Iterator[Violation]:
    try:
        value.encode()
    except UnicodeEncodeError:
        yield Violation(path=path, rule="holds half of a surrogate pair", fix="write the whole character")


def check_variants(variants: Mapping[str, JSON], path: FieldPath) -> Iterator[Violation]:
    """Yield variants that are of no type, or not of the type of the first."""
    first: tuple[str, VariantType] | None = None
    for name, value in variants.items():
        here = at(path, name)
        if not 1 <= len(name) <= 253:
            yield Violation(path=path, value=name, rule="is no name of 1 to 253 characters", fix="rename the variant")
        kind = type_of(value)
        if kind is None:
            allowed = "a boolean, a text, a number or an object"
            yield Violation(
                path=here, value=value, rule="is of no type that a variant may have", fix=f"write {allowed}"
            )
        elif first is None:
            first = (name, kind)
        elif kind != first[1]:
            yield Violation(
                path=here,
                value=value,
                rule=f'is of type {kind}, while "{first[0]}" is of type {first[1]}',
                fix=f"make all variants {first[1]}s, or move this one to a flag of its own",
            )
        if isinstance(value, int) and abs(value) > _EXACT:
            yield Violation(
                path=here,
                value=value,
                rule="is beyond 2^53, where clients round whole numbers",
                fix="use a text",
                severity="warning",
            )
        if _depth(value) > _MAX_DEPTH:
            yield Violation(path=here, rule=f"is nested deeper than {_MAX_DEPTH} levels", fix="flatten it")


def _depth(value: JSON) -> int:
    """Give the levels of a value whose depth `check_json` has bounded."""
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def canonical(value: JSON) -> JSON:
    """Write whole floats as integers, at every level."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if isinstance(value, dict):
        return {name: canonical(item) for name, item in value.items()}
    return [canonical(item) for item in value] if isinstance(value, list) else value


def canonical_variants(variants: Mapping[str, JSON]) -> dict[str, JSON]:
    """Write the variants of a flag in their one form: floats for all if one has a fraction, else integers where whole."""
    values = {name: canonical(value) for name, value in variants.items()}
    if any(isinstance(value, float) for value in values.values()):
        return {name: float(value) for name, value in values.items()}
    return values
