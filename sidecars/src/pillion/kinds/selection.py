"""Which pods a resource is for: Kubernetes label selectors, evaluated as the API server evaluates them."""

from collections.abc import Mapping
from typing import NewType

import msgspec

from pillion.kinds.model import LabelExpression, LabelSelector

Namespace = NewType("Namespace", str)
"""The name of a Kubernetes namespace."""


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """What selection needs to know about the pod behind which a sidecar rides.

    Args:
        namespace: the pod's namespace.
        labels: its labels; None outside a cluster, where every selector matches because there is no pod to tell apart.
        name: its name, for reports.
    """

    namespace: Namespace
    labels: Mapping[str, str] | None
    name: str = ""


def selects(selector: LabelSelector | None, pod: Pod) -> bool:
    """Tell whether *selector* matches *pod*; an absent selector matches every pod."""
    if selector is None or pod.labels is None:
        return True
    labels = pod.labels
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(expression, labels) for expression in selector.match_expressions
    )


def _holds(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    match expression.operator:
        case "In":
            return labels.get(expression.key) in expression.values
        case "NotIn":
            return labels.get(expression.key) not in expression.values
        case "Exists":
            return expression.key in labels
        case "DoesNotExist":
            return expression.key not in labels
