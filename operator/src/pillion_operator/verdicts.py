"""What is to be said of a resource: from all facts to the conditions of its status, without times. Pure.

Each condition says one thing: `Accepted`, whether this generation is good; `Propagated`, whether every connected sidecar that is concerned runs it; `Ready`, both, and
it works; `Stalled`, that a person must act; `Stale`, that an earlier version is what runs; `Degraded`, that the full job is not done. Every message that tells of
trouble names what to do about it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.definition import Kind
from pillion.kinds.violations import Violation
from pillion_operator.fleet import Tally
from pillion_operator.hearing import MAX_PODS, Statement

JSON = Any

MAX_VIOLATIONS: Final = 20
"""Violations that a message lists."""

DISCONNECTED: Final = "Disconnected"
"""Reason of `Stale` where sidecars run that no replica hears."""

PATIENCE: Final = 30.0
"""Seconds for which a connected sidecar may run an earlier version before that is called stale: far beyond what a swap takes."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a status is made of.

    Args:
        generation: the resource's generation now.
        accepted: whether this generation is in force.
        violations: what is wrong with it, warnings included.
        good_generation: the generation in force; 0 where none is.
        revision: fingerprint of the version in force; empty where none is.
        suspended: whether the version in force is parked.
        own: the kind's own static fields.
        tally: how the sidecars fare.
        secrets: (reason, message) of Secrets that cannot be read.
        shortcomings: (reason, message) of what else the operator itself sees to be wrong, as pods without their sidecar.
        absent: pods whose sidecar runs it, as far as anybody knows, and is not heard.
        overdue: whether sidecars have been lagging for longer than `PATIENCE`.
        kept: the version in force where that is another one than this generation: what a restarted operator is to go on with.
    """

    generation: int
    accepted: bool
    violations: tuple[Violation, ...]
    good_generation: int
    revision: str
    suspended: bool
    own: Mapping[str, JSON]
    tally: Tally
    secrets: tuple[tuple[str, str], ...] = ()
    shortcomings: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    overdue: bool = False
    kept: Mapping[str, JSON] | None = None


class Judged(msgspec.Struct, frozen=True):
    """A condition without its time."""

    type: str
    status: bool
    reason: str
    message: str


def judge(kind: Kind[Any], facts: Facts) -> list[Judged]:
    """Say everything that *facts* ask for about a resource of *kind*, the kind's own conditions last."""
    troubles = [*_stale(facts), *_degraded(facts)]
    judged = (
        _accepted(facts, degraded=any(one.type == "Degraded" for one in troubles))
        if facts.accepted
        else _refused(facts)
    )
    return [*judged, *troubles, *_own(kind, facts)]


def _refused(facts: Facts) -> list[Judged]:
    errors = [v.message for v in facts.violations if v.severity == "error"]
    listed = "\n".join(errors[:MAX_VIOLATIONS]) + (
        f"\nand {len(errors) - MAX_VIOLATIONS} more" if len(errors) > MAX_VIOLATIONS else ""
    )
    kept = (
        f"sidecars keep generation {facts.good_generation}"
        if facts.good_generation
        else "no sidecar runs this resource"
    )
    return [
        Judged("Accepted", False, "Invalid", listed),
        Judged("Propagated", False, "NotAccepted", f"this generation is refused; {kept}"),
        Judged("Ready", False, "NotAccepted", listed),
        Judged("Stalled", True, "Invalid", f"this generation is refused; edit the resource:\n{listed}"),
    ]


def _accepted(facts: Facts, *, degraded: bool) -> list[Judged]:
    tally = facts.tally
    judged = [
        Judged("Accepted", True, "Accepted", "\n".join(v.message for v in facts.violations if v.severity == "warning"))
    ]
    counted = f"{tally.applied} of {tally.total} sidecars run it"
    if not tally.propagated:
        behind = _some(tally.lagging, tally.total - tally.applied)
        if tally.refusals:
            reason, text = "Refused", f"{counted}; {behind}: " + "\n".join(tally.refusals)
        else:
            reason, text = "Withdrawing" if facts.suspended else "Propagating", f"{counted}; waiting for {behind}"
        judged += [Judged("Propagated", False, reason, text), Judged("Ready", False, reason, text)]
        if tally.refusals:
            judged.append(Judged("Stalled", True, reason, text))
        return judged
    reason, text = "Propagated", counted
    if tally.total == 0:
        reason = "Suspended" if facts.suspended else "NoSidecars"
        text = "no sidecar runs it: spec.suspend is true" if facts.suspended else "no connected sidecar selects it"
    judged.append(Judged("Propagated", True, reason, text))
    stalled = next((one for one in tally.statements if one.stalls), None)
    if tally.unready:
        judged.append(Judged("Ready", False, *_unready(tally)))
    elif facts.secrets and tally.total:
        judged.append(Judged("Ready", False, facts.secrets[0][0], "\n".join(text for _, text in facts.secrets)))
    elif stalled is not None:
        said = stalled.reason, _told(stalled)
        judged += [Judged("Ready", False, *said), Judged("Stalled", True, *said)]
    else:
        # The reason is a column of `kubectl get`: there it tells at a glance that something is not quite right.
        word = "Degraded" if degraded else "Ready" if tally.total else reason
        judged.append(Judged("Ready", True, word, text))
    return judged


def _stale(facts: Facts) -> list[Judged]:
    """Say that sidecars go on with an earlier version of the resource, for longer than a swap takes."""
    tally = facts.tally
    if not facts.accepted:
        if not facts.good_generation or facts.suspended:
            return []
        text = (
            f"generation {facts.good_generation} stays in force, the last one that was accepted; "
            "mend what Accepted names, or delete the resource to withdraw it"
        )
        return [Judged("Stale", True, "LastGoodVersion", text)]
    behind = _some(tally.lagging, tally.total - tally.applied)
    if not tally.propagated and tally.refusals:
        text = f"{behind}: the last good configuration stays in force, because this one cannot be run; see Propagated"
        return [Judged("Stale", True, "Refused", text)]
    if not tally.propagated and facts.overdue:
        text = (
            f"{behind}: an earlier configuration is in force for more than {PATIENCE:.0f} s; look at the sidecar's log"
        )
        return [Judged("Stale", True, "Lagging", text)]
    if facts.absent and not facts.suspended:
        pods = _some(facts.absent[:MAX_PODS], len(facts.absent))
        text = f"{pods}: no stream to the operator, so what was in force when it broke may still be; look at the sidecar's log"
        return [Judged("Stale", True, DISCONNECTED, text)]
    return []


def _degraded(facts: Facts) -> list[Judged]:
    """Say that the resource does less than its full job, with the reason that weighs most."""
    tally = facts.tally
    found: list[tuple[str, str]] = []
    if tally.unready:
        found.append(_unready(tally))
    elif facts.secrets and tally.total:
        found += facts.secrets
    complaints = [one for one in tally.statements if one.degrades or one.stalls]
    found += [(one.reason, _told(one)) for one in sorted(complaints, key=lambda one: not one.stalls)]
    found += facts.shortcomings
    if not found:
        return []
    texts = dict.fromkeys(text for _, text in found)
    return [Judged("Degraded", True, found[0][0], "\n".join(texts))]


def _own(kind: Kind[Any], facts: Facts) -> Iterable[Judged]:
    """Yield the kind's own conditions: what sidecars say, else what is normal where some sidecar runs it."""
    told: dict[str, Statement] = {}
    for one in facts.tally.statements:
        told.setdefault(one.type, one)
    for name, own in kind.conditions.items():
        if name in told:
            yield Judged(name, told[name].status, told[name].reason, _told(told[name]))
        elif own.normally and facts.accepted and facts.tally.propagated and facts.tally.total:
            yield Judged(name, True, name, "")


def _unready(tally: Tally) -> tuple[str, str]:
    said = "\n".join(sorted({report.message for _, report in tally.unready}))
    pods = _some(tuple(pod for pod, _ in tally.unready), tally.unready_count)
    return tally.unready[0][1].reason, f"{said} ({pods})"


def _told(one: Statement) -> str:
    return "\n".join(one.messages) + f" ({_some(one.pods, one.count)})"


def _some(pods: tuple[str, ...], count: int) -> str:
    more = f" and {count - len(pods)} more" if count > len(pods) else ""
    return ", ".join(pods) + more
