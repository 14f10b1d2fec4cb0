"""The hot routes: where a request line leads, what a whole buffer holds, and how an answer is written. No I/O; `hotlane.py` has the connections.

What is taken is narrow on purpose: HTTP/1.1, an origin-form target of unreserved characters, no percent-encoding in the path, a length the head
states. Everything else is left to aiohttp, untouched.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from pillion.runtime import requestids
from pillion.runtime.endpoints import HotEndpoint
from pillion.runtime.gate import Gate
from pillion.runtime.heads import UNKNOWN, Heads
from pillion.runtime.operation import HotAnswer
from pillion.runtime.replies import BODILESS, REASONS, SERVER, Replies
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.traffic import Traffic

_LINES_MAX: Final = 1024
"""Distinct request lines that are remembered."""

_LINE_MAX: Final = 1024
"""Bytes of a request line that the lane takes."""

_HOT_LINE = re.compile(
    rb"(GET|POST) (/[!$&'()*+,\-./0-9:;=@A-Z_a-z~]*)(?:\?([!$&'()*+,\-./0-9:;=@A-Z_a-z~?%]*))? HTTP/1\.1"
)
_FRAMED_LINE = re.compile(rb"(?:GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH) /[!-~]* HTTP/1\.1")


class Target(NamedTuple):
    """Where a request line leads.

    Args:
        answer: the checked function of the hot operation.
        rest: the path parameter.
        query: the raw query string.
        max_body: bytes of a body that is taken; 0 for a route that reads none.
        statuses: the counts to increment.
    """

    answer: Callable[[str, str, bytes], HotAnswer]
    rest: str
    query: str
    max_body: int
    statuses: dict[int, int]


class Request(NamedTuple):
    """One whole hot request within a buffer."""

    target: Target
    request_id: str
    begin: int
    """Where its request line begins."""
    body: int
    """Where its body begins."""
    end: int
    """Where it ends."""


class Lane:
    """What the connections of one listener share.

    Args:
        endpoints: the hot routes.
        paths: the path templates of all routes, hot or not, by method.
        gate: who may ask.
        replies: builds responses; the lane follows its dates and field order.
        traffic: counts requests.
        settings: the bounds.
    """

    def __init__(
        self,
        endpoints: Iterable[HotEndpoint],
        paths: Iterable[tuple[str, str]],
        *,
        gate: Gate,
        replies: Replies,
        traffic: Traffic,
        settings: ServerSettings,
    ) -> None:
        self.heads = Heads(gate, settings.max_header_bytes, settings.max_headers)
        self.lines: dict[bytes, Target] = {}
        self.split_timeout = min(settings.split_timeout, settings.keepalive_timeout / 2)
        self._max_line = min(_LINE_MAX, settings.max_header_bytes)
        self._exact: dict[tuple[str, str], _Route] = {}
        self._below: dict[tuple[str, str], _Route] = {}
        self._replies = replies
        self._fresh_until = 0.0
        self._tail = ""
        known = list(paths)
        for endpoint in endpoints:
            statuses = traffic.hot_count(endpoint.path, endpoint.method).statuses
            nearer = tuple(
                _matcher(path)
                for method, path in known
                if method == endpoint.method and path != endpoint.path and path.startswith(endpoint.prefix)
            )
            routes = self._below if endpoint.parameter else self._exact
            routes[endpoint.method, endpoint.prefix] = _Route(endpoint, nearer, statuses)

    def target(self, line: bytes) -> Target | None:
        """Find where a request line leads; None where it leads to no hot route, or is anything but plain."""
        if len(line) > self._max_line:
            return None
        match = _HOT_LINE.fullmatch(line)
        if match is None:
            return None
        method, path, query = (part.decode("ascii") for part in match.groups(b""))
        route, rest = self._exact.get((method, path)), ""
        if route is None:
            prefix, slash, rest = path.rpartition("/")
            route = self._below.get((method, prefix + slash))
            if route is None or rest in {"", ".", ".."} or any(other.fullmatch(path) for other in route.nearer):
                return None
        endpoint = route.endpoint
        max_body = endpoint.operation.max_body if endpoint.reads else 0
        target = Target(endpoint.answer, rest, query, max_body, route.statuses)
        if len(self.lines) >= _LINES_MAX:
            self.lines.clear()
        self.lines[line] = target
        return target

    def whole(self, data: bytes) -> list[Request] | None:
        """Split *data* into hot requests; None unless it consists of whole ones alone."""
        requests: list[Request] = []
        begin = 0
        while begin < len(data):
            line_end = data.find(b"\r\n", begin)
            head_end = data.find(b"\r\n\r\n", begin)
            if head_end < 0:
                return None
            line = data[begin:line_end]
            target = self.lines.get(line) or self.target(line)
            if target is None:
                return None
            block = data[line_end:head_end]
            known = self.heads.exact.get(block)
            head, request_id = (known, "") if known else self.heads.read(block, remember=True)
            length = head.length
            end = head_end + 4 + length
            if not head.admitted or length > target.max_body or not (length == 0 or head.json) or end > len(data):
                return None
            requests.append(Request(target, request_id, begin, head_end + 4, end))
            begin = end
        return requests

    def owed(self, data: bytes) -> int:
        """Tell how many bytes of its body are missing after *data*, the beginning of one request; `UNKNOWN` where that is not certain."""
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0 or not _FRAMED_LINE.fullmatch(data, 0, line_end):
            return UNKNOWN
        block = data[line_end:head_end]
        head = self.heads.exact.get(block) or self.heads.read(block, remember=False)[0]
        if head.length == UNKNOWN:
            return UNKNOWN
        missing = head_end + 4 + head.length - len(data)
        return missing if missing >= 0 else UNKNOWN

    def render(self, answer: HotAnswer, request_id: str, now: float) -> bytes:
        """Write a response.

        Args:
            answer: what the operation gave.
            request_id: the client's request id; empty for none.
            now: the event loop's time.
        """
        status, headers, body, media = answer
        if now >= self._fresh_until:
            self._refresh(now)
        tail = f"{self._tail}{requestids.HEADER}: {request_id}\r\n\r\n" if request_id else f"{self._tail}\r\n"
        if status in BODILESS:
            return f"HTTP/1.1 {status} {REASONS[status]}\r\n{headers}{tail}".encode()
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{headers}{tail}"
        return head.encode() + body

    def _refresh(self, now: float) -> None:
        """Format the lines that stay the same for the rest of this second."""
        date, left = self._replies.dates.now_and_left()
        self._tail = f"Date: {date}\r\nServer: {SERVER}\r\n"
        self._fresh_until = now + left


class _Route(NamedTuple):
    """One hot route."""

    endpoint: HotEndpoint
    nearer: tuple[re.Pattern[str], ...]
    """Routes below the same prefix, which win over a parameter."""
    statuses: dict[int, int]


def _matcher(path: str) -> re.Pattern[str]:
    """Turn a path template into a pattern, as aiohttp's router does."""
    return re.compile("".join(part if index % 2 else re.escape(part) for index, part in enumerate(_split(path))))


def _split(path: str) -> list[str]:
    """Split a path template into literal text and patterns, in turn."""
    parts: list[str] = []
    for index, part in enumerate(re.split(r"\{[^{}]*\}", path)):
        if index:
            parts.append("[^{}/]+")
        parts.append(part)
    return parts
