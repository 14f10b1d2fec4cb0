"""Certificates against a real API server: replicas that race agree, a rotation loses no review, whom to trust is told once and by its own field manager."""

import asyncio
import base64
import contextlib
import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from tests.support.cluster.api import ApiError as Refused
from tests.support.cluster.kubeconfig import Access
from tests.support.operator.admission import configurations, has_sidecar, installed, pod

from pillion_operator import authority
from pillion_operator.admission.server import AdmissionServer
from pillion_operator.api import Api
from pillion_operator.catalogue import Catalogue, Vocabulary
from pillion_operator.certificate_keeper import CertificateKeeper
from pillion_operator.certificates import BACKDATE, CA_LIFE, CA_RENEW, make_authority
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespaces
from pillion_operator.settings import Settings
from pillion_operator.trust import MANAGER, Trust

pytestmark = pytest.mark.slow

NAME = "pillion-certificates"
"""Of the webhook configurations of these tests."""


@pytest.fixture
async def connect(cluster, tmp_path):
    """Makes clients of the operator's own kind."""
    path = cluster.access.write(tmp_path / "admin.kubeconfig")
    async with contextlib.AsyncExitStack() as stack:

        async def make():
            client = await Api.connect(Settings(kubeconfig=path), CollectorRegistry())
            stack.push_async_callback(client.close)
            return client

        yield make


def keeper(client, namespace, **options):
    return CertificateKeeper(client, namespace, ["127.0.0.1", "operator.svc"], CollectorRegistry(), **options)


async def stored(api, namespace):
    secret = await api.get(f"/api/v1/namespaces/{namespace}/secrets/pillion-ca")
    return authority.decode(secret["data"])


async def put(api, namespace, data):
    path = f"/api/v1/namespaces/{namespace}/secrets/pillion-ca"
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pillion-ca"}, "data": authority.encode(data)}
    await api.apply(path, body)


async def test_replicas_that_start_together_agree_on_one_authority(api, connect, new_namespace):
    for _ in range(5):
        namespace = await new_namespace()
        keepers = [keeper(await connect(), namespace) for _ in range(4)]

        await asyncio.gather(*(one.settle() for one in keepers))

        data = await stored(api, namespace)
        assert {one.trusted for one in keepers} == {data["ca.crt"]}
        assert all(one.ready for one in keepers)


async def test_replicas_that_rotate_together_announce_one_authority(api, connect, namespace):
    data = aged()
    await put(api, namespace, data)
    keepers = [keeper(await connect(), namespace) for _ in range(4)]

    await asyncio.gather(*(one.settle() for one in keepers))

    after = await stored(api, namespace)
    assert after["ca.crt"] == data["ca.crt"]
    assert {one.trusted for one in keepers} == {data["ca.crt"] + after["next-ca.crt"]}


async def test_a_settled_secret_is_not_written_again(api, connect, namespace):
    client = await connect()
    await keeper(client, namespace).settle()
    before = await api.get(f"/api/v1/namespaces/{namespace}/secrets/pillion-ca")

    await keeper(client, namespace).settle()

    after = await api.get(f"/api/v1/namespaces/{namespace}/secrets/pillion-ca")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_without_the_right_it_goes_on_without_a_certificate(cluster, namespace, token_for, tmp_path):
    token = await token_for(audience="https://kubernetes.default.svc")
    access = Access(cluster.access.server, cluster.access.authority, token=token)
    path = access.write(tmp_path / "nobody.kubeconfig")
    client = await Api.connect(Settings(kubeconfig=path), CollectorRegistry())
    one = keeper(client, namespace)

    await one.start()
    await client.close()

    assert not one.ready
    assert one.trusted == b""


def aged():
    """An authority that is due for renewal."""
    pair = make_authority(datetime.now(UTC) - CA_LIFE + CA_RENEW / 2 + BACKDATE)
    return {"ca.crt": pair.certificate, "ca.key": pair.key}


async def test_a_rotation_fails_no_review(api, cluster, connect, new_namespace, namespace):
    """Pods are created all the time in a namespace where a failed review is a refused pod, while the authority goes through its whole rotation."""
    await put(api, namespace, aged())
    registry, client = CollectorRegistry(), await connect()
    own = keeper(client, namespace)
    await own.settle()
    vocabulary = Vocabulary.load()
    settings = Settings(namespace=namespace)
    server = AdmissionServer(
        "127.0.0.1:0",
        own.context,
        kinds=vocabulary.kinds,
        catalogue=Catalogue(vocabulary),
        namespaces=Namespaces(client, 60.0),
        inject=Injector(settings),
        registry=registry,
    )
    trust = Trust(
        client, bundle=lambda: own.trusted, namespaces=list, name=NAME, leading=lambda: True, registry=registry
    )
    strict = await new_namespace({"pillion.dev/inject": "true", "pillion.dev/failure-policy": "strict"})
    served: set[bytes] = set()
    reviews = 0
    stop = asyncio.Event()

    async def create():
        nonlocal reviews
        while not stop.is_set():
            made = await api.request("POST", f"/api/v1/namespaces/{strict}/pods", pod("probe"), dryRun="All")
            assert has_sidecar(made)
            reviews += 1

    async def rotate():
        await _more(lambda: reviews, 20)
        served.add(await certificate(server.port))
        data = await stored(api, namespace)
        await put(api, namespace, data | {"next-since": (datetime.now(UTC) - timedelta(days=2)).isoformat().encode()})
        await own.settle()  # the new authority signs from here on
        served.add(await certificate(server.port))
        await _more(lambda: reviews, 20)
        await trust.spread()
        await _more(lambda: reviews, 20)
        stop.set()

    await server.start()
    try:
        with installed(cluster, configurations(f"https://127.0.0.1:{server.port}", NAME)):
            await trust.spread()
            await _until_answered(api, strict)
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(rotate())
                for _ in range(3):
                    group.create_task(create())
    finally:
        await server.stop()

    assert len(served) == 2
    assert (await stored(api, namespace)).keys() == {"ca.crt", "ca.key", "old-ca.crt"}


async def _more(count, by):
    goal = count() + by
    while count() < goal:  # noqa: ASYNC110 - the reviews are those of another process
        await asyncio.sleep(0.01)


async def _until_answered(api, namespace):
    async with asyncio.timeout(20):
        while True:
            try:
                return await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod("probe"), dryRun="All")
            except Refused:
                await asyncio.sleep(0.05)  # the API server takes a moment to notice the configuration


async def certificate(port):
    """The certificate that a new connection is shown."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_trust_is_written_where_it_is_missing_and_nowhere_else(api, cluster, connect, new_namespace):
    first, second = await new_namespace(), await new_namespace()
    client, bundle, leads = await connect(), [b"one\n"], [False]
    trust = Trust(
        client,
        bundle=lambda: bundle[0],
        namespaces=lambda: [first, second, "there-is-no-such-namespace"],
        name=NAME,
        leading=lambda: leads[0],
        registry=CollectorRegistry(),
    )
    real = make_authority(datetime.now(UTC)).certificate
    with installed(cluster, configurations("https://127.0.0.1:1", NAME, failurePolicy="Ignore")):
        await trust.spread()
        assert await maps(api, first, second) == [None, None]
        assert not trust.told

        leads[0], bundle[0] = True, real
        await trust.spread()
        assert trust.told
        before = [await configuration(api), await maps(api, first, second)]
        await trust.spread()
        after = [await configuration(api), await maps(api, first, second)]

    assert before == after
    assert [one["data"]["ca.crt"].encode() for one in after[1]] == [real, real]
    assert {webhook["clientConfig"]["caBundle"] for webhook in after[0]["webhooks"]} == {
        base64.b64encode(real).decode()
    }
    managed = next(entry for entry in after[0]["metadata"]["managedFields"] if entry["manager"] == MANAGER)
    assert managed["operation"] == "Apply"
    assert "f:failurePolicy" not in json.dumps(managed)


async def configuration(api):
    return await api.get(f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{NAME}")


async def maps(api, *namespaces):
    found = []
    for namespace in namespaces:
        try:
            found.append(await api.get(f"/api/v1/namespaces/{namespace}/configmaps/pillion-ca"))
        except Refused:
            found.append(None)
    return found


async def test_applying_the_configurations_again_keeps_what_the_operator_wrote(api, cluster, connect):
    real = make_authority(datetime.now(UTC)).certificate
    trust = Trust(
        await connect(),
        bundle=lambda: real,
        namespaces=list,
        name=NAME,
        leading=lambda: True,
        registry=CollectorRegistry(),
    )
    documents = configurations("https://127.0.0.1:1", NAME, failurePolicy="Ignore")
    with installed(cluster, documents):
        await trust.spread()
        before = await configuration(api)

        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        cluster.kubectl.run("apply", "--server-side", "--filename=-", stdin=manifest)

        assert (await configuration(api))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_replica_that_does_not_lead_sees_when_the_api_server_knows(cluster, connect):
    """It is ready from then on: a pod that is created as soon as a first installation is ready gets its sidecar."""
    real, client = make_authority(datetime.now(UTC)).certificate, await connect()
    leader, other = (
        Trust(
            client,
            bundle=lambda: real,
            namespaces=list,
            name=NAME,
            leading=lambda leads=leads: leads,
            registry=CollectorRegistry(),
        )
        for leads in (True, False)
    )
    with installed(cluster, configurations("https://127.0.0.1:1", NAME, failurePolicy="Ignore")):
        await other.spread()
        assert not other.told

        await leader.spread()
        await other.spread()
        assert other.told


async def test_where_no_webhooks_are_installed_nothing_is_waited_for(connect):
    trust = Trust(
        await connect(),
        bundle=lambda: b"one\n",
        namespaces=list,
        name="pillion-not-installed",
        leading=lambda: False,
        registry=CollectorRegistry(),
    )
    await trust.spread()

    assert trust.told


async def test_configurations_that_cert_manager_keeps_are_left_to_it(api, cluster, connect):
    """Two writers of `caBundle` would undo each other's rotation."""
    trust = Trust(
        await connect(),
        bundle=lambda: make_authority(datetime.now(UTC)).certificate,
        namespaces=list,
        name=NAME,
        leading=lambda: True,
        registry=CollectorRegistry(),
    )
    documents = configurations("https://127.0.0.1:1", NAME, failurePolicy="Ignore")
    for document in documents:
        document["metadata"]["annotations"] = {"cert-manager.io/inject-ca-from": "pillion-system/pillion-operator"}
    with installed(cluster, documents):
        await trust.spread()
        found = await configuration(api)

    assert not any("caBundle" in webhook["clientConfig"] for webhook in found["webhooks"])
