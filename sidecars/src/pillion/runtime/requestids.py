"""The id of a request: what ties an answer, a log line and a trace together.

A client's own `X-Request-Id` is kept when it is safe to repeat in a header, a log line and a URN; anything else is replaced, never cleaned.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Final

HEADER: Final = "X-Request-Id"

PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._~:@/+=-]{0,127}"
"""What a client may send: 1 to 128 characters that need no quoting anywhere."""

_BYTES: Final = 16
_AT_ONCE: Final = 256

_VALID = re.compile(PATTERN)


def valid(given: str | None) -> str | None:
    """Give back a client's id if it may be repeated, else None."""
    return given if given is not None and _VALID.fullmatch(given) else None


def _stock() -> Iterator[str]:
    """Make ids, many from one system call: each call gives the interpreter lock away, which beside a busy thread costs far more than the call."""
    while True:
        digits = secrets.token_hex(_BYTES * _AT_ONCE)
        for start in range(0, len(digits), 2 * _BYTES):
            yield digits[start : start + 2 * _BYTES]


_ids = _stock()


def generate() -> str:
    """Make an id: 128 random bits in hexadecimal. For the event loop's thread only."""
    return next(_ids)


def instance(request_id: str) -> str:
    """Give the `instance` member of a problem (RFC 9457 section 3.1.5)."""
    return f"urn:pillion:request:{request_id}"
