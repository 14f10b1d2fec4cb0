"""Bodies and replies of the notification routes: what may be asked, and what is shown."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pillion.delivery.model import NEVER, Attempt, Delivery, Message, OutcomeName, State
from pillion.notifications import addresses
from pillion.notifications.content import Rendered

JSON = Any

TemplateName = Annotated[str, Meta(min_length=1, max_length=253, description="Name of a NotificationTemplate.")]
Data = Annotated[
    dict[str, JSON], Meta(description="The template's variables; they must fit its schema (spec.variables).")
]
Locale = Annotated[
    str | None,
    Meta(
        description="Locale of the reader, as in de-AT; the nearest translation is taken, else the template's default."
    ),
]


class Recipient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets a notification."""

    email: Annotated[str, Meta(max_length=addresses.MAX_ADDRESS, description="Address, as in ada@example.com.")]
    name: Annotated[str, Meta(max_length=addresses.MAX_NAME, description="Name beside the address.")] = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A notification to send."""

    template: TemplateName
    to: Annotated[str | Recipient, Meta(description="Who gets it: an address, or an address with a name.")]
    data: Data = msgspec.field(default_factory=dict)
    locale: Locale = None
    channels: Annotated[
        tuple[Annotated[str, Meta(max_length=63)], ...] | None,
        Meta(description="Channels to use, of those that the template has: email. Absent means all of them."),
    ] = None
    send_at: Annotated[
        str | None,
        Meta(description="Not before this time (RFC 3339), at most 30 days ahead; absent means now."),
    ] = None
    idempotency_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(
            description="Makes sending idempotent: the same key with the same content is accepted once, with other content it is refused. "
            "Remembered for as long as the notification is kept, at least 3 days."
        ),
    ] = None


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A notification to look at."""

    template: TemplateName
    data: Data = msgspec.field(default_factory=dict)
    locale: Locale = None


class _View(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Fields that are not set are left out."""


class AcceptedView(_View, frozen=True, kw_only=True):
    """A notification that was accepted."""

    id: Annotated[str, Meta(description="Identifies it, for its trace.")]
    durability: Annotated[
        Literal["local"], Meta(description="What is promised: `local` is the sidecar's data directory, synced.")
    ]
    deliveries: Annotated[int, Meta(description="Messages that it makes: one per channel.")]


class PreviewView(msgspec.Struct, frozen=True, kw_only=True):
    """How a notification would read."""

    locale: Annotated[str, Meta(description="The translation that was taken.")]
    subject: str
    text: str
    html: Annotated[str, Meta(description="Empty for a mail of text alone.")]


class AttemptView(_View, frozen=True, kw_only=True):
    """One try at handing a message over."""

    number: int
    started_at: str
    duration: Annotated[float, Meta(description="Seconds.")]
    outcome: OutcomeName
    status: Annotated[int | UnsetType, Meta(description="SMTP reply code; absent when there was no reply.")] = UNSET
    reason: str = ""
    reply: Annotated[str, Meta(description="Beginning of the server's reply.")] = ""


class DeliveryView(_View, frozen=True, kw_only=True):
    """A notification on its way through one channel."""

    id: Annotated[str, Meta(description="Identifies the notification.")]
    channel: str
    state: State
    attempts: Annotated[int, Meta(description="Attempts made so far.")]
    accepted_at: str
    due_at: Annotated[str | UnsetType, Meta(description="Next attempt.")] = UNSET
    settled_at: Annotated[str | UnsetType, Meta(description="When it reached its final state.")] = UNSET
    reason: Annotated[str, Meta(description="The last error.")] = ""


class DeliveriesView(_View, frozen=True, kw_only=True):
    """Some notifications, newest first."""

    notifications: list[DeliveryView]
    cursor: Annotated[str, Meta(description="Ask for the next page with it; absent at the end.")] = ""


class TracedDeliveryView(_View, frozen=True, kw_only=True):
    """One delivery of a notification with its latest attempts, newest first."""

    channel: str
    state: State
    reason: Annotated[str, Meta(description="The last error.")] = ""
    due_at: Annotated[str | UnsetType, Meta(description="Next attempt.")] = UNSET
    settled_at: Annotated[str | UnsetType, Meta(description="When it reached its final state.")] = UNSET
    attempts: list[AttemptView]


class TraceView(_View, frozen=True, kw_only=True):
    """Everything that is known of one notification, but its content."""

    id: str
    template: str
    locale: Annotated[str, Meta(description="The translation that was taken.")]
    to: Annotated[str, Meta(description="Address of the recipient.")]
    subject: str
    size: Annotated[int, Meta(description="Octets of the finished message.")]
    accepted_at: str
    deliveries: list[TracedDeliveryView]


def timestamp(wall_ns: int) -> str:
    """Write a time by RFC 3339, in UTC, with milliseconds."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def _time(wall_ns: int) -> str | UnsetType:
    return UNSET if wall_ns == NEVER else timestamp(wall_ns)


def preview_view(rendered: Rendered, locale: str) -> PreviewView:
    """Show a rendering."""
    return PreviewView(locale=locale, subject=rendered.subject, text=rendered.text, html=rendered.html)


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Show a delivery in a list."""
    return DeliveryView(
        id=delivery.message,
        channel=delivery.destination,
        state=delivery.state,
        attempts=delivery.attempts,
        accepted_at=timestamp(delivery.accepted_ns),
        due_at=_time(delivery.due_ns),
        settled_at=_time(delivery.settled_ns),
        reason=delivery.reason,
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """Show an attempt."""
    return AttemptView(
        number=attempt.number,
        started_at=timestamp(attempt.started_ns),
        duration=round(attempt.duration_ns / 1e9, 6),
        outcome=attempt.outcome,
        status=attempt.status or UNSET,
        reason=attempt.reason,
        reply=attempt.excerpt.decode("utf-8", "replace"),
    )


def trace_view(message: Message, deliveries: list[tuple[Delivery, tuple[Attempt, ...]]]) -> TraceView:
    """Show a notification with its deliveries and their attempts."""
    known = message.attributes
    return TraceView(
        id=message.id,
        template=message.type,
        locale=known.get("locale", ""),
        to=known.get("to", ""),
        subject=known.get("subject", ""),
        size=len(message.body),
        accepted_at=timestamp(message.accepted_ns),
        deliveries=[
            TracedDeliveryView(
                channel=delivery.destination,
                state=delivery.state,
                reason=delivery.reason,
                due_at=_time(delivery.due_ns),
                settled_at=_time(delivery.settled_ns),
                attempts=[attempt_view(attempt) for attempt in attempts],
            )
            for delivery, attempts in deliveries
        ],
    )
