"""kopf as the watcher, and as nothing else: every change of every kind, and of namespaces, arrives here as (type, object), in order per object.

Used of kopf: discovery, list and watch with bookmarks, reconnection after 70 s of silence, re-login. Switched off: its change handlers (they copy the spec into an
annotation and write to every object), event posting, peering, webhooks. Two traps are avoided on purpose: a worker of kopf keeps its slot for `idle_timeout`, so that
is short and the number of workers is not limited; and the handler only hands over, so the work is bounded by our own queues.
What kopf would compute and remember of each object for change handlers is neither computed nor kept: a third of the cost of an event, and 2 kB an object.

kopf lives in a thread with an event loop of its own: at its end it cancels every task of its loop that it does not know, and it takes the process's signals. There it
can do neither. Should it end or fail, it is started again; what it has told already is known to the catalogue, and `audit` finds what it missed.
"""

import asyncio
import collections
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import kopf
import structlog

# Types of public parameters, without public names.
from kopf._core.engines.peering import Identity
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory
from prometheus_client import CollectorRegistry, Counter, Gauge

from pillion.kinds.definition import GROUP, VERSION, Kind
from pillion_operator import event_loop
from pillion_operator.api import PAGE, Api

JSON = Any

RESTART_PAUSE: Final = 2.0
"""Seconds before a watcher that ended is started again."""
STOP_TIMEOUT: Final = 5.0
"""Seconds for the thread to end; it is a daemon thread and dies with the process otherwise."""


class _Patience(Iterable[float]):
    """Pauses between attempts to reach the API server, without end: an hour without it must end with a watch, not with an error."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.1, 0.2, 0.5)
        while True:
            yield 1.0


class _NoEssence(kopf.DiffBaseStorage):
    """Sees no difference between any two versions of an object, without copying them: only change handlers ask, and there are none."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002 - kopf's signature
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 - as above
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


class _Forgetful(ResourceMemories):
    """Remembers no object: memos, daemons and indices are what the memory is for, and there are none."""

    async def recall(
        self,
        raw_body: kopf.RawBody,
        *,
        memobase: Any = None,
        noticed_by_listing: bool = False,
        ephemeral: bool = False,  # noqa: ARG002 - kopf's signature
    ) -> ResourceMemory:
        return await super().recall(raw_body, memobase=memobase, noticed_by_listing=noticed_by_listing, ephemeral=True)


class Watcher:
    """The thread in which kopf runs.

    Args:
        api: gives the credentials.
        kinds: what to watch, beside namespaces.
        deliver: called in the caller's event loop with batches of (type, object); the type is None for objects that were listed.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        api: Api,
        kinds: Iterable[Kind[Any]],
        deliver: Callable[[list[tuple[str | None, JSON]]], None],
        registry: CollectorRegistry,
    ) -> None:
        self._api = api
        self._plurals = tuple(kind.plural for kind in kinds)
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[str | None, JSON]] = deque()
        self._scheduled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._log = structlog.get_logger("watcher")
        self._events = Counter(
            "pillion_operator_watch_events_total", "Events of the watches, by kind.", ["kind"], registry=registry
        )
        self._last_event = Gauge(
            "pillion_operator_watch_last_event_timestamp_seconds",
            "When a watch told something last.",
            registry=registry,
        )
        self._restarts = Counter(
            "pillion_operator_watch_restarts_total",
            "Times that the watcher ended and was started again.",
            registry=registry,
        )

    @property
    def ended(self) -> bool:
        """Whether the thread ran and does no more."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT)

    def _run(self) -> None:
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # One line per failed attempt, every second while the API server is away: the audit says it once, the metrics all the time.
        logging.getLogger("kopf._cogs.clients.api").setLevel(logging.CRITICAL)
        # It warns that signals are not its business in this thread, which is the point.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
        while not self._stop.is_set():
            try:
                with asyncio.Runner(loop_factory=event_loop.new) as runner:
                    runner.run(self._watch())
            except Exception as error:  # noqa: BLE001 - whatever ends the watcher, the operator needs another one
                self._log.warning("the watcher ended", error=f"{type(error).__name__}: {error}")
            if not self._stop.wait(RESTART_PAUSE):
                self._restarts.inc()

    async def _watch(self) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for plural in self._plurals:
            kopf.on.event(GROUP, VERSION, plural, registry=registry)(self._receive)
        kopf.on.event("", "v1", "namespaces", registry=registry)(self._receive)
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            memories=_Forgetful(),
            # Unused without peers, but kopf would look for the name of the user, and the user of a container has none.
            identity=Identity("pillion-operator"),
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop,
        )

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return await self._api.watcher_credentials()

    async def _receive(self, event: JSON, **_: Any) -> None:
        # One hand-over for all events of one turn of kopf's loop; a deque is safe between two threads.
        self._inbox.append((event["type"], event["object"]))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        # Lowered first: an event that comes from here on schedules a hand-over of its own, at worst for nothing.
        self._scheduled = False
        batch = []
        while self._inbox:
            batch.append(self._inbox.popleft())
        for kind, count in collections.Counter(document.get("kind", "") for _, document in batch).items():
            self._events.labels(kind).inc(count)
        if batch:
            self._last_event.set_to_current_time()
            self._deliver(batch)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.queueing.idle_timeout = 0.01
    settings.queueing.worker_limit = None
    settings.persistence.diffbase_storage = _NoEssence()
    settings.persistence.progress_storage = (
        kopf.StatusProgressStorage()
    )  # the one that clears an empty essence at once; it stores nothing without handlers
    settings.networking.error_backoffs = _Patience()
    settings.networking.connect_timeout = 5.0
    settings.watching.chunk_size = PAGE
    settings.process.ultimate_exiting_timeout = None
    return settings
