"""Which pods were missed: they are to have a sidecar, and run without one, because they began before their label did or while no webhook answered. Pure.

A pod is judged by the very function that would have injected it. `Evictions` decides which missed pods may be evicted so that their controllers make them anew:
pods without a controller would be gone for good, a second pod of a controller waits until the first has been replaced, and a controller whose new pods are missed as
well is given up, because evicting them again would help nobody.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from pillion_operator.injection.patch import MIRROR_ANNOTATION, Injection, has_sidecar
from pillion_operator.injection.precedence import INJECT_LABEL, wanted
from pillion_operator.injection.sidecar import NAME

JSON = Any

MAX_CONTROLLERS: Final = 10_000
"""Controllers that are remembered; the oldest are forgotten first."""


class State(Enum):
    """How a pod that is to have a sidecar fares."""

    INJECTED = "injected"
    MISSED = "missed"
    """It could have one and has none."""
    IMPOSSIBLE = "impossible"
    """It cannot have one; the reason says why."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One pod that is to have a sidecar.

    Args:
        namespace: its namespace.
        name: its name.
        uid: its uid.
        labels: its labels.
        controller: uid of the object that would make it anew; empty where there is none.
        state: how it fares.
        started: whether its sidecar has started, which it does with a configuration only.
        reason: why it has no sidecar, one CamelCase word; empty where it has one.
        message: the same for a person, with the fix.
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    controller: str
    state: State
    started: bool = False
    reason: str = ""
    message: str = ""


def examine(
    pod: Mapping[str, JSON], namespace_labels: Mapping[str, str], inject: Callable[[Mapping[str, JSON]], Injection]
) -> Finding | None:
    """Judge a pod as it runs; None for one that is to have no sidecar, or that is at its end.

    Args:
        pod: the pod.
        namespace_labels: labels of its namespace.
        inject: what would be injected if it were created now.
    """
    metadata, spec, phase = pod["metadata"], pod.get("spec") or {}, (pod.get("status") or {}).get("phase")
    labels = metadata.get("labels") or {}
    if metadata.get("deletionTimestamp") or phase in ("Succeeded", "Failed"):
        return None
    if not wanted(labels, namespace_labels) or MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        return None
    owners = metadata.get("ownerReferences") or ()
    state, reason, message = State.INJECTED, "", ""
    if not has_sidecar(spec):
        would = inject(pod)
        if would.reason:
            state, reason, message = State.IMPOSSIBLE, would.reason, would.message
        else:
            whose = "pod" if labels.get(INJECT_LABEL) == "true" else "namespace"
            state, reason = State.MISSED, "SidecarMissed"
            message = (
                f"the {whose} is labelled {INJECT_LABEL}=true, but this pod was created without a sidecar; "
                "restart its workload, as in kubectl rollout restart"
            )
    return Finding(
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        labels=labels,
        controller=next((owner.get("uid", "") for owner in owners if owner.get("controller")), ""),
        state=state,
        started=_started(pod),
        reason=reason,
        message=message,
    )


def _started(pod: Mapping[str, JSON]) -> bool:
    containers = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return any(one.get("name") == NAME and one.get("started") for one in containers)


class Evictions:
    """Which missed pods may go, with the memory of what became of earlier evictions."""

    def __init__(self) -> None:
        self._missed_before: OrderedDict[str, frozenset[str]] = OrderedDict()

    def choose(self, missed: Iterable[Finding]) -> list[Finding]:
        """Choose from all missed pods of one search: one of each controller at most, of those that may be evicted."""
        by_controller: dict[str, list[Finding]] = {}
        for finding in missed:
            if finding.controller:
                by_controller.setdefault(finding.controller, []).append(finding)
        return [pods[0] for controller, pods in by_controller.items() if not self.given_up(controller, pods)]

    def given_up(self, controller: str, missed: Iterable[Finding]) -> bool:
        """Tell whether pods that *controller* made after an eviction were missed again."""
        before = self._missed_before.get(controller)
        return before is not None and any(finding.uid not in before for finding in missed)

    def evicted(self, chosen: Finding, missed: Iterable[Finding]) -> None:
        """Remember an eviction, and which pods of its controller were missed then."""
        own = frozenset(finding.uid for finding in missed if finding.controller == chosen.controller)
        # The first eviction counts: whatever appears afterwards was made under a webhook that should have answered.
        self._missed_before.setdefault(chosen.controller, own)
        while len(self._missed_before) > MAX_CONTROLLERS:
            self._missed_before.popitem(last=False)
