"""What people ask and change by hand: lists, single deliveries, attempts; retry, cancel, enable."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from pillion.delivery import reader as questions
from pillion.delivery.commit import Commits
from pillion.delivery.destinations import Destination, Destinations
from pillion.delivery.failures import InFlight, UnknownDelivery
from pillion.delivery.model import (
    Attempt,
    AttemptPage,
    AttemptQuery,
    Delivery,
    DeliveryId,
    DestinationName,
    Page,
    Policy,
    Query,
    split_delivery_id,
)
from pillion.delivery.reader import Found, Reader
from pillion.delivery.scheduler import Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.store import PENDING, STATES, DeliveryRow, Store
from pillion.delivery.units import TaskUnit
from pillion.runtime.clock import Clock


class _Changed(NamedTuple):
    """A delivery before a change."""

    row: DeliveryRow
    found: Found
    destination: Destination


class Desk:
    """Answers and changes for one machine; its methods are documented at `Machine`."""

    def __init__(
        self,
        *,
        destinations: Destinations,
        scheduler: Scheduler,
        reader: Reader,
        clock: Clock,
        steady: SteadyClock,
        commits: Commits,
    ) -> None:
        self._destinations = destinations
        self._scheduler = scheduler
        self._reader = reader
        self._clock = clock
        self._steady = steady
        self._commits = commits

    # Asking

    async def deliveries(self, query: Query) -> Page:
        """List deliveries."""
        place = _place(query.cursor, 2)
        after = (place[0], place[1]) if place else None
        found, more = await self._reader.ask(questions.list_deliveries(query, self._destinations.names, after))
        listed = [self._live(item) for item in found]
        if query.state is not None:
            listed = [delivery for delivery in listed if delivery.state == query.state]
        return Page(deliveries=tuple(listed), cursor=_cursor(more))

    async def delivery(self, wanted: DeliveryId) -> Delivery:
        """Give one delivery."""
        return self._live((await self._find(wanted))[0])

    async def attempts(self, wanted: DeliveryId, limit: int) -> tuple[Attempt, ...]:
        """Give the latest attempts at one delivery."""
        split = split_delivery_id(wanted)
        destination = self._destinations.named(split[1]) if split else None
        if split is None or destination is None:
            return ()
        return await self._reader.ask(questions.read_attempts(split[0], destination.id, destination.name, limit))

    async def list_attempts(self, query: AttemptQuery) -> AttemptPage:
        """List attempts."""
        place = _place(query.cursor, 3)
        after = (place[0], place[1], place[2]) if place else None
        destination = self._destinations.named(DestinationName(query.destination))
        if query.destination and destination is None:
            return AttemptPage(attempts=())
        lane = destination.id if destination else None
        found, more = await self._reader.ask(
            questions.list_attempts(lane, self._destinations.names, query.limit, after)
        )
        return AttemptPage(attempts=tuple(found), cursor=_cursor(more))

    async def _find(self, wanted: DeliveryId) -> tuple[Found, Destination]:
        split = split_delivery_id(wanted)
        destination = self._destinations.named(split[1]) if split else None
        if split is None or destination is None:
            raise UnknownDelivery(wanted)
        found = await self._reader.ask(questions.read_delivery(split[0], destination.id, self._destinations.names))
        if found is None:
            raise UnknownDelivery(wanted)
        return found, destination

    def _live(self, found: Found) -> Delivery:
        """Add what only memory knows."""
        if found.delivery.state == "pending" and self._scheduler.is_in_flight(found.lane, found.seq):
            return msgspec.structs.replace(found.delivery, state="in-flight")
        return found.delivery

    # Changing

    async def retry(self, wanted: DeliveryId) -> Delivery:
        """Attempt a delivery again, now."""
        now = self._steady.now_ns()

        def change(store: Store, found: Found) -> DeliveryRow | None:
            return store.reopen(found.delivery.message, found.lane, now)

        def changed(before: DeliveryRow, destination: Destination) -> int | None:
            destination.backlog += before.state != PENDING
            return now

        before = await self._change(wanted, change, changed)
        return msgspec.structs.replace(before.found.delivery, state="pending", due_ns=now, settled_ns=0, reason="")

    async def cancel(self, wanted: DeliveryId, reason: str) -> Delivery:
        """Attempt a pending delivery no more."""
        now = self._steady.now_ns()
        wall = self._clock.wall_ns()

        def change(store: Store, found: Found) -> DeliveryRow | None:
            policy = self._destinations[found.lane].policy or Policy()
            return store.cancel(found.delivery.message, found.lane, reason, wall, now + policy.retain_succeeded_ns)

        def changed(before: DeliveryRow, destination: Destination) -> int | None:
            destination.backlog -= before.state == PENDING
            destination.cancelled += before.state == PENDING
            return None

        before = await self._change(wanted, change, changed)
        if before.row.state != PENDING:
            return msgspec.structs.replace(before.found.delivery, state=STATES[before.row.state])
        return msgspec.structs.replace(
            before.found.delivery, state="cancelled", due_ns=0, settled_ns=wall, reason=reason
        )

    async def _change(
        self,
        wanted: DeliveryId,
        change: Callable[[Store, Found], DeliveryRow | None],
        changed: Callable[[DeliveryRow, Destination], int | None],
    ) -> _Changed:
        """Change a delivery on disk while nothing can attempt it.

        Args:
            wanted: which.
            change: changes it in the store and gives its row before that.
            changed: adjusts the figures once it is committed; says when the delivery is due, None for not.
        """
        found, destination = await self._find(wanted)
        entry = self._scheduler.claim(found.lane, found.seq, self._steady.now_ns())
        if entry is None:
            raise InFlight(wanted)
        unit = TaskUnit(lambda store: change(store, found))

        def over() -> None:
            row: DeliveryRow | None = unit.result
            if unit.error is not None:
                # Nothing has changed on disk: it is to be looked at again in its own time.
                due = found.delivery.due_ns if found.delivery.state == "pending" else None
            else:
                due = changed(row, destination) if row is not None else None
            self._scheduler.settled(entry, due, self._steady.now_ns())

        await self._commits.commit(unit, over)
        if unit.result is None:
            raise UnknownDelivery(wanted)
        return _Changed(unit.result, found, destination)

    async def enable(self, name: DestinationName) -> bool:
        """Serve a disabled destination again."""
        destination = self._destinations.named(name)
        if destination is None or not destination.disabled:
            return False
        row = destination.row._replace(disabled="")
        unit = TaskUnit(lambda store: store.put_destination(row))

        def over() -> None:
            if unit.error is None:
                destination.disabled = ""
                self._scheduler.configure(
                    destination.id,
                    concurrency=destination.concurrency,
                    held=destination.held,
                    now_ns=self._steady.now_ns(),
                )

        await self._commits.commit(unit, over)
        return True


def _cursor(place: tuple[int, ...] | None) -> str:
    return ".".join(map(str, place)) if place else ""


def _place(cursor: str, parts: int) -> tuple[int, ...] | None:
    """Read a cursor.

    Raises:
        ValueError: it is none of ours.
    """
    if not cursor:
        return None
    numbers = cursor.split(".")
    if len(numbers) != parts or not all(n.isascii() and n.isdigit() and len(n) <= 18 for n in numbers):
        raise ValueError(f'"{cursor[:80]}" is no cursor of this list; take it from the page before, or leave it out')
    return tuple(int(n) for n in numbers)
