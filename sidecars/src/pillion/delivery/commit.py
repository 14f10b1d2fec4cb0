"""Waiting for the writer from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from pillion.delivery.failures import DeliveryError, StoreUnavailable
from pillion.delivery.units import Unit

COMMIT_TIMEOUT: Final = 30.0
"""Seconds to wait for the disk: beyond that it hangs, and a caller is better told."""


class Wait:
    """Somebody who waits for a unit; a subclass says what follows. One object for each of thousands of units a second, hence no functions made for it.

    Args:
        unit: what is to be committed.
    """

    __slots__ = ("deadline", "over", "unit")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.deadline = 0.0
        self.over = False

    def taken(self) -> None:
        """Take note that the unit is done, well or not, even if nobody waits any more."""
        raise NotImplementedError

    def told(self, error: DeliveryError | None) -> None:
        """Take the outcome. Called once: after `taken`, or when it was waited for too long."""
        raise NotImplementedError

    def done(self) -> None:
        """Take note of the unit, and tell what became of it."""
        self.taken()
        self.tell(self.unit.error)

    def tell(self, error: DeliveryError | None) -> None:
        """Tell the outcome, unless another one has been told. What goes wrong there must not reach the others of the same commit."""
        if not self.over:
            self.over = True
            try:
                self.told(error)
            except Exception as failure:  # noqa: BLE001 - see above
                structlog.get_logger("delivery").error("a caller failed to take an outcome", exc_info=failure)


class _Future(Wait):
    """A coroutine that waits for a unit.

    Args:
        unit: what is to be committed.
        over: what follows.
        future: what it awaits.
    """

    __slots__ = ("_future", "_over")

    def __init__(self, unit: Unit, over: Callable[[], None], future: asyncio.Future[None]) -> None:
        super().__init__(unit)
        self._over = over
        self._future = future

    def taken(self) -> None:
        self._over()

    def told(self, error: DeliveryError | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)


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
        self._waiting: deque[Wait] = deque()

    def begin(self, wait: Wait) -> None:
        """Submit the unit of *wait*, which is told later, never before this has returned."""
        wait.unit.done = wait.done
        wait.deadline = self._loop.time() + COMMIT_TIMEOUT
        waiting = self._waiting
        while waiting and waiting[0].over:
            waiting.popleft()
        waiting.append(wait)
        self._submit(wait.unit)

    async def commit(self, unit: Unit, over: Callable[[], None]) -> None:
        """Submit *unit*, call *over* when it is done (well or not, even if nobody waits any more), return after the commit.

        Raises:
            DeliveryError: it could not be committed; see `Unit.error`.
            StoreUnavailable: the disk did not answer. The unit may be committed later nevertheless.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self.begin(_Future(unit, over, future))
        await future

    def expire(self) -> None:
        """Give up waiting for units that are too old; called every second."""
        now = self._loop.time()
        while self._waiting and (self._waiting[0].over or self._waiting[0].deadline <= now):
            self._waiting.popleft().tell(StoreUnavailable(f"the disk did not confirm within {COMMIT_TIMEOUT:.0f} s"))
