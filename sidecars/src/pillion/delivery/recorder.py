"""Making the results of attempts durable: they gather for some milliseconds, are written together, and are kept until that worked."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from pillion.delivery.destinations import Destinations
from pillion.delivery.retry import Verdict
from pillion.delivery.scheduler import Entry, Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.store import FAILED, DeliveryRow, Row
from pillion.delivery.units import RecordUnit, Unit

GATHER: Final = 0.005
"""Seconds that results gather before they are written: a crash meanwhile repeats at most what ended in them."""

UNRECORDED: Final = 1_024
"""Results that may wait to be written before no further attempt starts."""

RECORD_AGAIN: Final = 1.0
"""Seconds until what could not be written is tried again."""


class Result(NamedTuple):
    """What one attempt changes."""

    entry: Entry
    verdict: Verdict
    row: DeliveryRow
    attempt: Row


class Recorder:
    """Writes results.

    Args:
        scheduler: told when a delivery is settled.
        destinations: whose figures count.
        steady: the time of due times.
        submit: hands a unit to the writer.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        destinations: Destinations,
        steady: SteadyClock,
        submit: Callable[[Unit], None],
    ) -> None:
        self._scheduler = scheduler
        self._destinations = destinations
        self._steady = steady
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Result] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped = False
        self.unrecorded = 0
        """Results that are not on disk yet."""
        self.unlogged = 0
        """Attempts whose log entry was given up for lack of room."""

    @property
    def full(self) -> bool:
        """Whether so much waits to be written that no further attempt may start."""
        return self.unrecorded >= UNRECORDED

    def add(self, result: Result) -> None:
        """Take a result; it is written soon."""
        self._gathered.append(result)
        self.unrecorded += 1
        if self._alarm is None:
            self._alarm = self._loop.call_later(GATHER, self.flush)

    def flush(self) -> None:
        """Hand what gathered to the writer now."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._gathered:
            results, self._gathered = self._gathered, []
            self._record(results)

    def stop(self) -> None:
        """Hand over what gathered, and give up on what cannot be written: the next process attempts it again."""
        self._stopped = True
        self.flush()

    def _record(self, results: list[Result]) -> None:
        unit = RecordUnit([result.row for result in results], [result.attempt for result in results])

        def done() -> None:
            if unit.error is None:
                self._recorded(results, unlogged=unit.unlogged)
            elif not self._stopped:
                # Nothing is forgotten: the results are kept, and no attempt starts beyond the bound until they are written.
                self._loop.call_later(RECORD_AGAIN, self._record, results)

        unit.done = done
        self._submit(unit)

    def _recorded(self, results: list[Result], *, unlogged: bool) -> None:
        now = self._steady.now_ns()
        self.unrecorded -= len(results)
        self.unlogged += len(results) if unlogged else 0
        for entry, verdict, row, _ in results:
            destination = self._destinations[entry.lane]
            if verdict.state == "pending":
                destination.retries += 1
                self._scheduler.settled(entry, row.due, now)
                continue
            destination.backlog -= 1
            if row.state == FAILED:
                destination.failed += 1
            else:
                destination.succeeded += 1
            self._scheduler.settled(entry, None, now)
