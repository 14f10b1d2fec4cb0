"""From facts to the status of a resource, and whether that is worth a write. Pure: time comes in, nothing goes out.

Conditions follow the Kubernetes API conventions (`meta/v1` Condition): `lastTransitionTime` moves only when `status` does. They are compatible with kstatus: a resource
that waits is `Ready=False` (InProgress), one that cannot go on without a person is also `Stalled=True` (Failed). What tells of trouble (`Stalled`, `Stale`, `Degraded`)
is there only while it is true, as kstatus asks, and so costs the ten thousand resources nothing that have none.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

from pillion.kinds.definition import Kind
from pillion_operator.verdicts import Facts, Judged, judge

JSON = Any

MAX_CONDITION_MESSAGE: Final = 4096
"""Characters of a condition's message. The API allows 32,768, but a status is watched by many and read by people."""
OWN: Final = ("Accepted", "Propagated", "Ready", "Stalled", "Stale", "Degraded")
"""The condition types that the operator writes, whatever the kind."""

VERDICTS: Final = frozenset(OWN) - {"Degraded"}
"""Conditions about which somebody may be waiting; the others tell of troubles that come and go."""


class Difference(IntEnum):
    """How much a status to be differs from the one seen: the greater, the sooner it is written."""

    NONE = 0
    FIGURES = 1
    """Only what sidecars measured, and the words of what they complain about."""
    COUNTS = 2
    """Numbers of sidecars, messages, and what sidecars complain about."""
    VERDICT = 3
    """The status or reason of a condition, or the generation it is about."""


def status_of(kind: Kind[Any], facts: Facts, seen: Mapping[str, JSON], now: datetime) -> dict[str, JSON]:
    """Write the status that *facts* ask for.

    Args:
        kind: the kind of the resource.
        facts: what is known.
        seen: the status as it stands, for the transition times.
        now: the time, for conditions that change.
    """
    tally, before = facts.tally, _all_by_type(seen)
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Sidecars that run an earlier generation do not run this one.
    applied = tally.applied if facts.accepted else 0
    sidecars: dict[str, JSON] = {"applied": applied, "total": tally.total, "summary": f"{applied}/{tally.total}"}
    if facts.accepted and tally.lagging:
        sidecars["lagging"] = list(tally.lagging)
    status: dict[str, JSON] = {
        "observedGeneration": facts.generation,
        "sidecars": sidecars,
        "conditions": [_written(one, facts.generation, before.get(one.type), stamp) for one in judge(kind, facts)],
    }
    if facts.revision:
        status["revision"] = facts.revision
    if facts.kept is not None:
        status["lastGood"] = facts.kept
    for values in (tally.figures, facts.own):  # what the spec says wins over what a sidecar measured
        status.update(_fitting(kind.status_schema, values))
    return status


def difference(kind: Kind[Any], seen: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> Difference:
    """Compare the status as it stands with the one to be. Conditions and fields of other writers do not count."""
    if seen.get("observedGeneration") != wanted["observedGeneration"]:
        return Difference.VERDICT
    if seen.get("lastGood") != wanted.get("lastGood"):
        return Difference.VERDICT
    old, new = _by_type(seen, kind), _by_type(wanted, kind)
    if old == new:
        return _difference_beside(kind, seen, wanted)
    if _said(old, VERDICTS) != _said(new, VERDICTS):
        return Difference.VERDICT
    if _said(old) != _said(new):
        return Difference.COUNTS
    if any(old[t] != new[t] for t in new if t in VERDICTS):
        return Difference.COUNTS
    return max(Difference.FIGURES, _difference_beside(kind, seen, wanted))


def _difference_beside(kind: Kind[Any], seen: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> Difference:
    """Compare what stands beside the conditions."""
    if seen.get("sidecars") != wanted["sidecars"] or seen.get("revision") != wanted.get("revision"):
        return Difference.COUNTS
    if any(seen.get(name) != wanted.get(name) for name in kind.status_schema):
        return Difference.FIGURES
    return Difference.NONE


def forgets(seen: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> bool:
    """Tell whether *wanted* says the same of the same generation as *seen*, only with fewer sidecars, or without what they complained about.

    That is what a status looks like to an operator whose sidecars are still coming back.
    """
    if seen.get("observedGeneration") != wanted["observedGeneration"]:
        return False
    old, new = _all_by_type(seen), _all_by_type(wanted)
    was, judged = old.get("Accepted", {}), new["Accepted"]
    if (was.get("status"), was.get("reason"), was.get("message")) != (
        judged["status"],
        judged["reason"],
        judged["message"],
    ):
        return False
    if wanted["sidecars"]["total"] < (seen.get("sidecars") or {}).get("total", 0):
        return True
    return bool({"Degraded", "Stale"} & old.keys() - new.keys())


def condition(status: Mapping[str, JSON], kind: str) -> Mapping[str, JSON]:
    """Give one condition of a status; empty where it is absent."""
    return _all_by_type(status).get(kind, {})


def _written(one: Judged, generation: int, before: Mapping[str, JSON] | None, since: str) -> dict[str, JSON]:
    status = str(one.status)
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


def _said(
    conditions: Mapping[str, Mapping[str, JSON]], types: Iterable[str] | None = None
) -> set[tuple[str, JSON, JSON]]:
    found = set()
    for name, one in conditions.items():
        if types is None or name in types:
            reason = one.get("reason")
            # What is complained about beside being ready is a trouble like Degraded itself.
            found.add((name, one["status"], "Ready" if types is not None and reason == "Degraded" else reason))
    return found


def _by_type(status: Mapping[str, JSON], kind: Kind[Any]) -> dict[str, Mapping[str, JSON]]:
    """Give the conditions that are ours: those of other writers do not count."""
    return {name: one for name, one in _all_by_type(status).items() if name in OWN or name in kind.conditions}


def _all_by_type(status: Mapping[str, JSON]) -> dict[str, Mapping[str, JSON]]:
    return {one["type"]: one for one in status.get("conditions") or () if "type" in one}


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
