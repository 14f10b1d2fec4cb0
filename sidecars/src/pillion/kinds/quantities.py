"""Durations, sizes and percentages as people write them in manifests, and their exact integer values.

A duration is one or more whole numbers with units, largest first: `250ms`, `30s`, `1h30m`, `7d`. A day is exactly 24 hours; calendar days
are another concept and live where a time zone is at hand. A size is bytes with an optional binary suffix: `64Ki`, `10Mi`. All values are
integers (nanoseconds, bytes), because decision code must not meet rounding.
"""

import re
from typing import Annotated, Final

from msgspec import Meta

NANOSECONDS: Final = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
}
"""Nanoseconds in each unit of a duration."""

_BINARY: Final = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

DURATION_PATTERN: Final = r"^(\d{1,9}d)?(\d{1,9}h)?(\d{1,9}m)?(\d{1,9}s)?(\d{1,9}ms)?$"
"""Units may be left out, but stand in this order and at most once each. The length bound (1) refuses the empty string."""

PERCENTAGE_PATTERN: Final = r"^(100|\d{1,2})%$"

SIZE_PATTERN: Final = r"^\d{1,15}(Ki|Mi|Gi|Ti)?$"

Duration = Annotated[
    str,
    Meta(
        pattern=DURATION_PATTERN, min_length=2, max_length=32, description="A duration, as in 250ms, 30s, 1h30m or 7d."
    ),
]
"""A length of time, as text in the manifest; `parse_duration` gives nanoseconds."""

Size = Annotated[
    str, Meta(pattern=SIZE_PATTERN, min_length=1, max_length=20, description="Bytes, as in 512, 64Ki or 10Mi.")
]
"""A number of bytes, as text in the manifest; `parse_size` gives bytes."""

Percentage = Annotated[
    str,
    Meta(pattern=PERCENTAGE_PATTERN, min_length=2, max_length=4, description="A whole percentage, from 0% to 100%."),
]
"""A whole percentage from 0% to 100%."""

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_PART = re.compile(r"(\d+)(ms|[dhms])")
_SIZE = re.compile(r"(\d{1,15})(Ki|Mi|Gi|Ti)?", re.ASCII)


def parse_duration(text: str) -> int:
    """Give the length of *text* in nanoseconds.

    Raises:
        ValueError: *text* is no duration.
    """
    if not text or not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration; write whole numbers with units, as in 250ms, 30s, 1h30m or 7d')
    return sum(int(count) * NANOSECONDS[unit] for count, unit in _PART.findall(text))


def duration_seconds(text: str) -> float:
    """Give the length of *text* in seconds, for timers; decision code uses `parse_duration`.

    Raises:
        ValueError: *text* is no duration.
    """
    return parse_duration(text) / 1_000_000_000


def format_duration(nanoseconds: int) -> str:
    """Write *nanoseconds* (>= 0, rounded down to a millisecond) the way a manifest would."""
    rest, parts = nanoseconds, []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, NANOSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Give the number of bytes of *text*.

    Raises:
        ValueError: *text* is no size.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is not a size; write bytes with an optional binary suffix, as in 512, 64Ki or 10Mi')
    return int(match[1]) * _BINARY[match[2] or ""]


def parse_percentage(text: str) -> int:
    """Give *text* as a whole number from 0 to 100.

    Raises:
        ValueError: *text* is no percentage.
    """
    if not text.endswith("%") or not text[:-1].isdigit() or int(text[:-1]) > 100:
        raise ValueError(f'"{text}" is not a percentage; write a whole number from 0% to 100%')
    return int(text[:-1])
