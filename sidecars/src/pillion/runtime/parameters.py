"""Checks path, query and header parameters against the JSON Schema they are described with.

The schema in `Parameter` is the one in `/openapi.json`; checking by it is what keeps the description true. The subset is small on purpose
(type, enum, bounds, lengths, pattern): a schema that uses anything else is refused when the server is built, not ignored.
Values are checked as text and handed to handlers as text; nothing is converted.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from pillion.runtime.operation import Parameter
from pillion.runtime.problems import FieldError

JSON = Any
"""A JSON Schema is JSON."""

_ANNOTATIONS: Final = frozenset({"title", "description", "default", "examples", "example", "format"})
_CHECKS: Final = frozenset({"type", "enum", "const", "minimum", "maximum", "minLength", "maxLength", "pattern"})
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")
_DEFAULT_MAX_LENGTH: Final = 8190
"""Characters of a value whose schema gives no `maxLength`: nothing longer fits a request line."""

_Check = Callable[[str], str]
"""Gives what is wrong with a value, or nothing."""

Values = Mapping[str, Sequence[str]]


class ParameterChecks:
    """The checks of one operation.

    Args:
        parameters: what the operation declares.

    Raises:
        ValueError: a schema uses a keyword that is not checked here.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._by_place: dict[str, list[tuple[Parameter, _Check]]] = {}
        for parameter in parameters:
            self._by_place.setdefault(parameter.place, []).append((parameter, _compile(parameter)))

    def has(self, place: Literal["query", "path", "header"]) -> bool:
        """Tell whether anything is declared for *place*."""
        return place in self._by_place

    def errors(self, place: Literal["query", "path", "header"], values: Values) -> list[FieldError]:
        """Give everything that is wrong with *values*, in the order of declaration; parameters that are not declared are ignored."""
        found = []
        for parameter, check in self._by_place.get(place, ()):
            given = values.get(parameter.name, ())
            if not given:
                if parameter.required:
                    found.append(FieldError(f"{place}:{parameter.name}", "is missing"))
                continue
            if len(given) > 1:
                found.append(FieldError(f"{place}:{parameter.name}", "is given more than once; give it once"))
                continue
            wrong = check(given[0])
            if wrong:
                found.append(FieldError(f"{place}:{parameter.name}", wrong))
        return found


def _compile(parameter: Parameter) -> _Check:
    """Turn a schema into a check."""
    schema: Mapping[str, JSON] = parameter.schema
    unknown = set(schema) - _ANNOTATIONS - _CHECKS
    if unknown:
        raise ValueError(f'parameter "{parameter.name}": schema keyword "{min(unknown)}" is not checked; leave it out')
    kind = schema.get("type", "string")
    if kind not in {"string", "integer", "number", "boolean"}:
        raise ValueError(
            f'parameter "{parameter.name}": schema type "{kind}" is not checked; use string, integer, number or boolean'
        )
    enum = [schema["const"]] if "const" in schema else schema.get("enum")
    allowed = None if enum is None else [_text(value) for value in enum]
    pattern = re.compile(schema["pattern"]) if "pattern" in schema else None
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", _DEFAULT_MAX_LENGTH)
    least, most = schema.get("minimum"), schema.get("maximum")

    def check(value: str) -> str:
        if kind == "boolean" and value not in {"true", "false"}:
            return "is no boolean; write true or false"
        if kind == "integer" and not _INTEGER.fullmatch(value):
            return "is no integer; write decimal digits"
        if kind == "number" and not _NUMBER.fullmatch(value):
            return "is no number; write decimal digits"
        if allowed is not None and value not in allowed:
            return f"is not allowed; write one of {', '.join(allowed)}"
        if kind in {"integer", "number"}:
            number = int(value) if kind == "integer" else float(value)
            if least is not None and number < least:
                return f"is below the minimum {least}"
            if most is not None and number > most:
                return f"is above the maximum {most}"
        if kind == "string":
            if len(value) < shortest:
                return f"is shorter than {shortest} characters"
            if len(value) > longest:
                return f"is longer than {longest} characters"
            if pattern is not None and not pattern.search(value):
                return f"does not match {pattern.pattern}"
        return ""

    return check


def _text(value: object) -> str:
    """Write a JSON value as it stands in a URL."""
    return str(value).lower() if isinstance(value, bool) else str(value)
