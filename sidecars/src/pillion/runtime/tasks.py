"""Background tasks with a name and an owner: whoever spawns one is told when it dies, and waits for it at the end.

A task that ends by an exception is a bug: it is logged with its name, reported as a failed condition, and started again after a pause, so that
one bad moment does not silence a block for good.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from pillion.runtime.conditions import Conditions

RESTART_PAUSE: Final = 1.0
"""Seconds before a crashed loop runs again: long enough not to spin, short enough not to be missed."""


class Tasks:
    """The tasks of one owner."""

    def __init__(self, owner: str, conditions: Conditions) -> None:
        self._owner = owner
        self._conditions = conditions
        self._running: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger(owner)

    def spawn(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run *loop* until it returns or is cancelled; run it again when it crashes."""
        task = asyncio.create_task(self._supervise(name, loop), name=f"{self._owner}: {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _supervise(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        condition = f"{self._owner}:{name}"
        while True:
            try:
                await loop()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a supervisor catches whatever its task raises
                self._log.exception("background task crashed", task=name)
                self._conditions.set(condition, "fail", f"{name} crashed ({type(error).__name__}) and is started again")
                await asyncio.sleep(RESTART_PAUSE)
                self._conditions.clear(condition)
            else:
                return

    async def stop(self) -> None:
        """Cancel every task and wait for its end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
