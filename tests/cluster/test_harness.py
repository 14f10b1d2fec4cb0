"""The harness itself: a real API server comes up, knows who we are, and survives a kill with its data."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.support.cluster.api import Api, ApiError
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.identities import Pod, create_pod, request_token, review_token
from tests.support.cluster.kubeconfig import Access
from tests.support.cluster.kubectl import Kubectl, KubectlError

TokenFor = Callable[..., Awaitable[str]]
NewPod = Callable[..., Awaitable[Pod]]


async def test_server_tells_its_pinned_version(cluster: Cluster, api: Api) -> None:
    version = await api.get("/version")

    assert version["major"] == "1"
    assert cluster.control_plane is None or int(version["minor"]) >= 30


async def test_namespace_is_there_with_its_service_account(api: Api, namespace: str) -> None:
    account = await api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")

    assert account["metadata"]["namespace"] == namespace


async def test_kubectl_applies_into_the_namespace_of_the_test(api: Api, namespace: str, kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "greeting", "--from-literal=text=hello")

    found = await api.get(f"/api/v1/namespaces/{namespace}/configmaps/greeting")
    assert found["data"] == {"text": "hello"}


def test_kubectl_also_runs_without_an_event_loop(kubectl: Kubectl) -> None:
    assert "default" in kubectl.run("get", "serviceaccounts", "--output=name")


async def test_kubectl_failure_shows_what_it_said(kubectl: Kubectl) -> None:
    with pytest.raises(KubectlError, match='pods "absent" not found'):
        await kubectl("get", "pod", "absent")


async def test_token_for_the_audience_passes_review(api: Api, namespace: str, token_for: TokenFor) -> None:
    review = await review_token(api, await token_for("worker", audience="pillion"), "pillion")

    assert review.authenticated
    assert review.username == f"system:serviceaccount:{namespace}:worker"
    assert review.audiences == ("pillion",)


async def test_token_for_another_audience_fails_review(api: Api, token_for: TokenFor) -> None:
    review = await review_token(api, await token_for("worker", audience="elsewhere"), "pillion")

    assert not review.authenticated
    assert "audience" in review.error


async def test_pod_token_names_its_pod(api: Api, namespace: str, new_pod: NewPod) -> None:
    pod = await new_pod("shop-1", labels={"app": "shop"}, node="fake-node")

    review = await review_token(api, pod.token)
    assert (review.pod_name, review.pod_uid) == ("shop-1", pod.uid)
    stored = await api.get(f"/api/v1/namespaces/{namespace}/pods/shop-1")
    assert stored["metadata"]["labels"] == {"app": "shop"}
    assert stored["status"]["phase"] == "Running"


async def test_pod_token_dies_with_its_pod(api: Api, namespace: str, new_pod: NewPod) -> None:
    pod = await new_pod("shop-1")

    await api.delete(f"/api/v1/namespaces/{namespace}/pods/shop-1")

    # The token authenticator reads pods through a watch: the deletion is seen within moments, not at once.
    for _ in range(1000):
        review = await review_token(api, pod.token)
        if not review.authenticated:
            break
    assert not review.authenticated


async def test_service_account_token_is_nobodys_permission(
    cluster: Cluster, namespace: str, token_for: TokenFor
) -> None:
    token = await token_for("worker", audience="https://kubernetes.default.svc")

    async with Api(Access(cluster.access.server, cluster.access.authority, token=token)) as worker:
        with pytest.raises(ApiError) as refused:
            await worker.get(f"/api/v1/namespaces/{namespace}/secrets")

    assert refused.value.status == 403


async def test_until_returns_the_object_that_satisfies(api: Api, namespace: str, kubectl: Kubectl) -> None:
    await create_pod(api, namespace, "app")
    await kubectl("label", "pod", "app", "stage=ready")

    pod = await api.until(
        f"/api/v1/namespaces/{namespace}/pods",
        "app",
        lambda it: it["metadata"].get("labels", {}).get("stage") == "ready",
    )

    assert pod["metadata"]["name"] == "app"


async def test_until_shows_what_it_last_saw(api: Api, namespace: str) -> None:
    await create_pod(api, namespace, "app")

    with pytest.raises(TimeoutError, match=r'last seen: .*"name": "app"'):
        await api.until(f"/api/v1/namespaces/{namespace}/pods", "app", lambda _: False, within=0.2)


async def test_removed_namespace_leaves_nothing(
    cluster: Cluster, api: Api, new_namespace: Callable[..., Awaitable[str]]
) -> None:
    if cluster.controlled:
        pytest.skip("a namespace controller takes its own time")
    from tests.support.cluster import namespaces

    name = await new_namespace({"purpose": "removal"})
    await create_pod(api, name, "app", node="fake-node", running=True)

    await namespaces.remove(api, name, controlled=False)

    with pytest.raises(ApiError) as gone:
        await api.get(f"/api/v1/namespaces/{name}")
    assert gone.value.status == 404
    assert (await api.get("/api/v1/pods", fieldSelector=f"metadata.namespace={name}"))["items"] == []


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: probes.harness.invalid}
spec:
  group: harness.invalid
  names: {kind: Probe, plural: probes}
  scope: Namespaced
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object}}}}}
"""


@pytest.mark.slow
async def test_applied_crds_are_served(
    cluster: Cluster, api: Api, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    (tmp_path / "probes.yaml").write_text(CRD)

    cluster.apply_crds(tmp_path)

    try:
        probe = {"apiVersion": "harness.invalid/v1", "kind": "Probe", "metadata": {"name": "one"}, "spec": {}}
        made = await api.create(f"/apis/harness.invalid/v1/namespaces/{namespace}/probes", probe)
        assert made["metadata"]["generation"] == 1
        assert await kubectl("get", "probes", "--output=name") == "probe.harness.invalid/one\n"
    finally:
        await kubectl("delete", f"--filename={tmp_path}", "--wait=false")


@pytest.mark.slow
async def test_killed_api_server_comes_back_with_its_data(
    control_plane: ControlPlane, cluster: Cluster, api: Api, namespace: str
) -> None:
    await create_pod(api, namespace, "app")
    token = await request_token(api, namespace, "default")
    server = cluster.access.server

    control_plane.kill_apiserver()
    with pytest.raises(aiohttp.ClientError):
        await api.get("/version")
    control_plane.start_apiserver()

    pod = await api.get(f"/api/v1/namespaces/{namespace}/pods/app")
    assert pod["metadata"]["name"] == "app"
    assert cluster.access.server == server
    assert (await review_token(api, token)).authenticated


@pytest.mark.slow
async def test_killed_etcd_comes_back_with_its_data(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    await create_pod(api, namespace, "app")

    control_plane.etcd.kill()
    control_plane.start_etcd()

    found = await api.until(f"/api/v1/namespaces/{namespace}/pods", "app", lambda _: True)
    assert found["metadata"]["name"] == "app"
