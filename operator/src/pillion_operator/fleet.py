"""The sidecars: what each is to run, what it says it runs, and what that means for a resource.

A resource is compared per sidecar: what its target holds of the resource against what the revision it acknowledged held. So an edit of one resource makes only this
resource "lagging", a withdrawal counts until the last sidecar has dropped it, and a new revision that means the same changes nothing.

Pure state. Streams push targets (`distribution`), acknowledgements and reports of other replicas come in; time is an argument.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NewType

import msgspec

from pillion.kinds.crd import MAX_LAGGING
from pillion.kinds.exchange import Acknowledgement, ConditionReport, UnreadyReport
from pillion_operator import hearing
from pillion_operator.catalogue import ResourceKey
from pillion_operator.hearing import Statement

JSON = Any

PodUid = NewType("PodUid", str)
Contents = Mapping[tuple[str, str], str]
"""What a revision holds: fingerprints by (kind, name)."""

REMEMBERED: Final = 32
"""Revisions whose contents are remembered beyond those that some sidecar runs or is to run: for sidecars that come back with one of them."""

MAX_REASONS: Final = 3
"""Different messages of sidecars that a condition repeats."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar is and says; travels between replicas."""

    uid: PodUid
    namespace: str
    pod: str
    labels: dict[str, str]
    revision: str = ""
    """The revision that it runs."""
    refusal: str = ""
    """Why it does not run the one it was sent last; empty when it does."""
    unready: tuple[UnreadyReport, ...] = ()
    observed: dict[str, dict[str, dict[str, JSON]]] = {}
    """Figures by kind and name."""
    conditions: tuple[ConditionReport, ...] = ()
    """What is not as it normally is, per resource."""
    acknowledged: bool = False
    """Whether it has said anything since its stream was opened; what it said before holds until then."""


class Sidecar(msgspec.Struct, kw_only=True):
    """One sidecar."""

    facts: Facts
    origin: str = ""
    """The replica that holds its stream; empty for this one."""
    target: str = ""
    wanted: Contents = {}
    running: Contents = {}
    left_at: float | None = None
    said: Mapping[tuple[str, str], tuple[ConditionReport, ...]] = {}
    """`facts.conditions` by resource."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How one resource fares over all sidecars."""

    applied: int = 0
    total: int = 0
    lagging: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    unready: tuple[tuple[str, UnreadyReport], ...] = ()
    unready_count: int = 0
    figures: Mapping[str, JSON] = {}
    statements: tuple[Statement, ...] = ()

    @property
    def propagated(self) -> bool:
        """Whether every sidecar runs what it is to run."""
        return self.applied == self.total


class Fleet:
    """All connected sidecars, and for a while those that just left."""

    def __init__(self) -> None:
        self._sidecars: dict[str, dict[PodUid, Sidecar]] = {}
        self._contents: OrderedDict[str, Contents] = OrderedDict()
        self._prune_at = REMEMBERED

    def __iter__(self) -> Iterator[Sidecar]:
        for sidecars in self._sidecars.values():
            yield from sidecars.values()

    def get(self, namespace: str, uid: PodUid) -> Sidecar | None:
        """Give one sidecar."""
        return self._sidecars.get(namespace, {}).get(uid)

    def in_namespace(self, namespace: str) -> list[Sidecar]:
        """Give the sidecars of a namespace."""
        return list(self._sidecars.get(namespace, {}).values())

    def namespaces(self) -> list[str]:
        """Give the namespaces with sidecars."""
        return list(self._sidecars)

    def put(self, facts: Facts, origin: str = "") -> set[ResourceKey]:
        """Add a sidecar, or replace what is known of it. Gives the resources whose tally may have changed."""
        known = self.get(facts.namespace, facts.uid)
        running = self._contents.get(facts.revision, {})
        if known is None:
            self._sidecars.setdefault(facts.namespace, {})[facts.uid] = Sidecar(
                facts=facts, origin=origin, running=running, said=hearing.by_resource(facts.conditions)
            )
            return _keys(facts.namespace, running, _reported(facts))
        before = known.facts
        if not facts.acknowledged and before.revision == facts.revision:
            # It comes back as it left, perhaps to another replica: what it said then still holds, until it says so again.
            facts = msgspec.structs.replace(
                facts,
                refusal=before.refusal,
                unready=before.unready,
                observed=before.observed,
                conditions=before.conditions,
            )
        known.origin, known.left_at, known.facts = origin, None, facts
        touched = _differing(known.running, running) | _reported_changes(before, facts)
        if facts.conditions != before.conditions:
            said = hearing.by_resource(facts.conditions)
            touched |= _concerned(hearing.changed(known.said, said), known.wanted, running)
            known.said = said
        if before.refusal != facts.refusal:
            touched |= _differing(running, known.wanted)
        known.running = running
        return _keys(facts.namespace, touched)

    def acknowledge(self, namespace: str, uid: PodUid, said: Acknowledgement) -> set[ResourceKey]:
        """Take an acknowledgement. Gives the resources whose tally may have changed; none where the sidecar is not known."""
        known = self.get(namespace, uid)
        if known is None:
            return set()
        observed: dict[str, dict[str, dict[str, JSON]]] = {}
        for one in said.observed:
            observed.setdefault(one.kind, {})[one.name] = one.figures
        refusal = "" if said.applied else said.message or "no reason given"
        revision = said.revision if said.applied else known.facts.revision
        facts = msgspec.structs.replace(
            known.facts,
            revision=revision,
            refusal=refusal,
            unready=said.unready,
            observed=observed,
            conditions=said.conditions,
            acknowledged=True,
        )
        left_at = known.left_at
        touched = self.put(facts, known.origin)
        known.left_at = left_at  # a late word of a sidecar that has left does not bring it back
        return touched

    def retarget(self, sidecar: Sidecar, revision: str, contents: Contents) -> set[ResourceKey]:
        """Say what *sidecar* is to run; one that has left and would lag is dropped. Gives the resources whose tally may have changed."""
        if sidecar.left_at is not None and contents != sidecar.running:
            return self._drop(sidecar)
        touched = _differing(sidecar.wanted, contents)
        self._remember(revision, contents)
        sidecar.target, sidecar.wanted = revision, contents
        if sidecar.facts.revision == revision and sidecar.running != contents:
            touched |= _differing(sidecar.running, contents)
            sidecar.running = contents
        if sidecar.facts.revision == revision and sidecar.facts.refusal:
            # It was asked back to what it runs: nothing is refused any more.
            sidecar.facts = msgspec.structs.replace(sidecar.facts, refusal="")
        return _keys(sidecar.facts.namespace, touched)

    def leave(self, namespace: str, uid: PodUid, now: float) -> set[ResourceKey]:
        """Take the end of a stream: an up-to-date sidecar counts on until `expire`, another one is dropped at once."""
        known = self.get(namespace, uid)
        if known is None:
            return set()
        known.left_at = now
        if known.running == known.wanted and not known.facts.unready:
            return set()
        return self._drop(known)

    def expire(self, before: float) -> set[ResourceKey]:
        """Drop the sidecars that left before *before* and did not return."""
        gone = [s for s in self if s.left_at is not None and s.left_at < before]
        return set().union(*(self._drop(sidecar) for sidecar in gone))

    def replace_origin(self, origin: str, facts: Iterable[Facts], now: float) -> set[ResourceKey]:
        """Take everything that another replica says about its sidecars; those that it no longer names have left. Gives the resources whose tally may have changed."""
        touched: set[ResourceKey] = set()
        named: set[PodUid] = set()
        for one in facts:
            known = self.get(one.namespace, one.uid)
            if known is not None and not known.origin and known.left_at is None:
                continue  # its stream has moved to this replica since
            named.add(one.uid)
            touched |= self.put(one, origin)
        for sidecar in [s for s in self if s.origin == origin and s.left_at is None and s.facts.uid not in named]:
            touched |= self.leave(sidecar.facts.namespace, sidecar.facts.uid, now)
        return touched

    def tally(self, key: ResourceKey) -> Tally:
        """Sum up one resource."""
        applied = total = unready_count = 0
        lagging: list[str] = []
        refusals: dict[str, None] = {}
        unready: list[tuple[str, UnreadyReport]] = []
        figures: list[Mapping[str, JSON]] = []
        said: list[tuple[str, ConditionReport]] = []
        short = (key.kind, key.name)
        for sidecar in self._sidecars.get(key.namespace, {}).values():
            wanted, running, facts = sidecar.wanted.get(short), sidecar.running.get(short), sidecar.facts
            if wanted is None and running is None:
                continue
            total += 1
            if wanted == running:
                applied += 1
            else:
                lagging.append(facts.pod)
                if facts.refusal:
                    refusals[facts.refusal] = None
            for report in facts.unready:
                if (report.kind, report.name) == short:
                    unready_count += 1
                    unready.append((facts.pod, report))
            for about in (short, (key.kind, "")):
                if about in sidecar.said:
                    said += [(facts.pod, report) for report in sidecar.said[about]]
            if key.kind in facts.observed and key.name in facts.observed[key.kind]:
                figures.append(facts.observed[key.kind][key.name])
        return Tally(
            applied=applied,
            total=total,
            lagging=tuple(sorted(lagging)[:MAX_LAGGING]),
            refusals=tuple(sorted(refusals)[:MAX_REASONS]),
            unready=tuple(sorted(unready, key=lambda pair: pair[0])[:MAX_REASONS]),
            unready_count=unready_count,
            figures=hearing.add_up(figures),
            statements=hearing.statements(said) if said else (),
        )

    def _remember(self, revision: str, contents: Contents) -> None:
        self._contents[revision] = contents
        self._contents.move_to_end(revision)
        if len(self._contents) >= self._prune_at:
            in_use = {s.target for s in self} | {s.facts.revision for s in self}
            unused = [r for r in self._contents if r not in in_use]
            for old in unused[: max(0, len(unused) - REMEMBERED)]:
                del self._contents[old]
            # Looking at every sidecar each time would make a fleet quadratic; once per so many new revisions is enough.
            self._prune_at = len(self._contents) + REMEMBERED

    def _drop(self, sidecar: Sidecar) -> set[ResourceKey]:
        namespace = sidecar.facts.namespace
        sidecars = self._sidecars[namespace]
        del sidecars[sidecar.facts.uid]
        if not sidecars:
            del self._sidecars[namespace]
        return _keys(namespace, sidecar.wanted, sidecar.running, _reported(sidecar.facts))


def _reported(facts: Facts) -> set[tuple[str, str]]:
    unready = {(report.kind, report.name) for report in facts.unready}
    told = {(report.kind, report.name) for report in facts.conditions if report.name}
    return unready | told | {(kind, name) for kind, named in facts.observed.items() for name in named}


def _concerned(told: Iterable[tuple[str, str]], *contents: Contents) -> set[tuple[str, str]]:
    """Give the resources that reports are about; one without a name is about all of its kind."""
    found = set(told)
    kinds = {kind for kind, name in found if not name}
    return {key for key in found if key[1]} | {key for held in contents for key in held if key[0] in kinds}


def _reported_changes(before: Facts, after: Facts) -> set[tuple[str, str]]:
    changed: set[tuple[str, str]] = set()
    if before.unready != after.unready:
        changed |= {(r.kind, r.name) for r in set(before.unready) ^ set(after.unready)}
    if before.observed != after.observed:
        for kind in {*before.observed, *after.observed}:
            old, new = before.observed.get(kind, {}), after.observed.get(kind, {})
            changed |= {(kind, name) for name in {*old, *new} if old.get(name) != new.get(name)}
    return changed


def _differing(one: Contents, other: Contents) -> set[tuple[str, str]]:
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def _keys(namespace: str, *groups: Iterable[tuple[str, str]]) -> set[ResourceKey]:
    return {ResourceKey(kind, namespace, name) for group in groups for kind, name in group}
