"""From resources in force to what each sidecar gets: compile once per group of like pods, push to those for whom something changed.

Pods that no selector of the namespace can tell apart form one group and share one compilation and one encoded message, so a thousand replicas of a Deployment
cost one snapshot. A subscription holds the newest message only: a slow sidecar skips what is out of date instead of queueing it.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pillion.kinds.exchange import SNAPSHOT_EVENT, SnapshotMessage
from pillion.kinds.resource import Resource
from pillion.kinds.selection import Namespace, Pod
from pillion.kinds.snapshot import Snapshot, compile_snapshot
from pillion_operator.catalogue import Catalogue, Compiled, ResourceKey, Vocabulary
from pillion_operator.fleet import Facts, Fleet, PodUid
from pillion_operator.secretstore import SecretStore

JSON = Any


class Subscription:
    """The operator's end of one stream.

    Args:
        facts: whose stream it is.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.offered = facts.revision
        self.offered_at = 0.0
        self.closing = False
        self._newest: bytes | None = None
        self._wake = asyncio.Event()

    def offer(self, revision: str, message: bytes, now: float) -> None:
        """Put *message* in place of whatever waits."""
        self.offered, self.offered_at, self._newest = revision, now, message
        self._wake.set()

    def close(self) -> None:
        """Ask for the end of the stream."""
        self.closing = True
        self._wake.set()

    async def next(self, seconds: float) -> bytes | None:
        """Wait for the newest message; None after *seconds*, or when the stream is to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return None
        self._wake.clear()
        message, self._newest = self._newest, None
        return message


class Published(msgspec.Struct, frozen=True):
    """What a round of publishing did."""

    touched: set[ResourceKey]
    """Resources whose tally may have changed."""
    offered: int
    """Streams that were given a new snapshot."""


class Distribution:
    """Streams, and what flows into them.

    Args:
        vocabulary: kinds and blocks.
        catalogue: the resources.
        fleet: the sidecars.
        secrets: Secret values.
    """

    def __init__(self, vocabulary: Vocabulary, catalogue: Catalogue, fleet: Fleet, secrets: SecretStore) -> None:
        self._vocabulary = vocabulary
        self._catalogue = catalogue
        self._fleet = fleet
        self._secrets = secrets
        self._subscriptions: dict[PodUid, Subscription] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, facts: Facts) -> tuple[Subscription, set[ResourceKey]]:
        """Take in a stream; an older one of the same pod is closed. Gives the resources whose tally may have changed."""
        older = self._subscriptions.get(facts.uid)
        if older is not None:
            older.close()
        subscription = self._subscriptions[facts.uid] = Subscription(facts)
        return subscription, self._fleet.put(facts)

    def unsubscribe(self, subscription: Subscription, now: float) -> set[ResourceKey]:
        """Take out a stream that has ended. Gives the resources whose tally may have changed."""
        facts = subscription.facts
        if self._subscriptions.get(facts.uid) is not subscription:
            return set()  # replaced by a newer stream of the same pod
        del self._subscriptions[facts.uid]
        return self._fleet.leave(facts.namespace, facts.uid, now)

    def subscription(self, uid: PodUid) -> Subscription | None:
        """Give the stream of a pod, if this replica holds it."""
        return self._subscriptions.get(uid)

    def close_all(self) -> None:
        """Ask for the end of every stream."""
        for subscription in self._subscriptions.values():
            subscription.close()

    async def publish(self, namespace: str, now: float) -> Published:
        """Bring every sidecar of *namespace* up to date.

        Raises:
            ApiError: a Secret could not be asked for; nothing was published.
        """
        if not self._fleet.in_namespace(namespace):
            self._secrets.keep(namespace, frozenset())
            return Published(set(), 0)
        names = frozenset(name for c in self._catalogue.in_force(namespace) for name in c.secrets)
        missing = self._secrets.keep(namespace, names)
        if missing:
            await self._secrets.load(namespace, sorted(missing))
        # From here on nothing waits: what is compiled is what is known at this moment, for all sidecars alike.
        in_force = {(c.resource.kind, c.resource.name): c for c in self._catalogue.in_force(namespace)}
        resources = [c.resource for c in in_force.values()]
        versions = self._secrets.versions(namespace)
        telling = label_keys(resources)
        snapshots: dict[tuple[tuple[str, str], ...], tuple[Snapshot, dict[tuple[str, str], str]]] = {}
        messages: dict[str, bytes] = {}
        touched: set[ResourceKey] = set()
        offered = 0
        for sidecar in self._fleet.in_namespace(namespace):
            labels = {key: value for key, value in sidecar.facts.labels.items() if key in telling}
            group = tuple(sorted(labels.items()))
            if group not in snapshots:
                snapshot = self._compile(namespace, labels, resources, versions)
                contents = {key: fingerprint(in_force[key], versions) for key in snapshot.resources}
                snapshots[group] = snapshot, contents
            snapshot, contents = snapshots[group]
            touched |= self._fleet.retarget(sidecar, snapshot.revision, contents)
            subscription = self._subscriptions.get(sidecar.facts.uid)
            if subscription is None or subscription.offered == snapshot.revision:
                continue
            if snapshot.revision not in messages:
                messages[snapshot.revision] = self._message(namespace, snapshot)
            subscription.offer(snapshot.revision, messages[snapshot.revision], now)
            offered += 1
        return Published(touched, offered)

    def _compile(
        self, namespace: str, labels: Mapping[str, str], resources: list[Resource], versions: Mapping[str, str]
    ) -> Snapshot:
        return compile_snapshot(
            resources,
            Pod(namespace=Namespace(namespace), labels=labels),
            kinds=self._vocabulary.kinds,
            blocks=self._vocabulary.blocks,
            block_of=self._vocabulary.block_of,
            secret_versions=versions,
        )

    def _message(self, namespace: str, snapshot: Snapshot) -> bytes:
        values = self._secrets.values(namespace, snapshot.secrets)
        message = SnapshotMessage(document=snapshot.document.decode(), secrets=values)
        return event(SNAPSHOT_EVENT, msgspec.json.encode(message), snapshot.revision)


def event(name: str, data: bytes = b"{}", identifier: str = "") -> bytes:
    """Write a server-sent event; *data* is JSON and therefore one line."""
    head = f"event: {name}\n" + (f"id: {identifier}\n" if identifier else "")
    return head.encode() + b"data: " + data + b"\n\n"


def label_keys(resources: Iterable[Resource]) -> frozenset[str]:
    """Give the labels that some selector asks for: two pods that agree in these get the same snapshot."""
    keys: set[str] = set()
    for resource in resources:
        selector = resource.spec.selector
        if selector is not None:
            keys |= selector.match_labels.keys()
            keys |= {expression.key for expression in selector.match_expressions}
    return frozenset(keys)


def fingerprint(compiled: Compiled, versions: Mapping[str, str]) -> str:
    """Give what identifies a resource's meaning: its compiled form, and the versions of its Secrets."""
    if not compiled.secrets:
        return compiled.fingerprint
    parts = [compiled.fingerprint, *(f"{name}={versions.get(name, '')}" for name in compiled.secrets)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
