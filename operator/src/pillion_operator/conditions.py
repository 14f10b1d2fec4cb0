"""From facts to the status of a resource, and whether that is worth a write. Pure: time comes in, nothing goes out.

Conditions follow the Kubernetes API conventions (`meta/v1` Condition): `lastTransitionTime` moves only when `status` does. They are compatible with kstatus: a resource
that waits is `Ready=False` (InProgress), one that cannot go on without an edit is also `Stalled=True` (Failed); `Stalled` is absent otherwise.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

import msgspec

from pillion.kinds.definition import Kind
from pillion.kinds.violations import Violation
from pillion_operator.fleet import Tally

JSON = Any

MAX_CONDITION_MESSAGE: Final = 4096
"""Characters of a condition's message. The API allows 32,768, but a status is watched by many and read by people."""
MAX_VIOLATIONS: Final = 20
"""Violations that a message lists."""

OWN: Final = ("Accepted", "Propagated", "Ready", "Stalled")
"""The condition types that the operator writes."""


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


class Difference(IntEnum):
    """How much a status to be differs from the one seen: the greater, the sooner it is written."""

    NONE = 0
    FIGURES = 1
    """Only what sidecars measured."""
    COUNTS = 2
    """Numbers of sidecars and messages."""
    VERDICT = 3
    """The status or reason of a condition, or the generation it is about."""


class _Judged(msgspec.Struct, frozen=True):
    type: str
    status: bool
    reason: str
    message: str


def status_of(kind: Kind[Any], facts: Facts, seen: Mapping[str, JSON], now: datetime) -> dict[str, JSON]:
    """Write the status that *facts* ask for.

    Args:
        kind: the kind of the resource.
        facts: what is known.
        seen: the status as it stands, for the transition times.
        now: the time, for conditions that change.
    """
    tally = facts.tally
    # Sidecars that run an earlier generation do not run this one.
    applied = tally.applied if facts.accepted else 0
    sidecars: dict[str, JSON] = {"applied": applied, "total": tally.total, "summary": f"{applied}/{tally.total}"}
    if facts.accepted and tally.lagging:
        sidecars["lagging"] = list(tally.lagging)
    status: dict[str, JSON] = {
        "observedGeneration": facts.generation,
        "sidecars": sidecars,
        "conditions": [_written(one, facts.generation, seen, now) for one in _judge(facts)],
    }
    if facts.revision:
        status["revision"] = facts.revision
    for values in (tally.figures, facts.own):  # what the spec says wins over what a sidecar measured
        status.update(_fitting(kind.status_schema, values))
    return status


def difference(kind: Kind[Any], seen: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> Difference:
    """Compare the status as it stands with the one to be. Conditions and fields of other writers do not count."""
    if seen.get("observedGeneration") != wanted["observedGeneration"]:
        return Difference.VERDICT
    old, new = _by_type(seen), _by_type(wanted)
    if old.keys() != new.keys():
        return Difference.VERDICT
    if any((old[t]["status"], old[t].get("reason")) != (new[t]["status"], new[t]["reason"]) for t in new):
        return Difference.VERDICT
    if old != new or seen.get("sidecars") != wanted["sidecars"] or seen.get("revision") != wanted.get("revision"):
        return Difference.COUNTS
    own = kind.status_schema
    if any(seen.get(name) != wanted.get(name) for name in own):
        return Difference.FIGURES
    return Difference.NONE


def loses_sidecars(seen: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> bool:
    """Tell whether *wanted* says the same of the same generation as *seen*, only with fewer sidecars."""
    if seen.get("observedGeneration") != wanted["observedGeneration"]:
        return False
    old, new = _by_type(seen).get("Accepted", {}), _by_type(wanted)["Accepted"]
    if (old.get("status"), old.get("reason"), old.get("message")) != (new["status"], new["reason"], new["message"]):
        return False
    return bool(wanted["sidecars"]["total"] < (seen.get("sidecars") or {}).get("total", 0))


def condition(status: Mapping[str, JSON], kind: str) -> Mapping[str, JSON]:
    """Give one condition of a status; empty where it is absent."""
    return _by_type(status).get(kind, {})


def _judge(facts: Facts) -> list[_Judged]:
    tally = facts.tally
    warnings = "\n".join(v.message for v in facts.violations if v.severity == "warning")
    if not facts.accepted:
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
            _Judged("Accepted", False, "Invalid", listed),
            _Judged("Propagated", False, "NotAccepted", f"this generation is refused; {kept}"),
            _Judged("Ready", False, "NotAccepted", listed),
            _Judged("Stalled", True, "Invalid", "this generation is refused; edit the resource"),
        ]
    judged = [_Judged("Accepted", True, "Accepted", warnings)]
    counted = f"{tally.applied} of {tally.total} sidecars run it"
    if not tally.propagated:
        if tally.refusals:
            said = "\n".join(tally.refusals)
            reason, text = "Refused", f"{counted}; {_some(tally.lagging, tally.total - tally.applied)}: {said}"
        else:
            reason = "Withdrawing" if facts.suspended else "Propagating"
            text = f"{counted}; waiting for {_some(tally.lagging, tally.total - tally.applied)}"
        judged += [_Judged("Propagated", False, reason, text), _Judged("Ready", False, reason, text)]
        if tally.refusals:
            judged.append(_Judged("Stalled", True, reason, text))
        return judged
    if tally.total == 0:
        reason = "Suspended" if facts.suspended else "NoSidecars"
        text = "no sidecar runs it: spec.suspend is true" if facts.suspended else "no connected sidecar selects it"
    else:
        reason, text = "Propagated", counted
    judged.append(_Judged("Propagated", True, reason, text))
    if tally.unready:
        first = tally.unready[0][1]
        said = "\n".join(sorted({f"{report.message}" for _, report in tally.unready}))
        pods = _some(tuple(pod for pod, _ in tally.unready), tally.unready_count)
        judged.append(_Judged("Ready", False, first.reason, f"{said} ({pods})"))
    elif facts.secrets and tally.total:
        judged.append(_Judged("Ready", False, facts.secrets[0][0], "\n".join(text for _, text in facts.secrets)))
    else:
        judged.append(_Judged("Ready", True, "Ready" if tally.total else reason, text))
    return judged


def _some(pods: tuple[str, ...], count: int) -> str:
    more = f" and {count - len(pods)} more" if count > len(pods) else ""
    return ", ".join(pods) + more


def _written(one: _Judged, generation: int, seen: Mapping[str, JSON], now: datetime) -> dict[str, JSON]:
    before = _by_type(seen).get(one.type)
    status = str(one.status)
    since = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if before is not None and before.get("status") == status and before.get("lastTransitionTime"):
        since = before["lastTransitionTime"]
    message = one.message
    if len(message) > MAX_CONDITION_MESSAGE:
        message = message[: MAX_CONDITION_MESSAGE - 1] + "…"
    return {
        "type": one.type,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": one.reason,
        "message": message,
    }


def _by_type(status: Mapping[str, JSON]) -> dict[str, Mapping[str, JSON]]:
    return {one["type"]: one for one in status.get("conditions") or () if one.get("type") in OWN}


def _fitting(schema: Mapping[str, JSON], values: Mapping[str, JSON]) -> Iterable[tuple[str, JSON]]:
    """Yield the fields that the status schema knows, in its types: the API server prunes others, and refuses a status for a wrong one."""
    for name, value in values.items():
        match (schema.get(name) or {}).get("type"):
            case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, int(value)
            case "number" if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, value
            case "string" if isinstance(value, str):
                yield name, value[: int(schema[name].get("maxLength", 1024))]
            case "boolean" if isinstance(value, bool):
                yield name, value
            case "array" if isinstance(value, list | tuple):
                yield name, list(value)
            case "object" if isinstance(value, Mapping):
                yield name, dict(value)
            case _:
                continue
