"""The delivery machine: accepted messages in, attempts out, at least once.

A block makes one `Machine`, tells it the destinations with `configure` (synchronous: it fits into a commit), calls `open` in its `start`,
`accept` for whatever is to be sent (when it returns, the answer 202 may go out), `drain` and `stop` in its own drain and stop.

This module puts the parts together and holds no algorithm of its own: `Scheduler` says what is next, `judge` what an attempt means,
`Dispatcher` runs attempts, `Recorder` and `Writer` make things durable, `Intake` and `Desk` face the callers. What is in flight is known to this process
alone; on disk it is pending. That is the whole lease: one process holds the file's lock, and when it dies everything that it had not
recorded is attempted again, under the same id.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pillion.delivery.commit import Commits
from pillion.delivery.database import Opened, damaged_files, open_store
from pillion.delivery.desk import Desk
from pillion.delivery.destinations import Destination, Destinations
from pillion.delivery.dispatcher import Dispatcher
from pillion.delivery.failures import StoreFull, StoreUnavailable
from pillion.delivery.identifiers import Identifiers
from pillion.delivery.intake import Accepted, Intake
from pillion.delivery.model import (
    Attempt,
    AttemptPage,
    AttemptQuery,
    Delivery,
    DeliveryId,
    DestinationName,
    Message,
    MessageId,
    Page,
    Policy,
    Query,
    Receipt,
    Sender,
    Statistics,
    Submission,
)
from pillion.delivery.reader import Reader, read_message
from pillion.delivery.recorder import Recorder
from pillion.delivery.scheduler import Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.store import DestinationRow, Store
from pillion.delivery.units import AcceptUnit, RecordUnit, TaskUnit, Unit
from pillion.delivery.upkeep import Upkeep
from pillion.delivery.writer import Writer
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks

MAX_BYTES: Final = 1 << 30
"""Bound of the database: a gigabyte holds about 700,000 one-kilobyte events, and fits the ephemeral storage that pods usually get."""

REMEMBERED: Final = 64
"""Destinations that are configured no more and kept in the store before those without deliveries are dropped."""


class _State(msgspec.Struct, frozen=True):
    """What a store held when it was opened."""

    destinations: list[DestinationRow]
    backlogs: dict[int, int]
    last_seq: int


class _Parts(msgspec.Struct, frozen=True):
    """What exists while the store is open."""

    opened: Opened
    steady: SteadyClock
    writer: Writer
    reader: Reader
    recorder: Recorder
    dispatcher: Dispatcher
    intake: Intake
    desk: Desk
    upkeep: Upkeep


class Machine:
    """One delivery machine over one SQLite file.

    Args:
        name: the block's name, for conditions, tasks and threads.
        path: the database file; its folder exists and belongs to the block.
        sender: what attempts a delivery.
        clock: the time.
        conditions: where the machine says what is wrong (disk full, database moved aside).
        tasks: where its background tasks live.
        max_bytes: bound of the database file; above it `accept` raises `StoreFull`.
        entropy: gives that many random bytes, for ids.
        chance: gives random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        name: str,
        path: Path,
        sender: Sender,
        clock: Clock,
        conditions: Conditions,
        tasks: Tasks,
        max_bytes: int = MAX_BYTES,
        entropy: Callable[[int], bytes] = os.urandom,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._path = path
        self._sender = sender
        self._clock = clock
        self._conditions = conditions
        self._tasks = tasks
        self._max_bytes = max_bytes
        self._identifiers = Identifiers(clock.wall_ns, entropy)
        self._chance = chance
        self._policies: Mapping[DestinationName, Policy] = {}
        self._parts: _Parts | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._closing = False
        self.destinations = Destinations()
        """All destinations, for metrics."""
        self.scheduler = Scheduler()
        """What is in memory, for metrics."""

    # Life

    def configure(self, policies: Mapping[DestinationName, Policy]) -> None:
        """Say which destinations there are. Synchronous and cannot fail; may be called before `open` and at any time later.

        Pending deliveries of a destination that is gone wait seven days for its return, then they are cancelled.
        """
        self._policies = dict(policies)
        if self._parts is not None and not self._closing:
            self._apply(self._parts)

    def _apply(self, parts: _Parts) -> None:
        now = parts.steady.now_ns()
        known = {destination.id for destination in self.destinations}
        changed = self.destinations.configure(self._policies)
        for destination in self.destinations:
            if destination.id not in known:
                self.scheduler.add(destination.id, destination.name)
            self.scheduler.configure(
                destination.id, concurrency=destination.concurrency, held=destination.held, now_ns=now
            )
        for destination in changed:
            self.scheduler.resume(destination.id, now)
        if changed:
            parts.dispatcher.save(changed)
        parts.dispatcher.pump()

    async def open(self) -> None:
        """Open the store, take up what is pending, start delivering.

        A corrupt database is moved aside under a new name, a `fail` condition names that file, and a fresh one is begun.

        Raises:
            Unstartable: another process has the store, or a newer version wrote it.
        """
        opened, state = await asyncio.to_thread(self._open_store)
        self._tell(opened)
        steady = SteadyClock(self._clock)
        now = steady.now_ns()
        for row in state.destinations:
            destination = Destination(row, state.backlogs.get(row.id, 0))
            self.destinations.restore(destination)
            self.scheduler.add(row.id, destination.name, disk_due=0 if destination.backlog else None)
            self.scheduler.pause(row.id, row.paused_until, now)
        loop = asyncio.get_running_loop()

        def committed(units: Sequence[Unit], damage: str) -> None:
            loop.call_soon_threadsafe(self._committed, units, damage)

        store = Store(opened.connection)
        writer = Writer(
            name=f"{self._name} writer", store=store, path=self._path, committed=committed, soon=loop.call_soon
        )
        commits = Commits(writer.submit)
        reader = Reader(name=f"{self._name} reader", path=self._path)
        recorder = Recorder(
            scheduler=self.scheduler, destinations=self.destinations, steady=steady, submit=writer.submit
        )
        dispatcher = Dispatcher(
            name=self._name,
            scheduler=self.scheduler,
            destinations=self.destinations,
            sender=self._sender,
            clock=self._clock,
            steady=steady,
            recorder=recorder,
            chance=self._chance,
            submit=writer.submit,
        )
        self._parts = parts = _Parts(
            opened,
            steady,
            writer,
            reader,
            recorder,
            dispatcher,
            Intake(
                destinations=self.destinations,
                scheduler=self.scheduler,
                clock=self._clock,
                steady=steady,
                next_seq=state.last_seq + 1,
                commits=commits,
            ),
            Desk(
                destinations=self.destinations,
                scheduler=self.scheduler,
                reader=reader,
                clock=self._clock,
                steady=steady,
                commits=commits,
            ),
            Upkeep(
                name=self._name,
                destinations=self.destinations,
                scheduler=self.scheduler,
                dispatcher=dispatcher,
                reader=reader,
                steady=steady,
                commits=commits,
            ),
        )
        writer.start()
        self._apply(parts)
        self._upkeep = self._tasks.spawn("delivery upkeep", parts.upkeep.run)

    def _open_store(self) -> tuple[Opened, _State]:
        seconds = self._clock.wall_ns() // 1_000_000_000
        opened = open_store(self._path, max_bytes=self._max_bytes, now=time.gmtime(seconds))
        store = Store(opened.connection)
        rows = store.destinations()
        gone = {row.id for row in rows if DestinationName(row.name) not in self._policies}
        if len(gone) > REMEMBERED:
            unused = gone - store.referred()
            store.drop_destinations(unused)
            rows = [row for row in rows if row.id not in unused]
        return opened, _State(rows, store.backlogs(), store.last_seq())

    def _tell(self, opened: Opened) -> None:
        name = f"{self._name}: deliveries lost"
        if opened.notices:
            self._conditions.set(name, "fail", " ".join(notice.message for notice in opened.notices))
            for notice in opened.notices:
                structlog.get_logger(self._name).error("delivery store was not usable", problem=notice.message)
        elif left := damaged_files(self._path):
            text = f"{', '.join(left)} may hold undelivered messages; rescue them, or delete the file"
            self._conditions.set(name, "warn", f"{self._path.parent}: {text}")

    async def drain(self, grace: float) -> None:
        """Deliver what is due now or will be within seconds, for at most *grace* seconds, then start no more attempts. `accept` still works.

        The disk may be gone with the pod afterwards, so what can be delivered is.
        """
        if self._parts is not None:
            await self._parts.dispatcher.drain(grace)

    async def stop(self) -> None:
        """Cancel what still runs, write what is known, close the store. What was accepted and not delivered is on disk."""
        if self._parts is None or self._closing:
            return
        self._closing = True
        parts = self._parts
        if left := sum(one.backlog for one in self.destinations):
            structlog.get_logger(self._name).warning("deliveries are left on disk for the next start", count=left)
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await parts.dispatcher.stop()
        parts.upkeep.save_successes()
        await asyncio.to_thread(parts.reader.close)
        # The last commits report back through the loop, before this call does.
        await asyncio.to_thread(parts.writer.stop)
        self._parts = None
        os.close(parts.opened.lock)

    def wake(self) -> None:
        """Look again at what is due now: for whoever moved the clock."""
        if self._parts is not None:
            self._parts.dispatcher.pump()

    async def tidy(self) -> None:
        """Do one round of upkeep now: forget what is out of retention, give up what waited too long, refresh figures."""
        await self._open().upkeep.round()

    def _open(self) -> _Parts:
        if self._parts is None or self._closing:
            raise StoreUnavailable("the delivery store is not open")
        return self._parts

    def _committed(self, units: Sequence[Unit], damage: str) -> None:
        """Take note of a commit; runs in the event loop."""
        self._report(units, damage)
        for kind in (AcceptUnit, RecordUnit, TaskUnit):
            # In this order, because a load sees what was accepted and recorded in its own transaction.
            for unit in units:
                if type(unit) is kind:
                    unit.done()
        if self._parts is not None:
            self._parts.dispatcher.pump()

    def _report(self, units: Sequence[Unit], damage: str) -> None:
        full = next((unit.error for unit in units if isinstance(unit.error, StoreFull)), None)
        if full is not None:
            text = (
                f"{full}; new messages are refused (507) until there is room: enlarge the volume or shorten retention"
            )
            self._conditions.set(f"{self._name}: store full", "fail", text)
        elif any(isinstance(unit, AcceptUnit) and unit.error is None for unit in units):
            self._conditions.clear(f"{self._name}: store full")
        if damage:
            self._conditions.set(f"{self._name}: store broken", "fail", f"{self._path}: {damage}")
        elif not any(isinstance(unit.error, StoreUnavailable) for unit in units):
            self._conditions.clear(f"{self._name}: store broken")

    # For callers

    def new_id(self) -> MessageId:
        """Make a message id: `msg_` and 32 hexadecimal digits, sortable by time, 80 bits of them random."""
        return self._identifiers.make()

    async def accept(self, submissions: Sequence[Submission]) -> tuple[Receipt, ...]:
        """Accept messages, all or none; returns only after they are on disk (fsync).

        Raises:
            IdConflict: an id was used before for something else.
            StoreFull: there is no room.
            Overloaded: too much waits already.
            StoreUnavailable: the machine is not open, its store is broken, or the disk does not answer.
            ValueError: an id, a destination, a fingerprint or attributes that must not be.
        """
        parts = self._open()
        parts.recorder.flush()
        return await parts.intake.accept(submissions)

    def submit(self, submissions: Sequence[Submission], told: Accepted) -> None:
        """Accept messages as `accept` does, without a coroutine: *told* gets the receipts or the error later, once, in the event loop.

        Raises what `accept` can raise at once, having changed nothing: `Overloaded`, `StoreUnavailable` and ValueError; then *told* is not called. It
        must not raise: other callers wait for the same commit.
        """
        parts = self._open()
        parts.recorder.flush()
        parts.intake.submit(submissions, told)

    async def deliveries(self, query: Query) -> Page:
        """List deliveries, newest message first.

        Raises:
            ValueError: the cursor is none of ours.
        """
        return await self._open().desk.deliveries(query)

    async def delivery(self, wanted: DeliveryId) -> Delivery:
        """Give one delivery.

        Raises:
            UnknownDelivery: there is none.
        """
        return await self._open().desk.delivery(wanted)

    async def message(self, wanted: MessageId) -> Message | None:
        """Give a message, body included; None when there is none (any more)."""
        return await self._open().reader.ask(read_message(wanted))

    async def attempts(self, wanted: DeliveryId, *, limit: int = 100) -> tuple[Attempt, ...]:
        """Give the latest attempts at one delivery, newest first; none for an unknown delivery."""
        return await self._open().desk.attempts(wanted, limit)

    async def list_attempts(self, query: AttemptQuery) -> AttemptPage:
        """List attempts, those of the newest message first.

        Raises:
            ValueError: the cursor is none of ours.
        """
        return await self._open().desk.list_attempts(query)

    async def retry(self, wanted: DeliveryId) -> Delivery:
        """Attempt a delivery again, now, whatever its state; its schedule starts over. Returns after the commit.

        Raises:
            UnknownDelivery: there is none.
            InFlight: it is being attempted right now.
        """
        return await self._open().desk.retry(wanted)

    async def cancel(self, wanted: DeliveryId, reason: str) -> Delivery:
        """Attempt a pending delivery no more; a settled one stays as it is. Returns after the commit.

        Raises:
            UnknownDelivery: there is none.
            InFlight: it is being attempted right now.
        """
        return await self._open().desk.cancel(wanted, reason)

    async def enable(self, destination: DestinationName) -> bool:
        """Serve a disabled destination again; False when it was not disabled. Returns after the commit."""
        return await self._open().desk.enable(destination)

    def statistics(self) -> Statistics:
        """Give what it is doing now."""
        parts = self._parts
        now = parts.steady.now_ns() if parts else 0
        return Statistics(
            accepted=parts.intake.accepted if parts else 0,
            repeated=parts.intake.repeated if parts else 0,
            refused=parts.intake.refused if parts else 0,
            waiting=parts.intake.waiting if parts else 0,
            unrecorded=parts.recorder.unrecorded if parts else 0,
            in_memory=sum(len(lane.known) for lane in self.scheduler.lanes()),
            in_flight=self.scheduler.in_flight,
            commits=parts.writer.commits if parts else 0,
            unlogged=parts.recorder.unlogged if parts else 0,
            database_bytes=parts.writer.used_bytes if parts else 0,
            destinations=tuple(
                destination.status(self.scheduler.lane(destination.id).in_flight, now)
                for destination in self.destinations
                if destination.policy is not None or destination.backlog
            ),
        )
