"""The listener for sidecars: one long stream down, acknowledgements up, and the reports of other replicas.

Every request is authenticated by itself; what a client gets follows from its token alone. Bodies, streams and waits are bounded, errors are problem details (RFC
9457). A slow reader is dropped when it takes no bytes for a while; it comes back and gets the newest snapshot.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from pillion.kinds import exchange
from pillion.kinds.exchange import Acknowledgement
from pillion_operator.authentication import Authenticator, Client, Refusal
from pillion_operator.controller import Controller
from pillion_operator.distribution import Subscription, event
from pillion_operator.fleet import Facts, PodUid
from pillion_operator.peers import MAX_REPORT_BYTES, REPORT_PATH, Report
from pillion_operator.settings import Settings

WRITE_TIMEOUT: Final = 30.0
"""Seconds within which a client must take what it is sent."""
BODY_TIMEOUT: Final = 10.0
"""Seconds within which a body must arrive."""
SYNC_TIMEOUT: Final = 5.0
"""Seconds that a stream waits for the operator's own start before it is sent away to try again."""

_PROBLEM_BASE: Final = "https://pillion.dev/problems/"
_PING: Final = event(exchange.PING_EVENT)
_BYE: Final = event(exchange.BYE_EVENT)


class Server:
    """The listener.

    Args:
        settings: where and how.
        controller: takes streams and acknowledgements.
        authenticator: tells who a client is.
        tls: the certificate, refreshed by its owner; None serves in the clear.
        own_account: `namespace/name` of the operator's own service account, whose other replicas may report; empty takes no reports.
        take_report: takes the report of another replica.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        settings: Settings,
        controller: Controller,
        authenticator: Authenticator,
        *,
        tls: ssl.SSLContext | None,
        own_account: str,
        take_report: Callable[[Report], None],
        registry: CollectorRegistry,
    ) -> None:
        self._settings = settings
        self._controller = controller
        self._authenticator = authenticator
        self._own_account = own_account
        self._take_report = take_report
        self._stopping = False
        self._chance = random.Random()  # noqa: S311 - spreads reconnects, protects nothing
        self._log = structlog.get_logger("server")
        self._tls = tls
        self._answers = Counter(
            "pillion_operator_requests_total",
            "Requests of sidecars and replicas, by route and status.",
            ["route", "status"],
            registry=registry,
        )
        application = web.Application()
        application.router.add_get(exchange.STREAM_PATH, self._answering("stream", self._stream))
        application.router.add_post(exchange.ACKNOWLEDGE_PATH, self._answering("acks", self._acknowledge))
        application.router.add_post(REPORT_PATH, self._answering("reports", self._report))
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken.
        """
        await self._runner.setup()
        host, _, port = self._settings.stream_address.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]") or None, int(port), ssl_context=self._tls, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Say goodbye to every stream and stop listening."""
        self._stopping = True
        self._controller.distribution.close_all()
        await self._runner.cleanup()

    def _answering(
        self, route: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            status = 500
            try:
                response = await handler(request)
                status = response.status
            except Refusal as refusal:
                status = refusal.status
                return _problem(refusal)
            else:
                return response
            finally:
                self._answers.labels(route, str(status)).inc()

        return answer

    async def _sidecar(self, request: web.Request) -> Client:
        return await self._authenticator.sidecar(request.headers.get("Authorization", ""))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        client = await self._sidecar(request)
        if self._stopping or len(self._controller.distribution) >= self._settings.max_streams:
            raise Refusal(503, "no-room", "No room for another stream", "this replica is stopping or full; try again")
        revision = request.query.get("revision", "")
        if len(revision) > 64 or (revision and not revision.isalnum()):
            raise Refusal(
                400, "malformed-request", "Malformed request", "query:revision is the SHA-256 of a snapshot, or empty"
            )
        labels = await self._authenticator.labels(client)
        try:
            async with asyncio.timeout(SYNC_TIMEOUT):
                await self._controller.complete.wait()
        except TimeoutError:
            raise Refusal(
                503, "starting", "Still starting", "the operator does not know all resources yet; try again"
            ) from None
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        facts = Facts(
            uid=PodUid(client.pod_uid),
            namespace=client.namespace,
            pod=client.pod or client.service_account,
            labels=labels,
            revision=revision,
        )
        subscription = self._controller.joined(facts)
        self._log.info("stream opened", namespace=client.namespace, pod=facts.pod, revision=revision[:12])
        try:
            await self._feed(response, subscription)
        except (ConnectionError, TimeoutError) as error:
            self._log.debug("stream broke", namespace=client.namespace, pod=facts.pod, error=str(error))
        finally:
            self._controller.left(subscription)
            self._log.info("stream closed", namespace=client.namespace, pod=facts.pod)
        return response

    async def _feed(self, response: web.StreamResponse, subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.stream_max_age * self._chance.uniform(0.75, 1.25)
        await _write(response, _PING)  # the sidecar knows at once that it has been heard
        while not subscription.closing and loop.time() < ends:
            message = await subscription.next(min(exchange.PING_SECONDS, max(0.0, ends - loop.time())))
            if not subscription.closing:
                await _write(response, message or _PING)
        await _write(response, _BYE)
        await response.write_eof()

    async def _acknowledge(self, request: web.Request) -> web.StreamResponse:
        client = await self._sidecar(request)
        said = _decoded(await _body(request, exchange.MAX_ACKNOWLEDGEMENT_BYTES), Acknowledgement)
        if not self._controller.acknowledged(client.namespace, PodUid(client.pod_uid), said):
            detail = "this replica does not hold the stream of your pod; open it, or post again on a new connection"
            answer = _problem(Refusal(409, "stream-elsewhere", "No stream of yours here", detail))
            answer.force_close()
            return answer
        return web.Response(status=204)

    async def _report(self, request: web.Request) -> web.StreamResponse:
        client = await self._authenticator.client(request.headers.get("Authorization", ""))
        if not self._own_account or f"{client.namespace}/{client.service_account}" != self._own_account:
            raise Refusal(403, "no-replica", "Not a replica", "only replicas of the operator may report")
        self._take_report(_decoded(await _body(request, MAX_REPORT_BYTES), Report))
        return web.Response(status=204)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(data)


async def _body(request: web.Request, limit: int) -> bytes:
    chunks = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                chunks += chunk
                if len(chunks) > limit:
                    raise Refusal(413, "too-large", "Body too large", f"the body is longer than {limit} bytes")
    except TimeoutError:
        raise Refusal(
            408, "too-slow", "Body too slow", f"the body did not arrive within {BODY_TIMEOUT:.0f} s"
        ) from None
    return bytes(chunks)


def _decoded(body: bytes, model: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=model)
    except msgspec.ValidationError as error:
        raise Refusal(422, "invalid-body", "Invalid body", f"the body does not fit: {error}") from None
    except msgspec.DecodeError as error:
        raise Refusal(400, "malformed-request", "Malformed request", f"the body is no JSON: {error}") from None
    except RecursionError:
        raise Refusal(400, "malformed-request", "Malformed request", "the body is nested too deeply") from None


def _problem(refusal: Refusal) -> web.Response:
    headers = {"Retry-After": "1"} if refusal.status == 503 else {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {
        "type": _PROBLEM_BASE + refusal.slug,
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
    }
    return web.Response(
        status=refusal.status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=headers
    )
