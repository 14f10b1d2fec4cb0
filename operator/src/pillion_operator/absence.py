"""Sidecars that run and that no replica hears: they go on with what they had last, and only their pods tell that they are there.

Known by two searches in a row, so that a sidecar that is just starting or changing replicas is none of them. Before the second search nobody knows, and that is another
answer than nobody being absent. Pure state.
"""

from collections.abc import Callable, Iterable

from pillion.kinds.selection import Namespace, Pod, selects
from pillion_operator.catalogue import Known
from pillion_operator.injection.repair import Finding, State


class Absence:
    """The memory of the last two searches.

    Args:
        connected: tells whether some replica holds the stream of a pod, given by namespace and uid.
    """

    def __init__(self, connected: Callable[[str, str], bool]) -> None:
        self._connected = connected
        self._suspects: frozenset[str] = frozenset()
        self._absent: dict[str, tuple[Finding, ...]] = {}
        self._searches = 0

    def suspicious(self, finding: Finding) -> bool:
        """Tell whether a pod's sidecar runs and is not heard now."""
        return (
            finding.state is State.INJECTED and finding.started and not self._connected(finding.namespace, finding.uid)
        )

    def searched(self, suspects: Iterable[Finding]) -> set[str]:
        """Take the outcome of a search; gives the namespaces in which others are absent than before."""
        absent: dict[str, tuple[Finding, ...]] = {}
        uids: set[str] = set()
        for finding in suspects:
            uids.add(finding.uid)
            if finding.uid in self._suspects:
                absent[finding.namespace] = (*absent.get(finding.namespace, ()), finding)
        before, self._absent, self._suspects = self._absent, absent, frozenset(uids)
        self._searches += 1
        return {namespace for namespace in {*before, *absent} if before.get(namespace) != absent.get(namespace)}

    def forget(self) -> None:
        """Begin anew: this replica does not search any more."""
        self._suspects, self._absent, self._searches = frozenset(), {}, 0

    def of(self, known: Known) -> tuple[str, ...] | None:
        """Give the absent pods that a resource selects, sorted; None while nobody knows."""
        if self._searches < 2:
            return None
        good, namespace = known.good, known.key.namespace
        if good is None or namespace not in self._absent:
            return ()
        return tuple(
            sorted(
                one.name
                for one in self._absent[namespace]
                if not self._connected(namespace, one.uid)
                and selects(
                    good.resource.spec.selector, Pod(namespace=Namespace(namespace), labels=one.labels, name=one.name)
                )
            )
        )
