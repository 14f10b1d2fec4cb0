"""From a request to published events: reads every form, makes one payload of each, has them accepted together.

This is the rim of `events.py`: content types, HTTP headers and problems stand here, meaning stands there.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pillion.delivery.failures import DeliveryError, IdConflict, Overloaded, StoreFull
from pillion.delivery.machine import Machine
from pillion.delivery.model import Receipt, Submission
from pillion.runtime import bodies
from pillion.runtime.clock import Clock
from pillion.runtime.operation import JSON_MEDIA, Answer, Call, HotAnswer, Told
from pillion.runtime.problems import FieldError, Problem, malformed
from pillion.webhooks.engine import Router
from pillion.webhooks.events import CloudEvent, Draft, Event, from_cloud_event, from_event, from_headers
from pillion.webhooks.views import BatchItemView, PublishedView

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

MAX_BODY: Final = 256 << 10
"""Bytes of a request: Standard Webhooks advises under 20 kB; beyond this, data belongs into a store and the event should carry its address."""

MAX_BATCH: Final = 1_000
"""Events of one batch."""

_event = msgspec.json.Decoder(Event)
_cloud_event = msgspec.json.Decoder(CloudEvent)
_batch = msgspec.json.Decoder(list[CloudEvent])
_any = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


class Publisher:
    """Publishes events to the endpoints of the configuration in force."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self._router = Router({})
        self.unrouted = 0
        """Events that no endpoint wanted."""

    def replace(self, router: Router) -> None:
        """Put other endpoints in force."""
        self._router = router

    async def publish(self, call: Call[bytes]) -> Answer:
        """Answer `POST /v1/events`.

        Raises:
            Problem: nothing was accepted.
        """
        media = bodies.media_type(call.request.headers.get("Content-Type", ""))
        if not call.body and media != JSON_MEDIA:
            raise malformed("The body is missing; send an event.", FieldError("#", "is missing"))
        if media == BATCH:
            events = bodies.decode(_batch, call.body)
            if len(events) > MAX_BATCH:
                raise malformed(
                    f"A batch holds at most {MAX_BATCH} events; send several.", FieldError("#", "is too long")
                )
            receipts = await self._accept([from_cloud_event(event, f"#/{n}") for n, event in enumerate(events)])
            items = [BatchItemView(id=receipt.id, deliveries=receipt.deliveries) for receipt in receipts]
            total = sum(receipt.deliveries for receipt in receipts)
            return Answer(status=202, body=PublishedView(durability="local", deliveries=total, events=items))
        if media == STRUCTURED:
            draft = from_cloud_event(bodies.decode(_cloud_event, call.body))
        elif "ce-specversion" in call.request.headers:
            draft = self._binary(call)
        elif not call.body:
            raise malformed("The body is missing; send an event.", FieldError("#", "is missing"))
        else:
            draft = from_event(bodies.decode(_event, call.body))
        (receipt,) = await self._accept([draft])
        return Answer(status=202, body=_published(receipt))

    def _binary(self, call: Call[bytes]) -> Draft:
        if call.body:
            bodies.decode(_any, call.body)
        headers = {name.lower(): value for name, value in call.request.headers.items()}
        return from_cloud_event(from_headers(headers, call.body))

    def shorten(self, body: bytes, told: Told) -> None:
        """Begin to answer an event in our own form; see `pillion.runtime.operation.Shortcut`.

        Raises:
            Problem: the body is no such event.
            DeliveryError: it cannot be accepted now.
        """
        draft = from_event(bodies.decode(_event, body))

        def accepted(outcome: tuple[Receipt, ...] | DeliveryError) -> None:
            if isinstance(outcome, DeliveryError):
                told(_refusal(outcome, (draft,)))
            else:
                self.unrouted += not outcome[0].deliveries
                told(HotAnswer(202, "", _encode(_published(outcome[0]))))

        self._machine.submit((self._submission(draft, self._clock.wall_ns()),), accepted)

    async def _accept(self, drafts: Sequence[Draft]) -> tuple[Receipt, ...]:
        now = self._clock.wall_ns()
        submissions = [self._submission(draft, now) for draft in drafts]
        try:
            receipts = await self._machine.accept(submissions)
        except DeliveryError as error:
            raise _refusal(error, drafts) from None
        self.unrouted += sum(not receipt.deliveries for receipt in receipts)
        return receipts

    def _submission(self, draft: Draft, now: int) -> Submission:
        attributes: dict[str, Any] = {"partitionKey": draft.partition_key} if draft.partition_key else {}
        return Submission(
            id=draft.id if draft.id is not None else self._machine.new_id(),
            type=draft.type,
            body=draft.payload(now),
            destinations=self._router.route(draft.type),
            attributes=attributes,
            fingerprint=draft.fingerprint() if draft.id is not None else None,
        )


def _published(receipt: Receipt) -> PublishedView:
    return PublishedView(id=receipt.id, durability="local", deliveries=receipt.deliveries)


def _refusal(error: DeliveryError, drafts: Sequence[Draft]) -> Problem:
    """Say why nothing was accepted."""
    said = f"The event was not accepted: {error}"
    match error:
        case IdConflict():
            return _conflict(error, drafts)
        case StoreFull():
            detail = f"{said}. It can be published again once there is room."
            return Problem(507, "insufficient-storage", "Insufficient storage", detail, headers={"Retry-After": "10"})
        case Overloaded():
            detail = f"{said}; try again in a moment."
            return Problem(503, "overloaded", "Overloaded", detail, headers={"Retry-After": "1"})
        case _:
            return Problem(503, "store-unavailable", "Store unavailable", f"{said}.", headers={"Retry-After": "5"})


def _conflict(conflict: IdConflict, drafts: Sequence[Draft]) -> Problem:
    single = len(drafts) == 1
    errors = [
        FieldError("#/id" if single else f"#/{n}/id", "was used before for an event with other content; use another id")
        for n, draft in enumerate(drafts)
        if draft.id in conflict.ids
    ]
    detail = "An event with this id but other content was published before; nothing was accepted. Use another id."
    return Problem(409, "id-conflict", "Id conflict", detail, errors=errors)
