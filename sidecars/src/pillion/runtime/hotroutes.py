"""The hot routes: where a request line leads, what a whole buffer holds, and how an answer is written. No I/O; `hotlane.py` has the connections.

What is taken is narrow on purpose: HTTP/1.1, an origin-form target of unreserved characters, no percent-encoding in the path, a length the head
states. Everything else is left to aiohttp, untouched.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from pillion.runtime import requestids
from pillion.runtime.clock import Clock
from pillion.runtime.endpoints import HotEndpoint
from pillion.runtime.gate import Gate
from pillion.runtime.heads import UNKNOWN, Heads
from pillion.runtime.operation import Again, HotAnswer, Operation
from pillion.runtime.plans import Later, Plan, Target, shortened
from pillion.runtime.problems import PROBLEM_MEDIA, Problem
from pillion.runtime.replies import BODILESS, REASONS, SERVER, UNNAMED, Replies
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.traffic import Traffic
from pillion.runtime.varying import Varying

_LINES_MAX: Final = 1024
"""Distinct request lines that are remembered."""

_LINE_MAX: Final = 1024
"""Bytes of a request line that the lane takes."""

_PLANS_MAX: Final = 2 << 20
"""Bytes of heads that are remembered with what to do about them: one for each client, route and length of body, some 300 bytes each."""

_PLAN_OVERHEAD: Final = 300
"""Bytes that remembering one head costs besides its own."""

_REPEATS_MAX: Final = 4096
"""Requests that are remembered with what answers them again; then all are forgotten. At most 4 MB, typically 3."""

_REPEAT_MAX: Final = 512
"""Bytes of such a request."""

_HOT_LINE = re.compile(
    rb"(GET|POST) (/[!$&'()*+,\-./0-9:;=@A-Z_a-z~]*)(?:\?([!$&'()*+,\-./0-9:;=@A-Z_a-z~?%]*))? HTTP/1\.1"
)
_FRAMED_LINE = re.compile(rb"(?:GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH) /[!-~]* HTTP/1\.1")


class Lane:
    """What the connections of one listener share.

    Args:
        endpoints: the hot routes.
        shortcuts: ordinary operations with a shortcut.
        paths: the path templates of all routes, hot or not, by method.
        gate: who may ask.
        replies: builds responses; the lane follows its dates and field order.
        traffic: counts requests.
        clock: measures durations.
        settings: the bounds.
    """

    def __init__(
        self,
        endpoints: Iterable[HotEndpoint],
        shortcuts: Iterable[Operation],
        paths: Iterable[tuple[str, str]],
        *,
        gate: Gate,
        replies: Replies,
        traffic: Traffic,
        clock: Clock,
        settings: ServerSettings,
    ) -> None:
        self.clock = clock
        self._traffic = traffic
        self.heads = Heads(gate, settings.max_header_bytes, settings.max_headers)
        self.plans: dict[bytes, Plan] = {}
        """By head: everything before the blank line. The connections look here before they call `plan`."""
        self._plans_size = 0
        self._varying = Varying()
        self.repeats: dict[bytes, tuple[Again, dict[int, int]]] = {}
        """By whole request: what answers it again, and the counts to increment. The connections look here first."""
        self._seen: set[int] = set()
        self._lines: dict[bytes, Target] = {}
        self.split_timeout = min(settings.split_timeout, settings.keepalive_timeout / 2)
        self._max_line = min(_LINE_MAX, settings.max_header_bytes)
        self._exact: dict[tuple[str, str], _Route] = {}
        self._below: dict[tuple[str, str], _Route] = {}
        self._replies = replies
        self.fresh_until = 0.0
        """Event loop's time until which `tail` holds."""
        self.tail = ""
        """The last lines of a head, with the blank line."""
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
        self._short: dict[str, Target] = {}
        for operation in shortcuts:
            statuses = traffic.hot_count(operation.path, operation.method).statuses
            self._short[operation.path] = shortened(operation, statuses)

    def forget(self) -> None:
        """Forget what depends on the token."""
        self.heads.forget()
        self.plans.clear()
        self.repeats.clear()
        self._plans_size = 0
        self._varying.forget()

    def repeat(self, data: bytes, plan: Plan) -> None:
        """Remember a request that was answered 200, if it comes for the second time."""
        if plan.again is None or len(data) > _REPEAT_MAX:
            return
        seen = self._seen
        mark = hash(data)
        if mark not in seen:
            if len(seen) >= _REPEATS_MAX:
                seen.clear()
            seen.add(mark)
            return
        again = plan.again(plan.rest, plan.query, data[plan.body :])
        if again is not None:
            if len(self.repeats) >= _REPEATS_MAX:
                self.repeats.clear()
            self.repeats[data] = (again, plan.statuses)

    def plan(self, head: bytes) -> Plan | None:
        """Decide what to do about a head that is not in `plans`; None where the ordinary lane must."""
        seen = self._varying.find(head)
        return seen or self._read(head)

    def _read(self, head: bytes) -> Plan | None:
        """Read a head in full."""
        line_end = head.find(b"\r\n")
        if line_end < 0:
            return None
        line = head[:line_end]
        target = self._lines.get(line) or self._target(line)
        if target is None:
            return None
        said = self.heads.read(head[line_end:])
        if not said.admitted or said.length > target.max_body or not (said.length == 0 or said.json):
            return None
        if target.later is not None and (said.length == 0 or not target.unless.isdisjoint(said.names)):
            return None
        body = len(head) + 4
        plan = Plan(
            target.answer,
            target.rest,
            target.query,
            body,
            body + said.length,
            target.statuses,
            said.request_id,
            None if said.varies else target.again,
            target.later,
        )
        if said.varies:
            self._varying.remember(head, plan)
        else:
            self._plans_size += len(head) + _PLAN_OVERHEAD
            if self._plans_size > _PLANS_MAX:
                self.plans.clear()
                self._plans_size = len(head) + _PLAN_OVERHEAD
            self.plans[head] = plan
        return plan

    def _target(self, line: bytes) -> Target | None:
        """Find where a request line leads; None where it leads to no hot route, or is anything but plain."""
        if len(line) > self._max_line:
            return None
        match = _HOT_LINE.fullmatch(line)
        if match is None:
            return None
        method, path, query = (part.decode("ascii") for part in match.groups(b""))
        if method == "POST" and path in self._short:
            return self._short[path] if match[3] is None else None
        route, rest = self._exact.get((method, path)), ""
        if route is None:
            prefix, slash, rest = path.rpartition("/")
            route = self._below.get((method, prefix + slash))
            if route is None or rest in {"", ".", ".."} or any(other.fullmatch(path) for other in route.nearer):
                return None
        endpoint = route.endpoint
        try:
            endpoint.check(rest, query)
        except Problem:
            return None
        max_body = endpoint.operation.max_body if endpoint.reads else 0
        operation = endpoint.operation
        target = Target(operation.answer, rest, query, max_body, route.statuses, operation.again)
        if len(self._lines) >= _LINES_MAX:
            self._lines.clear()
        self._lines[line] = target
        return target

    def whole(self, data: bytes) -> list[tuple[int, Plan]] | None:
        """Split *data* into hot requests, with the place where each begins; None unless it consists of whole ones alone."""
        requests: list[tuple[int, Plan]] = []
        begin = 0
        while begin < len(data):
            head_end = data.find(b"\r\n\r\n", begin)
            if head_end < 0:
                return None
            head = data[begin:head_end]
            plan = self.plans.get(head) or self.plan(head)
            if plan is None or begin + plan.end > len(data):
                return None
            requests.append((begin, plan))
            begin += plan.end
        return requests

    def owed(self, data: bytes) -> int:
        """Tell how many bytes of its body are missing after *data*, the beginning of one request; `UNKNOWN` where that is not certain."""
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0 or not _FRAMED_LINE.fullmatch(data, 0, line_end):
            return UNKNOWN
        head = self.heads.read(data[line_end:head_end])
        if head.length == UNKNOWN:
            return UNKNOWN
        missing = head_end + 4 + head.length - len(data)
        return missing if missing >= 0 else UNKNOWN

    def render(self, answer: HotAnswer, request_id: str) -> bytes:
        """Write a response; `tail` must be fresh."""
        status, headers, body, media = answer
        tail = f"{self.tail[:-2]}{requestids.HEADER}: {request_id}\r\n\r\n" if request_id else self.tail
        line = f"HTTP/1.1 {status} {REASONS.get(status, UNNAMED)}\r\n"
        if status in BODILESS:
            return f"{line}{headers}{tail}".encode()
        return f"{line}Content-Type: {media}\r\nContent-Length: {len(body)}\r\n{headers}{tail}".encode() + body

    def render_late(self, answer: HotAnswer | Problem, request_id: str) -> bytes:
        """Write a response that comes later: as the ordinary lane does, so with an id, and with the end of the connection while the server drains."""
        if isinstance(answer, Problem):
            headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            document = answer.document(requestids.instance(request_id))
            answer = HotAnswer(answer.status, headers, document, PROBLEM_MEDIA)
        if self.closing:
            request_id += "\r\nConnection: close"
        return self.render(answer, request_id)

    @property
    def closing(self) -> bool:
        """Whether an answer that comes later closes its connection."""
        return self._replies.closing

    def took(self, plan: Plan, later: Later, status: int, begun_ns: int) -> None:
        """Count a request whose answer came later."""
        plan.statuses[status] = plan.statuses.get(status, 0) + 1
        self._traffic.took(later.route, (self.clock.monotonic_ns() - begun_ns) / 1e9)

    def refresh(self, now: float) -> None:
        """Format the lines that stay the same for the rest of this second."""
        date, left = self._replies.dates.now_and_left()
        self.tail = f"Date: {date}\r\nServer: {SERVER}\r\n\r\n"
        self.fresh_until = now + left


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
