"""Who a workload is, without a node: service accounts, pods that nobody runs, and the tokens that the kubelet would have projected into them.

The API server issues a pod-bound token for any pod that exists, so a sidecar process beside the tests can hold exactly the credential that it would hold in
a cluster: its audience, its namespace, its pod's name and uid all come out of a real TokenReview.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.support.cluster.api import Api, ApiError, Json

AUDIENCE: Final = "pillion"
"""The audience of sidecar tokens."""


@dataclass(frozen=True)
class Pod:
    """A pod object and a token bound to it."""

    namespace: str
    name: str
    uid: str
    service_account: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Review:
    """The answer of a TokenReview, read."""

    authenticated: bool
    username: str
    audiences: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]
    error: str

    @property
    def pod_name(self) -> str | None:
        """The pod that the token is bound to."""
        return next(iter(self.extra.get("authentication.kubernetes.io/pod-name", ())), None)

    @property
    def pod_uid(self) -> str | None:
        """The uid of the pod that the token is bound to."""
        return next(iter(self.extra.get("authentication.kubernetes.io/pod-uid", ())), None)


async def ensure_service_account(api: Api, namespace: str, name: str) -> None:
    """Makes a service account unless it exists. Even `default` does not appear by itself where no controller manager runs."""
    manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    try:
        await api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", manifest)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def request_token(
    api: Api,
    namespace: str,
    service_account: str,
    *,
    audience: str = AUDIENCE,
    seconds: int = 3600,
    pod: Json | None = None,
) -> str:
    """A token of a service account (TokenRequest), bound to *pod* when it is given. The API server allows no less than 600 *seconds*."""
    spec: Json = {"audiences": [audience], "expirationSeconds": seconds}
    if pod is not None:
        metadata = pod["metadata"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
    answer = await api.create(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
    token: str = answer["status"]["token"]
    return token


async def create_pod(
    api: Api,
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    service_account: str = "default",
    node: str | None = None,
    running: bool = False,
) -> Json:
    """A pod object with one container that nobody runs.

    Args:
        api: A client that may create pods.
        namespace: Its namespace.
        name: Its name.
        labels: Its labels.
        annotations: Its annotations.
        service_account: Made first unless it exists.
        node: `spec.nodeName`; the node need not exist.
        running: Whether its status says what a kubelet would report of a pod that runs and is ready.
    """
    await ensure_service_account(api, namespace, service_account)
    spec: Json = {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        "containers": [{"name": "app", "image": "none.invalid/app", "imagePullPolicy": "Never"}],
    }
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "labels": dict(labels or {}), "annotations": dict(annotations or {})}
    pod = await api.create(
        f"/api/v1/namespaces/{namespace}/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    )
    if running:
        conditions = [
            {"type": kind, "status": "True"} for kind in ("Initialized", "PodScheduled", "ContainersReady", "Ready")
        ]
        status = {
            "status": {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "podIPs": [{"ip": "127.0.0.1"}],
                "conditions": conditions,
            }
        }
        pod = await api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", status)
    return pod


async def pod_identity(
    api: Api,
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    service_account: str = "default",
    audience: str = AUDIENCE,
    node: str | None = None,
) -> Pod:
    """A running pod object together with its pod-bound token: all that a sidecar process needs to speak as that pod."""
    pod = await create_pod(
        api, namespace, name, labels=labels, service_account=service_account, node=node, running=True
    )
    token = await request_token(api, namespace, service_account, audience=audience, pod=pod)
    return Pod(namespace, name, pod["metadata"]["uid"], service_account, token)


async def review_token(api: Api, token: str, audience: str = AUDIENCE) -> Review:
    """What the API server says about *token* for *audience* (TokenReview)."""
    spec = {"token": token, "audiences": [audience]}
    answer = await api.create(
        "/apis/authentication.k8s.io/v1/tokenreviews",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec},
    )
    status = answer["status"]
    user = status.get("user", {})
    return Review(
        authenticated=status.get("authenticated", False),
        username=user.get("username", ""),
        audiences=tuple(status.get("audiences", ())),
        extra={key: tuple(values) for key, values in user.get("extra", {}).items()},
        error=status.get("error", ""),
    )
