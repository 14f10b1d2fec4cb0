"""What kstatus makes of an object: written from its specification, independent of the operator.

The rules are those of `sigs.k8s.io/cli-utils/pkg/kstatus` for kinds that it has no special knowledge of; Flux and `helm --wait` judge by them.
"""

from typing import Any, Literal

Json = dict[str, Any]
Verdict = Literal["Current", "InProgress", "Failed", "Terminating"]


def kstatus(resource: Json) -> Verdict:
    """Judge one object as the API server shows it."""
    metadata = resource.get("metadata", {})
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    status = resource.get("status", {})
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    # Each type is looked up by itself; the order of the questions is that of the library.
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"
