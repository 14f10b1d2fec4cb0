"""Who gets in, what the operator itself may do, and what it makes of hostile requests: against a real API server, over TLS."""

import io
import json
import ssl

import aiohttp
import pytest
import pytest_asyncio
import yaml
from tests.support.cluster.api import Api
from tests.support.cluster.kubectl import KubectlError
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import ACCOUNT, DEPLOY, NAMESPACE, account_access, peer_token

from pillion.kinds.exchange import MAX_ACKNOWLEDGEMENT_BYTES

pytestmark = pytest.mark.slow

DEEP = b'[{"kind": "K", "name": "n", "figures": {"a": %s}}]' % (b"[" * 5000 + b"]" * 5000)
ACK = {"revision": "0" * 64, "applied": True}


@pytest_asyncio.fixture
async def client(operator):
    """Requests to the operator: (status, headers, problem)."""
    tls = ssl.create_default_context(cafile=operator.ca_file)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as session:

        async def ask(method, path, *, token=None, headers=None, **options):
            headers = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
            async with session.request(method, operator.url + path, headers=headers, **options) as answer:
                if answer.content_type == "text/event-stream":
                    return answer.status, answer.headers, (await answer.content.readuntil(b"\n\n")).decode()
                text = await answer.text()
                json_like = answer.content_type.endswith("json")
                return answer.status, answer.headers, json.loads(text) if json_like else text

        yield ask


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/acks", "/v1/reports"])
async def test_nobody_gets_in_without_a_token_that_is_meant_for_us(client, token_for, path):
    method = "GET" if path == "/v1/stream" else "POST"
    for token in (None, "nonsense", await token_for(audience="https://kubernetes.default.svc")):
        status, headers, problem = await client(method, path, token=token)

        assert status == 401
        assert headers["WWW-Authenticate"] == "Bearer"
        assert headers["Content-Type"].startswith("application/problem+json")
        assert problem["type"].startswith("https://pillion.dev/problems/")
        assert token is None or token not in json.dumps(problem)


async def test_a_token_without_a_pod_is_refused_with_the_fix(client, token_for):
    status, _, problem = await client("GET", "/v1/stream", token=await token_for())

    assert (status, problem["type"].rpartition("/")[2]) == (403, "unbound-token")
    assert "projected volume" in problem["detail"]


async def test_the_token_of_a_deleted_pod_is_refused(api, client, new_pod, namespace):
    pod = await new_pod("short-lived")
    status, _, first = await client("GET", "/v1/stream", token=pod.token)
    assert (status, first) == (200, "event: ping\ndata: {}\n\n")

    await api.delete(f"/api/v1/namespaces/{namespace}/pods/short-lived")

    status, _, _ = await client("GET", "/v1/stream", token=pod.token)
    assert status in (401, 403)  # the review is remembered for a while, the pod is not


async def test_sidecars_may_not_report_for_replicas_and_replicas_may(client, cluster, new_pod):
    report = {"replica": "r", "sidecars": []}
    pod = await new_pod("curious")

    status, _, problem = await client("POST", "/v1/reports", token=pod.token, json=report)
    assert (status, problem["type"].rpartition("/")[2]) == (403, "no-replica")

    status, _, _ = await client("POST", "/v1/reports", token=await peer_token(cluster), json=report)
    assert status == 204


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"revision": 1, "applied": true}', 422),
        (b'{"revision": "%s", "applied": true}' % (b"0" * 65), 422),
        (b'{"revision": "", "applied": true, "unready": [{"kind": "K", "name": "n", "reason": "not one word"}]}', 422),
        (json.dumps(ACK | {"message": "x" * 3000}).encode(), 422),
        (json.dumps(ACK | {"observed": [{"kind": "K", "name": "n", "figures": {}}] * 1001}).encode(), 422),
        (b"[" * 100_000, 422),
        (b'{"revision": "", "applied": true, "observed": ' + DEEP + b"}", 400),
        (b"\xff\xfe", 400),
        (io.BytesIO(b" " * (MAX_ACKNOWLEDGEMENT_BYTES + 1)), 413),
    ],
)
async def test_a_malformed_acknowledgement_is_a_problem_never_an_error_of_ours(client, new_pod, body, status):
    pod = await new_pod("clumsy")

    found, _, problem = await client("POST", "/v1/acks", token=pod.token, data=body)

    assert (found, problem["status"]) == (status, status)


async def test_an_acknowledgement_without_a_stream_is_sent_elsewhere(client, new_pod):
    pod = await new_pod("lost")

    status, headers, problem = await client("POST", "/v1/acks", token=pod.token, json=ACK)

    assert (status, problem["type"].rpartition("/")[2]) == (409, "stream-elsewhere")
    assert headers["Connection"] == "close"


@pytest.mark.parametrize("revision", ["../../x", "a" * 65, "a b"])
async def test_a_revision_that_is_none_is_refused(client, new_pod, revision):
    pod = await new_pod("odd")

    status, _, _ = await client("GET", "/v1/stream", token=pod.token, params={"revision": revision})

    assert status == 400


async def test_the_operator_may_do_what_it_does_and_nothing_more(cluster, namespace, tmp_path, operator):
    kubeconfig = (await account_access(cluster)).write(tmp_path / "account.kubeconfig")
    kubectl = cluster.kubectl.acting_as(kubeconfig)

    async def may(*question):
        try:
            return (await kubectl("auth", "can-i", *question)).strip() == "yes"
        except KubectlError as refused:
            return not refused.output.startswith("no")

    for question in (
        ("list", "ratelimitpolicies.pillion.dev", "-A"),
        ("patch", "ratelimitpolicies.pillion.dev", "--subresource=status", "-A"),
        ("create", "tokenreviews.authentication.k8s.io"),
        ("list", "pods", "-A"),
        ("watch", "namespaces"),
        ("get", "secrets/pillion-ca", "-n", NAMESPACE),
        ("patch", "configmaps/pillion-ca", "-n", namespace),
        ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/pillion"),
        ("update", f"leases.coordination.k8s.io/{ACCOUNT}", "-n", NAMESPACE),
    ):
        assert await may(*question), question
    for question in (
        ("get", "secrets", "-n", namespace),
        ("list", "secrets", "-A"),
        ("list", "configmaps", "-A"),
        ("create", "configmaps", "-n", namespace),
        ("get", "secrets", "-n", NAMESPACE),
        ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/other"),
        ("create", "pods", "--subresource=eviction", "-n", namespace),
        ("delete", "pods", "-n", namespace),
        ("patch", "ratelimitpolicies.pillion.dev", "-A"),
        ("delete", "ratelimitpolicies.pillion.dev", "-A"),
        ("update", "leases.coordination.k8s.io/other", "-n", NAMESPACE),
        ("get", "leases.coordination.k8s.io", "-n", namespace),
        ("get", "configmaps", "-n", namespace),
        ("create", "pods", "-n", namespace),
    ):
        assert not await may(*question), question


async def test_the_manifests_are_what_the_api_server_understands(cluster, operator, namespace):
    for path in sorted(DEPLOY.glob("*.yaml")):
        await cluster.kubectl("apply", "--dry-run=server", "--validate=strict", f"--filename={path}")
    await cluster.kubectl.within(namespace)(
        "apply", "--dry-run=server", "--validate=strict", f"--filename={DEPLOY / 'namespaced'}"
    )


async def test_the_deployments_pod_passes_restricted_pod_security(cluster, operator):
    """The namespace enforces it, so a pod of the template must be admitted there."""
    deployment = next(
        d for d in yaml.safe_load_all((DEPLOY / "4-deployment.yaml").read_text()) if d["kind"] == "Deployment"
    )
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", **template["metadata"]},
        "spec": template["spec"],
    }
    async with Api(cluster.access) as api:
        await api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod, dryRun="All", fieldValidation="Strict")


async def test_metrics_and_probes_are_served_apart_from_the_streams(client, operator):
    assert operator.ready()
    assert operator.metric("pillion_operator_audit_timestamp_seconds") > 0
    assert operator.metric("pillion_operator_leading") in (0, 1)
    async with aiohttp.ClientSession() as session, session.get(f"{operator.admin}/livez") as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")
    status, _, _ = await client("GET", "/metrics")
    assert status == 404
