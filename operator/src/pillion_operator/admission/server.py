"""The webhooks: HTTPS on every replica, one answer per review, nothing kept between two of them.

What cannot be judged here, because it is no review, because the API server cannot be asked, or because of a bug, is answered with a problem (RFC 9457) and never with
a verdict: then the `failurePolicy` of the namespace's class decides. A replica answers from its first moment on; what it does not know yet it asks for
(namespaces) or leaves to the status (what shows only across resources).
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from pillion.kinds.definition import Kind
from pillion.kinds.resource import Resource
from pillion.kinds.violations import Violation
from pillion_operator.admission.relations import consequences
from pillion_operator.admission.review import BadReview, Request, decode, mutate, validate
from pillion_operator.api import ApiError
from pillion_operator.catalogue import Catalogue
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespaces

JSON = Any

PODS_PATH: Final = "/mutate/pods"
RESOURCES_PATH: Final = "/validate/resources"

MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a review: an update carries two objects of at most 3 MiB, which is what the API server accepts."""
BODY_TIMEOUT: Final = 5.0
"""Seconds within which a review must arrive; the API server has given up long before."""
MAX_AT_ONCE: Final = 200
"""Reviews in hand at the same time; further ones are answered 503, which the failure policy treats like an answer that never came."""

_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)


class _Problem(Exception):  # noqa: N818 - says what it is
    """The request gets no verdict."""

    def __init__(self, status: int, slug: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail


class AdmissionServer:
    """The listener.

    Args:
        address: `host:port`.
        tls: its certificate; refreshed by its owner.
        kinds: the kinds whose resources are judged.
        catalogue: the resources that are there.
        namespaces: the namespaces.
        inject: gives a pod its sidecar.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        address: str,
        tls: ssl.SSLContext,
        *,
        kinds: Mapping[str, Kind[Any]],
        catalogue: Catalogue,
        namespaces: Namespaces,
        inject: Injector,
        registry: CollectorRegistry,
    ) -> None:
        self._address = address
        self._tls = tls
        self._kinds = kinds
        self._catalogue = catalogue
        self._namespaces = namespaces
        self._inject = inject
        self._at_once = 0
        self._log = structlog.get_logger("admission")
        self._reviews = Counter(
            "pillion_operator_admission_reviews_total",
            "Reviews by webhook and outcome.",
            ["webhook", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "pillion_operator_admission_seconds",
            "From a review's head to its answer.",
            ["webhook"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._routes = {
            PODS_PATH: self._answering("pods", self._pods),
            RESOURCES_PATH: self._answering("resources", self._resources),
        }
        # Two fixed paths need no router, and without one a review costs a fifth less.
        self._runner = web.ServerRunner(web.Server(self._dispatch, access_log=None), shutdown_timeout=3.0)
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken.
        """
        await self._runner.setup()
        host, _, port = self._address.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]") or None, int(port), ssl_context=self._tls, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Answer what is in hand and stop listening."""
        await self._runner.cleanup()

    async def _dispatch(self, request: web.BaseRequest) -> web.Response:
        route = self._routes.get(request.path)
        if route is None:
            return _answer(_Problem(404, "not-found", "Not found", f"reviews go to {' or '.join(self._routes)}"))
        if request.method != "POST":
            return _answer(_Problem(405, "method-not-allowed", "Method not allowed", "reviews are POSTed"))
        return await route(request)

    def _answering(
        self, webhook: str, judge: Callable[[Request], Awaitable[tuple[bytes, str]]]
    ) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
        seconds = self._seconds.labels(webhook)
        # Outcomes are few, and looking a child up costs more than counting on it.
        counted = functools.cache(lambda outcome: self._reviews.labels(webhook, outcome))

        async def answer(request: web.BaseRequest) -> web.Response:
            began = time.perf_counter()
            outcome = "failed"
            self._at_once += 1
            try:
                self._make_room()
                body, outcome = await judge(decode(await _body(request)))
                return web.Response(body=body, content_type="application/json")
            except BadReview as bad:
                outcome = "no-review"
                return _answer(_Problem(400, outcome, "Not a review", str(bad)))
            except _Problem as problem:
                outcome = problem.slug
                return _answer(problem)
            except Exception:  # noqa: BLE001 - a kind's own code, and ours
                # Whatever it is, the API server must not take it for a verdict, and the next review must be answered.
                self._log.exception("a review failed", webhook=webhook)
                return _answer(_Problem(500, "internal", "Internal error", "the review failed; see the operator's log"))
            finally:
                self._at_once -= 1
                counted(outcome).inc()
                seconds.observe(time.perf_counter() - began)

        return answer

    def _make_room(self) -> None:
        if self._at_once > MAX_AT_ONCE:
            raise _Problem(503, "busy", "Busy", f"this replica has {MAX_AT_ONCE} reviews in hand; try again")

    async def _pods(self, request: Request) -> tuple[bytes, str]:
        try:
            namespace = await self._namespaces.find(request.namespace)
            body, injection = mutate(request, lambda pod, _: self._inject(pod, namespace))
            if injection.reason == "NotAsked" and request.operation == "CREATE":
                # The API server asks only about pods that are wanted by its own knowledge of labels; it knows of a label that the watch has not told yet.
                namespace = await self._namespaces.ask(request.namespace)
                body, injection = mutate(request, lambda pod, _: self._inject(pod, namespace))
        except ApiError as error:
            raise _Problem(
                503, "unreachable", "API server unreachable", f"the namespace cannot be read: {error}"
            ) from None
        if injection.reason:
            return body, injection.reason
        return body, "injected" if injection.patch else "unchanged"

    async def _resources(self, request: Request) -> tuple[bytes, str]:
        body = validate(request, self._kinds, self._related)
        answer = msgspec.json.decode(body, type=_Answer).response
        if not answer.allowed:
            return body, "refused"
        return body, "warned" if answer.warnings else "allowed"

    def _related(self, resource: Resource) -> Iterable[Violation]:
        if not self._kinds[resource.kind].relates:
            return ()
        others = (
            known.current.resource
            for known in self._catalogue.in_namespace(resource.namespace)
            if known.key.kind == resource.kind and known.current is not None
        )
        return consequences(resource, others, self._kinds)


class _Response(msgspec.Struct):
    allowed: bool
    warnings: list[str] = []


class _Answer(msgspec.Struct):
    response: _Response


async def _body(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    if request.content.is_eof():
        # The common case: head and body came together, and nothing is waited for. What came in one piece may still be chunked, of a length that no head told.
        whole = request.content.read_nowait()
        if len(whole) > MAX_BODY:
            raise _too_large()
        return whole
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        detail = f"the review did not arrive within {BODY_TIMEOUT:.0f} s"
        raise _Problem(408, "too-slow", "Body too slow", detail) from None
    return bytes(body)


def _too_large() -> _Problem:
    return _Problem(413, "too-large", "Body too large", f"a review has at most {MAX_BODY} bytes")


def _answer(problem: _Problem) -> web.Response:
    body = {
        "type": f"https://pillion.dev/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {503: {"Retry-After": "1"}, 405: {"Allow": "POST"}}.get(problem.status, {})
    return web.Response(
        status=problem.status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=headers
    )
