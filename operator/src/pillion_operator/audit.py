"""Does the operator know what the API server holds? A list of names and versions tells, independently of the watches.

A watch can die silently, and a watcher that lists anew never tells what was deleted meanwhile. So the list is compared with the catalogue: at the start, once all
resources have been read, until nothing is missing, which is the moment from which it is safe to publish (a snapshot compiled from half the resources would withdraw
the other half); then once a minute. What the watch owes for longer than a moment is fetched, counted, and told as if the watch had told it.

The start reads for itself, before the watch begins: a page of a list costs a tenth of as many events, and side by side the two would wait for each other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from pillion.kinds.definition import Kind
from pillion_operator.api import Api, ApiError, resource_path
from pillion_operator.catalogue import Catalogue, ResourceKey, version_of

JSON = Any

GRACE: Final = 5.0
"""Seconds that a watch may lag behind a list before what it owes is fetched; at most the interval of the audits."""
FIRST_PAUSE: Final = 0.05
"""Seconds between the first two looks at the start; doubles, so that a large cluster is not listed over and over."""
LAST_PAUSE: Final = 1.0
FIRST_PATIENCE: Final = 10.0
"""Seconds that the watches have at the start before the audit begins to fetch what they have not told."""
BREATH: Final = 25
"""Resources that are taken at the start in one turn of the loop, about 5 ms: reviews and streams are answered between."""
REPAIR_LIMIT: Final = 200
"""Resources that one audit fetches; the rest waits for the next."""


class _Listed(NamedTuple):
    """A resource as a list shows it; as it was known where no list shows it."""

    uid: str
    version: int
    there: bool


class Audit:
    """The comparison.

    Args:
        api: the way to the API server.
        kinds: what is watched.
        catalogue: what is known.
        changed: takes an object that the watch did not tell about.
        deleted: takes a resource whose deletion the watch did not tell.
        loaded: called once everything has been read, before anything is compared.
        interval: seconds between two audits.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        api: Api,
        kinds: Iterable[Kind[Any]],
        catalogue: Catalogue,
        *,
        changed: Callable[[JSON], None],
        deleted: Callable[[ResourceKey, str], None],
        loaded: Callable[[], None],
        interval: float,
        registry: CollectorRegistry,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._kinds = tuple(kinds)
        self._catalogue = catalogue
        self._changed = changed
        self._deleted = deleted
        self._loaded = loaded
        self._interval = interval
        self._sleep = sleep
        self._log = structlog.get_logger("audit")
        self._told = ""
        self.complete = asyncio.Event()
        self._missed = Counter(
            "pillion_operator_watch_missed_total",
            "Changes that a watch did not tell, by kind.",
            ["kind"],
            registry=registry,
        )
        self._last = Gauge(
            "pillion_operator_audit_timestamp_seconds",
            "When the catalogue was last compared with the API server; old means that it cannot be reached.",
            registry=registry,
        )

    async def run(self) -> None:
        """Compare until cancelled; sets `complete` once everything is known."""
        await self._first()
        while True:
            await self._sleep(self._interval)
            try:
                owed = await self._owed()
                if owed:
                    await self._sleep(min(GRACE, self._interval))
                    await self._repair(self._still(owed))
                self._compared()
            except ApiError as error:
                self._complain(error)

    async def _first(self) -> None:
        began = began_watching = time.monotonic()
        pause = FIRST_PAUSE
        loaded = False
        while True:
            try:
                if not loaded:
                    await self._load()
                    loaded = True
                    self._loaded()
                    began_watching = time.monotonic()
                owed = await self._owed()
                if owed and time.monotonic() > began_watching + FIRST_PATIENCE:
                    await self._repair(owed)
                    owed = await self._owed()
                if not owed:
                    self._compared()
                    self.complete.set()
                    self._log.info(
                        "all resources are known",
                        resources=len(self._catalogue),
                        seconds=round(time.monotonic() - began, 2),
                    )
                    return
                await self._sleep(pause)
                pause = min(LAST_PAUSE, 2 * pause)
            except ApiError as error:
                self._complain(error)
                await self._sleep(max(LAST_PAUSE, error.retry_after))

    async def _load(self) -> None:
        """Read everything there is; what the watch has told meanwhile is newer and stays."""
        for kind in self._kinds:
            count = 0
            try:
                async for document in self._api.list_objects(kind.plural):
                    document["kind"] = kind.kind  # items of a list need not say it
                    metadata = document["metadata"]
                    key = ResourceKey(kind.kind, metadata.get("namespace", ""), metadata["name"])
                    if self._differs(key, _Listed(metadata["uid"], version_of(metadata), there=True)):
                        self._changed(document)
                    count += 1
                    if count % BREATH == 0:
                        await asyncio.sleep(0)
            except ApiError as error:
                if error.status != 404:  # 404: its CRD is not installed (yet)
                    raise

    async def _owed(self) -> dict[ResourceKey, _Listed]:
        """Give the resources on which catalogue and API server differ, as they are listed, or as they are known where they are not listed."""
        owed: dict[ResourceKey, _Listed] = {}
        seen: set[ResourceKey] = set()
        for kind in self._kinds:
            try:
                async for item in self._api.list_metadata(kind.plural):
                    key = ResourceKey(kind.kind, item.namespace, item.name)
                    version = int(item.resource_version) if item.resource_version.isdecimal() else 0
                    known = self._catalogue.get(key)
                    # The catalogue's own key, so that thousands of names are not held twice.
                    seen.add(key if known is None else known.key)
                    if self._differs(key, listed := _Listed(item.uid, version, there=True)):
                        owed[key] = listed
            except ApiError as error:
                if error.status != 404:  # 404: its CRD is not installed (yet)
                    raise
        for known in self._catalogue:
            if known.key not in seen:
                owed[known.key] = _Listed(known.uid, known.version, there=False)
        return self._still(owed)

    def _still(self, owed: dict[ResourceKey, _Listed]) -> dict[ResourceKey, _Listed]:
        """Give those of *owed* that the watch has not settled by now."""
        return {key: listed for key, listed in owed.items() if self._differs(key, listed)}

    def _differs(self, key: ResourceKey, listed: _Listed) -> bool:
        known = self._catalogue.get(key)
        if not listed.there:
            return known is not None and (known.uid, known.version) == (listed.uid, listed.version)
        return known is None or known.uid != listed.uid or known.version < listed.version

    async def _repair(self, owed: dict[ResourceKey, _Listed]) -> None:
        plurals = {kind.kind: kind.plural for kind in self._kinds}
        for key, listed in list(owed.items())[:REPAIR_LIMIT]:
            path = resource_path(plurals[key.kind], key.namespace, key.name)
            document = None
            try:
                document = await self._api.get(path, resource=plurals[key.kind])
            except ApiError as error:
                if error.status != 404:
                    raise
            # Read after the list: it may have appeared or gone since, and the watch may have told meanwhile.
            if document is not None:
                metadata = document["metadata"]
                if not self._differs(key, _Listed(metadata["uid"], version_of(metadata), there=True)):
                    continue
                self._changed(document)
            elif (known := self._catalogue.get(key)) is not None and known.uid == listed.uid:
                self._deleted(key, known.uid)
            else:
                continue
            self._missed.labels(key.kind).inc()
            self._log.warning("the watch had not told about a resource; it was fetched", resource=str(key))

    def _compared(self) -> None:
        self._told = ""
        self._last.set_to_current_time()

    def _complain(self, error: ApiError) -> None:
        text = str(error)
        if text != self._told:
            self._told = text
            fix = "; apply the operator's ClusterRole" if error.status == 403 else ""
            self._log.warning(f"the API server does not show the resources{fix}", error=text)
