"""Two replicas with certificates of their own making: they agree on the authority, believe each other, and each answers reviews, leader or not."""

import asyncio
import contextlib
import json
import ssl

import aiohttp
import pytest
from tests.support.cluster.api import ApiError
from tests.support.operator.admission import configurations, installed, pod
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import (
    NAMESPACE,
    QUICK,
    OperatorProcess,
    StandIn,
    account_access,
    eventually,
    install,
    peer_token,
    policy,
)

from pillion_operator import authority

pytestmark = pytest.mark.slow


async def test_replicas_with_their_own_authority_believe_each_other_and_both_answer_reviews(
    *, api, cluster, operator_of_session, new_namespace, new_pod, tmp_path
):
    operator_of_session.stop()
    install(cluster, tmp_path)
    with contextlib.suppress(ApiError):  # there is none yet if this test is the first
        await api.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets/pillion-ca")
    token = tmp_path / "peer.token"
    token.write_text(await peer_token(cluster))
    access = await account_access(cluster)
    replicas = []
    for name in ("one", "two"):
        replica = OperatorProcess(access, tmp_path / name, *QUICK, name=name, own_authority=True)
        extra = [f"--advertise-url={replica.url}", f"--peer-token-file={token}"]
        replica.process.command = (*replica.process.command, *extra)
        replicas.append(replica)
    namespace = await new_namespace({"pillion.dev/inject": "true"})
    try:
        with installed(cluster, configurations("https://127.0.0.1:1", "pillion", failurePolicy="Ignore")):
            await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in replicas))
            # Ready means that the API server can call it.
            path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pillion"
            assert all("caBundle" in webhook["clientConfig"] for webhook in (await api.get(path))["webhooks"])
        secret = await api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/pillion-ca")
        trusted = tmp_path / "ca.crt"
        trusted.write_bytes(authority.decode(secret["data"])["ca.crt"])

        for replica in replicas:
            assert await injects(replica, trusted, namespace)

        await eventually(lambda: any(replica.leads() for replica in replicas), what="a replica leads")
        follower = next(replica for replica in replicas if not replica.leads())
        follower.ca_file = trusted
        limits = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"
        async with StandIn(follower, await new_pod("far", within=namespace), tmp_path):
            await api.apply(f"{limits}/shop", policy("shop", 5))
            # Only the leader writes statuses, so it has believed the follower's report.
            await api.until(limits, "shop", lambda r: r["status"].get("sidecars", {}).get("summary") == "1/1")
    finally:
        for replica in replicas:
            replica.stop()


async def injects(replica, trusted, namespace):
    """Whether a replica, asked directly, gives a pod its sidecar."""
    request = {"uid": "u", "operation": "CREATE", "namespace": namespace, "object": pod("shop")}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    tls = ssl.create_default_context(cafile=trusted)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
        session.post(f"{replica.webhooks}/mutate/pods", data=json.dumps(review).encode()) as answer,
    ):
        return "patch" in json.loads(await answer.text())["response"]
