"""Writes statuses, and only those that say something new.

A key per resource goes through the work queue; the status to be is computed when its turn comes, compared with the one that the object carries, and applied
server-side under one field manager. A changed verdict is written at once, numbers wait for their interval, an unchanged status is never written: a restart over
ten thousand unchanged resources writes nothing. Only the holder of the Lease writes.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from pillion.kinds.definition import API_VERSION
from pillion_operator import conditions, verdicts
from pillion_operator.announcing import Announcer
from pillion_operator.api import Api, ApiError, resource_path
from pillion_operator.catalogue import Catalogue, Known, ResourceKey, Vocabulary, version_of
from pillion_operator.conditions import Difference
from pillion_operator.distribution import fingerprint
from pillion_operator.fleet import Fleet
from pillion_operator.last_good import kept
from pillion_operator.secretstore import SecretStore
from pillion_operator.settings import Settings
from pillion_operator.verdicts import DISCONNECTED, Facts
from pillion_operator.work import Later, QueueMetrics, WorkQueue

MANAGER: Final = "pillion-operator"
"""Field manager of `status`."""

UNKNOWN_PAUSE: Final = 5.0
"""Seconds between two looks at a status that names absent sidecars, while nobody knows yet whether they still are."""

_SECRET_FIX: Final = {
    "SecretMissing": 'Secret "{name}" does not exist; create it',
    "SecretForbidden": 'Secret "{name}" may not be read; bind the ClusterRole pillion-operator-secrets in this namespace',
}


class Reporter:
    """The writer of statuses.

    Args:
        settings: its pace.
        api: the way to the API server.
        vocabulary: the kinds.
        catalogue: the resources.
        fleet: the sidecars.
        secrets: what is known of Secrets.
        announcer: posts Kubernetes Events about what is written.
        leading: tells whether this replica holds the Lease.
        queues: metrics of the work queue.
        registry: where metrics are registered.
        pods: gives status fields that count pods, for kinds that have them.
        absent: gives pods whose sidecar runs a resource and is not heard; None while nobody knows.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        *,
        vocabulary: Vocabulary,
        catalogue: Catalogue,
        fleet: Fleet,
        secrets: SecretStore,
        announcer: Announcer,
        leading: Callable[[], bool],
        queues: QueueMetrics,
        registry: CollectorRegistry,
        pods: Callable[[Known], Mapping[str, conditions.JSON]] = lambda _known: {},
        absent: Callable[[Known], tuple[str, ...] | None] = lambda _known: (),
    ) -> None:
        self._settings = settings
        self._api = api
        self._kinds = vocabulary.kinds
        self._catalogue = catalogue
        self._fleet = fleet
        self._secrets = secrets
        self._announcer = announcer
        self._leading = leading
        self._pods = pods
        self._absent = absent
        self._written_at: dict[ResourceKey, float] = {}
        self._settled_at = 0.0
        self._lagging_since: dict[ResourceKey, float] = {}
        self._log = structlog.get_logger("status")
        self.queue: WorkQueue[ResourceKey] = WorkQueue(
            "status", self._handle, workers=settings.status_workers, metrics=queues
        )
        self._writes = Counter(
            "pillion_operator_status_writes_total", "Statuses written, by kind.", ["kind"], registry=registry
        )

    def settle(self) -> None:
        """Begin the time in which sidecars are still coming back."""
        self._settled_at = asyncio.get_running_loop().time() + self._settings.settle_time

    def look_at(self, key: ResourceKey) -> None:
        """Say that the status of *key* may have to change."""
        self.queue.add(key, self._settings.status_debounce)

    def look_at_all(self) -> None:
        """Say so of every resource: after taking the Lease."""
        for known in self._catalogue:
            self.look_at(known.key)

    def forget(self, key: ResourceKey) -> None:
        """Drop what is remembered of a deleted resource."""
        self._written_at.pop(key, None)
        self._lagging_since.pop(key, None)

    def look_for_overdue(self) -> None:
        """Look again at resources whose sidecars have been lagging for long; called now and then."""
        if self._lagging_since:
            before = asyncio.get_running_loop().time() - verdicts.PATIENCE
            for key in [key for key, since in self._lagging_since.items() if since <= before]:
                # Once: from here on its status says so, and the acknowledgement that ends it is looked at anyway.
                self._lagging_since[key] = math.inf
                self.look_at(key)

    async def _handle(self, key: ResourceKey) -> None:
        known = self._catalogue.get(key)
        if known is None or not known.judged or not self._leading():
            return
        kind = self._kinds[key.kind]
        now = asyncio.get_running_loop().time()
        seen = known.status
        absent = self._absent(known)
        wanted = conditions.status_of(kind, self._facts(known, now, absent or ()), seen, datetime.now(UTC))
        found = conditions.difference(kind, seen, wanted)
        if found is Difference.NONE:
            return
        forgotten = conditions.forgets(seen, wanted)
        if now < self._settled_at and forgotten:
            raise Later(self._settled_at - now)
        if absent is None and conditions.condition(seen, "Stale").get("reason") == DISCONNECTED and forgotten:
            raise Later(UNKNOWN_PAUSE)
        interval = {
            Difference.COUNTS: self._settings.status_interval,
            Difference.FIGURES: self._settings.figures_interval,
        }.get(found, 0.0)
        due = self._written_at.get(key, -interval) + interval
        if now < due:
            raise Later(due - now)
        await self._write(known, wanted, now)

    async def _write(self, known: Known, wanted: conditions.JSON, now: float) -> None:
        key, before, generation = known.key, known.status, known.generation
        body = {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            # The uid makes a write for an object that was deleted and created again fail instead of telling of its predecessor.
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": known.uid},
            "status": wanted,
        }
        path = resource_path(self._kinds[key.kind].plural, key.namespace, key.name) + "/status"
        try:
            answer = await self._api.apply(path, body, manager=MANAGER, resource=self._kinds[key.kind].plural)
        except ApiError as error:
            if error.status in (404, 409):
                return  # gone, or another object by now; the watch tells
            raise
        self._written_at[key] = now
        self._writes.labels(key.kind).inc()
        metadata = answer["metadata"]
        if metadata.get("uid") == known.uid and version_of(metadata) > known.version:
            known.status = answer.get("status") or {}
            if int(metadata.get("generation", 0)) == known.generation:
                # A later generation is left for the watch to tell, with its spec.
                known.version = version_of(metadata)
        self._log.debug(
            "status written", resource=str(key), generation=generation, sidecars=wanted["sidecars"]["summary"]
        )
        self._announcer.verdict(known, before, wanted)

    def _facts(self, known: Known, now: float, absent: tuple[str, ...]) -> Facts:
        key, good = known.key, known.good
        tally, pods = self._fleet.tally(key), self._pods(known)
        if tally.propagated:
            self._lagging_since.pop(key, None)
        else:
            self._lagging_since.setdefault(key, now)
        described = known.current or good
        problems: list[tuple[str, str]] = []
        for name in good.secrets if good else ():
            problem = self._secrets.get(key.namespace, name).problem
            if problem:
                problems.append((problem, _SECRET_FIX[problem].format(name=name)))
        return Facts(
            generation=known.generation,
            accepted=known.accepted,
            violations=known.violations,
            good_generation=good.generation if good else 0,
            revision=fingerprint(good, self._secrets.versions(key.namespace)) if good else "",
            suspended=bool(good and good.resource.spec.suspend),
            own={
                **(self._kinds[key.kind].summarize(described.resource.spec) if described else {}),
                **pods,
            },
            tally=tally,
            secrets=tuple(problems),
            shortcomings=_shortcomings(pods),
            absent=absent,
            overdue=self._lagging_since.get(key) == math.inf,
            kept=kept(good.resource, good.generation) if good is not None and not known.accepted else None,
        )


def _shortcomings(pods: Mapping[str, conditions.JSON]) -> tuple[tuple[str, str], ...]:
    missed, total = pods.get("missed", 0), pods.get("pods", 0)
    if not missed:
        return ()
    text = f"{missed} of {total} pods run without their sidecar; restart their workloads, as in kubectl rollout restart"
    return (("SidecarsMissed", text),)
