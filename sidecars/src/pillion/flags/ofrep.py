"""The words of OFREP 0.3: what requests and answers look like, and the entity tag of a bulk answer.

Errors of these routes have OFREP's own bodies (`errorCode`, `errorDetails`), not problem details: OpenFeature providers read them. `errorDetails` is
always there, because some providers fail without it; `variant: null` where there is no variant is a setting, for the same reason.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pillion.flags.engine import Flag, Outcome, Ruleset
from pillion.kinds.model import JSON
from pillion.runtime.operation import HotAnswer

MAX_BODY: Final = 1 << 20
"""Bytes of a request, as in flagd."""


class EvaluationRequest(msgspec.Struct, frozen=True):
    """What to evaluate for."""

    context: Annotated[
        dict[str, JSON] | None,
        Meta(description="Attributes of the subject; `targetingKey` identifies it. Absent means none."),
    ] = None


class EvaluationSuccess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of one flag. Without `value` the application's own default counts."""

    key: str
    reason: Annotated[str, Meta(description="STATIC, DEFAULT, TARGETING_MATCH or DISABLED.")]
    variant: str | None = None
    value: Annotated[JSON, Meta(description="A boolean, a text, a number or an object.")] = msgspec.UNSET
    metadata: Annotated[dict[str, JSON], Meta(description="Texts, numbers and booleans.")] = {}


class EvaluationFailure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why one flag has no answer."""

    key: str
    error_code: Annotated[str, Meta(description="FLAG_NOT_FOUND, INVALID_CONTEXT, PARSE_ERROR or GENERAL.")]
    error_details: str


class BulkItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The answer of one flag among many: a success, or `errorCode` and `errorDetails`."""

    key: str
    reason: str = ""
    variant: str | None = None
    value: JSON = msgspec.UNSET
    metadata: dict[str, JSON] = {}
    error_code: str = ""
    error_details: str = ""


class BulkSuccess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answers of all flags, in the order of their keys, and the metadata of the set."""

    flags: tuple[BulkItem, ...]
    metadata: dict[str, JSON] = {}


class BulkFailure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why there is no bulk answer."""

    error_code: str
    error_details: str


class InvalidContext(ValueError):  # noqa: N818 - OFREP's word
    """A request body that holds no evaluation context."""


_decoder = msgspec.json.Decoder(EvaluationRequest)
_encode = msgspec.json.Encoder().encode
_encode_canonical = msgspec.json.Encoder(order="deterministic").encode


def read_context(body: bytes) -> dict[str, JSON]:
    """Read the context of a request; an empty body and a missing context mean an empty one.

    Raises:
        InvalidContext: the body is no JSON, or the context no object. The message says which.
    """
    if not body:
        return {}
    try:
        return _decoder.decode(body).context or {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidContext(f"the body is no evaluation request: {error}") from None
    except RecursionError:
        raise InvalidContext("the context is nested too deeply; flatten it") from None


def outcome_body(flag: Flag, outcome: Outcome, metadata: Mapping[str, JSON], *, null_variant: bool) -> bytes:
    """Encode one answer of a flag, a success or a failure.

    Args:
        flag: the flag.
        outcome: its answer.
        metadata: of the flag set; the flag's own wins.
        null_variant: write `"variant": null` where there is none.
    """
    key = flag.definition.key
    if outcome.error_code:
        return _encode(EvaluationFailure(key=key, error_code=outcome.error_code, error_details=outcome.error_details))
    body: dict[str, JSON] = {"key": key, "reason": outcome.reason}
    if outcome.variant is not None or null_variant:
        body["variant"] = outcome.variant
    if outcome.value is not msgspec.UNSET:
        body["value"] = outcome.value
    unmet = {"unmetRequirement": outcome.unmet} if outcome.unmet else {}
    body["metadata"] = {**metadata, **flag.definition.metadata, **unmet}
    return _encode(body)


def outcome_answer(body: bytes, outcome: Outcome) -> HotAnswer:
    """Give the HTTP answer of an encoded outcome."""
    return HotAnswer(400 if outcome.error_code else 200, "", body)


def not_found(key: str) -> HotAnswer:
    """Give the answer for a flag that does not exist."""
    details = f'there is no flag "{key}"; GET /v1/flags lists them'
    return HotAnswer(404, "", _encode(EvaluationFailure(key=key, error_code="FLAG_NOT_FOUND", error_details=details)))


def invalid_context(key: str, error: InvalidContext) -> HotAnswer:
    """Give the answer to a request that holds no context."""
    return HotAnswer(
        400, "", _encode(EvaluationFailure(key=key, error_code="INVALID_CONTEXT", error_details=str(error)))
    )


def entity_tag(ruleset: Ruleset, context: Mapping[str, JSON], timed: list[bytes]) -> str:
    """Give the entity tag of a bulk answer: the same rules, attributes that are read, and answers that time changes.

    Args:
        ruleset: the flags.
        context: the context as sent; what no rule reads does not count.
        timed: the encoded answers of the flags that read the time.

    Raises:
        InvalidContext: the context is nested too deeply.
    """
    digest = hashlib.blake2b(ruleset.revision.encode(), digest_size=16)
    try:
        digest.update(_encode_canonical(ruleset.attributes(context)))
    except RecursionError:
        raise InvalidContext("the context is nested too deeply; flatten it") from None
    for body in timed:
        digest.update(b"\n")
        digest.update(body)
    return f'"{digest.hexdigest()}"'


def matches(if_none_match: str, tag: str) -> bool:
    """Tell whether an `If-None-Match` field holds *tag*, weakly compared (RFC 9110 section 13.1.2)."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return tag in given or "*" in given


def bulk_body(bodies: list[bytes], metadata: Mapping[str, JSON]) -> bytes:
    """Join the encoded answers of all flags."""
    tail = b',"metadata":' + _encode(metadata) if metadata else b""
    return b'{"flags":[' + b",".join(bodies) + b"]" + tail + b"}"


def bulk_failure(error: InvalidContext) -> BulkFailure:
    """Give the answer to a bulk request that holds no context."""
    return BulkFailure(error_code="INVALID_CONTEXT", error_details=str(error))
