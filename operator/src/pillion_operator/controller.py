"""The control loop: changes come in, namespaces are compiled and published, statuses are looked at again.

It connects the parts and decides nothing itself: the catalogue judges, the distribution publishes, the fleet counts, the reporter writes. All state lives in one event
loop, so nothing here takes a lock; work on one namespace is never done twice at once because the queue sees to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram

from pillion.kinds.exchange import Acknowledgement
from pillion_operator.catalogue import Catalogue, Known, ResourceKey, Vocabulary
from pillion_operator.distribution import Distribution, Subscription
from pillion_operator.fleet import Facts, Fleet, PodUid
from pillion_operator.reporting import Reporter
from pillion_operator.secretstore import SecretStore
from pillion_operator.work import Later, QueueMetrics, WorkQueue

JSON = Any

COMPILERS: Final = 4
"""Namespaces that are compiled side by side; compiling itself never waits, only the first read of a Secret does."""
REST_ABOVE: Final = 0.02
"""Seconds of compiling from which on a namespace rests for as long again, so that many changes become one compilation."""
EXPIRY_PAUSE: Final = 1.0
"""Seconds between two looks for sidecars that left and did not return."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Controller:
    """The loop.

    Args:
        vocabulary: kinds and blocks.
        catalogue: the resources.
        fleet: the sidecars.
        secrets: Secret values.
        reporter: the writer of statuses.
        recall: puts an earlier version of a refused resource in force that has none.
        departure_grace: seconds for which a sidecar that left still counts.
        queues: metrics of the work queue.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        catalogue: Catalogue,
        fleet: Fleet,
        secrets: SecretStore,
        reporter: Reporter,
        recall: Callable[[Known], Awaitable[bool]],
        departure_grace: float,
        queues: QueueMetrics,
        registry: CollectorRegistry,
    ) -> None:
        self._catalogue = catalogue
        self._fleet = fleet
        self._secrets = secrets
        self._reporter = reporter
        self._recall = recall
        self._grace = departure_grace
        self._dirty_since: dict[str, float] = {}
        self._resting: dict[str, float] = {}
        self._unrecalled: dict[str, set[ResourceKey]] = {}
        self._log = structlog.get_logger("controller")
        self.complete = asyncio.Event()
        self.distribution = Distribution(vocabulary, catalogue, fleet, secrets)
        self.queue: WorkQueue[str] = WorkQueue("namespaces", self._reconcile, workers=COMPILERS, metrics=queues)
        self.on_facts_changed: Callable[[], None] = lambda: None
        self._published = Histogram(
            "pillion_operator_publish_seconds",
            "From a change seen to its snapshot handed to the streams.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._acknowledged = Histogram(
            "pillion_operator_acknowledge_seconds",
            "From a snapshot handed to a stream to its acknowledgement.",
            buckets=_BUCKETS,
            registry=registry,
        )
        Gauge("pillion_operator_streams", "Open configuration streams.", registry=registry).set_function(
            lambda: len(self.distribution)
        )
        self._resources = Gauge(
            "pillion_operator_resources", "Resources by kind and verdict.", ["kind", "accepted"], registry=registry
        )

    # from the watch

    def told(self, batch: Iterable[tuple[str | None, JSON]]) -> None:
        """Take events of the watch: the type, and the object."""
        for kind, document in batch:
            try:
                if kind == "DELETED":
                    metadata = document["metadata"]
                    key = ResourceKey(document["kind"], metadata.get("namespace", ""), metadata["name"])
                    self.deleted(key, metadata.get("uid", ""))
                else:
                    self.changed(document)
            except Exception:  # noqa: BLE001 - whatever it is, it is logged with its traceback
                # One event that nobody foresaw must not take the rest of its batch with it; the audit looks at its resource again.
                self._log.exception("an event of the watch could not be taken")

    def changed(self, document: JSON, *, trusted: bool = False) -> None:
        """Take a resource as it is now."""
        key, change = self._catalogue.observe(document, trusted=trusted)
        if change.meaning:
            self._namespace_changed(key.namespace)
        if change.meaning or change.status:
            self._reporter.look_at(key)

    def deleted(self, key: ResourceKey, uid: str) -> None:
        """Take the end of a resource."""
        if self._catalogue.forget(key, uid):
            self._reporter.forget(key)
            self._namespace_changed(key.namespace)

    def secret_changed(self, namespace: str) -> None:
        """Take the news that a Secret in use has another version."""
        self._namespace_changed(namespace)
        for compiled in self._catalogue.in_force(namespace):
            if compiled.secrets:
                self._look_at({ResourceKey(compiled.resource.kind, namespace, compiled.resource.name)})

    # from the streams

    def joined(self, facts: Facts) -> Subscription:
        """Take in a stream."""
        subscription, touched = self.distribution.subscribe(facts)
        self._look_at(touched)
        self.queue.add(facts.namespace)
        self.on_facts_changed()
        return subscription

    def left(self, subscription: Subscription) -> None:
        """Take the end of a stream."""
        self._look_at(self.distribution.unsubscribe(subscription, asyncio.get_running_loop().time()))
        self.on_facts_changed()

    def acknowledged(self, namespace: str, uid: PodUid, said: Acknowledgement) -> bool:
        """Take an acknowledgement; false where this replica does not hold the stream of that pod."""
        subscription = self.distribution.subscription(uid)
        if subscription is None:
            return False
        now = asyncio.get_running_loop().time()
        if subscription.offered_at and said.revision == subscription.offered:
            self._acknowledged.observe(now - subscription.offered_at)
            subscription.offered_at = 0.0
        if not said.applied:
            self._log.warning("a sidecar refused its configuration", namespace=namespace, reason=said.message[:300])
        self._look_at(self._fleet.acknowledge(namespace, uid, said))
        self.on_facts_changed()
        return True

    # from other replicas

    def reported(self, origin: str, facts: Iterable[Facts]) -> None:
        """Take everything that another replica says about its sidecars."""
        taken = list(facts)
        unknown: set[str] = set()
        for one in taken:
            known = self._fleet.get(one.namespace, one.uid)
            if known is None or known.facts.labels != one.labels:
                unknown.add(one.namespace)
        self._look_at(self._fleet.replace_origin(origin, taken, asyncio.get_running_loop().time()))
        for namespace in unknown:
            self.queue.add(namespace)

    # loops

    async def run(self) -> None:
        """Work until cancelled; nothing is published before `complete` is set."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expire(), name="controller: expire")
            await self.complete.wait()
            await self.queue.run()

    def count(self) -> None:
        """Bring the gauge of resources up to date; called when metrics are read."""
        for (kind, accepted), count in self._catalogue.verdicts.items():
            self._resources.labels(kind, str(accepted).lower()).set(count)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_PAUSE)
            self._look_at(self._fleet.expire(asyncio.get_running_loop().time() - self._grace))
            self._reporter.look_for_overdue()
            for namespace in self._secrets.namespaces():
                if not self._fleet.in_namespace(namespace):
                    self._secrets.keep(namespace, frozenset())

    async def _reconcile(self, namespace: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._resting.get(namespace, 0.0):
            raise Later(self._resting[namespace] - began)
        dirty_since = self._dirty_since.pop(namespace, None)
        try:
            changed, failures = self._catalogue.relate(namespace)
            changed |= self._unrecalled.pop(namespace, set())
            try:
                await self._recall_lost(changed)
            except BaseException:
                self._unrecalled[namespace] = changed
                raise
            self._look_at(changed)
            for failure in failures:
                self._log.error("a kind failed to judge its resources", namespace=namespace, error=str(failure))
            published = await self.distribution.publish(namespace, loop.time())
        except BaseException:
            if dirty_since is not None:
                self._dirty_since.setdefault(namespace, dirty_since)
            raise
        self._look_at(published.touched)
        ended = loop.time()
        self._resting.pop(namespace, None)
        if ended - began > REST_ABOVE:
            # A namespace that is large takes at most half of the time, however fast it changes.
            self._resting[namespace] = 2 * ended - began
        if published.offered and dirty_since is not None:
            self._published.observe(loop.time() - dirty_since)

    async def _recall_lost(self, changed: Iterable[ResourceKey]) -> None:
        """Look for the last good versions of refused resources before anything is published: a sidecar that runs one is not to lose it for a moment."""
        for key in changed:
            known = self._catalogue.get(key)
            if known is not None and known.good is None and known.generation > 1:
                await self._recall(known)

    def _namespace_changed(self, namespace: str) -> None:
        self._dirty_since.setdefault(namespace, asyncio.get_running_loop().time())
        self.queue.add(namespace)

    def _look_at(self, keys: Iterable[ResourceKey]) -> None:
        for key in keys:
            if self._catalogue.get(key) is not None:
                self._reporter.look_at(key)
