"""What the operator knows of the resources: each as it was last seen, whether it is accepted, and which version of it is in force.

Pure state, fed by whoever watches. The verdict on a resource follows from the documents of its namespace alone, never from the order in which they came, so that
every replica and every restart judges alike. Only *what is in force* has a history: when an edit is refused, the version that was accepted last stays; a process that
has not seen that version itself takes it from the resource's status, where `last_good` keeps it.

It holds no Secret, no sidecar and no status to be; see `fleet` and `conditions`.
"""

import hashlib
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from pillion.kinds import registry
from pillion.kinds.definition import Kind
from pillion.kinds.resource import Resource, check_document, check_relations
from pillion.kinds.snapshot import canonical_json
from pillion.kinds.violations import SPEC, Violation
from pillion_operator import last_good

JSON = Any


class ResourceKey(NamedTuple):
    """What identifies a resource in the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds and blocks that there are; the operator knows them only through this."""

    kinds: Mapping[str, Kind[Any]]
    blocks: tuple[str, ...]
    block_of: Mapping[str, str]

    @classmethod
    def load(cls) -> "Vocabulary":
        """Take what is registered."""
        kinds = registry.kinds()
        return cls(kinds=kinds, blocks=registry.BLOCKS, block_of={name: registry.block_of(name) for name in kinds})


class Compiled(msgspec.Struct, frozen=True):
    """One generation of a resource that passed every check of its own."""

    resource: Resource
    generation: int
    fingerprint: str
    """SHA-256 of its compiled form: equal where two generations mean the same."""
    secrets: tuple[str, ...]
    """Names of the Secrets that it refers to, sorted."""


class Known(msgspec.Struct, kw_only=True):
    """One resource."""

    key: ResourceKey
    uid: str
    generation: int
    version: int
    told: bytes
    """The object's status, packed: thousands of decoded ones would be half of the process's memory."""
    current: Compiled | None = None
    """The generation as it is; None where it fails a check of its own."""
    own: tuple[Violation, ...] = ()
    related: tuple[Violation, ...] = ()
    judged: bool = False
    """Whether the current generation has been compared with the other resources of its namespace; before that there is no verdict."""
    counted: bool | None = None
    """The verdict under which it is counted."""
    good: Compiled | None = None
    """What is in force: the current generation, or the last one that was accepted."""

    @property
    def status(self) -> JSON:
        """The object's status as it was last seen, or written; a copy."""
        return msgspec.json.decode(zlib.decompress(self.told))

    @status.setter
    def status(self, status: JSON) -> None:
        self.told = _packed(status)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Everything that is wrong with the current generation, warnings included."""
        return self.own + self.related

    @property
    def accepted(self) -> bool:
        """Whether the current generation is the one in force."""
        return self.current is not None and self.good is self.current


class Change(NamedTuple):
    """What an observation changed."""

    meaning: bool
    """The spec may mean something else: the namespace must be compiled again."""
    status: bool
    """The object's status is another one than before."""


class Catalogue:
    """All resources of the cluster.

    Args:
        vocabulary: the known kinds.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._kinds = vocabulary.kinds
        self._all: dict[str, dict[str, dict[str, Known]]] = {}
        self._unrelated: dict[str, dict[str, set[str]]] = {}
        self._alone = frozenset(kind.kind for kind in self._kinds.values() if not kind.relates)
        self.verdicts: Counter[tuple[str, bool]] = Counter()
        """How many resources there are by kind and verdict."""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Known]:
        for kinds in self._all.values():
            for named in kinds.values():
                yield from named.values()

    def get(self, key: ResourceKey) -> Known | None:
        """Give what is known of *key*."""
        return self._all.get(key.namespace, {}).get(key.kind, {}).get(key.name)

    def namespaces(self) -> list[str]:
        """Give the namespaces that hold resources."""
        return list(self._all)

    def in_namespace(self, namespace: str) -> Iterator[Known]:
        """Yield the resources of one namespace."""
        for named in self._all.get(namespace, {}).values():
            yield from named.values()

    def in_force(self, namespace: str) -> list[Compiled]:
        """Give the versions that sidecars of *namespace* are to run, as far as they select them."""
        return [known.good for known in self.in_namespace(namespace) if known.good is not None]

    def observe(self, document: JSON, *, trusted: bool = False) -> tuple[ResourceKey, Change]:
        """Take a resource as the API server shows it.

        Versions older than the one known are passed over, since events of an object and of its successor may overtake each other; unless the document is
        *trusted*, because it was just read (after a restore of etcd versions begin anew).
        """
        metadata = document["metadata"]
        # Of these two there are few, however many resources there are.
        kind, namespace = sys.intern(document["kind"]), sys.intern(metadata.get("namespace", ""))
        key = ResourceKey(kind, namespace, metadata["name"])
        uid, generation = metadata.get("uid", ""), int(metadata.get("generation", 0))
        version, told = version_of(metadata), _packed(document.get("status") or {})
        known = self.get(key)
        if known is not None and version < known.version and not trusted:
            return key, Change(meaning=False, status=False)
        if known is not None and known.uid == uid:
            changed = Change(meaning=generation != known.generation, status=told != known.told)
            known.version, known.told = version, told
            if not changed.meaning:
                # Another replica may have kept a version that this process never saw.
                if changed.status and known.good is None and self._recall(known, document):
                    self._relate_later(key)
                    return key, Change(meaning=True, status=True)
                return key, changed
            known.generation = generation
        else:  # new, or deleted and created again under the same name
            if known is not None:
                self._count(known, None)
            known = Known(key=key, uid=uid, generation=generation, version=version, told=told)
            self._all.setdefault(key.namespace, {}).setdefault(key.kind, {})[key.name] = known
        known.current, known.own = self._check(document, generation)
        known.judged = False
        if known.good is None:
            self._recall(known, document)
        self._relate_later(key)
        return key, Change(meaning=True, status=True)

    def forget(self, key: ResourceKey, uid: str = "") -> bool:
        """Drop a deleted resource; with *uid* only if it is still that very object. Tells whether anything was dropped."""
        known = self.get(key)
        if known is None or (uid and known.uid != uid):
            return False
        kinds = self._all[key.namespace]
        del kinds[key.kind][key.name]
        if not kinds[key.kind]:
            del kinds[key.kind]
        if not kinds:
            del self._all[key.namespace]
        self._count(known, None)
        self._relate_later(key)
        return True

    def relate(self, namespace: str) -> tuple[set[ResourceKey], list[Exception]]:
        """Judge what only shows across resources, for the kinds that changed since the last time, and settle what is in force.

        Gives the resources whose verdict or version in force changed, and the errors of kinds that failed to judge (their resources keep their verdicts).
        """
        changed: set[ResourceKey] = set()
        failures: list[Exception] = []
        for kind, touched in self._unrelated.pop(namespace, {}).items():
            named = self._all.get(namespace, {}).get(kind, {})
            if kind in self._alone:
                # Nothing about the others can have changed: ten thousand resources of such a kind cost no more than one.
                named = {name: named[name] for name in touched if name in named}
            found: dict[str, list[Violation]] = {}
            try:
                for (_, _, name), violation in check_relations(_currents(named.values()), self._kinds):
                    found.setdefault(name, []).append(violation)
            except Exception as error:  # noqa: BLE001 - a kind's own code; one kind must not stop the others
                failures.append(error)
                found = {name: list(known.related) for name, known in named.items()}
            for name, known in named.items():
                related = tuple(found.get(name, ()))
                good = known.current if known.current is not None and not _errors(related) else known.good
                if not known.judged or related != known.related or good is not known.good:
                    known.judged, known.related, known.good = True, related, good
                    self._count(known, known.accepted)
                    changed.add(known.key)
        return changed, failures

    def restore(self, key: ResourceKey, document: JSON, generation: int) -> bool:
        """Put an earlier version of a resource in force that has none; tells whether that was done. A version that fails its checks is not."""
        known = self.get(key)
        if known is None or known.good is not None:
            return False
        known.good, _ = self._check(document, generation)
        return known.good is not None

    def _recall(self, known: Known, document: JSON) -> bool:
        held = last_good.document_of(*known.key, document.get("status") or {})
        return held is not None and self.restore(known.key, *held)

    def _relate_later(self, key: ResourceKey) -> None:
        self._unrelated.setdefault(key.namespace, {}).setdefault(key.kind, set()).add(key.name)

    def _count(self, known: Known, verdict: bool | None) -> None:  # noqa: FBT001 - a verdict is one
        if known.counted is not None:
            self.verdicts[known.key.kind, known.counted] -= 1
        if verdict is not None:
            self.verdicts[known.key.kind, verdict] += 1
        known.counted = verdict

    def _check(self, document: JSON, generation: int) -> tuple[Compiled | None, tuple[Violation, ...]]:
        try:
            # The API server adds top-level fields of its own to no resource, but a later version of it may.
            plain = {name: document[name] for name in ("apiVersion", "kind", "metadata", "spec") if name in document}
            checked = check_document(plain, self._kinds)
            resource = checked.resource
            if resource is None:
                return None, checked.violations
            compiled = canonical_json(self._kinds[resource.kind].compile(resource.name, resource.spec))
        except Exception as error:  # noqa: BLE001 - a kind's own code; the resource is refused and the operator goes on
            rule = f"cannot be judged: {type(error).__name__}: {error}"
            return None, (Violation(path=SPEC, rule=rule, fix="report it, this is a bug of Pillion"),)
        fingerprint = hashlib.sha256(compiled).hexdigest()
        return Compiled(resource, generation, fingerprint, tuple(sorted(resource.secrets))), checked.violations


def version_of(metadata: Mapping[str, JSON]) -> int:
    """Read a resourceVersion as the number that it is (Kubernetes guarantees its order since 1.35, and always kept it for one resource type)."""
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


def _packed(status: JSON) -> bytes:
    """Give a status in a quarter of its size; equal statuses give equal bytes, since the API server always orders fields alike."""
    return zlib.compress(msgspec.json.encode(status), 1)


def _currents(known: Iterable[Known]) -> list[Resource]:
    return [one.current.resource for one in known if one.current is not None]


def _errors(violations: Iterable[Violation]) -> bool:
    return any(violation.severity == "error" for violation in violations)
