"""Waiting for the writer from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from pillion.delivery.failures import DeliveryError, StoreUnavailable
from pillion.delivery.writer import Unit

COMMIT_TIMEOUT: Final = 30.0
"""Seconds to wait for the disk: beyond that it hangs, and a caller is better told."""


class _Wait:
    """Somebody who waits for a unit.

    Args:
        deadline: until when, in the event loop's time.
        told: called once, with the error if there is one.
    """

    __slots__ = ("deadline", "over", "told")

    def __init__(self, deadline: float, told: Callable[[DeliveryError | None], None]) -> None:
        self.deadline = deadline
        self.told = told
        self.over = False

    def tell(self, error: DeliveryError | None) -> None:
        """Tell the outcome, unless another one has been told. What goes wrong there must not reach the others of the same commit."""
        if not self.over:
            self.over = True
            try:
                self.told(error)
            except Exception as failure:  # noqa: BLE001 - see above
                structlog.get_logger("delivery").error("a caller failed to take an outcome", exc_info=failure)


class Commits:
    """Units that somebody waits for.

    One look per second replaces a timer per unit: units are committed in the order in which they were submitted, so the oldest tells enough,
    and thousands of timers a second would cost more than all the rest of a commit.

    Args:
        submit: hands a unit to the writer.
    """

    def __init__(self, submit: Callable[[Unit], None]) -> None:
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Wait] = deque()

    def begin(self, unit: Unit, over: Callable[[], None], told: Callable[[DeliveryError | None], None]) -> None:
        """Submit *unit*; call *over* when it is done (well or not, even if nobody waits any more), then *told*.

        *told* gets what `commit` raises, or None; it is called once, and not before this has returned.
        """
        wait = _Wait(self._loop.time() + COMMIT_TIMEOUT, told)

        def done() -> None:
            over()
            wait.tell(unit.error)

        unit.done = done
        waiting = self._waiting
        while waiting and waiting[0].over:
            waiting.popleft()
        waiting.append(wait)
        self._submit(unit)

    async def commit(self, unit: Unit, over: Callable[[], None]) -> None:
        """Do as `begin` does, and return after the commit.

        Raises:
            DeliveryError: it could not be committed; see `Unit.error`.
            StoreUnavailable: the disk did not answer. The unit may be committed later nevertheless.
        """
        future: asyncio.Future[None] = self._loop.create_future()

        def told(error: DeliveryError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.begin(unit, over, told)
        await future

    def expire(self) -> None:
        """Give up waiting for units that are too old; called every second."""
        now = self._loop.time()
        while self._waiting and (self._waiting[0].over or self._waiting[0].deadline <= now):
            self._waiting.popleft().tell(StoreUnavailable(f"the disk did not confirm within {COMMIT_TIMEOUT:.0f} s"))
