"""The formats of texts, as JSON Schema names them: what each admits.

They are checked, not mere remarks: the filter `date` may rely on `format: date`, a link on `format: uri`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Final
from uuid import UUID

from pillion.notifications import addresses

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_URI = re.compile(r"(?:https?://|mailto:|tel:)[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.IGNORECASE)


def _date(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def parse_date_time(text: str) -> datetime:
    """Read a date-time of RFC 3339.

    Raises:
        ValueError: *text* is none.
    """
    if not _DATE_TIME.fullmatch(text):
        raise ValueError(f'"{text[:40]}" is no date-time; write it as in 2026-01-31T12:30:00Z')
    # The standard library reads at most microseconds; nanoseconds are cut.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))


def _date_time(text: str) -> bool:
    try:
        parse_date_time(text)
    except ValueError:
        return False
    return True


def _email(text: str) -> bool:
    try:
        addresses.mailbox(text)
    except ValueError:
        return False
    return True


def _uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


FORMATS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "date": (_date, "a date as in 2026-01-31"),
    "date-time": (_date_time, "a date-time as in 2026-01-31T12:30:00Z"),
    "email": (_email, "an address as in ada@example.com"),
    "uri": (lambda text: bool(_URI.fullmatch(text)), "an http, https, mailto or tel URI"),
    "uuid": (_uuid, "a UUID as in 123e4567-e89b-12d3-a456-426614174000"),
}
"""What each `format` means, and how a message says it. `uri` is narrow so that it may stand in a link: `javascript:` is no link."""
