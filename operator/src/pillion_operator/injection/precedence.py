"""What the sidecar of one pod looks like: defaults of the installation, then the namespace's annotations, then the pod's own.

The nearer one wins, field by field. Only labels decide *whether* a pod gets a sidecar, because API servers select by labels alone;
annotations only set how it is made.
"""

import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

PREFIX: Final = "pillion.dev/"
INJECT_LABEL: Final = "pillion.dev/inject"
"""`"true"` on a pod or its namespace asks for a sidecar; `"false"` on a pod declines the namespace's wish."""


OWN_FOLDERS: Final = ("/run/pillion", "/var/lib/pillion", "/var/run/secrets/pillion.dev")
"""Where the sidecar has volumes of its own; an API server refuses a pod with two volumes at one path."""


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


_QUANTITY: Final = re.compile(r"(0|[1-9]\d{0,11})(\.\d{1,3})?(m|k|Ki|M|Mi|G|Gi)?")
_FACTORS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    "Ki": Decimal(1024),
    "M": Decimal(1000**2),
    "Mi": Decimal(1024**2),
    "G": Decimal(1000**3),
    "Gi": Decimal(1024**3),
}
_IMAGE: Final = re.compile(r"[a-z0-9][\w./:@-]{0,400}", re.ASCII)


def _quantity(text: str) -> str:
    amount(text)
    return text


def _limit(text: str) -> str:
    return "" if text == "none" else _quantity(text)


def _image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise ValueError("write an image reference, as in registry.example/pillion:0.1.0")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"use one of {', '.join(words)}")
        return text

    return parse


def _port(text: str) -> int:
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise ValueError("use a port from 1024 to 65535")
    return int(text)


def _mounts(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        volume, equals, path = part.partition("=")
        if not equals or not volume or not path.startswith("/") or ".." in path.split("/"):
            raise ValueError("write volume=/path, separated by commas, as in app-logs=/var/log/app")
        path = path.rstrip("/")
        if not path or ":" in path or any(path == taken or taken.startswith(path + "/") for taken in OWN_FOLDERS):
            raise ValueError(f"the sidecar cannot have a volume at {path or '/'}; choose another path")
        pairs.append((volume, path))
    if len(pairs) > 8:
        raise ValueError("at most 8 volumes can be mounted")
    if len({path for _, path in pairs}) < len(pairs):
        raise ValueError("two volumes cannot have the same path")
    return tuple(pairs)


ANNOTATIONS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "image": ("image", _image),
    "image-pull-policy": ("pull_policy", _one_of("Always", "IfNotPresent", "Never")),
    "cpu-request": ("cpu_request", _quantity),
    "memory-request": ("memory_request", _quantity),
    "cpu-limit": ("cpu_limit", _limit),
    "memory-limit": ("memory_limit", _limit),
    "data-size": ("data_size", _quantity),
    "port": ("port", _port),
    "admin-port": ("admin_port", _port),
    "log-level": ("log_level", _one_of("debug", "info", "warning", "error")),
    "mounts": ("mounts", _mounts),
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
        for name, (field, parse) in ANNOTATIONS.items():
            text = annotations.get(PREFIX + name)
            if text is None:
                continue
            try:
                found[field] = parse(text)
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


def amount(quantity: str) -> Decimal:
    """Give the number that a quantity stands for.

    Raises:
        ValueError: it is none, or of a form that is not used here.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError("write a quantity, as in 100m or 128Mi")
    return Decimal(match[1] + (match[2] or "")) * _FACTORS[match[3] or ""]


def wanted(pod_labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
    """Tell whether a pod shall have a sidecar: its own label decides, else its namespace's."""
    own = pod_labels.get(INJECT_LABEL)
    return own == "true" if own is not None else namespace_labels.get(INJECT_LABEL) == "true"
