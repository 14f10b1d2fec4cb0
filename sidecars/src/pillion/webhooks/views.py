"""What the API shows of endpoints, deliveries and attempts: camelCase, times by RFC 3339, nothing secret."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pillion.delivery.model import NEVER, Attempt, Delivery, DestinationStatus, OutcomeName, State
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.events import timestamp
from pillion.webhooks.target import parse_target


class _View(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Fields that are not set are left out."""


class BatchItemView(_View, frozen=True, kw_only=True):
    """One event of a batch that was accepted."""

    id: str
    deliveries: int


class PublishedView(_View, frozen=True, kw_only=True):
    """What was accepted: one event, or a batch as a whole."""

    id: Annotated[
        str | UnsetType, Meta(description="The message: what receivers see as webhook-id. Absent for a batch.")
    ] = UNSET
    durability: Annotated[
        Literal["local"], Meta(description="What is promised: `local` is the sidecar's data directory, synced.")
    ]
    deliveries: Annotated[int, Meta(description="How many deliveries follow; 0 when no endpoint wants this type.")]
    events: Annotated[list[BatchItemView] | UnsetType, Meta(description="The events of a batch, in its order.")] = UNSET


class EndpointView(_View, frozen=True, kw_only=True):
    """An endpoint and how it fares in this sidecar."""

    name: str
    host: Annotated[str, Meta(description="Host of its URL; the rest may hold a token and is not shown.")]
    events: list[str]
    state: Annotated[
        Literal["active", "paused", "disabled", "held"],
        Meta(
            description="`paused`: it asked to wait; `disabled`: it wants no more; `held`: something is missing to send."
        ),
    ]
    reason: Annotated[str, Meta(description="Why it is not active.")] = ""
    paused_until: str | UnsetType = UNSET
    backlog: Annotated[int, Meta(description="Deliveries that wait or are in flight.")]
    in_flight: int
    oldest: Annotated[str | UnsetType, Meta(description="When the oldest waiting event was accepted.")] = UNSET
    last_success: str | UnsetType = UNSET
    succeeded: Annotated[int, Meta(description="Since the sidecar started.")]
    failed: Annotated[int, Meta(description="Since the sidecar started.")]
    retries: Annotated[int, Meta(description="Since the sidecar started.")]


class EndpointsView(_View, frozen=True, kw_only=True):
    """All endpoints of this sidecar."""

    endpoints: list[EndpointView]


class DeliveryView(_View, frozen=True, kw_only=True):
    """One event on its way to one endpoint."""

    id: Annotated[str, Meta(description="`<event>~<endpoint>`.")]
    event: Annotated[str, Meta(description="The message: webhook-id.")]
    endpoint: str
    state: State
    attempts: Annotated[int, Meta(description="Attempts made so far.")]
    accepted_at: str
    due_at: Annotated[str | UnsetType, Meta(description="Next attempt.")] = UNSET
    settled_at: Annotated[str | UnsetType, Meta(description="When it reached its final state.")] = UNSET
    reason: Annotated[str, Meta(description="The last error.")] = ""


class DeliveriesView(_View, frozen=True, kw_only=True):
    """Some deliveries, newest event first."""

    deliveries: list[DeliveryView]
    cursor: Annotated[str, Meta(description="Ask for the next page with it; absent at the end.")] = ""


class AttemptView(_View, frozen=True, kw_only=True):
    """One try at a delivery."""

    delivery: str
    endpoint: str
    number: int
    started_at: str
    duration: Annotated[float, Meta(description="Seconds.")]
    outcome: OutcomeName
    status: Annotated[int | UnsetType, Meta(description="HTTP status; absent when there was no answer.")] = UNSET
    reason: str = ""
    body: Annotated[str, Meta(description="Beginning of the answer's body; bytes that are no UTF-8 are replaced.")] = ""


class AttemptsView(_View, frozen=True, kw_only=True):
    """Some attempts, newest first."""

    attempts: list[AttemptView]
    cursor: Annotated[str, Meta(description="Ask for the next page with it; absent at the end.")] = ""


class DeliveryDetailView(_View, frozen=True, kw_only=True):
    """One delivery with its latest attempts."""

    delivery: DeliveryView
    attempts: list[AttemptView]


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Show a delivery."""
    return DeliveryView(
        id=delivery.id,
        event=delivery.message,
        endpoint=delivery.destination,
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
        delivery=f"{attempt.message}~{attempt.destination}",
        endpoint=attempt.destination,
        number=attempt.number,
        started_at=timestamp(attempt.started_ns),
        duration=round(attempt.duration_ns / 1e9, 6),
        outcome=attempt.outcome,
        status=attempt.status or UNSET,
        reason=attempt.reason,
        body=attempt.excerpt.decode("utf-8", "replace"),
    )


def endpoint_view(endpoint: CompiledEndpoint, status: DestinationStatus) -> EndpointView:
    """Show an endpoint."""
    state: Literal["active", "paused", "disabled", "held"] = "active"
    if status.disabled:
        state = "disabled"
    elif status.hold:
        state = "held"
    elif status.paused_until_ns:
        state = "paused"
    return EndpointView(
        name=status.name,
        host=parse_target(endpoint.url).authority,
        events=list(endpoint.events),
        state=state,
        reason=status.disabled or status.hold,
        paused_until=_time(status.paused_until_ns),
        backlog=status.backlog,
        in_flight=status.in_flight,
        oldest=_time(status.oldest_ns),
        last_success=_time(status.last_success_ns),
        succeeded=status.succeeded,
        failed=status.failed,
        retries=status.retries,
    )


def _time(nanoseconds: int) -> str | UnsetType:
    return UNSET if nanoseconds == NEVER else timestamp(nanoseconds)
