"""The one thread of a pipeline: everything that reads, computes or flushes happens there, one step after the other.

Promises: steps never overlap; what a cancelled task has begun is over before `close` runs its last step. Deliberately absent: a bound on how long
a step takes, because a disk that hangs cannot be interrupted; it holds up this pipeline and no other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple, Unpack

CLOSE: Final = 5.0
"""Seconds that `close` waits for a disk."""

T = TypeVar("T")
A = TypeVarTuple("A")


class Steps:
    """The thread.

    Args:
        name: what a dump of threads calls it.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[[Unpack[A]], T], *arguments: *A) -> T:
        """Run *function* in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def close(self, last: Callable[[], None]) -> None:
        """Run *last* behind the step that is under way, and let go of the thread."""
        await asyncio.wait({asyncio.wrap_future(self._thread.submit(last))}, timeout=CLOSE)
        self._thread.shutdown(wait=False)
