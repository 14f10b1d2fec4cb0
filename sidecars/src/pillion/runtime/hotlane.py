"""The hot lane: answers whole small requests for hot routes straight from the receive buffer, on the same port as everything else.

`LaneProtocol` is aiohttp's own protocol with a look at each freshly received buffer. When it is one whole request for a hot route (or several in a
row) on an idle connection, it is answered at once, with one write, or begun at once if its answer must wait; else aiohttp gets the bytes untouched. What the lane takes and what it leaves is
decided so that a client cannot tell the lanes apart; `tests/integration/runtime/test_hotlane_differential.py` compares them byte by byte.

The lane needs to know that aiohttp's parser stands between two messages. It keeps count of the body bytes that aiohttp is still owed; once it cannot
tell any more (chunked bodies, a head in pieces, odd bytes), it leaves the connection to aiohttp for good. Nothing here parses what it does not understand.

It relies on these internals of `aiohttp.web_protocol.RequestHandler` (3.14): `_waiter` (pending exactly while the connection is idle),
`_next_keepalive_close_time`, `_process_keepalive`, `_paused`, `_reading_paused`, `_buffer_paused`, `_pause_transport_reading`,
`_resume_transport_reading`, `_messages`, `_request_count` and `handle_error`. A test fails when one of them goes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from pillion.runtime import requestids
from pillion.runtime.deferring import DeferringProtocol
from pillion.runtime.exchange import internal
from pillion.runtime.heads import UNKNOWN
from pillion.runtime.hotroutes import Lane
from pillion.runtime.problems import Problem, malformed
from pillion.runtime.replies import Replies
from pillion.runtime.traffic import Traffic

_BLANK_LINE: Final = b"\r\n\r\n"

_DRAIN_POLL: Final = 0.02
"""Seconds between two looks at connections that were busy when the drain began."""

_CUT_OFF: Final = 0.05
"""Seconds that a cancelled handler has to end; aiohttp takes 0 for no limit."""

_log = structlog.get_logger("server")


class LaneProtocol(DeferringProtocol):
    """One connection.

    Args:
        manager: the connections of its listener.
        loop: the event loop.
        options: of aiohttp's protocol.
    """

    __slots__ = ("_held", "_held_until", "_lane", "_need", "_owed", "_release_handle")

    def __init__(self, manager: "LaneServer", *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._lane = manager.lane
        self._owed = 0 if manager.lane else UNKNOWN
        # A request whose body has not come yet: its bytes so far, and how many it will have. `_need` is 0 while nothing is held.
        self._held = bytearray()
        self._need = 0
        self._held_until = 0.0
        self._release_handle: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Answer from *data*, hold it, or hand it to aiohttp."""
        waiter = self._waiter
        lane = self._lane
        if self._owed or self._need or self._due or waiter is None or waiter.done() or lane is None:
            self._go_on(data)
            return
        repeat = lane.repeats.get(data)
        if repeat is not None:
            now = self._loop.time()
            if now >= lane.fresh_until:
                lane.refresh(now)
            text = repeat[0](lane.tail)
            if text is not None:
                self._next_keepalive_close_time = now + self._keepalive_timeout
                repeat[1][200] += 1
                assert self.transport is not None  # noqa: S101 - an idle connection is open
                self.transport.write(text.encode())
                return
        head_end = data.find(_BLANK_LINE)
        head = data[:head_end] if head_end > 0 else b""
        plan = lane.plans.get(head) or lane.plan(head)
        if plan is None:
            self._hand_on(data)
            return
        answer, rest, query, body, end, statuses, request_id, again, later = plan
        if len(data) != end:
            if len(data) < end:
                self._hold(data, end)
            else:
                self._several(lane, data)
            return
        try:
            if later is not None:
                self._defer(lane, plan, later, data[body:])
                return
            answered = answer(rest, query, data[body:])
        except Exception:  # noqa: BLE001 - a problem or a fault: the ordinary lane asks again and says which
            RequestHandler.data_received(self, data)
            return
        now = self._loop.time()
        self._next_keepalive_close_time = now + self._keepalive_timeout
        if now >= lane.fresh_until:
            lane.refresh(now)
        status, headers, content, media = answered
        statuses[status] = statuses.get(status, 0) + 1
        assert self.transport is not None  # noqa: S101 - an idle connection is open
        if status == 200 and not request_id:  # what `render` writes, without the call
            written = (
                f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {len(content)}\r\n{headers}{lane.tail}"
            )
            self.transport.write(written.encode() + content)
            if again is not None:
                lane.repeat(data, plan)
        else:
            self.transport.write(lane.render(answered, request_id))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what is held."""
        self._held.clear()
        self._need = 0
        if self._release_handle is not None:
            self._release_handle.cancel()
            self._release_handle = None
        super().connection_lost(exc)

    def wind_up(self) -> None:
        """Close if idle; let a request in flight finish (its response says `Connection: close`)."""
        self._release()
        waiter = self._waiter
        if not self._due and not self._messages and (self._request_count == 0 if waiter is None else not waiter.done()):
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Give the problem of a request that aiohttp could not parse, or of a fault outside every handler."""
        manager = self._manager
        if request.writer.output_size > 0 or not isinstance(manager, LaneServer):
            raise ConnectionError("An answer has begun already; the connection is broken")
        request_id = requestids.generate()
        if status == 400:
            problem = _unparsable(exc, message or "", self.max_field_size)
            _log.debug("request refused", request_id=request_id, reason=problem.detail)
        else:
            problem = internal()
            _log.error("request failed outside its handler", request_id=request_id, exc_info=exc)
        manager.traffic.refused(problem.status)
        response = manager.replies.problem(problem, request_id)
        response.force_close()
        return response

    def _go_on(self, data: bytes) -> None:
        """Take *data* while the connection is not idle at a boundary between two messages."""
        if self._due and data:
            self._put_off(data)
        elif self._need and data:
            if len(self._held) + len(data) < self._need:
                self._held += data
                return
            whole = bytes(self._held + data)
            if len(whole) > self._need and (self._lane is None or self._lane.whole(whole) is None):
                # More than the request, and not all of it hot: aiohttp must get the pieces as they came, because it drops good requests before bad ones
                # that come in one piece.
                self._release()
                self.data_received(data)
                return
            self._held.clear()
            self._need = 0
            self.data_received(whole)
        elif self._owed == 0 and data and self._lane is not None:
            self._hand_on(data)
        else:
            if self._owed > 0:
                left = self._owed - len(data)
                self._owed = left if left >= 0 else UNKNOWN
            super().data_received(data)

    def _hand_on(self, data: bytes) -> None:
        """Give aiohttp *data*, which begins at a boundary between two messages."""
        if data:  # without data, aiohttp asks its own parser to go on
            assert self._lane is not None  # noqa: S101 - nothing is handed on without a lane
            self._owed = self._lane.owed(data)
        super().data_received(data)

    def _hold(self, data: bytes, end: int) -> None:
        """Wait for the rest of a hot request."""
        assert self._lane is not None  # noqa: S101 - nothing is held without a lane
        now = self._loop.time()
        self._held += data
        self._need = end
        self._held_until = now + self._lane.split_timeout
        self._next_keepalive_close_time = now + self._keepalive_timeout
        if self._release_handle is None:
            self._release_handle = self._loop.call_at(self._held_until, self._release_late)

    def _release_late(self) -> None:
        """Hand on what is held, once its time is over. One timer serves all requests of a while, since setting one costs as much as an answer."""
        self._release_handle = None
        if not self._need:
            return
        if self._loop.time() < self._held_until:
            self._release_handle = self._loop.call_at(self._held_until, self._release_late)
        else:
            self._release()

    def _release(self) -> None:
        """Hand on what is held."""
        if self._need:
            held = bytes(self._held)
            self._owed = self._need - len(held)
            self._held.clear()
            self._need = 0
            super().data_received(held)

    def _several(self, lane: Lane, data: bytes) -> None:
        """Answer pipelined requests if all are hot and whole; else hand all of them on, because aiohttp drops good requests before a bad one."""
        requests = lane.whole(data)
        if requests is None:
            self._hand_on(data)
            return
        transport = self.transport
        assert transport is not None  # noqa: S101 - an idle connection is open
        now = self._loop.time()
        self._next_keepalive_close_time = now + self._keepalive_timeout
        if now >= lane.fresh_until:
            lane.refresh(now)
        answers: list[bytes] = []
        done = 0
        for begin, plan in requests:
            try:
                answer = plan.answer(plan.rest, plan.query, data[begin + plan.body : begin + plan.end])
            except Exception:  # noqa: BLE001 - see data_received
                done = begin
                break
            plan.statuses[answer.status] = plan.statuses.get(answer.status, 0) + 1
            answers.append(lane.render(answer, plan.request_id))
            done = begin + plan.end
        if answers:
            transport.write(b"".join(answers))
        if done < len(data):
            RequestHandler.data_received(self, data[done:])


class LaneServer(web.Server):
    """The connections of one listener.

    Args:
        handler: the ordinary lane.
        lane: the hot lane; None for a listener without one.
        replies: builds responses.
        traffic: counts requests.
        options: of aiohttp's server and protocol.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        lane: Lane | None,
        replies: Replies,
        traffic: Traffic,
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.lane = lane
        self.replies = replies
        self.traffic = traffic

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return LaneProtocol(self, loop=self._loop, **self._kwargs)

    async def drain(self, grace: float) -> None:
        """Close idle connections, let requests in flight finish, and cut off what is left after *grace* seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while True:
            for connection in self.connections:
                assert isinstance(connection, LaneProtocol)  # noqa: S101 - `__call__` makes no other
                connection.wind_up()
            await asyncio.sleep(0)
            if not self.connections or loop.time() >= end:
                break
            await asyncio.sleep(_DRAIN_POLL)
        await self.shutdown(_CUT_OFF)


def _unparsable(exc: BaseException | None, message: str, limit: int) -> Problem:
    """Give the problem of bytes that are no acceptable HTTP/1.1 request."""
    if isinstance(exc, LineTooLong):
        return Problem(
            431,
            "header-too-large",
            "Request header fields too large",
            f"The request line or a header field is longer than {limit} bytes; send less.",
        )
    reason = message.strip().partition("\n")[0].rstrip(":")[:200]
    return malformed(f"The request is no valid HTTP/1.1: {reason or 'it cannot be parsed'}.")
