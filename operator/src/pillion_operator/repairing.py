"""Finds pods that are to have a sidecar and have none, says so, and on request evicts them so that their controllers make them anew.

An injector that fails open lets pods start without their sidecar when it does not answer; this is the other half of that bargain. The leader searches, page by page;
it tells by an Event on each such pod, by the status of resources that count pods, and by a metric. Evictions are off unless asked for, go through the eviction API (so
that disruption budgets hold), and keep a pause between any two.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from pillion.kinds.definition import Kind
from pillion.kinds.selection import Namespace as NamespaceName
from pillion.kinds.selection import Pod, selects
from pillion_operator.absence import Absence
from pillion_operator.announcing import Announcer
from pillion_operator.api import Api, ApiError, core_path
from pillion_operator.catalogue import Catalogue, Known, ResourceKey
from pillion_operator.injection.precedence import INJECT_LABEL
from pillion_operator.injection.repair import Evictions, Finding, State, examine
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespace, Namespaces
from pillion_operator.settings import Settings

JSON = Any

PAGE: Final = 250
"""Pods per page: a page is a few megabytes at most."""
LIST_TIMEOUT: Final = 30.0
REPEAT: Final = 3000.0
"""Seconds after which a pod's Event is posted again: shortly before the API server forgets it (an hour)."""
MAX_REMEMBERED: Final = 20_000
MAX_EVENTS: Final = 100
"""Events of one search; a cluster that was labelled at once would otherwise get thousands."""

EXCLUDED: Final = frozenset({"kube-system"})
"""Namespaces that no webhook is asked about, whatever their labels; the operator's own is another."""

COUNTS: Final = ("pods", "injected", "missed")
"""Status fields of kinds that count pods."""


class Repairer:
    """The search and the repair.

    Args:
        settings: whether, how often, and how fast.
        api: the way to the API server.
        kinds: the kinds.
        catalogue: the resources, some of which count pods.
        namespaces: which namespaces ask for sidecars.
        inject: what a pod would get.
        announcer: posts Events.
        leading: tells whether this replica holds the Lease.
        counted: called with a resource whose counts, or whose absent sidecars, have changed.
        found: called with the namespaces in which pods are labelled themselves.
        connected: tells whether some replica holds the stream of a pod, given by namespace and uid.
        registry: where metrics are registered.
        sleep: waits; tests have their own.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        *,
        kinds: Mapping[str, Kind[Any]],
        catalogue: Catalogue,
        namespaces: Namespaces,
        inject: Injector,
        announcer: Announcer,
        leading: Callable[[], bool],
        counted: Callable[[ResourceKey], None],
        found: Callable[[], None],
        connected: Callable[[str, str], bool],
        registry: CollectorRegistry,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._api = api
        self._excluded = EXCLUDED | {settings.namespace}
        self._counting = frozenset(kind.kind for kind in kinds.values() if kind.counts_pods)
        self._catalogue = catalogue
        self._namespaces = namespaces
        self._inject = inject
        self._announcer = announcer
        self._leading = leading
        self._counted = counted
        self._found = found
        self._sleep = sleep
        self._absence = Absence(connected)
        self._evictions = Evictions()
        self._said: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._counts: dict[ResourceKey, dict[str, int]] = {}
        self._log = structlog.get_logger("repair")
        self.with_pods: frozenset[str] = frozenset()
        """Namespaces in which the last search found pods that are to have a sidecar."""
        self._pods = Gauge(
            "pillion_operator_pods",
            "Pods that are to have a sidecar, by how they fare; from the leader's last search.",
            ["state"],
            registry=registry,
        )
        self._outcomes = Counter(
            "pillion_operator_evictions_total",
            "Evictions of pods without sidecar, by outcome.",
            ["outcome"],
            registry=registry,
        )

    def counts(self, known: Known) -> Mapping[str, JSON]:
        """Give the counts for the status of a resource; those that stand there as long as nothing was counted."""
        if known.key.kind not in self._counting:
            return {}
        counted = self._counts.get(known.key)
        return counted if counted is not None else {name: known.status[name] for name in COUNTS if name in known.status}

    def absent(self, known: Known) -> tuple[str, ...] | None:
        """Give the pods whose sidecar runs a resource and is not heard; None while nobody knows, nobody where nobody looks."""
        return () if self._settings.repair == "off" else self._absence.of(known)

    async def run(self) -> None:
        """Search again and again while this replica leads, until cancelled."""
        while True:
            await self._sleep(
                self._settings.repair_interval if self._leading() else min(1.0, self._settings.repair_interval)
            )
            if self._settings.repair == "off" or not self._leading():
                self._absence.forget()
                continue
            try:
                missed = await self.search()
                if self._settings.repair == "evict":
                    await self._evict(missed)
            except ApiError as error:
                fix = "; apply the operator's ClusterRole" if error.status == 403 else ""
                self._log.warning(f"pods could not be searched{fix}", error=str(error))

    async def search(self) -> list[Finding]:
        """Look at all pods that are to have a sidecar, tell about those that have none, and give those that could have one.

        Raises:
            ApiError: the API server cannot be asked; nothing is counted then.
        """
        totals = dict.fromkeys(State, 0)
        counting: dict[str, list[tuple[Known, dict[str, int]]]] = {}
        for known in self._catalogue:
            if known.key.kind in self._counting:
                counting.setdefault(known.key.namespace, []).append((known, dict.fromkeys(COUNTS, 0)))
        missed: list[Finding] = []
        told: list[Finding] = []
        suspects: list[Finding] = []
        seen: set[str] = set()
        async for finding in self._findings():
            totals[finding.state] += 1
            seen.add(finding.namespace)
            _count(finding, counting.get(finding.namespace, ()))
            if self._absence.suspicious(finding):
                suspects.append(finding)
            if finding.state is State.MISSED:
                missed.append(finding)
            if finding.state is not State.INJECTED and len(told) < MAX_EVENTS:
                told.append(finding)
        for state, count in totals.items():
            self._pods.labels(state.value).set(count)
        if missed:
            self._log.warning(
                "pods run without their sidecar", pods=len(missed), first=f"{missed[0].namespace}/{missed[0].name}"
            )
        for finding in told:
            self._tell(finding)
        counts = {known.key: counted for pairs in counting.values() for known, counted in pairs}
        changed = [key for key, found in counts.items() if self._counts.get(key) != found]
        self._counts = counts
        changed += [
            known.key for name in self._absence.searched(suspects) for known in self._catalogue.in_namespace(name)
        ]
        for key in changed:
            self._counted(key)
        if seen != self.with_pods:
            self.with_pods = frozenset(seen)
            self._found()
        return missed

    async def _findings(self) -> AsyncIterator[Finding]:
        asking = [name for name in self._namespaces.asking() if name not in self._excluded]
        for namespace in asking:
            async for finding in self._page_through(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods", {}):
                yield finding
        passed = self._excluded.union(asking)
        async for finding in self._page_through("/api/v1/pods", {"labelSelector": f"{INJECT_LABEL}=true"}):
            if finding.namespace not in passed:
                yield finding

    async def _page_through(self, path: str, selection: Mapping[str, str]) -> AsyncIterator[Finding]:
        query = {**selection, "limit": str(PAGE)}
        while True:
            page = await self._api.get(path, resource="pods", query=query, timeout=LIST_TIMEOUT)
            for pod in page.get("items") or ():
                namespace = self._namespaces.get(pod["metadata"].get("namespace", "")) or Namespace()
                finding = examine(pod, namespace.labels, partial(self._inject, namespace=namespace))
                if finding is not None:
                    yield finding
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return
            query = {**selection, "limit": str(PAGE), "continue": following}
            await asyncio.sleep(0)  # reviews and streams go first

    def _tell(self, finding: Finding) -> None:
        now = asyncio.get_running_loop().time()
        key = (finding.uid, finding.reason)
        if self._said.get(key, -REPEAT) > now - REPEAT:
            return
        self._said[key] = now
        self._said.move_to_end(key)
        while len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)
        self._announce(finding, "Warning", finding.reason, f"no Pillion sidecar: {finding.message}")

    def _announce(self, finding: Finding, kind: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        regarding = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": finding.namespace,
            "name": finding.name,
            "uid": finding.uid,
        }
        self._announcer.announce(
            regarding, "Warning" if kind == "Warning" else "Normal", reason, note, action="Searched"
        )

    async def _evict(self, missed: list[Finding]) -> None:
        for chosen in self._evictions.choose(missed):
            if not self._leading():
                return
            outcome = await self._evict_one(chosen)
            self._outcomes.labels(outcome).inc()
            if outcome == "evicted":
                self._evictions.evicted(chosen, missed)
                self._log.info("a pod without sidecar was evicted", namespace=chosen.namespace, pod=chosen.name)
                self._announce(chosen, "Normal", "SidecarRepair", "evicted, so that it is made anew with its sidecar")
            await self._sleep(self._settings.eviction_pause)

    async def _evict_one(self, chosen: Finding) -> str:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": chosen.name, "namespace": chosen.namespace},
            # Not another pod that has taken the name since.
            "deleteOptions": {"preconditions": {"uid": chosen.uid}},
        }
        try:
            await self._api.create(
                core_path("pods", chosen.namespace, chosen.name) + "/eviction", body, resource="pods/eviction"
            )
        except ApiError as error:
            if error.status == 429:
                return "budget"  # a PodDisruptionBudget holds it; the next search tries again
            if error.status in (404, 409):
                return "gone"
            if error.status == 403:
                self._log.warning(
                    "pods may not be evicted; bind the ClusterRole pillion-operator-evict", error=str(error)
                )
                return "forbidden"
            raise
        return "evicted"


def _count(finding: Finding, counting: Iterable[tuple[Known, dict[str, int]]]) -> None:
    pod = Pod(namespace=NamespaceName(finding.namespace), labels=finding.labels, name=finding.name)
    for known, counted in counting:
        if known.good is not None and selects(known.good.resource.spec.selector, pod):
            counted["pods"] += 1
            counted["injected" if finding.state is State.INJECTED else "missed"] += 1
