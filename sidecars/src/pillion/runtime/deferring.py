"""A connection that may owe an answer: the request was taken from the receive buffer, what answers it waits for something, such as the disk.

Until the answer is written the connection is busy: what arrives meanwhile waits, piece by piece, in order, and nothing more is read. Then the pieces are
received as if they came only now. So answers keep the order of their requests, and no request is begun before the one before it is answered, as on the
ordinary lane. A client that goes away takes nothing back: what was begun is finished, and counted.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp.web_protocol import RequestHandler

from pillion.runtime import requestids, telemetry
from pillion.runtime.hotroutes import Lane
from pillion.runtime.operation import HotAnswer
from pillion.runtime.plans import Later, Plan
from pillion.runtime.problems import Problem

if TYPE_CHECKING:
    from pillion.runtime.hotlane import LaneServer


class DeferringProtocol(RequestHandler):
    """One connection.

    Args:
        manager: the connections of its listener.
        loop: the event loop.
        options: of aiohttp's protocol.
    """

    __slots__ = ("_due", "_later")

    def __init__(self, manager: "LaneServer", *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._due = False
        self._later: deque[bytes] = deque()

    def _defer(self, lane: Lane, plan: Plan, later: Later, body: bytes) -> None:
        """Begin a request whose answer comes later.

        Raises:
            Exception: nothing was begun; the ordinary lane must see to it.
        """
        if telemetry.recording():
            raise LookupError("the ordinary lane records spans")
        begun = lane.clock.monotonic_ns()

        def told(answer: HotAnswer | Problem) -> None:
            lane.took(plan, later, answer.status, begun)
            self._answer_late(lane, answer, plan.request_id)

        later.submit(body, told)
        self._due = True

    def _put_off(self, data: bytes) -> None:
        """Keep what arrives while an answer is due. No more is read meanwhile, which bounds it."""
        self._later.append(data)
        self._pause_transport_reading()

    def _answer_late(self, lane: Lane, answer: HotAnswer | Problem, request_id: str) -> None:
        """Write the answer that is due, and go on with what has arrived meanwhile."""
        self._due = False
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        now = self._loop.time()
        self._next_keepalive_close_time = now + self._keepalive_timeout
        if now >= lane.fresh_until:
            lane.refresh(now)
        transport.write(lane.render_late(answer, request_id or requestids.generate()))
        if lane.closing:
            self.force_close()
        elif self._later:
            while self._later and not self._due:
                self.data_received(self._later.popleft())
            if not self._reading_paused and not self._buffer_paused:
                self._resume_transport_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what waits."""
        self._later.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its answers."""
        super().pause_writing()
        self._pause_transport_reading()

    def resume_writing(self) -> None:
        """Read again, unless aiohttp has a reason of its own not to."""
        super().resume_writing()
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Read again only when answers can be written and nothing waits for its turn, whoever asks."""
        if not self._paused and not self._later:
            super()._resume_transport_reading()

    def _process_keepalive(self) -> None:
        """Close the connection if it is idle; one that is owed an answer is not, although aiohttp has no request of it."""
        if self._due:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()
