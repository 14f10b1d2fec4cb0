"""Writes JSON as CEL, with expressions where values are known only when a pod comes.

The functions that make a sidecar for the webhook are called with holes for values, and what they give is printed here: so a policy gets its template from the code that
the webhook runs, and there is no second one. A hole that is formatted into a text remembers its place there. Nothing here knows about pods.

CEL as API servers have it: a list or map literal has members of one type, so members of several types are wrapped in `dyn` (Kubernetes documentation, "CEL in Kubernetes").
"""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

JSON = Any

_OPEN, _CLOSE = "\x02", "\x03"
_MARKED: Final = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_WIDTH: Final = 120


class Hole:
    """A value that an expression gives.

    Args:
        expression: the expression.
        type: its CEL type, `string` or `int`.
        optional: whether a member with the type's empty value is left out of its map.
    """

    def __init__(self, expression: str, type: str = "string", *, optional: bool = False) -> None:  # noqa: A002 - CEL's word
        self.expression = expression
        self.type = type
        self.optional = optional

    def __str__(self) -> str:
        """Give a text that remembers the hole."""
        return f"{_OPEN}{self.expression if self.type == 'string' else f'string({self.expression})'}{_CLOSE}"


class Each:
    """Something that is known to be there only when a pod comes, any number of times; iterating gives one, made of holes.

    Args:
        expression: a list.
        name: what one member is called within the template.
        fields: the fields of a member that the template uses.
    """

    def __init__(self, expression: str, name: str, *fields: str) -> None:
        self.expression = expression
        self.name = name
        self._fields = fields

    def __iter__(self) -> Iterator[tuple["Hole", ...]]:
        yield tuple(_Member(f"{self.name}.{field}", self) for field in self._fields)


class _Member(Hole):
    """A field of one of many."""

    def __init__(self, expression: str, of: Each) -> None:
        super().__init__(expression)
        self.of = of


def matches(text: str, pattern: str) -> str:
    """Give an expression that tells whether a pattern matches all of *text*."""
    return f"{text}.matches({literal(f'^(?:{pattern})$')})"


def literal(value: JSON, indent: int = 0) -> str:
    """Write *value*, with holes or without, as an expression; over several lines where it is long.

    Raises:
        TypeError: it is no JSON.
    """
    match value:
        case Hole():
            return value.expression
        case bool() | int() | str():
            return _text(value) if isinstance(value, str) else json.dumps(value)
        case dict():
            return _map(value, indent)
        case list():
            return _list(value, indent)
    raise TypeError(f"{type(value).__name__} has no CEL literal here")


def _text(text: str) -> str:
    """Write a text; parts that are holes are joined to the others."""
    parts = _MARKED.split(text)
    # Every second part is an expression. JSON's escapes are CEL's.
    written = [
        part if number % 2 else json.dumps(part, ensure_ascii=False) for number, part in enumerate(parts) if part
    ]
    return " + ".join(written) or '""'


def _map(value: dict[str, JSON], indent: int) -> str:
    mixed = len({_type(member) for member in value.values()}) > 1
    members = []
    for name, member in value.items():
        written = _wrapped(member, indent + 2, mixed=mixed)
        if isinstance(member, Hole) and member.optional:
            members.append(f"?{json.dumps(name)}: optional.ofNonZeroValue({written})")
        else:
            members.append(f"{json.dumps(name)}: {written}")
    return _lines("{", members, "}", indent)


def _list(value: list[JSON], indent: int) -> str:
    mixed = len({_type(member) for member in value}) > 1
    parts = []
    for each, members in groupby(value, _origin):
        if each is None:
            parts.append(_lines("[", [_wrapped(member, indent + 2, mixed=mixed) for member in members], "]", indent))
        else:
            parts += [
                f"{each.expression}.map({each.name}, {_wrapped(member, indent, mixed=mixed)})" for member in members
            ]
    return " + ".join(parts) or "[]"


def _wrapped(member: JSON, indent: int, *, mixed: bool) -> str:
    written = literal(member, indent)
    return f"dyn({written})" if mixed else written


def _origin(value: JSON) -> Each | None:
    """Give what a member of a list is repeated for; None where it stands there once. Lists within it repeat their own members."""
    if isinstance(value, _Member):
        return value.of
    members = value.values() if isinstance(value, dict) else ()
    return next((found for member in members if (found := _origin(member))), None)


def _type(value: JSON) -> str:
    """Give the CEL type of a literal."""
    match value:
        case Hole():
            return value.type
        case bool():
            return "bool"
        case int():
            return "int"
        case dict() | list():
            members = {_type(member) for member in (value.values() if isinstance(value, dict) else value)}
            inner = members.pop() if len(members) == 1 else "dyn"
            return f"{'map' if isinstance(value, dict) else 'list'}({inner})"
    return "string"


def _lines(begin: str, members: list[str], end: str, indent: int) -> str:
    one = begin + ", ".join(members) + end
    if indent + len(one) <= _WIDTH and "\n" not in one:
        return one
    pad = " " * (indent + 2)
    return begin + "\n" + ",\n".join(pad + member for member in members) + "\n" + " " * indent + end
