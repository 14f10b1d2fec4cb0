"""One attempt at a webhook delivery: sign, find a connection, post, judge the answer."""

from collections.abc import Mapping

import msgspec

from pillion.delivery.model import Delivery, DestinationName, Message, Outcome, Retry
from pillion.runtime.clock import Clock
from pillion.version import VERSION
from pillion.webhooks.answers import outcome
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.dialing import CannotConnect
from pillion.webhooks.egress import Guard
from pillion.webhooks.http1 import Answer, Connection, ExchangeFailed
from pillion.webhooks.pool import Origin, Pool, origin_of
from pillion.webhooks.signing import SigningKey, signature
from pillion.webhooks.target import Target

USER_AGENT = f"Pillion/{VERSION}"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, ready to be called.

    Args:
        origin: what its connections have in common.
        head: the part of the request's head that is the same every time.
        keys: sign every delivery.
        keep: bytes of an answer's body to keep.
    """

    origin: Origin
    head: bytes
    keys: tuple[SigningKey, ...]
    keep: int


def build_route(endpoint: CompiledEndpoint, target: Target, guard: Guard, keys: tuple[SigningKey, ...]) -> Route:
    """Make an endpoint ready to be called."""
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: {USER_AGENT}",
        "Accept: */*",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in endpoint.headers),
    ]
    return Route(
        origin=origin_of(target, guard),
        head="".join(f"{line}\r\n" for line in lines).encode("ascii"),
        keys=keys,
        keep=endpoint.excerpt_bytes,
    )


class WebhookSender:
    """Makes attempts; a `delivery.model.Sender`.

    Args:
        pool: the connections.
        clock: the time of attempts.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._routes: Mapping[DestinationName, Route] = {}

    def replace(self, routes: Mapping[DestinationName, Route]) -> None:
        """Put other endpoints in force; attempts under way end as they began."""
        self._routes = routes

    async def send(self, message: Message, delivery: Delivery, attempt: int, deadline: float) -> Outcome:  # noqa: ARG002 - the first attempt is like the last
        """Attempt *delivery*; see `delivery.model.Sender`."""
        route = self._routes.get(delivery.destination)
        if route is None or not route.keys:
            return Retry(reason="the endpoint is not configured")
        now = self._clock.wall_ns()
        stamp = now // 1_000_000_000
        signed = signature(route.keys, message.id, stamp, message.body)
        head = f"webhook-id: {message.id}\r\nwebhook-timestamp: {stamp}\r\nwebhook-signature: {signed}\r\nContent-Length: {len(message.body)}\r\n\r\n"
        request = route.head + head.encode("ascii") + message.body
        try:
            answer = await self._exchange(route, request, deadline)
        except (CannotConnect, ExchangeFailed) as failure:
            return Retry(reason=str(failure))
        return outcome(
            answer.status,
            retry_after=answer.retry_after,
            control=answer.control,
            now_ns=now,
            excerpt=answer.excerpt,
        )

    async def _exchange(self, route: Route, request: bytes, deadline: float) -> Answer:
        connection = self._pool.idle(route.origin)
        if connection is not None:
            try:
                return await self._on(route, connection, request, deadline)
            except ExchangeFailed as failure:
                if not failure.untouched:
                    raise
                # The receiver closed an idle connection while we wrote to it; that is no failed attempt. Once more, on a new one.
        connection = await self._pool.open(route.origin, deadline)
        return await self._on(route, connection, request, deadline)

    async def _on(self, route: Route, connection: Connection, request: bytes, deadline: float) -> Answer:
        try:
            return await connection.exchange(request, deadline, route.keep)
        finally:
            self._pool.give_back(route.origin, connection)
