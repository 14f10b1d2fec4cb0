"""Sidecars that run and that nobody hears: the resources that they go on with say so, by the pods that the API server shows."""

import asyncio

import pytest
from tests.support.cluster.identities import Pod, ensure_service_account, request_token
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import (
    QUICK,
    OperatorProcess,
    StandIn,
    account_access,
    condition,
    eventually,
    is_now,
    policy,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def searching(cluster, operator_of_session, tmp_path):
    """An operator that searches pods every second, in place of the one of this run."""
    operator_of_session.stop()
    made = OperatorProcess(asyncio.run(account_access(cluster)), tmp_path / "op", *QUICK, "--repair-interval=1")
    made.start()
    yield made
    made.stop()


async def injected(api, namespace, name):
    """A pod object as it is after injection and start."""
    await ensure_service_account(api, namespace, "default")
    spec = {
        "serviceAccountName": "default",
        "automountServiceAccountToken": False,
        "initContainers": [{"name": "pillion", "image": "none.invalid/pillion", "restartPolicy": "Always"}],
        "containers": [{"name": "app", "image": "none.invalid/app"}],
    }
    metadata = {"name": name, "labels": {"pillion.dev/inject": "true"}}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = await api.create(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    started = {
        "name": "pillion", "started": True, "ready": True, "restartCount": 0, "image": "none.invalid/pillion", "imageID": "x",
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }  # fmt: skip
    await api.patch(f"{pods}/{name}/status", {"status": {"phase": "Running", "initContainerStatuses": [started]}})
    token = await request_token(api, namespace, "default", pod=pod)
    return Pod(namespace, name, pod["metadata"]["uid"], "default", token)


async def test_a_resource_names_the_pods_whose_sidecar_goes_on_unheard(api, namespace, searching, tmp_path):
    limits = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"
    pod = await injected(api, namespace, "shop-1")
    async with StandIn(searching, pod, tmp_path):
        await api.apply(f"{limits}/shop", policy("shop", 5))
        await api.until(limits, "shop", lambda r: r["status"].get("sidecars", {}).get("summary") == "1/1")

    lost = await api.until(limits, "shop", is_now("Stale", "True", "Disconnected"))
    assert condition(lost, "Stale")["message"].startswith("shop-1: no stream to the operator")
    assert condition(lost, "Ready")["status"] == "True"

    searching.kill()
    searching.start()
    await eventually(searching.leads, what="leadership")
    searches = searching.metric("pillion_operator_reconciliations_total", queue="status", outcome="done")
    await eventually(
        lambda: searching.metric("pillion_operator_reconciliations_total", queue="status", outcome="done") > searches,
        what="a look at the status by somebody who knows",
    )
    assert condition(await api.get(f"{limits}/shop"), "Stale") == condition(lost, "Stale")

    async with StandIn(searching, pod, tmp_path):
        found = await api.until(limits, "shop", lambda r: not condition(r, "Stale"))
        assert found["status"]["sidecars"]["summary"] == "1/1"
