"""What goes in and out of the routes as JSON, and what is said about a body that cannot be read.

The reply models describe what `answers.py` writes by hand; a test decodes every answer with them.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from pillion.ratelimit.manifest import MAX_COUNT
from pillion.runtime.bodies import decode
from pillion.runtime.problems import FieldError, Problem

MAX_ATTRIBUTES: Final = 64
"""Attributes of one request."""

MAX_BATCH: Final = 1_000
"""Checks in one batch: some 3 ms of work, during which nothing else is answered."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One request to decide on."""

    attributes: Annotated[
        dict[str, str],
        Meta(
            max_length=MAX_ATTRIBUTES,
            description="What the request says about itself, as in user, ip, route. Values are strings.",
        ),
    ] = {}
    policy: Annotated[str | None, Meta(description="The policy to ask; absent asks all, and every one must allow.")] = (
        None
    )
    cost: Annotated[int, Meta(ge=1, le=MAX_COUNT, description="How much quota the request takes.")] = 1
    peek: Annotated[bool, Meta(description="Tell what would be decided, but charge nothing.")] = False


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several requests, decided on one after the other."""

    checks: Annotated[
        list[Check],
        Meta(min_length=1, max_length=MAX_BATCH, description="The requests, each independent of the others."),
    ]


class Verdict(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The decision on one request.

    `policy`, `rule`, `limit` and `remaining` are about the limit that decided: the one that is exceeded for longest, else the one with least
    left. They are null where no limit had a say; `rule` is null where a deny list refused.
    """

    allowed: Annotated[bool, Meta(description="Whether the request may pass.")]
    policy: Annotated[str | None, Meta(description="The policy that decided.")]
    rule: Annotated[str | None, Meta(description="The rule that decided.")]
    limit: Annotated[int | None, Meta(description="The most that can be admitted at one moment: the burst.")]
    remaining: Annotated[int | None, Meta(description="What can be admitted right now.")]
    reset_after: Annotated[
        float, Meta(description="Seconds until all quota of this limit is back, to the millisecond, rounded up.")
    ]
    retry_after: Annotated[
        float | None,
        Meta(description="Seconds until the same request can pass; 0 when it passes, null when it never can."),
    ]
    shadow: Annotated[
        bool, Meta(description="Whether a shadow rule, the one named here, would have refused a request that passes.")
    ]
    detail: Annotated[
        str | msgspec.UnsetType, Meta(description="Why the request can never pass; only where retryAfter is null.")
    ] = msgspec.UNSET


class Verdicts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The decisions on a batch, in its order."""

    results: Annotated[list[Verdict], Meta(description="One decision per check.")]


T = TypeVar("T")

_check: Final = msgspec.json.Decoder(Check)
_batch: Final = msgspec.json.Decoder(Batch)


def decode_check(body: bytes) -> Check:
    """Read the body of a check.

    Raises:
        Problem: 400 or 422, naming every wrong attribute.
    """
    return _decode(_check, body)


def decode_batch(body: bytes) -> Batch:
    """Read the body of a batch.

    Raises:
        Problem: 400 or 422, naming the wrong field of the wrong check.
    """
    return _decode(_batch, body)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decode(decoder, body)
    except Problem as problem:
        if problem.errors and problem.errors[0].pointer.endswith("/attributes/*"):
            problem.errors = tuple(_wrong_attributes(body)) or problem.errors
        raise


def _wrong_attributes(body: bytes) -> Iterator[FieldError]:
    """Name the attributes that are no strings: msgspec says only that there is one."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # it is broken further on; the first mistake is enough
    checks = document.get("checks", [document])
    for index, check in enumerate(checks):
        attributes = check.get("attributes") if isinstance(check, Mapping) else None
        parent = f"#/checks/{index}" if "checks" in document else "#"
        for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
            if not isinstance(value, str):
                kind = "null" if value is None else type(value).__name__
                yield FieldError(
                    attribute_pointer(parent, name), f'must be a string, not {kind}; write it in quotes, as in "42"'
                )


def attribute_pointer(parent: str, name: str) -> str:
    """Point to an attribute in a body (RFC 6901 section 3)."""
    return f"{parent}/attributes/{name.replace('~', '~0').replace('/', '~1')}"
