"""The sidecar as Kubernetes objects: its container and its volumes, from the options of one pod.

The container passes the restricted Pod Security profile, starts before every other one (a native sidecar, first in `initContainers`), and stops after
the application. It needs no fixed user id: the image runs as an unprivileged one, so that platforms which assign ids can.
"""

from typing import Any, Final

from pillion_operator.injection.precedence import Options

JSON = Any

NAME: Final = "pillion"
"""Name of the container."""

SOCKET_VOLUME: Final = "pillion-socket"
DATA_VOLUME: Final = "pillion-data"
IDENTITY_VOLUME: Final = "pillion-identity"
SOCKET_FOLDER: Final = "/run/pillion"
SOCKET: Final = "/run/pillion/pillion.sock"
DATA_FOLDER: Final = "/var/lib/pillion"
IDENTITY_FOLDER: Final = "/var/run/secrets/pillion.dev"
CA_CONFIG_MAP: Final = "pillion-ca"
"""ConfigMap with the operator's CA in every namespace that has sidecars; a volume, so that a rotated CA arrives without a restart."""

AUDIENCE: Final = "pillion"
TOKEN_SECONDS: Final = 3600
"""Life of the projected token; the kubelet renews it at four fifths."""

UNPRIVILEGED: Final = 65532
"""User id of the image, named only where the pod itself says 0: the container would otherwise be refused as root."""

RESERVED_VOLUMES: Final = frozenset({SOCKET_VOLUME, DATA_VOLUME, IDENTITY_VOLUME})


def container(options: Options, operator_url: str, *, run_as_user: int) -> JSON:
    """Give the container.

    Args:
        options: how it is made.
        operator_url: where it finds the operator.
        run_as_user: user id that must be named; 0 leaves it to image and platform.
    """
    resources: dict[str, dict[str, str]] = {"requests": {"cpu": options.cpu_request, "memory": options.memory_request}}
    limits = {"cpu": options.cpu_limit, "memory": options.memory_limit}
    if any(limits.values()):
        resources["limits"] = {name: value for name, value in limits.items() if value}
    security: dict[str, JSON] = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if run_as_user:
        security["runAsUser"] = run_as_user
    return {
        "name": NAME,
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "restartPolicy": "Always",
        "args": ["sidecar"],
        "env": [
            {"name": "PILLION_OPERATOR_URL", "value": operator_url},
            {"name": "PILLION_TOKEN_FILE", "value": f"{IDENTITY_FOLDER}/token"},
            {"name": "PILLION_CA_FILE", "value": f"{IDENTITY_FOLDER}/ca.crt"},
            {"name": "PILLION_DATA_DIR", "value": DATA_FOLDER},
            {"name": "PILLION_SOCKET", "value": SOCKET},
            {"name": "PILLION_PORT", "value": str(options.port)},
            {"name": "PILLION_ADMIN_PORT", "value": str(options.admin_port)},
            {"name": "PILLION_LOG_LEVEL", "value": options.log_level},
            {"name": "PILLION_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PILLION_POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "PILLION_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "ports": [{"name": "pillion-admin", "containerPort": options.admin_port, "protocol": "TCP"}],
        "startupProbe": _probe("/startupz", options, period=1, failures=60),
        "livenessProbe": _probe("/livez", options, period=10, failures=3),
        "readinessProbe": _probe("/readyz", options, period=5, failures=2),
        "resources": resources,
        "securityContext": security,
        "volumeMounts": [
            application_mount(),
            {"name": DATA_VOLUME, "mountPath": DATA_FOLDER},
            {"name": IDENTITY_VOLUME, "mountPath": IDENTITY_FOLDER, "readOnly": True},
            *({"name": volume, "mountPath": path, "readOnly": True} for volume, path in options.mounts),
        ],
    }


def volumes(options: Options) -> list[JSON]:
    """Give the volumes."""
    return [
        {"name": SOCKET_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": DATA_VOLUME, "emptyDir": {"sizeLimit": options.data_size}},
        {
            "name": IDENTITY_VOLUME,
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": AUDIENCE,
                            "expirationSeconds": TOKEN_SECONDS,
                            "path": "token",
                        }
                    },
                    {
                        "configMap": {
                            "name": CA_CONFIG_MAP,
                            "optional": True,
                            "items": [{"key": "ca.crt", "path": "ca.crt"}],
                        }
                    },
                ]
            },
        },
    ]


def application_environment(options: Options) -> list[JSON]:
    """Give the variables by which an application finds its sidecar; those that it sets itself are left alone."""
    url = f"http://127.0.0.1:{options.port}"
    return [
        {"name": "PILLION_URL", "value": url},
        {"name": "PILLION_SOCKET", "value": SOCKET},
        {"name": "OFREP_ENDPOINT", "value": url},
    ]


def application_mount() -> JSON:
    """Give the mount by which an application finds the socket."""
    return {"name": SOCKET_VOLUME, "mountPath": SOCKET_FOLDER}


def _probe(path: str, options: Options, *, period: int, failures: int) -> JSON:
    return {
        "httpGet": {"path": path, "port": options.admin_port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 1,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
