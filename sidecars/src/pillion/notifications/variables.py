"""The variables of a template: the part of JSON Schema in which data is described, compiled into one tree that everybody reads.

The vocabulary is the part of JSON Schema 2020-12 that can be judged in advance: types, properties, items, bounds, enumerations and formats.
What is left out is left out on purpose and refused by name: references and combinators (`$ref`, `anyOf`, …) because no reader of a template
could then say which variables exist, `pattern` because a regular expression over foreign data has no bounded cost. Formats are *checked*, not
mere remarks, because filters such as `date` rely on them. Everything is bounded: what a schema leaves open gets the bounds below.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean
from pillion.notifications.formats import FORMATS

JSON = Any

TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")

DEFAULT_MAX_ITEMS: Final = 1_000
"""Items of a list, and entries of a map, where the schema says nothing."""

DEFAULT_MAX_LENGTH: Final = 65_536
"""Characters of a string where the schema says nothing."""

MAX_MAGNITUDE: Final = 2**63
"""Every number lies strictly between minus and plus this, so that no arithmetic of a template can overflow."""

MAX_DEPTH: Final = 10
MAX_NODES: Final = 1_000
MAX_ENUM: Final = 200
MAX_NAME: Final = 128
MAX_MISTAKES: Final = 20
"""Mistakes in a schema that are told at once."""

_ANNOTATIONS: Final = frozenset({"$schema", "$comment", "title", "description", "examples", "deprecated"})
_BOUNDS: Final = {
    "minLength": "string",
    "maxLength": "string",
    "minItems": "array",
    "maxItems": "array",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
}
_KEYWORDS: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "format", *_BOUNDS}
)
_WHY_NOT: Final = {
    "default": "a default is not filled in; write it in the template: {{ name | default(…) }}",
    "pattern": "a pattern has no bounded cost; use enum, format or maxLength",
    "$ref": "write the variables out where they stand",
    "anyOf": "give one type, or a list of types as in [string, 'null']",
    "oneOf": "give one type, or a list of types as in [string, 'null']",
}


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one value.

    Args:
        types: the JSON types it may have; `integer` stands beside `number` where only whole numbers are allowed.
        properties: declared fields of an object; None where none are declared.
        required: fields that are always there.
        extra: what undeclared fields are: False for forbidden, True for anything, else their description.
        items: what the items of a list are; None for anything.
        enum: the only allowed values; None for no such bound.
        format: one of `FORMATS`, or empty.
    """

    types: frozenset[str]
    properties: Mapping[str, "Variable"] | None = None
    required: frozenset[str] = frozenset()
    extra: "Variable | bool" = True
    items: "Variable | None" = None
    min_items: int = 0
    max_items: int = DEFAULT_MAX_ITEMS
    min_length: int = 0
    max_length: int = DEFAULT_MAX_LENGTH
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    enum: tuple[JSON, ...] | None = None
    format: str = ""


ANYTHING: Final = Variable(types=frozenset(TYPES) - {"integer"})
"""A value of which nothing is known."""


class SchemaError(ValueError):
    """A schema is not one that this module understands; `violations` say where and why."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("; ".join(violation.message for violation in violations))
        self.violations = violations


def parse(schema: JSON, path: FieldPath | str = "variables") -> Variable:
    """Compile *schema*, whose root must describe an object.

    Raises:
        SchemaError: it is no such schema; every mistake is named with its path.
    """
    parser = _Parser()
    found = parser.node(schema, FieldPath(str(path)), 0)
    if not parser.violations and found.types != {"object"}:
        parser.refuse(
            at(path, "type"),
            "must be object: data is a map of variables",
            "write type: object and list the variables under properties",
        )
    if parser.violations:
        raise SchemaError(tuple(parser.violations))
    return found


class _Parser:
    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._nodes = 0

    def refuse(self, path: FieldPath, rule: str, fix: str = "", value: JSON = msgspec.UNSET) -> None:
        if len(self.violations) < MAX_MISTAKES:
            self.violations.append(Violation(path=path, rule=rule, fix=fix, value=value))

    def node(self, schema: JSON, path: FieldPath, depth: int) -> Variable:
        self._nodes += 1
        if not isinstance(schema, Mapping):
            self.refuse(path, "is no schema", "write a map, as in {type: string}", schema)
            return ANYTHING
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            self.refuse(
                path,
                f"makes the schema too large: at most {MAX_DEPTH} levels and {MAX_NODES} schemas",
                "flatten the data",
            )
            return ANYTHING
        for keyword in schema:
            if keyword not in _KEYWORDS and keyword not in _ANNOTATIONS:
                fix = _WHY_NOT.get(keyword) or did_you_mean(str(keyword), _KEYWORDS)
                self.refuse(at(path, str(keyword)), "is not supported in the schema of variables", fix)
        types = self._types(schema, path)
        bounds = self._bounds(schema, path, types)
        properties: dict[str, Variable] | None = None
        declared = schema.get("properties")
        if isinstance(declared, Mapping):
            properties = {}
            for name, child in declared.items():
                where = at(path, "properties", str(name))
                if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
                    self.refuse(where, f"is no name of 1 to {MAX_NAME} characters", "quote it, or shorten it")
                    continue
                properties[name] = self.node(child, where, depth + 1)
        elif declared is not None:
            self.refuse(at(path, "properties"), "must be a map from names to schemas", "", declared)
        extra: Variable | bool = True
        if "additionalProperties" in schema:
            more = schema["additionalProperties"]
            extra = more if isinstance(more, bool) else self.node(more, at(path, "additionalProperties"), depth + 1)
        return Variable(
            types=types,
            properties=properties,
            required=self._required(schema, path, properties),
            extra=extra,
            items=self.node(schema["items"], at(path, "items"), depth + 1) if "items" in schema else None,
            enum=self._enum(schema, path, types),
            format=self._format(schema, path, types),
            **bounds,
        )

    def _types(self, schema: Mapping[str, JSON], path: FieldPath) -> frozenset[str]:
        found = schema.get("type")
        listed = found if isinstance(found, list) else [found]
        if found is None or not listed:
            self.refuse(at(path, "type"), "is missing", f"name one of {', '.join(TYPES)}")
            return ANYTHING.types
        for one in listed:
            if one not in TYPES:
                self.refuse(at(path, "type"), "is no JSON type", did_you_mean(str(one), TYPES), one)
                return ANYTHING.types
        # `number` includes `integer`.
        return frozenset(listed) - ({"integer"} if "number" in listed else set())

    def _required(
        self, schema: Mapping[str, JSON], path: FieldPath, properties: Mapping[str, Variable] | None
    ) -> frozenset[str]:
        found = schema.get("required", [])
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            self.refuse(at(path, "required"), "must be a list of names", "write it as in [order, customer]", found)
            return frozenset()
        for index, name in enumerate(found):
            if name not in (properties or {}):
                self.refuse(
                    at(path, "required", index),
                    "is not declared under properties",
                    did_you_mean(name, properties or {}),
                    name,
                )
        return frozenset(found)

    def _bounds(self, schema: Mapping[str, JSON], path: FieldPath, types: frozenset[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for keyword, kind in _BOUNDS.items():
            if keyword not in schema:
                continue
            value = schema[keyword]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or abs(value) >= MAX_MAGNITUDE:
                self.refuse(at(path, keyword), "must be a number of at most 18 digits", "", value)
            elif kind != "number" and (not isinstance(value, int) or value < 0):
                self.refuse(at(path, keyword), "must be a whole number of 0 or more", "", value)
            elif kind not in types and not (kind == "number" and "integer" in types):
                self.refuse(
                    at(path, keyword), f"says nothing about type {_listed(types)}", "remove it, or change the type"
                )
            else:
                found[_snake(keyword)] = value
        for low, high, bound in (
            ("min_items", "max_items", DEFAULT_MAX_ITEMS),
            ("min_length", "max_length", DEFAULT_MAX_LENGTH),
        ):
            if found.get(low, 0) > found.get(high, bound):
                self.refuse(path, f"allows no value: {_camel(low)} is above {_camel(high)}", "widen the bounds")
        lowest, highest = number_range(found, whole="integer" in types)
        if lowest is not None and highest is not None and lowest > highest:
            self.refuse(path, "allows no value: its minimum is above its maximum", "widen the bounds")
        return found

    def _enum(self, schema: Mapping[str, JSON], path: FieldPath, types: frozenset[str]) -> tuple[JSON, ...] | None:
        if "const" in schema and "enum" in schema:
            self.refuse(at(path, "const"), "stands beside enum", "keep one of them")
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values is None:
            return None
        where = at(path, "const" if "const" in schema else "enum")
        if not isinstance(values, list) or not 0 < len(values) <= MAX_ENUM:
            self.refuse(where, f"must be a list of 1 to {MAX_ENUM} values", "", values)
            return None
        for value in values:
            if not types.intersection(types_of(value)) or isinstance(value, dict | list):
                self.refuse(where, f"is no scalar of type {_listed(types)}", "list only values of that type", value)
        return tuple(values)

    def _format(self, schema: Mapping[str, JSON], path: FieldPath, types: frozenset[str]) -> str:
        found = schema.get("format", "")
        if found and found not in FORMATS:
            self.refuse(at(path, "format"), "is no known format", did_you_mean(str(found), FORMATS), found)
            return ""
        if found and "string" not in types:
            self.refuse(
                at(path, "format"), f"says nothing about type {_listed(types)}", "remove it, or change the type"
            )
        return str(found)


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def number_range(bounds: Mapping[str, Any], *, whole: bool) -> tuple[float | None, float | None]:
    """Give the least and the greatest number that *bounds* allow, inclusive; None where open.

    For fractions an exclusive bound is moved by the least step that a float can make.
    """
    low, high = bounds.get("minimum"), bounds.get("maximum")
    above, below = bounds.get("exclusive_minimum"), bounds.get("exclusive_maximum")
    lows: list[float] = []
    highs: list[float] = []
    if low is not None:
        lows.append(math.ceil(low) if whole else low)
    if above is not None:
        lows.append(math.floor(above) + 1 if whole else math.nextafter(above, math.inf))
    if high is not None:
        highs.append(math.floor(high) if whole else high)
    if below is not None:
        highs.append(math.ceil(below) - 1 if whole else math.nextafter(below, -math.inf))
    return max(lows, default=None), min(highs, default=None)


def types_of(value: JSON) -> tuple[str, ...]:
    """Give the JSON types that *value* has: 3 and 3.0 are both `integer` and `number`."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case int():
            return ("integer", "number")
        case float():
            return ("integer", "number") if value.is_integer() else ("number",)
        case str():
            return ("string",)
        case Mapping():
            return ("object",)
        case _:
            return ("array",)
