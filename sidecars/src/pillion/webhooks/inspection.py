"""The routes that show and change deliveries: lists, details, retry, enable."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar, cast

from pillion.delivery.failures import InFlight, Overloaded, StoreFull, StoreUnavailable, UnknownDelivery
from pillion.delivery.machine import Machine
from pillion.delivery.model import AttemptQuery, DeliveryId, DestinationName, Query, State
from pillion.kinds.violations import did_you_mean
from pillion.runtime.operation import Answer, Call
from pillion.runtime.problems import FieldError, Problem, malformed
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.views import (
    AttemptsView,
    DeliveriesView,
    DeliveryDetailView,
    EndpointsView,
    attempt_view,
    delivery_view,
    endpoint_view,
)

PAGE: Final = 100
"""Entries of a page that is asked for without `limit`."""

DETAIL: Final = 50
"""Attempts shown with one delivery."""

Handler = Callable[["Inspection", Call[Any]], Awaitable[Answer]]
H = TypeVar("H", bound=Handler)


def _problems(handler: H) -> H:
    """Turn what the machine raises into problems."""

    @wraps(handler)
    async def handle(self: "Inspection", call: Call[Any]) -> Answer:
        try:
            return await handler(self, call)
        except UnknownDelivery as unknown:
            detail = f"{str(unknown)[:300]}; it may be past its retention."
            raise Problem(
                404, "unknown-delivery", "Unknown delivery", detail, errors=[FieldError("path:id", "is unknown")]
            ) from None
        except InFlight as flying:
            detail = f"{flying}; wait for its outcome."
            raise Problem(
                409, "delivery-in-flight", "Delivery in flight", detail, headers={"Retry-After": "1"}
            ) from None
        except StoreFull as full:
            raise Problem(507, "insufficient-storage", "Insufficient storage", f"{full}.") from None
        except (Overloaded, StoreUnavailable) as busy:
            raise Problem(
                503, "store-unavailable", "Store unavailable", f"{busy}.", headers={"Retry-After": "1"}
            ) from None

    return cast("H", handle)


class Inspection:
    """Handlers over one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._endpoints: Mapping[DestinationName, CompiledEndpoint] = {}

    def replace(self, endpoints: Mapping[DestinationName, CompiledEndpoint]) -> None:
        """Put other endpoints in force."""
        self._endpoints = endpoints

    async def endpoints(self, _call: Call[None]) -> Answer:
        """List endpoints."""
        known = {status.name: status for status in self._machine.statistics().destinations}
        views = [
            endpoint_view(endpoint, known[name]) for name, endpoint in sorted(self._endpoints.items()) if name in known
        ]
        return Answer(body=EndpointsView(endpoints=views))

    @_problems
    async def enable(self, call: Call[None]) -> Answer:
        """Serve a disabled endpoint again."""
        name = DestinationName(call.path("name"))
        if name not in self._endpoints:
            detail = f'There is no endpoint "{name[:300]}"; {did_you_mean(name[:300], self._endpoints)}'
            raise Problem(
                404, "unknown-endpoint", "Unknown endpoint", detail, errors=[FieldError("path:name", "is unknown")]
            )
        await self._machine.enable(name)
        status = next(s for s in self._machine.statistics().destinations if s.name == name)
        return Answer(body=endpoint_view(self._endpoints[name], status))

    @_problems
    async def deliveries(self, call: Call[None]) -> Answer:
        """List deliveries."""
        query = Query(
            destination=call.query("endpoint"),
            state=cast("State | None", call.query("state") or None),
            message=call.query("event"),
            type=call.query("type"),
            limit=int(call.query("limit") or PAGE),
            cursor=call.query("cursor"),
        )
        try:
            page = await self._machine.deliveries(query)
        except ValueError as error:
            raise malformed(f"{error}.", FieldError("query:cursor", str(error))) from None
        return Answer(
            body=DeliveriesView(deliveries=[delivery_view(one) for one in page.deliveries], cursor=page.cursor)
        )

    @_problems
    async def delivery(self, call: Call[None]) -> Answer:
        """Show one delivery with its latest attempts."""
        wanted = DeliveryId(call.path("id"))
        delivery = await self._machine.delivery(wanted)
        attempts = await self._machine.attempts(wanted, limit=DETAIL)
        return Answer(
            body=DeliveryDetailView(
                delivery=delivery_view(delivery), attempts=[attempt_view(attempt) for attempt in attempts]
            )
        )

    @_problems
    async def attempts(self, call: Call[None]) -> Answer:
        """List attempts."""
        limit = int(call.query("limit") or PAGE)
        wanted = call.query("delivery")
        if wanted:
            found = await self._machine.attempts(DeliveryId(wanted), limit=limit)
            return Answer(body=AttemptsView(attempts=[attempt_view(attempt) for attempt in found]))
        query = AttemptQuery(destination=call.query("endpoint"), limit=limit, cursor=call.query("cursor"))
        try:
            page = await self._machine.list_attempts(query)
        except ValueError as error:
            raise malformed(f"{error}.", FieldError("query:cursor", str(error))) from None
        return Answer(body=AttemptsView(attempts=[attempt_view(one) for one in page.attempts], cursor=page.cursor))

    @_problems
    async def retry(self, call: Call[None]) -> Answer:
        """Attempt a delivery again, now."""
        return Answer(status=202, body=delivery_view(await self._machine.retry(DeliveryId(call.path("id")))))
