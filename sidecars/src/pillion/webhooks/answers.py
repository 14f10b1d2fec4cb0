"""What a receiver's answer means, by Standard Webhooks 1.0.0 and CloudEvents Webhook 1.0 together. Pure."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from pillion.delivery.model import SECOND, Delivered, DisableDestination, Outcome, Rejected, Retry

SLOW_DOWN_NS: Final = SECOND
"""Pause of the endpoint after 429, 502 or 504 without Retry-After: the receiver is under load, and more attempts at once would add to it."""

_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{0,9})?", re.ASCII)


def outcome(status: int, *, retry_after: str, control: str, now_ns: int, excerpt: bytes) -> Outcome:
    """Judge an answer.

    Args:
        status: HTTP status, 200-599.
        retry_after: the `Retry-After` field; empty when there is none.
        control: the `webhook-delivery` field (`disable`, `abort-message`); empty when there is none.
        now_ns: wall nanoseconds, for a `Retry-After` that is a date.
        excerpt: the beginning of the body.
    """
    disable = control == "disable"
    if 200 <= status < 300:
        reason = "the receiver answered webhook-delivery: disable" if disable else ""
        return Delivered(status=status, excerpt=excerpt, disable=reason)
    said = phrase(status)
    if status == 410:
        return DisableDestination(status=status, excerpt=excerpt, reason=f"{said}: the receiver wants no more")
    if disable:
        return DisableDestination(status=status, excerpt=excerpt, reason=f"{said}, webhook-delivery: disable")
    if control == "abort-message":
        return Rejected(status=status, excerpt=excerpt, reason=f"{said}, webhook-delivery: abort-message")
    if status == 415:
        return Rejected(status=status, excerpt=excerpt, reason=f"{said}: the receiver does not read this format")
    if 300 <= status < 400:
        said = f"{said}: redirects are not followed; set spec.url to the final address"
    pause = pause_ns(retry_after, now_ns)
    if pause is None and status in (429, 502, 504):
        pause = SLOW_DOWN_NS
    return Retry(status=status, excerpt=excerpt, reason=said, retry_after_ns=pause)


def pause_ns(retry_after: str, now_ns: int) -> int | None:
    """Read `Retry-After` (RFC 9110 section 10.2.3): seconds, decimals tolerated, or a date. None when it says nothing."""
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        whole, _, part = text.partition(".")
        return int(whole) * SECOND + int(part.ljust(9, "0") or 0)
    if not text or text[0].isdigit() or text[0] in "+-":
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return max(int(moment * SECOND) - now_ns, 0)


def phrase(status: int) -> str:
    """Write a status as a person says it; what the receiver wrote beside the number is not repeated."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
