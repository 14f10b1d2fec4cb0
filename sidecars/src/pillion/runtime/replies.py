"""Turns answers into HTTP responses, with the same header fields in the same order on both lanes.

Order: Content-Type, Content-Length, the operation's own fields, Date, Server, X-Request-Id. The hot lane writes these lines as text, the ordinary
lane hands them to aiohttp; a differential test compares the bytes.
"""

import re
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from pillion.runtime import requestids
from pillion.runtime.clock import Clock
from pillion.runtime.operation import Answer, HotAnswer
from pillion.runtime.problems import PROBLEM_MEDIA, Problem

SERVER: Final = "pillion"
"""What the `Server` field says: the product, never a version."""

REASONS: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}

UNNAMED: Final = "Unknown"
"""The reason phrase of a status that has no name."""

BODILESS: Final = frozenset({204, 205, 304})
"""Statuses without a body, and so without fields that describe one."""

_SAFE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""Field values that cannot break the message; aiohttp would refuse some of the others only after the handler's last chance to answer."""

_encode = msgspec.json.Encoder().encode


class Dates:
    """The `Date` field (RFC 9110 section 6.6.1), formatted once a second.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """Give the current value of the field."""
        return self.now_and_left()[0]

    def now_and_left(self) -> tuple[str, float]:
        """Give the current value, and for how many seconds it stays right."""
        second, left = divmod(self._clock.wall_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text, (1_000_000_000 - left) / 1e9


class Replies:
    """Builds responses.

    Args:
        clock: the time of the `Date` field.
    """

    def __init__(self, clock: Clock) -> None:
        self.dates = Dates(clock)
        self.closing = False
        """Whether every further response closes its connection (drain)."""

    def answer(self, answer: Answer, request_id: str) -> web.Response:
        """Give the response of an ordinary operation."""
        body = answer.body
        if body is not None and not isinstance(body, bytes):
            body = _encode(body)
        media = None if body is None else answer.media
        return self._response(answer.status, media, body or b"", answer.headers.items(), request_id)

    def hot(self, answer: HotAnswer, request_id: str | None) -> web.Response:
        """Give the response of a hot operation on the ordinary lane; *request_id* is None unless the client sent one."""
        lines = (line.partition(": ") for line in answer.headers.split("\r\n") if line)
        return self._response(
            answer.status, answer.media, answer.body, ((name, value) for name, _, value in lines), request_id
        )

    def problem(self, problem: Problem, request_id: str) -> web.Response:
        """Give the response of a problem."""
        document = problem.document(requestids.instance(request_id))
        return self._response(problem.status, PROBLEM_MEDIA, document, problem.headers.items(), request_id)

    def finish(self, response: web.StreamResponse, request_id: str) -> None:
        """Complete the header fields of a response that a handler made itself."""
        response.headers["Server"] = SERVER
        response.headers.setdefault(requestids.HEADER, request_id)

    def _response(
        self, status: int, media: str | None, body: bytes, headers: Iterable[tuple[str, str]], request_id: str | None
    ) -> web.Response:
        fields: CIMultiDict[str] = CIMultiDict()
        if status not in BODILESS:
            if media is not None:
                fields.add("Content-Type", media)
            fields.add("Content-Length", str(len(body)))
        for name, value in headers:
            if not _SAFE.fullmatch(value):
                raise ValueError(f"header {name}: the value holds control characters")
            fields.add(name, value)
        fields.add("Date", self.dates.now())
        fields.add("Server", SERVER)
        if request_id is not None:
            fields.add(requestids.HEADER, request_id)
        response = web.Response(
            status=status,
            reason=REASONS.get(status, UNNAMED),
            headers=fields,
            body=None if status in BODILESS else body,
        )
        if self.closing:
            response.force_close()
        return response
