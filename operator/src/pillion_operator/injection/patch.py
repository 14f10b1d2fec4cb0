"""Pod in, patch out: the JSON Patch (RFC 6902) that gives a pod its sidecar, or the reason why it gets none.

Every part is added only where it is missing. A second run over the patched pod therefore gives an empty patch, which makes re-invocation safe, and a
container that another webhook added in between still gets its variables and its socket. Application containers are otherwise untouched.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pillion_operator.injection.precedence import PREFIX, BadAnnotation, Options, options_for, wanted
from pillion_operator.injection.sidecar import (
    NAME,
    RESERVED_VOLUMES,
    SOCKET_FOLDER,
    UNPRIVILEGED,
    application_environment,
    application_mount,
    container,
    volumes,
)

JSON = Any

INJECTED_ANNOTATION: Final = PREFIX + "injected"
"""Version of the operator that injected; the repair loop and people look for it."""


MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
"""On the shadow of a static pod: the API server cannot change what the kubelet runs."""


class Injection(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one pod.

    Args:
        patch: JSON Patch operations; empty when nothing is to be done.
        reason: why the pod gets no sidecar, one CamelCase word; empty when it gets one or has it.
        message: the same for a person, with the fix.
    """

    patch: tuple[dict[str, JSON], ...] = ()
    reason: str = ""
    message: str = ""


class Refusal(Exception):  # noqa: N818 - says what it is
    """The pod cannot have a sidecar."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def inject(
    pod: Mapping[str, JSON],
    *,
    namespace_labels: Mapping[str, str],
    namespace_annotations: Mapping[str, str],
    defaults: Options,
    operator_url: str,
    version: str,
) -> Injection:
    """Give what *pod* lacks of a sidecar.

    A pod that cannot have one is let through with the reason: an application that runs without its sidecar says so in an Event, an application that
    is not started at all takes a service down.
    """
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if not wanted(metadata.get("labels") or {}, namespace_labels):
        return Injection(reason="NotAsked", message="neither the pod nor its namespace asks for a sidecar")
    try:
        options = options_for(defaults, namespace_annotations, metadata.get("annotations") or {})
        _refuse_impossible(metadata, spec, options)
    except BadAnnotation as bad:
        return Injection(reason="BadAnnotation", message=str(bad))
    except Refusal as refusal:
        return Injection(reason=refusal.reason, message=str(refusal))
    return Injection(patch=tuple(_operations(metadata, spec, options, operator_url, version)))


def has_sidecar(spec: Mapping[str, JSON]) -> bool:
    """Tell whether a pod spec has our native sidecar."""
    return any(c.get("name") == NAME and c.get("restartPolicy") == "Always" for c in spec.get("initContainers") or ())


def _refuse_impossible(metadata: Mapping[str, JSON], spec: Mapping[str, JSON], options: Options) -> None:
    """Raise `Refusal` where a sidecar could not work or would break the application."""
    if MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        raise Refusal("StaticPod", "the kubelet runs the pod from a file on its node; put the sidecar into that file")
    if (spec.get("os") or {}).get("name") == "windows" or (spec.get("nodeSelector") or {}).get(
        "kubernetes.io/os"
    ) == "windows":
        raise Refusal(
            "Windows",
            "the pod is for Windows nodes, the sidecar's image is for Linux; call another pod's sidecar over a Service instead",
        )
    if spec.get("hostNetwork"):
        raise Refusal(
            "HostNetwork",
            f"the pod uses the node's network, where port {options.port} may belong to another pod; remove hostNetwork, or label the pod {PREFIX}inject=false",
        )
    if has_sidecar(spec):
        return
    for container_list in ("containers", "initContainers"):
        if any(c.get("name") == NAME for c in spec.get(container_list) or ()):
            raise Refusal("NameTaken", f'the pod has a container named "{NAME}" that is not the sidecar; rename it')
    for volume in spec.get("volumes") or ():
        if volume.get("name") in RESERVED_VOLUMES:
            raise Refusal("NameTaken", f'the pod has a volume named "{volume["name"]}"; rename it')
    known = {volume.get("name") for volume in spec.get("volumes") or ()}
    for volume, _ in options.mounts:
        if volume not in known:
            raise Refusal(
                "NoSuchVolume", f'annotation {PREFIX}mounts names the volume "{volume}", which the pod does not have'
            )
    for one in spec.get("containers") or ():
        for port in one.get("ports") or ():
            for ours, annotation in ((options.port, "port"), (options.admin_port, "admin-port")):
                if port.get("containerPort") == ours:
                    raise Refusal(
                        "PortTaken",
                        f'container "{one.get("name")}" uses port {ours}; set the annotation {PREFIX}{annotation} to a free one',
                    )


def _operations(
    metadata: Mapping[str, JSON], spec: Mapping[str, JSON], options: Options, operator_url: str, version: str
) -> Iterator[dict[str, JSON]]:
    # Containers first, while their indexes are those of the pod as it came; the sidecar then goes in front of all init containers.
    for field in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(field) or ()):
            if one.get("name") != NAME:
                yield from _equip(f"/spec/{field}/{index}", one, options)
    present = {volume.get("name") for volume in spec.get("volumes") or ()}
    missing = [volume for volume in volumes(options) if volume["name"] not in present]
    yield from _append("/spec/volumes", spec.get("volumes"), missing)
    if not has_sidecar(spec):
        root = (spec.get("securityContext") or {}).get("runAsUser") == 0
        sidecar = container(options, operator_url, run_as_user=UNPRIVILEGED if root else 0)
        if spec.get("initContainers"):
            yield {"op": "add", "path": "/spec/initContainers/0", "value": sidecar}
        else:
            yield {"op": "add", "path": "/spec/initContainers", "value": [sidecar]}
        if metadata.get("annotations"):
            yield {"op": "add", "path": f"/metadata/annotations/{escape(INJECTED_ANNOTATION)}", "value": version}
        else:
            yield {"op": "add", "path": "/metadata/annotations", "value": {INJECTED_ANNOTATION: version}}


def _equip(path: str, one: Mapping[str, JSON], options: Options) -> Iterator[dict[str, JSON]]:
    """Give an application container its variables and the socket."""
    own = {variable.get("name") for variable in one.get("env") or ()}
    variables = [variable for variable in application_environment(options) if variable["name"] not in own]
    yield from _append(f"{path}/env", one.get("env"), variables)
    mounted = {mount.get("mountPath", "").rstrip("/") for mount in one.get("volumeMounts") or ()}
    if SOCKET_FOLDER not in mounted:
        yield from _append(f"{path}/volumeMounts", one.get("volumeMounts"), [application_mount()])


def _append(path: str, present: list[JSON] | None, items: list[JSON]) -> Iterator[dict[str, JSON]]:
    if not items:
        return
    if not present:
        yield {"op": "add", "path": path, "value": items}
        return
    for item in items:
        yield {"op": "add", "path": f"{path}/-", "value": item}


def escape(token: str) -> str:
    """Escape a JSON Pointer token (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")
