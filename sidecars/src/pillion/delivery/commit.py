"""Waiting for the writer from the event loop."""

import asyncio
from collections.abc import Callable
from typing import Final

from pillion.delivery.failures import StoreUnavailable
from pillion.delivery.writer import Unit

COMMIT_TIMEOUT: Final = 30.0
"""Seconds to wait for the disk: beyond that it hangs, and a caller is better told."""


async def commit(submit: Callable[[Unit], None], unit: Unit, over: Callable[[], None]) -> None:
    """Submit *unit*, call *over* when it is done (well or not, even if nobody waits any more), return after the commit.

    Raises:
        DeliveryError: it could not be committed; see `Unit.error`.
        StoreUnavailable: the disk did not answer. The unit may be committed later nevertheless.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done() -> None:
        over()
        if not future.done():
            future.set_result(None)

    unit.done = done
    submit(unit)
    try:
        async with asyncio.timeout(COMMIT_TIMEOUT):
            await future
    except TimeoutError:
        raise StoreUnavailable(f"the disk did not confirm within {COMMIT_TIMEOUT:.0f} s") from None
    if unit.error is not None:
        raise unit.error
