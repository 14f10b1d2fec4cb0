"""What an application may publish, and the one payload that is made of it. Pure.

Two ways in: our own `{"type", "data"}`, and CloudEvents 1.0 in its three modes. One way out: the payload of Standard Webhooks,
`{"type", "timestamp", "data"}`, with `source` and `subject` where a CloudEvent had them. `data` goes through byte by byte, never decoded and
encoded again.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pillion.delivery.model import MessageId
from pillion.runtime.problems import FieldError, Problem, malformed

TYPE_PATTERN: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,128}$"
"""No full stop: the signature joins id, timestamp and body by full stops (Standard Webhooks 1.0.0), and an id that holds one could be read as another."""

TIME_PATTERN: Final = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
"""RFC 3339 section 5.6."""

_TIME = re.compile(TIME_PATTERN, re.ASCII)
_ID = re.compile(ID_PATTERN.removesuffix("$"), re.ASCII)

EventType = Annotated[
    str, Meta(pattern=TYPE_PATTERN, max_length=256, description="What happened, dotted, as in order.created.")
]
EventId = Annotated[str, Meta(pattern=ID_PATTERN, max_length=128)]
Key = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=1024)]
Time = Annotated[str, Meta(pattern=f"^{TIME_PATTERN}$", max_length=40)]


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One event in our own form."""

    type: EventType
    data: Annotated[msgspec.Raw, Meta(description="What is delivered; any JSON value.")]
    id: Annotated[
        EventId | None,
        Meta(
            description="Makes publishing idempotent: the same id with the same content is accepted once, with other content it is refused. "
            "1 to 128 letters, digits, _ and -; it becomes webhook-id. Default: one is made."
        ),
    ] = None
    partition_key: Annotated[
        Key | None, Meta(description="Groups events that belong together, at most 256 characters; kept with the event.")
    ] = None


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One CloudEvent 1.0 in its JSON format; extensions beyond `partitionkey` are allowed and not delivered."""

    specversion: Annotated[Literal["1.0"], Meta(description="Version of CloudEvents.")]
    id: Annotated[str, Meta(min_length=1, max_length=1024, description="With source it identifies the event.")]
    source: Annotated[str, Meta(min_length=1, max_length=1024, description="Where it happened (a URI reference).")]
    type: EventType
    data: Annotated[msgspec.Raw | UnsetType, Meta(description="What is delivered; any JSON value.")] = UNSET
    data_base64: Annotated[None, Meta(description="Binary data; refused, because receivers get JSON.")] = None
    datacontenttype: Text | None = None
    subject: Text | None = None
    time: Annotated[Time | None, Meta(description="When it happened, by RFC 3339.")] = None
    partitionkey: Key | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A published event, checked.

    Args:
        id: the caller's id, already fit to be a `webhook-id`; None when one is to be made.
        type: what happened.
        data: JSON, as it came.
        source: where it happened; empty when not said.
        subject: what it happened to; empty when not said.
        time: when it happened, by RFC 3339; empty when not said.
        partition_key: groups events; empty when not said.
    """

    id: MessageId | None
    type: str
    data: bytes
    source: str = ""
    subject: str = ""
    time: str = ""
    partition_key: str = ""

    def fingerprint(self) -> bytes:
        """Give a digest of what was said; two publications with the same one mean the same, however their JSON is spaced or ordered."""
        said = (self.type, self.source, self.subject, self.time, self.partition_key)
        return hashlib.sha256(msgspec.json.encode(said) + _canonical(self.data)).digest()

    def payload(self, wall_ns: int) -> bytes:
        """Give the bytes that are delivered. *wall_ns* is the event's time where it said none."""
        head = f'{{"type":"{self.type}","timestamp":"{self.time or timestamp(wall_ns)}"'
        for name, value in (("source", self.source), ("subject", self.subject)):
            if value:
                head += f',"{name}":{msgspec.json.encode(value).decode()}'
        return b'%b,"data":%b}' % (head.encode(), self.data)


def timestamp(wall_ns: int) -> str:
    """Write a time by RFC 3339, in UTC, with milliseconds."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def from_event(event: Event, pointer: str = "#") -> Draft:
    """Check an event in our own form.

    Raises:
        Problem: 422, naming each wrong field.
    """
    errors = _type_errors(event.type, pointer)
    if event.id is not None and not _ID.fullmatch(event.id):
        text = "must be 1 to 128 letters, digits, _ and -, because it is signed as webhook-id; leave it out to have one made"
        errors.append(FieldError(f"{pointer}/id", text))
    data = _utf8(bytes(event.data), pointer)
    _raise(errors)
    return Draft(
        id=MessageId(event.id) if event.id is not None else None,
        type=event.type,
        data=data,
        partition_key=event.partition_key or "",
    )


def from_cloud_event(event: CloudEvent, pointer: str = "#") -> Draft:
    """Check a CloudEvent. Its id and source, which may be any text, are mapped to a `webhook-id`, the same one every time.

    Raises:
        Problem: 422, naming each wrong field.
    """
    errors = _type_errors(event.type, pointer)
    media = (event.datacontenttype or "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        errors.append(FieldError(f"{pointer}/datacontenttype", "must be JSON; send application/json"))
    if event.time is not None and not _TIME.fullmatch(event.time):
        errors.append(FieldError(f"{pointer}/time", "is no time by RFC 3339; write 2027-01-31T12:00:00Z"))
    data = b"null" if event.data is UNSET else _utf8(bytes(event.data), pointer)
    _raise(errors)
    return Draft(
        id=cloud_event_id(event.source, event.id),
        type=event.type,
        data=data,
        source=event.source,
        subject=event.subject or "",
        time=event.time or "",
        partition_key=event.partitionkey or "",
    )


def cloud_event_id(source: str, identity: str) -> MessageId:
    """Map what identifies a CloudEvent (section 3.1.1: source and id) to a message id."""
    return MessageId("ce_" + hashlib.sha256(msgspec.json.encode((source, identity))).hexdigest()[:40])


def from_headers(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Read a CloudEvent in binary mode (HTTP binding section 3.1): attributes in `ce-` headers, percent-encoded, data in the body.

    Args:
        headers: header fields, names in lower case.
        body: JSON, already known to be valid; empty for an event without data.

    Raises:
        Problem: 422, naming each wrong header.
    """
    attributes: dict[str, object] = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            attributes[name[3:]] = _percent_decoded(value)
    for name in ("datacontenttype", "data", "data_base64"):
        attributes.pop(name, None)  # said by Content-Type and the body
    try:
        event = msgspec.convert(attributes, CloudEvent)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise Problem(
            422,
            "invalid-event",
            "Invalid event",
            f"The CloudEvents headers do not fit: {text}.",
            errors=[FieldError(f"header:ce-{where.rstrip('`')}" if where else "header:ce-specversion", text)],
        ) from None
    return msgspec.structs.replace(event, data=msgspec.Raw(body) if body else UNSET)


def _percent_decoded(value: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415 - binary mode only

    return unquote(value, errors="replace")


def _type_errors(event_type: str, pointer: str) -> list[FieldError]:
    # The model's pattern ends in `$`, which lets a line break pass behind it.
    return [FieldError(f"{pointer}/type", "holds a line break; remove it")] if event_type.endswith("\n") else []


def _utf8(data: bytes, pointer: str) -> bytes:
    """Make sure that data is UTF-8: it is copied into what is sent without being decoded."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise malformed(
            "The event is no JSON: its data is not UTF-8.", FieldError(f"{pointer}/data", "is not UTF-8")
        ) from None
    return data


def _raise(errors: list[FieldError]) -> None:
    if errors:
        first = errors[0]
        raise Problem(422, "invalid-event", "Invalid event", f"{first.pointer}: {first.detail}.", errors=errors)


def _canonical(data: bytes) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    except (msgspec.MsgspecError, RecursionError):
        return data  # a number beyond what a double holds: then only the same bytes are the same
