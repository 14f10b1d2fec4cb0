"""Waiting for the writer from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from pillion.delivery.failures import StoreUnavailable
from pillion.delivery.writer import Unit

COMMIT_TIMEOUT: Final = 30.0
"""Seconds to wait for the disk: beyond that it hangs, and a caller is better told."""


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
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    async def commit(self, unit: Unit, over: Callable[[], None]) -> None:
        """Submit *unit*, call *over* when it is done (well or not, even if nobody waits any more), return after the commit.

        Raises:
            DeliveryError: it could not be committed; see `Unit.error`.
            StoreUnavailable: the disk did not answer. The unit may be committed later nevertheless.
        """
        future: asyncio.Future[None] = self._loop.create_future()

        def done() -> None:
            over()
            if not future.done():
                future.set_result(None)

        unit.done = done
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._loop.time() + COMMIT_TIMEOUT, future))
        self._submit(unit)
        await future
        if unit.error is not None:
            raise unit.error

    def expire(self) -> None:
        """Give up waiting for units that are too old; called every second."""
        now = self._loop.time()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now):
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(StoreUnavailable(f"the disk did not confirm within {COMMIT_TIMEOUT:.0f} s"))
