"""How a block declares its HTTP routes: one `Operation` each, from which the server, `/openapi.json` and the tests of both are made.

A handler gets a `Call` with the body already decoded into its model, and gives an `Answer`; decoding, bounds, problem details, telemetry
and the description are the server's. An operation that is asked thousands of times a second is a `HotOperation`: a plain function of the
rest of the path and the body. The hot lane and the ordinary lane call the very same function, which is why they cannot differ. One that is asked as often
but must wait for the disk is an `Operation` with a `shortcut`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from pillion.runtime.problems import Problem

JSON_MEDIA = "application/json"

B = TypeVar("B")

Listener = Literal["main", "admin"]
"""`main` is the localhost API (TCP and unix socket, token if configured); `admin` serves probes and metrics to kubelet and Prometheus."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query, path or header parameter, for the description and for checking.

    Args:
        name: its name.
        place: where it stands.
        description: what it means, with unit, range and default.
        schema: its JSON Schema.
        required: whether a request without it is refused.
    """

    name: str
    place: Literal["query", "path", "header"]
    description: str
    schema: Mapping[str, object] = msgspec.field(default_factory=lambda: {"type": "string"})
    required: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One possible answer, for the description.

    Args:
        description: when it is given, as a sentence.
        type: the model of the body; None where it has none, `str` or `bytes` for what is no JSON.
        media: the content type of the body.
        further_media: content types that it has instead where the client asks for them by `Accept`, with the model of each as in `type`.
    """

    description: str
    type: Any = None
    media: str = JSON_MEDIA
    further_media: Mapping[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler gives back.

    Args:
        status: HTTP status.
        body: a value that msgspec encodes to JSON, or bytes that go out as they are; None means no body.
        headers: further header fields.
        media: the content type of the body.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}
    media: str = JSON_MEDIA


class Call(msgspec.Struct, Generic[B], frozen=True, kw_only=True):
    """One request as a handler sees it.

    Args:
        body: the decoded body; `bytes` where the operation declares no model.
        request: the underlying request, for headers, path and query.
        request_id: identifies this request in answers, logs and traces.
    """

    body: B
    request: web.Request
    request_id: str

    def path(self, name: str) -> str:
        """Give a path parameter, percent-decoded."""
        return self.request.match_info[name]

    def query(self, name: str, default: str = "") -> str:
        """Give a query parameter."""
        return self.request.query.get(name, default)


Handler = Callable[[Call[Any]], Awaitable[Answer | web.StreamResponse]]


class HotAnswer(NamedTuple):
    """What a hot operation gives back: everything already encoded.

    Args:
        status: HTTP status.
        headers: further header lines, each ended by CRLF; no content type, no content length.
        body: the body.
        media: its content type.
    """

    status: int
    headers: str
    body: bytes
    media: str = JSON_MEDIA


Told = Callable[[HotAnswer | Problem], None]
"""Takes an answer that comes later. Called once, in the event loop, and never before what it was given to has returned."""

Shortcut = Callable[[bytes, Told], None]
"""The short way through an operation whose answer must wait for something, such as the disk: (body, told).

The hot lane asks it for plain requests: a small JSON body, no query, none of the operation's header parameters. It answers what the handler would.
It must not await, must not block, and must raise *before* it changes anything when the handler shall see to the request; so too for every problem that
it can tell at once.
"""

SHORTCUT_BODY: Final = 1 << 16
"""Bytes of a body up to which an operation's shortcut is asked."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    Args:
        method: GET, POST, PUT or DELETE.
        path: the path, with parameters in braces as in `/v1/notifications/{id}`; a literal colon is allowed as in `{id}:retry`.
        name: the operationId, unique, in camelCase.
        summary: one sentence.
        tag: the block, for grouping.
        handler: what answers.
        body: the model of the JSON body; None for an operation that reads none, `bytes` for raw bodies.
        body_media: content types that are accepted for the body.
        body_models: for a body of `bytes`: its model by content type, for the description only; the handler decodes it itself.
        max_body: bound of the body in bytes; a longer one is answered 413.
        parameters: query, path and header parameters.
        replies: possible answers by status; problem details need not be listed, the server adds them.
        listener: where it is served.
        public: answered without the bearer token (probes, description).
        body_required: whether an empty body is refused (an empty one decodes as `{}` otherwise).
        shortcut: answers plain requests from the hot lane, later; only for a POST without path parameters whose body may be JSON.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    summary: str
    tag: str
    handler: Handler
    body: Any = None
    body_media: tuple[str, ...] = (JSON_MEDIA,)
    body_models: Mapping[str, Any] = {}
    max_body: int = 1 << 20
    parameters: tuple[Parameter, ...] = ()
    replies: Mapping[int, Reply] = {}
    listener: tuple[Listener, ...] = ("main",)
    public: bool = False
    body_required: bool = True
    shortcut: Shortcut | None = None


Hot = Callable[[str, str, bytes], HotAnswer]
"""A hot operation's function: (rest of the path after a `{…}` at its end, raw query string, body) → answer.

It must not await, must not block, and must raise `Problem` *before* it changes anything, because the ordinary lane then asks it again.
"""


Again = Callable[[str], str | None]
"""Answers one certain request once more: (the last lines of the head, with the blank line) → the whole response as ASCII text.

It gives what `Hot` would give for the same request, as long as that is status 200 and JSON, written as `OK_JSON`, the length of the body, CRLF, the
operation's own header lines, the last lines, the body. It gives None, having changed nothing, when the request must be asked anew. It must not raise.
"""

OK_JSON: Final = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON_MEDIA}\r\nContent-Length: "
"""How a response begins that `Again` writes."""


class HotOperation(msgspec.Struct, frozen=True, kw_only=True):
    """A route of the hot lane: small JSON bodies, answered without a coroutine.

    Args:
        method: POST or GET.
        path: exact, or with one parameter as its last segment.
        name: the operationId.
        summary: one sentence.
        tag: the block.
        answer: the function.
        again: called with the arguments of `answer` after it answered 200, for a request that was seen before: gives what answers exactly this
            request from then on, without reading it again; None where nothing does. Meant for callers that ask the same thing over and over.
        body: the model of the body, for the description only: the function decodes it itself.
        parameters: query and path parameters.
        replies: possible answers.
        max_body: bound of the body in bytes.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    summary: str
    tag: str
    answer: Hot
    again: Callable[[str, str, bytes], Again | None] | None = None
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    replies: Mapping[int, Reply] = {}
    max_body: int = 1 << 16
