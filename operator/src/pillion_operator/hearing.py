"""What sidecars say about one resource, put together: figures added up, and who agrees with whom in what is wrong; bounded and in a fixed order.

A thousand sidecars that say the same become one statement with a count and a few names, so that a status stays small and changes only when what is said does. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.exchange import ConditionReport

JSON = Any

MAX_STATEMENTS: Final = 8
"""Statements about one resource that are kept; a kind has fewer condition types of its own."""
MAX_MESSAGES: Final = 3
"""Different messages of one statement."""
MAX_PODS: Final = 3
"""Pods of one statement that are named."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What some sidecars say alike about a resource.

    Args:
        type: the condition type; empty where it only tells that the resource does less than its full job.
        status: the status of that condition.
        reason: one CamelCase word.
        messages: what they say, sorted.
        pods: some of those who say it, sorted.
        count: how many say it.
        degrades: whether the resource does less than its full job.
        stalls: whether it does nothing until a person acts.
    """

    type: str
    status: bool
    reason: str
    messages: tuple[str, ...]
    pods: tuple[str, ...]
    count: int
    degrades: bool
    stalls: bool


def by_resource(reports: Iterable[ConditionReport]) -> dict[tuple[str, str], tuple[ConditionReport, ...]]:
    """Sort the reports of one sidecar by the resource that they are about."""
    found: dict[tuple[str, str], tuple[ConditionReport, ...]] = {}
    for one in reports:
        key = (one.kind, one.name)
        found[key] = (*found.get(key, ()), one)
    return found


def statements(said: Iterable[tuple[str, ConditionReport]]) -> tuple[Statement, ...]:
    """Put together what (pod, report) pairs say about one resource."""
    groups: dict[tuple[str, bool, str], list[tuple[str, ConditionReport]]] = {}
    for pod, report in said:
        groups.setdefault((report.type, report.status, report.reason), []).append((pod, report))
    return tuple(
        Statement(
            type=kind,
            status=status,
            reason=reason,
            messages=tuple(sorted({report.message for _, report in pairs if report.message})[:MAX_MESSAGES]),
            pods=tuple(sorted({pod for pod, _ in pairs})[:MAX_PODS]),
            count=len({pod for pod, _ in pairs}),
            degrades=any(report.degrades for _, report in pairs),
            stalls=any(report.stalls for _, report in pairs),
        )
        for (kind, status, reason), pairs in sorted(groups.items())[:MAX_STATEMENTS]
    )


def changed(
    before: Mapping[tuple[str, str], tuple[ConditionReport, ...]],
    after: Mapping[tuple[str, str], tuple[ConditionReport, ...]],
) -> set[tuple[str, str]]:
    """Give the resources about which a sidecar says something else than before."""
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def add_up(figures: Iterable[Mapping[str, JSON]]) -> dict[str, JSON]:
    """Put the figures of several sidecars together: numbers are added, true wins over false, of texts (and so of times in RFC 3339) the greatest stays."""
    summed: dict[str, JSON] = {}
    for one in figures:
        for name, value in one.items():
            known = summed.get(name)
            if isinstance(value, bool) and isinstance(known, bool | None):
                summed[name] = bool(known) or value
            elif _number(value) and (known is None or _number(known)):
                summed[name] = value + (known or 0)
            elif isinstance(value, str) and isinstance(known, str | None):
                summed[name] = max(value, known or "")
    return summed


def _number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
