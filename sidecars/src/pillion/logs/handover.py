"""Gets one batch to one sink, however long it takes: tried again, halved, or set aside, as the sink's answers demand.

Promises: `deliver` comes back true only when every record of the batch is confirmed by the sink or on disk in the quarantine; while the sink keeps
it waiting the files are still looked at, so that generations that are rotated away meanwhile stay open and readable. Deliberately absent: a limit
of attempts, because the records are as good later as now; only a drain ends it early.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from pillion.logs.quarantine import Quarantine, QuarantineFull
from pillion.logs.reporting import Report
from pillion.logs.sinks import Later, Never, Outcome, Sink, Taken, TooLarge
from pillion.logs.steps import Steps
from pillion.runtime.clock import Clock

WATCH: Final = 1.0
"""Seconds between two looks at the files while a sink keeps the pipeline waiting."""

BACKOFF_FIRST: Final = 0.2
BACKOFF_MAX: Final = 30.0


class HandOver:
    """The way to one sink.

    Args:
        name: of the sink.
        sink: what takes batches.
        quarantine: what takes those that the sink refuses for good.
        report: hears of everything.
        clock: the time.
    """

    def __init__(self, name: str, sink: Sink, quarantine: Quarantine, report: Report, clock: Clock) -> None:
        self.draining = asyncio.Event()
        """Set to give up at the next refusal."""
        self._name = name
        self._sink = sink
        self._quarantine = quarantine
        self._report = report
        self._clock = clock

    async def deliver(self, body: bytes, records: int, steps: Steps, look: Callable[[], None]) -> bool:
        """Hand over *body*, one record a line; false when a drain ends without that.

        Args:
            body: the batch.
            records: how many there are in it.
            steps: the pipeline's thread.
            look: looks at the files; run there from time to time.
        """
        encoded = await steps.run(self._sink.encode, body)
        failures, since = 0, self._clock.monotonic_ns()
        while True:
            match await self._send(encoded, steps, look):
                case Taken():
                    self._report.taken(records, len(body), len(encoded))
                    return True
                case TooLarge() if records > 1:
                    first, second = halves(body)
                    before = first.count(b"\n")
                    return await self.deliver(first, before, steps, look) and await self.deliver(
                        second, records - before, steps, look
                    )
                case TooLarge(reason=reason) | Never(reason=reason):
                    if await self._set_aside(body, records, reason, steps):
                        return True
                    pause = BACKOFF_MAX
                case Later(reason=reason, after=after):
                    failures += 1
                    most = min(BACKOFF_FIRST * 2 ** min(failures, 10), BACKOFF_MAX)
                    # Half of it by chance, so that the pods of an application do not come back to a sink all at once.
                    pause = max(most * (0.5 + random.random() / 2), after)  # noqa: S311 - spreads load, guards nothing
                    self._report.not_taken(reason, failures, since)
            if self.draining.is_set():
                return False
            self._report.figures.retries += 1
            await self._sit_out(pause, steps, look)
            if self.draining.is_set():
                return False

    async def nap(self, seconds: float) -> None:
        """Wait, but not beyond the drain."""
        try:
            async with asyncio.timeout(seconds):
                await self.draining.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Let go of the sink."""
        await self._sink.close()

    async def _send(self, encoded: bytes, steps: Steps, look: Callable[[], None]) -> Outcome:
        """Send, and look at the files meanwhile."""
        sending = asyncio.create_task(self._sink.send(encoded), name=f"logs: send to {self._name}")
        try:
            while not (await asyncio.wait({sending}, timeout=WATCH))[0]:
                await steps.run(look)
            return sending.result()
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _sit_out(self, seconds: float, steps: Steps, look: Callable[[], None]) -> None:
        """Wait before the next attempt, and look at the files meanwhile."""
        until = self._clock.monotonic_ns() + int(seconds * 1e9)
        while not self.draining.is_set() and (left := (until - self._clock.monotonic_ns()) / 1e9) > 0:
            await self.nap(min(left, WATCH))
            await steps.run(look)

    async def _set_aside(self, body: bytes, records: int, reason: str, steps: Steps) -> bool:
        """Keep what a sink refused for good; false when there is no room, and the batch must wait."""
        try:
            await steps.run(self._quarantine.add, body)
        except (QuarantineFull, OSError) as error:
            why = "it is full" if isinstance(error, QuarantineFull) else str(error.strerror)
            self._report.no_quarantine(reason, self._quarantine.path, why)
            return False
        self._report.quarantined(records, reason, self._quarantine.path)
        return True


def halves(body: bytes) -> tuple[bytes, bytes]:
    """Cut a batch of at least two lines at the line end that is nearest behind its middle, or before it where none is left behind."""
    half = body.index(b"\n", len(body) // 2 - 1) + 1
    half = half if half < len(body) else body.rindex(b"\n", 0, len(body) - 1) + 1
    return body[:half], body[half:]
