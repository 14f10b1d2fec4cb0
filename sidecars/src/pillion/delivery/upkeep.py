"""What the machine does now and then: forget what is out of retention, give up what waited too long, refresh slow figures."""

import asyncio
from typing import Final

import structlog

from pillion.delivery.commit import Commits
from pillion.delivery.destinations import Destination, Destinations
from pillion.delivery.dispatcher import Dispatcher
from pillion.delivery.failures import DeliveryError
from pillion.delivery.model import DAY, Policy
from pillion.delivery.reader import Reader, oldest_pending
from pillion.delivery.scheduler import Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.store import Store
from pillion.delivery.units import TaskUnit

WATCH: Final = 1.0
"""Seconds between looks at attempts that overran their deadline."""

ROUND: Final = 10
"""Looks between two rounds of the rest."""

BATCH: Final = 500
"""Deliveries that one transaction forgets or cancels: about 5 ms, so that nobody waits behind it for long."""

PATIENCE: Final = 7 * DAY
"""How long deliveries of a destination that is gone, disabled or held wait before they are cancelled."""


class Upkeep:
    """The slow work of one machine."""

    def __init__(
        self,
        *,
        name: str,
        destinations: Destinations,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        reader: Reader,
        steady: SteadyClock,
        commits: Commits,
    ) -> None:
        self._destinations = destinations
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._reader = reader
        self._steady = steady
        self._commits = commits
        self._log = structlog.get_logger(name)

    async def run(self) -> None:
        """Do it for ever."""
        count = 0
        while True:
            await asyncio.sleep(WATCH)
            self._dispatcher.watch()
            self._commits.expire()
            # The alarm runs on the monotonic clock; what a wall clock that was set forward has made due is found here.
            self._dispatcher.pump()
            count += 1
            if count % ROUND == 0:
                try:
                    await self.round()
                except DeliveryError as error:
                    # The disk is full or hangs: a condition says so already, and the next round tries again.
                    self._log.warning("upkeep of the delivery store failed", problem=str(error))

    async def round(self) -> None:
        """Do all of it once."""
        await self._forget()
        for destination in list(self._destinations):
            if destination.held and destination.backlog:
                await self._give_up(destination)
        self.save_successes()
        await self._refresh()

    async def _forget(self) -> None:
        count = BATCH
        while count >= BATCH:
            now = self._steady.now_ns()

            def work(store: Store, now: int = now) -> int:
                return store.forget(now, BATCH)

            unit = TaskUnit(work)
            await self._commits.commit(unit, _nothing)
            count = unit.result

    async def _give_up(self, destination: Destination) -> None:
        reason = f"waited 7 days for its destination: {destination.why_held}"
        count, total = BATCH, 0
        while count >= BATCH:
            now = self._steady.now_ns()
            forget = now + (destination.policy or Policy()).retain_failed_ns
            known = frozenset(self._scheduler.lane(destination.id).known)

            def work(store: Store, now: int = now, forget: int = forget, known: frozenset[int] = known) -> int:
                return store.cancel_overdue(
                    destination.id,
                    before_ns=now - PATIENCE,
                    known=known,
                    reason=reason,
                    settled_ns=now,
                    forget_ns=forget,
                    limit=BATCH,
                )

            unit = TaskUnit(work)
            await self._commits.commit(unit, _nothing)
            count = unit.result
            destination.backlog -= count
            destination.cancelled += count
            total += count
        if total:
            self._log.warning("deliveries cancelled", destination=destination.name, count=total, reason=reason)

    def save_successes(self) -> None:
        """Write when each destination last took something; a crash loses at most the last round of this figure."""
        changed = [d for d in self._destinations if d.last_success != d.saved_success]
        for destination in changed:
            destination.saved_success = destination.last_success
        if changed:
            self._dispatcher.save(changed)

    async def _refresh(self) -> None:
        waiting = [destination.id for destination in self._destinations if destination.backlog]
        oldest = await self._reader.ask(oldest_pending(waiting))
        for destination in self._destinations:
            destination.oldest = oldest.get(destination.id, 0)


def _nothing() -> None:
    pass
