"""One endpoint per operation: from a routed request to the call of its handler, with everything checked on the way.

The order of the checks is part of the interface: token (401), declared size (413) and type (415) of the body, parameters (400), the body itself
(408, 413, 400, 422). What costs least and tells least comes first; no byte of a body is read for a caller without the token.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from aiohttp import hdrs, web
from yarl import URL

from pillion.runtime import bodies, requestids
from pillion.runtime.gate import Gate
from pillion.runtime.operation import JSON_MEDIA, Call, HotOperation, Operation
from pillion.runtime.parameters import ParameterChecks
from pillion.runtime.problems import FieldError, invalid_body, malformed
from pillion.runtime.replies import Replies

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Where the id of a request stands while it is handled."""

ROUTE: Final = web.RequestKey("route", str)
"""Where the path template stands that a request was routed to."""


class Endpoint(Protocol):
    """What the router calls."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        ...

    @property
    def path(self) -> str:
        """The path template."""
        ...

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request that was routed here."""
        ...


class OrdinaryEndpoint:
    """An `Operation` at work.

    Args:
        operation: the route.
        gate: the gate of its listener; None where no token is ever asked (admin).
        replies: builds responses.
        body_timeout: seconds for a body to arrive.
    """

    def __init__(self, operation: Operation, gate: Gate | None, replies: Replies, body_timeout: float) -> None:
        if operation.shortcut is not None and (
            operation.method != "POST"
            or "{" in operation.path
            or operation.public
            or JSON_MEDIA not in operation.body_media
            or any(parameter.required or parameter.place == "query" for parameter in operation.parameters)
        ):
            raise ValueError(
                f"{operation.path}: a shortcut is for a POST of JSON that needs the token and neither path nor query parameters"
            )
        self._operation = operation
        self._gate = None if operation.public else gate
        self._replies = replies
        self._body_timeout = body_timeout
        self._checks = ParameterChecks(operation.parameters)
        self._reads = operation.body is not None
        self._raw = operation.body is bytes
        self._decoder: msgspec.json.Decoder[Any] | None = (
            msgspec.json.Decoder(operation.body) if self._reads and not self._raw else None
        )

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self._operation.method

    @property
    def path(self) -> str:
        """The path template."""
        return self._operation.path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request that was routed here.

        Raises:
            Problem: it cannot be answered.
        """
        operation = self._operation
        request[ROUTE] = operation.path
        if self._gate is not None:
            self._gate.authorize(request.headers.get(hdrs.AUTHORIZATION))
        if self._reads:
            bodies.check_declared(request, operation.body_media, operation.max_body)
        self._check_parameters(request)
        body: Any = None
        if self._reads:
            raw = await bodies.read(request, operation.max_body, self._body_timeout)
            body = raw if self._decoder is None else self._decode(self._decoder, raw)
        call = Call(body=body, request=request, request_id=request[REQUEST_ID])
        result = await operation.handler(call)
        return result if isinstance(result, web.StreamResponse) else self._replies.answer(result, call.request_id)

    def _decode(self, decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
        if not raw:
            if self._operation.body_required:
                raise malformed("The body is missing; send a JSON object.", FieldError("#", "is missing"))
            raw = b"{}"
        return bodies.decode(decoder, raw)

    def _check_parameters(self, request: web.Request) -> None:
        checks = self._checks
        errors: list[FieldError] = []
        if checks.has("path"):
            errors += checks.errors("path", {name: [value] for name, value in request.match_info.items()})
        if checks.has("query"):
            errors += checks.errors("query", _several(request.rel_url))
        if checks.has("header"):
            errors += checks.errors("header", {name: request.headers.getall(name) for name in request.headers})
        if errors:
            raise malformed("The request has wrong parameters.", *errors)


class HotEndpoint:
    """A `HotOperation` at work on the ordinary lane; the hot lane uses `check` and the operation's own function.

    Args:
        operation: the route.
        gate: the gate of its listener.
        replies: builds responses.
        body_timeout: seconds for a body to arrive.
    """

    def __init__(self, operation: HotOperation, gate: Gate, replies: Replies, body_timeout: float) -> None:
        self.operation = operation
        prefix, brace, name = operation.path.partition("{")
        if brace and (not prefix.endswith("/") or not name.endswith("}") or "/" in name):
            raise ValueError(f"{operation.path}: a hot route has at most one parameter, as its whole last segment")
        self.prefix = prefix
        self.parameter = name.removesuffix("}")
        self.reads = operation.body is not None
        self._gate = gate
        self._replies = replies
        self._body_timeout = body_timeout
        self._checks = ParameterChecks(operation.parameters)
        if self._checks.has("header"):
            raise ValueError(f"{operation.path}: a hot route cannot check header parameters")

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.operation.method

    @property
    def path(self) -> str:
        """The path template."""
        return self.operation.path

    def check(self, rest: str, query: str) -> None:
        """Check the parameters.

        Args:
            rest: the path parameter, decoded; empty where the route has none.
            query: the raw query string.

        Raises:
            Problem: one is wrong.
        """
        errors: list[FieldError] = []
        if self.parameter:
            errors += self._checks.errors("path", {self.parameter: [rest]})
        if self._checks.has("query"):
            errors += self._checks.errors("query", _several(URL.build(path="/", query_string=query, encoded=True)))
        if errors:
            raise malformed("The request has wrong parameters.", *errors)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request on the ordinary lane.

        Raises:
            Problem: it cannot be answered.
        """
        request[ROUTE] = self.operation.path
        self._gate.authorize(request.headers.get(hdrs.AUTHORIZATION))
        body = b""
        if self.reads:
            bodies.check_declared(request, (JSON_MEDIA,), self.operation.max_body)
            body = await bodies.read(request, self.operation.max_body, self._body_timeout)
        rest = request.match_info[self.parameter] if self.parameter else ""
        query = request.rel_url.raw_query_string
        self.check(rest, query)
        try:
            answer = self.operation.answer(rest, query, body)
        except msgspec.DecodeError as error:
            raise invalid_body(error) from None
        except RecursionError:
            raise malformed(
                "The body is nested too deeply; flatten it.", FieldError("#", "is nested too deeply")
            ) from None
        return self._replies.hot(answer, requestids.valid(request.headers.get(requestids.HEADER)))


def _several(url: URL) -> Mapping[str, list[str]]:
    """Give all values of each query parameter."""
    query = url.query
    return {name: query.getall(name) for name in query}
