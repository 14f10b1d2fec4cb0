"""Work by key: many events about one thing become one piece of work, no thing is worked on twice at once, and failures come back later.

`Schedule` is the pure part: which keys wait, for when, which are being worked on. `WorkQueue` gives it workers and a clock. The guarantees are those of the work
queue that Kubernetes' own controllers use:

- a key that is added ten times before a worker takes it is worked on once;
- a key that is added while it is worked on is worked on again afterwards, since the worker may have missed the change;
- a failing key waits longer each time, and holds nobody else up.

The memory is one entry per key, so what bounds the keys bounds the queue.
"""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF: Final = 0.2
LAST_BACKOFF: Final = 60.0


class Schedule(Generic[K]):
    """Keys and the moments from which they may be worked on. Time is a float in seconds, given by the caller."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._busy: set[K] = set()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def busy(self) -> int:
        """How many keys are being worked on."""
        return len(self._busy)

    def add(self, key: K, due: float) -> None:
        """Ask for work on *key* at *due*; an earlier wish for the same key wins."""
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._busy:
            self._push(key, due)

    def take(self, now: float) -> K | None:
        """Give a key that is due, and count it as being worked on until `done`."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if key in self._busy or self._due.get(key) != due:
                continue  # moved to another moment since
            del self._due[key]
            self._busy.add(key)
            return key
        return None

    def done(self, key: K) -> None:
        """Say that the work on *key* has ended; if it was added meanwhile it waits again."""
        self._busy.remove(key)
        if key in self._due:
            self._push(key, self._due[key])

    def next_due(self) -> float | None:
        """Give the moment at which `take` may give a key; None when nothing waits."""
        while self._heap:
            due, _, key = self._heap[0]
            if key not in self._busy and self._due.get(key) == due:
                return due
            heapq.heappop(self._heap)
        return None

    def _push(self, key: K, due: float) -> None:
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))


class Later(Exception):  # noqa: N818 - no error: says what to do
    """Raised by a handler whose work must wait for *seconds*; counts as no failure."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds} s")
        self.seconds = seconds


class WorkQueue(Generic[K]):
    """A schedule with workers.

    Args:
        name: for tasks, logs and metrics.
        handle: does the work for one key; an exception means: again, later.
        workers: how many keys are worked on at once.
        metrics: where its figures go.
    """

    def __init__(
        self, name: str, handle: Callable[[K], Awaitable[None]], *, workers: int, metrics: "QueueMetrics"
    ) -> None:
        self._name = name
        self._handle = handle
        self._workers = workers
        self._schedule: Schedule[K] = Schedule()
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._chance = random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._log = structlog.get_logger("work")
        self._worked = metrics.worked
        metrics.depth.labels(name).set_function(lambda: len(self._schedule))

    def __len__(self) -> int:
        return len(self._schedule)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Ask for work on *key* in *delay* seconds."""
        self._schedule.add(key, asyncio.get_running_loop().time() + delay)
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing waits and nothing is being worked on."""
        await self._idle.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            slots = asyncio.Semaphore(self._workers)
            while True:
                await slots.acquire()
                key = await self._next()
                group.create_task(self._work(key, slots), name=f"{self._name}: {key}")

    async def _next(self) -> K:
        loop = asyncio.get_running_loop()
        while True:
            key = self._schedule.take(loop.time())
            if key is not None:
                return key
            self._wake.clear()
            due = self._schedule.next_due()
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _work(self, key: K, slots: asyncio.Semaphore) -> None:
        outcome = "done"
        try:
            await self._handle(key)
            self._failures.pop(key, None)
        except Later as later:
            outcome = "later"
            self.add(key, later.seconds)
        except Exception as error:  # noqa: BLE001 - whatever one key raises must not hurt the others
            outcome = "failed"
            count = self._failures[key] = self._failures.get(key, 0) + 1
            asked = float(getattr(error, "retry_after", 0.0))
            pause = max(asked, min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(count - 1, 16)))
            self.add(key, pause * self._chance.uniform(0.8, 1.2))
            self._log.warning("work failed", queue=self._name, key=str(key), error=str(error), again_in=round(pause, 1))
        finally:
            self._worked.labels(self._name, outcome).inc()
            self._schedule.done(key)
            self._wake.set()
            slots.release()
            if not len(self._schedule) and not self._schedule.busy:
                self._idle.set()


class QueueMetrics:
    """The metrics that all queues share; made once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.depth = Gauge("pillion_operator_queue_depth", "Keys that wait for work.", ["queue"], registry=registry)
        self.worked = Counter(
            "pillion_operator_reconciliations_total",
            "Pieces of work, by queue and outcome (done, later, failed).",
            ["queue", "outcome"],
            registry=registry,
        )
