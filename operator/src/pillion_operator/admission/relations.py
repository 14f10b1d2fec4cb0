"""What a resource would do beside those that are already there. Pure.

Admission sees one resource at a time, in whatever order they are applied. So a resource that refers to one which is not there *yet* is let in with a warning (its
status says the same until the other one comes), while one that contradicts a resource which is there is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pillion.kinds.definition import Kind
from pillion.kinds.resource import Resource, check_relations
from pillion.kinds.violations import SPEC, Violation

Keyed = tuple[tuple[str, str, str], Violation]


def consequences(resource: Resource, others: Iterable[Resource], kinds: Mapping[str, Kind[Any]]) -> Iterator[Violation]:
    """Yield what is wrong once *resource* stands beside *others*, and was not wrong before.

    Args:
        resource: the new or changed resource.
        others: resources of its kind in its namespace; an earlier version of itself among them is passed over.
        kinds: the known kinds.
    """
    others = [other for other in others if other.name != resource.name]
    own = (resource.kind, str(resource.namespace), resource.name)
    alone = {_identity(one) for one in check_relations([resource], kinds)}
    before = {_identity(one) for one in check_relations(others, kinds)}
    for key, violation in check_relations([*others, resource], kinds):
        identity = _identity((key, violation))
        if key == own:
            yield _as_warning(violation) if identity in alone else violation
        elif identity not in before and violation.severity == "error":
            yield Violation(
                path=SPEC,
                rule=f"would make {key[0]} {key[2]} invalid ({violation.message})",
                fix="change one of the two",
            )


def _identity(found: Keyed) -> tuple[tuple[str, str, str], str, str]:
    # Without the fix: suggestions name resources that happen to be there.
    key, violation = found
    return key, violation.path, violation.rule


def _as_warning(violation: Violation) -> Violation:
    return Violation(
        path=violation.path, value=violation.value, rule=violation.rule, fix=violation.fix, severity="warning"
    )
