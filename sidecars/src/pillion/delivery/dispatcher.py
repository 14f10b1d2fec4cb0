"""Runs attempts: takes what the scheduler says is next, has it sent, judges the outcome and hands the result to the writer.

A worker is a task that makes one attempt after the other until nothing may start; there are never more workers than attempts in flight.
An attempt's slot is free as soon as its outcome is known; but when too many results wait to be written (the disk is full, say) no further
attempt starts: what is sent but not recorded would be sent twice after a crash.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from pillion.delivery.destinations import Destination, Destinations
from pillion.delivery.model import (
    Delivered,
    Delivery,
    DisableDestination,
    Outcome,
    Policy,
    Rejected,
    Retry,
    Sender,
)
from pillion.delivery.recorder import RECORD_AGAIN, Recorder, Result
from pillion.delivery.retry import Verdict, judge
from pillion.delivery.scheduler import Entry, Load, Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.store import STATES, DeliveryRow, Loaded, Store
from pillion.delivery.units import TaskUnit, Unit
from pillion.runtime.clock import Clock

OVERRUN: Final = 5.0
"""Seconds after its deadline at which an attempt is cancelled, because its sender did not keep the deadline."""

PATIENCE: Final = 6.0
"""Seconds that the end waits for retries that are not due yet: beyond the first pause of the default schedule (5 s and its jitter)."""

_LOOK: Final = 0.02
"""Seconds between two looks at what is left, at the end."""

REASON: Final = 500
"""Characters of a reason that are kept."""

EXCERPT: Final = 65_536
"""Bytes of an excerpt that are kept at most; senders cut earlier."""


class Running:
    """An attempt that is under way."""

    __slots__ = ("cancelled", "deadline", "task")

    def __init__(self, task: asyncio.Task[None], deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.cancelled = False


class Dispatcher:
    """Runs the attempts of one machine.

    Args:
        name: the machine's name, for tasks and logs.
        scheduler: says what is next.
        destinations: the policies.
        sender: makes an attempt; see `model.Sender`.
        clock: the time of attempts.
        steady: the time of due times.
        recorder: takes the results.
        chance: gives random numbers in [0, 1) for the jitter.
        submit: hands a unit to the writer.
    """

    def __init__(
        self,
        *,
        name: str,
        scheduler: Scheduler,
        destinations: Destinations,
        sender: Sender,
        clock: Clock,
        steady: SteadyClock,
        recorder: Recorder,
        chance: Callable[[], float],
        submit: Callable[[Unit], None],
    ) -> None:
        self._name = name
        self._scheduler = scheduler
        self._destinations = destinations
        self._sender = sender
        self._clock = clock
        self._steady = steady
        self._recorder = recorder
        self._chance = chance
        self._submit = submit
        self._log = structlog.get_logger(name)
        self._loop = asyncio.get_running_loop()
        self._workers: set[asyncio.Task[None]] = set()
        self._running: dict[Entry, Running] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._active = True
        self._stopped = False

    # What is next

    def pump(self) -> None:
        """Start whatever may start now, ask for what is to be loaded, and set the alarm for what comes later."""
        now = self._steady.now_ns()
        self._scheduler.wake(now)
        if not self._active:
            return
        self._request_loads(now)
        while not self._recorder.full and (entry := self._scheduler.take(now)) is not None:
            task = self._loop.create_task(
                self._work(entry), name=f"{self._name}: deliver to {self._destinations[entry.lane].name}"
            )
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        self._set_alarm(now)

    def _request_loads(self, now: int) -> None:
        for load in self._scheduler.loads(now):
            policy = self._destinations[load.lane].policy or Policy()
            unit = TaskUnit(self._loading(load, now, now + policy.retain_failed_ns))
            unit.done = self._load_done(load, unit)
            self._submit(unit)

    def _loading(self, load: Load, now: int, forget: int) -> Callable[[Store], Loaded]:
        return lambda store: store.load(load, now, forget)

    def _load_done(self, load: Load, unit: TaskUnit) -> Callable[[], None]:
        def done() -> None:
            now = self._steady.now_ns()
            if unit.error is not None:
                self._scheduler.load_failed(load, now + int(RECORD_AGAIN * 1e9), now)
                return
            loaded: Loaded = unit.result
            self._scheduler.loaded(load, loaded.entries, loaded.next_due, now)
            if loaded.lost:
                destination = self._destinations[load.lane]
                destination.backlog -= loaded.lost
                destination.failed += loaded.lost
                self._log.error(
                    "deliveries without a message became dead letters", destination=destination.name, count=loaded.lost
                )

        return done

    def _set_alarm(self, now: int) -> None:
        wake = self._scheduler.next_wake()
        if self._alarm is not None and wake == self._alarm_ns:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if wake is not None:
            self._alarm_ns = wake
            self._alarm = self._loop.call_later(max(wake - now, 0) / 1e9, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.pump()

    # Attempts

    async def _work(self, first: Entry) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of ours always runs in a task
        entry: Entry | None = first
        while entry is not None:
            await self._attempt(entry, task)
            now = self._steady.now_ns()
            if self._scheduler.hungry and self._active:
                self._request_loads(now)
            entry = self._scheduler.take(now) if self._active and not self._recorder.full else None

    async def _attempt(self, entry: Entry, task: asyncio.Task[None]) -> None:
        destination = self._destinations[entry.lane]
        policy = destination.policy or Policy()
        running = self._running[entry] = Running(task, self._loop.time() + policy.timeout_ns / 1e9)
        started_wall = self._clock.wall_ns()
        started = self._clock.monotonic_ns()
        delivery = Delivery(
            message=entry.message.id,
            destination=destination.name,
            state="in-flight",
            attempts=entry.attempts,
            accepted_ns=entry.message.accepted_ns,
        )
        outcome: Outcome
        try:
            outcome = await self._sender.send(entry.message, delivery, entry.attempts + 1, running.deadline)
            if not isinstance(outcome, Outcome):
                raise TypeError(f"send gave {type(outcome).__name__}, which is no outcome")  # noqa: TRY301 - treated as any mistake of a sender
        except asyncio.CancelledError:
            if not running.cancelled:
                self._scheduler.finished(entry, self._steady.now_ns())
                raise
            task.uncancel()
            outcome = Retry(reason="no outcome within the deadline")
        except Exception as error:  # noqa: BLE001 - whatever a sender raises must not lose the message
            self._log.exception("sender failed", destination=destination.name, message_id=entry.message.id)
            outcome = Retry(reason=f"internal error ({type(error).__name__})")
        finally:
            del self._running[entry]
        self._conclude(entry, destination, outcome, started_wall, self._clock.monotonic_ns() - started)

    def _conclude(
        self, entry: Entry, destination: Destination, outcome: Outcome, started_wall: int, duration: int
    ) -> None:
        now = self._steady.now_ns()
        policy = destination.policy or Policy()
        verdict = judge(policy, outcome, step=entry.step, now_ns=now, entropy=self._chance())
        entry.attempts += 1
        settled = verdict.state != "pending"
        if verdict.state == "succeeded":
            due = now + policy.retain_succeeded_ns
            destination.last_success = self._clock.wall_ns()
        else:
            due = now + policy.retain_failed_ns if settled else verdict.due_ns
        reason = _clean(verdict.reason)
        row = DeliveryRow(
            entry.seq,
            entry.lane,
            STATES.index(verdict.state),
            entry.attempts,
            verdict.step,
            due,
            self._clock.wall_ns() if settled else 0,
            reason,
        )
        attempt = (
            entry.seq,
            entry.lane,
            entry.attempts,
            started_wall,
            duration,
            _name(outcome),
            outcome.status,
            "" if isinstance(outcome, Delivered) else _clean(outcome.reason),
            outcome.excerpt[:EXCERPT],
        )
        destination.observe(duration)
        self._recorder.add(Result(entry, verdict, row, attempt))
        if verdict.disable or verdict.pause_until_ns > destination.paused_until:
            self._restrain(destination, verdict, now)
        self._scheduler.finished(entry, now)

    def _restrain(self, destination: Destination, verdict: Verdict, now: int) -> None:
        """Pause or disable a destination, in memory now and on disk soon."""
        if verdict.pause_until_ns > destination.paused_until:
            destination.paused_until = verdict.pause_until_ns
            self._scheduler.pause(destination.id, verdict.pause_until_ns, now)
        if verdict.disable and not destination.disabled:
            destination.disabled = _clean(verdict.disable)
            self._scheduler.configure(destination.id, concurrency=destination.concurrency, held=True, now_ns=now)
            self._log.warning("destination disabled", destination=destination.name, reason=destination.disabled)
        self.save([destination])

    def save(self, destinations: Iterable[Destination]) -> None:
        """Write the rows of *destinations*."""
        rows = [destination.row for destination in destinations]

        def work(store: Store) -> None:
            for row in rows:
                store.put_destination(row)

        unit = TaskUnit(work)

        def done() -> None:
            if unit.error is not None and not self._stopped:
                self._loop.call_later(RECORD_AGAIN, self.save, [self._destinations[row.id] for row in rows])

        unit.done = done
        self._submit(unit)

    # Life

    def watch(self) -> None:
        """Cancel attempts whose sender did not keep the deadline; called every second."""
        limit = self._loop.time() - OVERRUN
        for running in list(self._running.values()):
            if running.deadline < limit and not running.cancelled:
                running.cancelled = True
                running.task.cancel()

    async def drain(self, grace: float) -> None:
        """Go on until nothing is left that is due within `PATIENCE`, then start nothing more; at most *grace* seconds in all."""
        begun = self._loop.time()
        patient_until = self._steady.now_ns() + int(PATIENCE * 1e9)
        while self._loop.time() < begun + grace:
            patient = self._loop.time() < begun + PATIENCE
            if not self._scheduler.pending(patient_until if patient else self._steady.now_ns()):
                break
            await asyncio.sleep(_LOOK)
        self._active = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._workers:
            await asyncio.wait(self._workers, timeout=max(begun + grace - self._loop.time(), 0))
        self._recorder.flush()

    async def stop(self) -> None:
        """Cancel what still runs, and hand the last results to the writer."""
        await self.drain(0)
        self._stopped = True
        for task in self._workers:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._recorder.stop()


def _name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Retry():
            return "retry"
        case Rejected():
            return "rejected"
        case DisableDestination():
            return "disabled"


def _clean(reason: str) -> str:
    """Cut a reason, and make sure that it can be stored as UTF-8."""
    return reason[:REASON].encode("utf-8", "replace").decode()
