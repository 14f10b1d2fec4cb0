"""What the sidecar of one pod looks like: defaults of the installation, then the namespace's annotations, then the pod's own.

The nearer one wins, field by field. Only labels decide *whether* a pod gets a sidecar, because API servers select by labels alone;
annotations only set how it is made.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from pillion_operator.injection.forms import Form, Mounts, Port, Quantity, Text, amount, one_of

PREFIX: Final = "pillion.dev/"
INJECT_LABEL: Final = "pillion.dev/inject"
"""`"true"` on a pod or its namespace asks for a sidecar; `"false"` on a pod declines the namespace's wish."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a sidecar is made.

    Args:
        image: the image; the operator's own by default, so that both speak the same snapshot format.
        pull_policy: Always, IfNotPresent or Never.
        cpu_request: CPU that is set aside, as a Kubernetes quantity.
        memory_request: memory that is set aside.
        cpu_limit: CPU limit; empty for none, because throttling a sidecar delays its application.
        memory_limit: memory limit; empty for none.
        data_size: bound of the data volume, as a Kubernetes quantity.
        port: port of the localhost API.
        admin_port: port of probes and metrics.
        log_level: debug, info, warning or error.
        mounts: volumes of the pod that the sidecar sees read-only, as (volume, path); for log files.
    """

    image: str
    pull_policy: str = "IfNotPresent"
    cpu_request: str = "10m"
    memory_request: str = "64Mi"
    cpu_limit: str = ""
    memory_limit: str = "256Mi"
    data_size: str = "1Gi"
    port: int = 3700
    admin_port: int = 3790
    log_level: str = "info"
    mounts: tuple[tuple[str, str], ...] = ()


class BadAnnotation(ValueError):  # noqa: N818 - says what it is
    """An annotation cannot be used; the message names it, its value and the fix."""


ANNOTATIONS: Final[Mapping[str, tuple[str, Form]]] = {
    "image": (
        "image",
        Text(r"[a-z0-9][0-9A-Za-z_./:@-]{0,400}", "write an image reference, as in registry.example/pillion:0.1.0"),
    ),
    "image-pull-policy": ("pull_policy", one_of("Always", "IfNotPresent", "Never")),
    "cpu-request": ("cpu_request", Quantity()),
    "memory-request": ("memory_request", Quantity()),
    "cpu-limit": ("cpu_limit", Quantity(limit=True)),
    "memory-limit": ("memory_limit", Quantity(limit=True)),
    "data-size": ("data_size", Quantity()),
    "port": ("port", Port()),
    "admin-port": ("admin_port", Port()),
    "log-level": ("log_level", one_of("debug", "info", "warning", "error")),
    "mounts": ("mounts", Mounts()),
}
"""Annotation names below `pillion.dev/`, the field that each sets, and how its text is read. `none` as a limit removes it."""


def options_for(defaults: Options, namespace: Mapping[str, str], pod: Mapping[str, str]) -> Options:
    """Give the options of one pod.

    Args:
        defaults: those of the installation.
        namespace: annotations of its namespace.
        pod: annotations of the pod.

    Raises:
        BadAnnotation: one of ours cannot be read.
    """
    found: dict[str, Any] = {}
    for place, annotations in (("namespace", namespace), ("pod", pod)):
        for name, (field, form) in ANNOTATIONS.items():
            text = annotations.get(PREFIX + name)
            if text is None:
                continue
            try:
                found[field] = form.read(text)
            except ValueError as error:
                raise BadAnnotation(
                    f'annotation {PREFIX}{name} of the {place}: "{text[:80]}" cannot be used; {error}'
                ) from None
    options = _reconciled(msgspec.structs.replace(defaults, **found), found.keys())
    if options.port == options.admin_port:
        raise BadAnnotation(f"annotations {PREFIX}port and {PREFIX}admin-port are both {options.port}; use two ports")
    return options


def _reconciled(options: Options, annotated: Collection[str]) -> Options:
    """Keep requests within limits, since an API server refuses the whole pod otherwise: where one of the two is annotated, the other follows it."""
    for what in ("cpu", "memory"):
        request, limit = f"{what}_request", f"{what}_limit"
        asked, bound = getattr(options, request), getattr(options, limit)
        if not bound or amount(asked) <= amount(bound):
            continue
        if request in annotated and limit in annotated:
            raise BadAnnotation(
                f"annotation {PREFIX}{what}-request: {asked} is above {PREFIX}{what}-limit, which is {bound}; raise the limit"
            )
        changed = {limit: asked} if request in annotated else {request: bound}
        options = msgspec.structs.replace(options, **changed)
    return options


def wanted(pod_labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
    """Tell whether a pod shall have a sidecar: its own label decides, else its namespace's."""
    own = pod_labels.get(INJECT_LABEL)
    return own == "true" if own is not None else namespace_labels.get(INJECT_LABEL) == "true"
