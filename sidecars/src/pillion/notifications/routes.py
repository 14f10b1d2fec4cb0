"""The routes of the notification block: sending, preview, and looking after what was accepted."""

from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from pillion.delivery.failures import InFlight, StoreUnavailable, UnknownDelivery
from pillion.delivery.machine import Machine
from pillion.delivery.model import MESSAGE_ID, Attempt, Delivery, MessageId, Query, State, delivery_id
from pillion.notifications.sending import EMAIL, Sending
from pillion.notifications.views import (
    AcceptedView,
    DeliveriesView,
    DeliveryView,
    Notification,
    PreviewRequest,
    PreviewView,
    TraceView,
    delivery_view,
    preview_view,
    trace_view,
)
from pillion.runtime.operation import Answer, Call, Operation, Parameter, Reply
from pillion.runtime.problems import FieldError, Problem

TAG: Final = "notifications"

MAX_BODY: Final = 256 << 10
"""Octets of a request: a letter's worth of data, a thousand order lines."""

ATTEMPTS: Final = 32
"""Attempts that a trace shows, newest first."""

STATES: Final[tuple[State, ...]] = ("pending", "in-flight", "succeeded", "failed", "cancelled")

T = TypeVar("T")

_ID: Final = Parameter(
    name="id", place="path", description="Identifies the notification.", schema={"type": "string", "maxLength": 128}
)


class Routes:
    """Answers requests about notifications.

    Args:
        sending: takes them in.
        machine: keeps them.
    """

    def __init__(self, sending: Sending, machine: Machine) -> None:
        self._sending = sending
        self._machine = machine

    def operations(self) -> Sequence[Operation]:
        """Give the routes."""
        return (
            Operation(
                method="POST",
                path="/v1/notifications",
                name="sendNotification",
                summary="Render a notification and accept it for delivery; answered when it is on disk.",
                tag=TAG,
                handler=self._send,
                body=Notification,
                max_body=MAX_BODY,
                replies={202: Reply(description="Accepted; it is delivered at least once.", type=AcceptedView)},
            ),
            Operation(
                method="POST",
                path="/v1/notifications:preview",
                name="previewNotification",
                summary="Render a notification as it would be sent, and send nothing.",
                tag=TAG,
                handler=self._preview,
                body=PreviewRequest,
                max_body=MAX_BODY,
                replies={200: Reply(description="How it would read.", type=PreviewView)},
            ),
            Operation(
                method="GET",
                path="/v1/notifications",
                name="listNotifications",
                summary="List notifications, newest first.",
                tag=TAG,
                handler=self._list,
                parameters=(
                    Parameter(
                        name="state",
                        place="query",
                        description="Only those in this state; failed ones are the dead letters.",
                        schema={"type": "string", "enum": list(STATES)},
                    ),
                    Parameter(
                        name="template",
                        place="query",
                        description="Only those of this template.",
                        schema={"type": "string", "maxLength": 253},
                    ),
                    Parameter(
                        name="limit",
                        place="query",
                        description="At most so many, 1 to 1000; 100 by default.",
                        schema={"type": "integer", "minimum": 1, "maximum": 1000},
                    ),
                    Parameter(
                        name="cursor",
                        place="query",
                        description="`cursor` of the page before.",
                        schema={"type": "string", "maxLength": 512},
                    ),
                ),
                replies={200: Reply(description="Some notifications.", type=DeliveriesView)},
            ),
            Operation(
                method="GET",
                path="/v1/notifications/{id}",
                name="getNotification",
                summary="Trace a notification: its deliveries and what came of each attempt.",
                tag=TAG,
                handler=self._trace,
                parameters=(_ID,),
                replies={200: Reply(description="Its trace.", type=TraceView)},
            ),
            Operation(
                method="POST",
                path="/v1/notifications/{id}:retry",
                name="retryNotification",
                summary="Try a notification again now, whatever its state; its schedule starts over.",
                tag=TAG,
                handler=self._retry,
                parameters=(_ID,),
                replies={202: Reply(description="It is tried again.", type=DeliveryView)},
            ),
            Operation(
                method="POST",
                path="/v1/notifications/{id}:cancel",
                name="cancelNotification",
                summary="Do not send a notification that waits; one that was sent stays sent.",
                tag=TAG,
                handler=self._cancel,
                parameters=(_ID,),
                replies={200: Reply(description="How it stands now.", type=DeliveryView)},
            ),
        )

    async def _send(self, call: Call[Notification]) -> Answer:
        receipt = await self._sending.accept(call.body)
        view = AcceptedView(id=receipt.id, durability="local", deliveries=receipt.deliveries)
        return Answer(status=202, body=view, headers={"Location": f"/v1/notifications/{receipt.id}"})

    async def _preview(self, call: Call[PreviewRequest]) -> Answer:
        rendered, locale = await self._sending.preview(call.body)
        return Answer(body=preview_view(rendered, locale))

    async def _list(self, call: Call[None]) -> Answer:
        state = next((known for known in STATES if known == call.query("state")), None)
        query = Query(
            type=call.query("template"), state=state, limit=int(call.query("limit", "100")), cursor=call.query("cursor")
        )
        try:
            page = await _available(self._machine.deliveries(query))
        except ValueError:
            error = FieldError("query:cursor", "is no cursor of ours; take it from the page before")
            raise Problem(400, "malformed-request", "Malformed request", error.detail, errors=[error]) from None
        return Answer(
            body=DeliveriesView(
                notifications=[delivery_view(delivery) for delivery in page.deliveries], cursor=page.cursor
            )
        )

    async def _trace(self, call: Call[None]) -> Answer:
        wanted = _identifier(call)
        message = await _available(self._machine.message(wanted))
        if message is None:
            raise _unknown(wanted)
        page = await _available(self._machine.deliveries(Query(message=wanted, limit=10)))
        traced: list[tuple[Delivery, tuple[Attempt, ...]]] = [
            (delivery, await _available(self._machine.attempts(delivery.id, limit=ATTEMPTS)))
            for delivery in page.deliveries
        ]
        return Answer(body=trace_view(message, traced))

    async def _retry(self, call: Call[None]) -> Answer:
        wanted = _identifier(call)
        return Answer(status=202, body=await self._changed(wanted, self._machine.retry(delivery_id(wanted, EMAIL))))

    async def _cancel(self, call: Call[None]) -> Answer:
        wanted = _identifier(call)
        delivery = self._machine.cancel(delivery_id(wanted, EMAIL), "cancelled through the API")
        return Answer(body=await self._changed(wanted, delivery))

    @staticmethod
    async def _changed(wanted: MessageId, change: Awaitable[Delivery]) -> DeliveryView:
        try:
            return delivery_view(await _available(change))
        except UnknownDelivery:
            raise _unknown(wanted) from None
        except InFlight as error:
            raise Problem(
                409, "in-flight", "In flight", f"{error}; ask again in a moment.", headers={"Retry-After": "1"}
            ) from None


def _identifier(call: Call[None]) -> MessageId:
    text = call.path("id")
    if not MESSAGE_ID.fullmatch(text):
        raise _unknown(MessageId(text))
    return MessageId(text)


def _unknown(wanted: MessageId) -> Problem:
    return Problem(
        404,
        "unknown-notification",
        "Unknown notification",
        f'There is no notification "{wanted[:128]}" (any more); those that were sent are kept for 3 days, dead letters for 14.',
        errors=[FieldError("path:id", "is no notification")],
    )


async def _available(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except StoreUnavailable as error:
        raise Problem(
            503,
            "store-unavailable",
            "Store unavailable",
            f"{error}; try again in a moment.",
            headers={"Retry-After": "1"},
        ) from error
