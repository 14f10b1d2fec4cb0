"""When a record was written, read off the record itself, for queries over the last minutes.

Applications write their time under a handful of names and in a handful of forms; those are known here. A record without one was written when
the one before it was: so the lines of a stack trace stay with their first. Deliberately absent: zones other than written ones; a time without
zone is taken as UTC, as containers run.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

_FIELD: Final = re.compile(
    rb'"(?:time|timestamp|@timestamp|ts|date|datetime|eventTime)"\s*:\s*(?:"([^"\\]{8,40})"|(\d{9,20}(?:\.\d{1,9})?))'
)
_TEXT: Final = re.compile(rb'"message":"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)')
_HEAD: Final = 4096
"""Bytes at the beginning of a record in which its time is looked for."""


def record_time(record: bytes) -> float | None:
    """Give the Unix seconds at which *record* was written; None where it does not tell."""
    head = record[:_HEAD]
    found = _FIELD.search(head)
    if found is not None:
        return _epoch(float(found[2])) if found[2] else _written(found[1])
    text = _TEXT.search(head)
    return _written(text[1]) if text is not None else None


def since(records: Iterable[bytes], start: float) -> Iterator[bytes]:
    """Give the records from *start* (Unix seconds) on. Those before the first that tells its time are given too: they may be new."""
    last: float | None = None
    for record in records:
        last = record_time(record) or last
        if last is None or last >= start:
            yield record


def _written(text: bytes) -> float | None:
    try:
        time = datetime.fromisoformat(text.decode("ascii").replace(",", "."))
    except (ValueError, UnicodeDecodeError):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _epoch(number: float) -> float:
    """Give seconds for a number of seconds, milliseconds, microseconds or nanoseconds: the one that is a time of this century."""
    while number >= 1e11:
        number /= 1000
    return number
