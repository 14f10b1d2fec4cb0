"""Answers every request of one listener on the ordinary lane: admits it, names it, traces it, and turns whatever goes wrong into a problem.

It stands around the router, not inside it, so that what aiohttp itself refuses (no route, wrong method, unknown `Expect`) looks the same as what
an operation refuses. Nothing internal reaches the client: an unexpected exception is a 500 that names the request id, and the id is in the log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import hdrs, web
from opentelemetry import context, trace

from pillion.runtime import requestids, telemetry
from pillion.runtime.clock import Clock
from pillion.runtime.endpoints import REQUEST_ID, ROUTE
from pillion.runtime.gate import Gate
from pillion.runtime.problems import FieldError, Problem
from pillion.runtime.replies import REASONS, Replies
from pillion.runtime.traffic import UNMATCHED, Traffic

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_PATH_SHOWN: Final = 200
"""Characters of a path that a problem repeats."""

_tracer = trace.get_tracer("pillion.http")
_log = structlog.get_logger("server")


class Exchange:
    """The ordinary lane of one listener.

    Args:
        route: routes a request to its endpoint and calls it.
        gate: who may ask.
        replies: builds responses.
        traffic: counts requests.
        clock: measures durations.
    """

    def __init__(self, route: Route, gate: Gate, replies: Replies, traffic: Traffic, clock: Clock) -> None:
        self._route = route
        self._gate = gate
        self._replies = replies
        self._traffic = traffic
        self._clock = clock

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        assert isinstance(request, web.Request)  # noqa: S101 - the request factory is the application's
        begun = self._clock.monotonic_ns()
        request_id = requestids.valid(request.headers.get(requestids.HEADER)) or requestids.generate()
        request[REQUEST_ID] = request_id
        parent = telemetry.incoming(request.headers)
        attached = None if parent is None else context.attach(parent)
        try:
            if telemetry.recording():
                response = await self._traced(request, request_id)
            else:
                response = await self._answer(request, request_id)
        finally:
            if attached is not None:
                context.detach(attached)
        seconds = (self._clock.monotonic_ns() - begun) / 1e9
        self._traffic.finished(route_of(request), request.method, response.status, seconds)
        return response

    async def _traced(self, request: web.Request, request_id: str) -> web.StreamResponse:
        """Answer one request inside a span."""
        with _tracer.start_as_current_span(
            request.method,
            kind=trace.SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "url.path": request.path,
                "pillion.request_id": request_id,
            },
        ) as span:
            response = await self._answer(request, request_id)
            route = route_of(request)
            span.update_name(f"{request.method} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 500:
                span.set_status(trace.StatusCode.ERROR)
            return response

    async def _answer(self, request: web.Request, request_id: str) -> web.StreamResponse:
        """Answer one request; what goes wrong becomes a problem."""
        try:
            target = request.raw_path
            self._gate.admit(
                request.headers.get(hdrs.HOST, ""),
                request.headers.get(hdrs.ORIGIN),
                None if target.startswith("/") else request.host,
            )
            return await self._route(request)
        except Problem as problem:
            return self._replies.problem(problem, request_id)
        except web.HTTPException as refusal:
            return (
                refusal
                if refusal.status < 400
                else self._replies.problem(framework_problem(refusal, request), request_id)
            )
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:  # noqa: BLE001 - whatever a handler raises is answered
            _log.exception("request failed", request_id=request_id, method=request.method, route=route_of(request))
            return self._replies.problem(internal(), request_id)


def route_of(request: web.Request) -> str:
    """Give the path template that a request was routed to, for labels."""
    return request[ROUTE] if ROUTE in request else UNMATCHED  # noqa: SIM401 - `get` is typed for text keys only


def internal() -> Problem:
    """Give the problem of an unexpected exception; it tells nothing but that the log knows more."""
    return Problem(
        500,
        "internal-error",
        "Internal error",
        "The request failed in a way that should not happen; the log names it by the request id.",
    )


def framework_problem(refusal: web.HTTPException, request: web.BaseRequest) -> Problem:
    """Give the problem of what aiohttp refused by itself."""
    path = request.path[:_PATH_SHOWN]
    match refusal:
        case web.HTTPNotFound():
            return Problem(404, "not-found", "Not found", f"There is no route {path}; /openapi.json lists all routes.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refusal.allowed_methods))
            detail = f"{request.method[:20]} is not served at {path}; use {allowed}."
            return Problem(405, "method-not-allowed", "Method not allowed", detail, headers={"Allow": allowed})
        case web.HTTPExpectationFailed():
            return Problem(
                417,
                "expectation-failed",
                "Expectation failed",
                "The only expectation that is met here is 100-continue; leave the others out.",
                errors=[FieldError("header:expect", "must be 100-continue or absent")],
            )
        case _:
            title = REASONS.get(refusal.status, "Refused").capitalize()
            return Problem(refusal.status, title.lower().replace(" ", "-"), title, refusal.reason)
