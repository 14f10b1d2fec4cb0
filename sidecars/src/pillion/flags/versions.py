"""Versions in targeting rules: `sem_ver` as flagd means it.

A leading v is dropped, numbers are read as text, `1` and `1.2` are padded to three parts, build metadata is ignored. `^` compares the major
part, `~` major and minor: flagd's own meaning, not the ranges of package managers. What is no version compares to nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from semver import Version

from pillion.flags.coercion import number_text
from pillion.kinds.model import JSON

_LONGEST: Final = 256
"""Characters of a version, as node-semver bounds it; longer ones are none."""


class Precedence(NamedTuple):
    """A version in a form that orders as Semantic Versioning 2.0.0 section 11 says."""

    major: int
    minor: int
    patch: int
    release: bool
    identifiers: tuple[tuple[int, int, str], ...]


def parse_version(value: JSON) -> Precedence | None:
    """Read a version; None where *value* is none."""
    if type(value) is int or type(value) is float:
        value = number_text(value)
    return _parse(value) if type(value) is str and len(value) <= _LONGEST and value.isascii() else None


@lru_cache(maxsize=1024)
def _parse(text: str) -> Precedence | None:
    body = text[1:] if text[:1] in ("v", "V") else text
    numbers = body.partition("-")[0].partition("+")[0]
    padded = numbers + ".0" * (2 - numbers.count(".")) + body[len(numbers) :]
    try:
        version = Version.parse(padded)
    except ValueError:
        return None
    identifiers = (version.prerelease or "").split(".") if version.prerelease else ()
    return Precedence(
        version.major,
        version.minor,
        version.patch,
        not identifiers,
        tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in identifiers),
    )


COMPARISONS: Final[dict[str, Callable[[Precedence, Precedence], bool]]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "^": lambda a, b: a.major == b.major,
    "~": lambda a, b: a[:2] == b[:2],
}
"""What each operator of `sem_ver` means."""


def compare_versions(a: JSON, operator: JSON, b: JSON) -> bool | None:
    """Apply `sem_ver`; None where an operand is no version or the operator is unknown."""
    left, right = parse_version(a), parse_version(b)
    meaning = COMPARISONS.get(operator) if type(operator) is str else None
    return meaning(left, right) if left and right and meaning else None
