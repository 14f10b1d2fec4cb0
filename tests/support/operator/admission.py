"""The webhooks of an operator that runs on this host: the shipped configurations, with a URL where a cluster has a Service."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import yaml
from tests.support.cluster.cluster import Cluster
from tests.support.operator.running import DEPLOY

Json = dict[str, Any]


def configurations(url: str, name: str = "pillion", **only: str) -> list[Json]:
    """The shipped webhook configurations, calling *url*; with *only*, some fields of every webhook are replaced."""
    documents = list(yaml.safe_load_all((DEPLOY / "5-admission.yaml").read_text()))
    for document in documents:
        document["metadata"]["name"] = name
        for webhook in document["webhooks"]:
            webhook["clientConfig"] = {"url": url + webhook["clientConfig"]["service"]["path"]}
            webhook.update(only)
    return documents


def injection_policy() -> list[Json]:
    """The shipped policy by which an API server injects alone, and its bindings."""
    return list(yaml.safe_load_all((DEPLOY / "optional" / "injection-policy.yaml").read_text()))


def confined(document: Json, label: str, *values: str) -> Json:
    """A webhook configuration or a binding for the namespaces alone whose label has one of *values*; a policy as it is."""
    selecting = document.get("webhooks") or [document["spec"].get("matchResources")]
    for one in filter(None, selecting):
        expression = {"key": label, "operator": "In", "values": list(values)}
        one["namespaceSelector"]["matchExpressions"].append(expression)
    return document


@contextlib.contextmanager
def installed(cluster: Cluster, documents: list[Json]) -> Iterator[None]:
    """Webhook configurations for a while. They concern the whole cluster, so they must not outlive what answers them."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    cluster.kubectl.run("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=manifest)
    try:
        yield
    finally:
        cluster.kubectl.run("delete", "--ignore-not-found", "--filename=-", stdin=manifest)


def trusted(cluster: Cluster, name: str = "pillion") -> bool:
    """Whether every webhook has been told whom to trust."""
    found = []
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        listed = json.loads(cluster.kubectl.run("get", kind, name, "--output=json"))
        found += [bool(webhook["clientConfig"].get("caBundle")) for webhook in listed["webhooks"]]
    return all(found)


def pod(
    name: str, *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **spec: Any
) -> Json:
    """A pod that passes the restricted profile."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example/app:1",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
            **spec,
        },
    }


def has_sidecar(found: Json) -> bool:
    """Whether the first init container is the sidecar."""
    first = (found["spec"].get("initContainers") or [{}])[0]
    return (first.get("name"), first.get("restartPolicy")) == ("pillion", "Always")
