"""Pods as they are met in the world, and those that can have no sidecar: one list for whoever injects, webhook or policy."""

from typing import Any

Json = dict[str, Any]


def pod(*containers: Json, **spec: Any) -> Json:
    """A pod of these containers, or of one."""
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": list(containers) or [{"name": "app", "image": "app"}], **spec},
    }


PODS: dict[str, Json] = {
    "plain": pod(),
    "no labels, no name, no annotations": {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "app"}]}},
    "several containers": pod(
        {"name": "a", "image": "a"}, {"name": "b", "image": "b", "env": [{"name": "X", "value": "1"}]}
    ),
    "init containers": pod(
        initContainers=[{"name": "migrate", "image": "m"}, {"name": "warm", "image": "w", "env": []}]
    ),
    "another native sidecar": pod(initContainers=[{"name": "istio-proxy", "image": "i", "restartPolicy": "Always"}]),
    "old-style sidecar": pod({"name": "app", "image": "a"}, {"name": "cloudsql-proxy", "image": "c"}),
    "read-only root": pod(
        {
            "name": "app",
            "image": "a",
            "securityContext": {"readOnlyRootFilesystem": True},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        },
        volumes=[{"name": "tmp", "emptyDir": {}}],
    ),
    "ephemeral volume": pod(
        volumes=[
            {
                "name": "scratch",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
                    }
                },
            }
        ]
    ),
    "job": pod(restartPolicy="Never"),
    "runs as root": pod(securityContext={"runAsUser": 0}),
    "own variables": pod({"name": "app", "image": "a", "env": [{"name": "PILLION_URL", "value": "http://elsewhere"}]}),
    "a token of its own": pod(automountServiceAccountToken=False, serviceAccountName="app"),
}


IMPOSSIBLE: dict[str, tuple[Json, str]] = {
    "the node's network": (pod(hostNetwork=True), "HostNetwork"),
    "Windows": (pod(os={"name": "windows"}), "Windows"),
    "a Windows node": (pod(nodeSelector={"kubernetes.io/os": "windows"}), "Windows"),
    "a container of our name": (pod({"name": "pillion", "image": "x"}), "NameTaken"),
    "an init container of our name": (pod(initContainers=[{"name": "pillion", "image": "x"}]), "NameTaken"),
    "a volume of our name": (pod(volumes=[{"name": "pillion-data", "emptyDir": {}}]), "NameTaken"),
    "our port": (pod({"name": "app", "image": "x", "ports": [{"containerPort": 3700}]}), "PortTaken"),
    "our admin port": (pod({"name": "app", "image": "x", "ports": [{"containerPort": 3790}]}), "PortTaken"),
    "a static pod": (
        {
            "metadata": {"annotations": {"kubernetes.io/config.mirror": "f00"}},
            "spec": {"containers": [{"name": "app", "image": "x"}], "nodeName": "node-1"},
        },
        "StaticPod",
    ),
    "a volume that is not there": (
        pod() | {"metadata": {"annotations": {"pillion.dev/mounts": "logs=/var/log/app"}}},
        "NoSuchVolume",
    ),
    "an annotation nobody can read": (
        pod() | {"metadata": {"annotations": {"pillion.dev/memory-limit": "lots"}}},
        "BadAnnotation",
    ),
}
"""Pods that start without a sidecar, and the reason."""
