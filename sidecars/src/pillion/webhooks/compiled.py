"""A WebhookEndpoint as it travels in a snapshot: durations in nanoseconds, the URL taken apart, every default explicit."""

import msgspec


class CompiledAllow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One egress exception: a network or a host."""

    cidr: str = ""
    host: str = ""


class CompiledEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint.

    Args:
        url: where to post.
        events: patterns of event types.
        secret: name and key of the signing secret.
        schedule_ns: pauses before retries.
        jitter_percent: share of a pause that may be added.
        respect_retry_after: whether Retry-After is kept.
        timeout_ns: bound of one attempt.
        concurrency: attempts in flight.
        headers: further header fields, in the order of their names.
        allow: egress exceptions.
        retain_succeeded_ns: see `delivery.model.Policy`.
        retain_failed_ns: see there.
        excerpt_bytes: bytes of a response body that are kept.
    """

    url: str
    events: tuple[str, ...]
    secret: tuple[str, str]
    schedule_ns: tuple[int, ...]
    jitter_percent: int
    respect_retry_after: bool
    timeout_ns: int
    concurrency: int
    headers: tuple[tuple[str, str], ...]
    allow: tuple[CompiledAllow, ...]
    retain_succeeded_ns: int
    retain_failed_ns: int
    excerpt_bytes: int
