"""Label a namespace, create a pod: injection, judgement and repair against a real API server, the operator as a process with its real rights."""

import asyncio
import json

import pytest
import yaml
from tests.support.bad_manifests import BAD
from tests.support.cluster.api import ApiError
from tests.support.cluster.kubectl import KubectlError
from tests.support.operator.admission import configurations, has_sidecar, installed, pod, trusted
from tests.support.operator.running import (
    DEPLOY,
    QUICK,
    OperatorProcess,
    account_access,
    eventually,
    install,
    policy,
    profile,
)

from pillion.kinds import registry

pytestmark = pytest.mark.slow

ASKS = {"pillion.dev/inject": "true"}
EVICTION = DEPLOY / "optional" / "eviction.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
STRICT = {"pillion.dev/failure-policy": "strict"}
MEANING = [bad for bad in BAD if bad.by == "meaning"]
WRONG = policy("wrong", 5, rules=[{"name": "a", "limits": [{"requests": 5, "per": "0s"}]}])


@pytest.fixture(scope="module")
def gate_of_module(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    install(cluster, folder)
    cluster.kubectl.run("apply", "--server-side", f"--filename={EVICTION}")
    flags = ("--repair=evict", "--repair-interval=1", "--eviction-pause=0", "--figures-interval=0")
    operator = OperatorProcess(asyncio.run(account_access(cluster)), folder, *QUICK, *flags, own_authority=True)
    with installed(cluster, configurations(operator.webhooks)):
        yield operator
    operator.stop()
    cluster.kubectl.run("delete", f"--filename={EVICTION}")


@pytest.fixture
async def gate(gate_of_module, cluster):
    if not gate_of_module.process.running:
        gate_of_module.start()
    await eventually(lambda: trusted(cluster), what="the API server is told whom to trust")
    return gate_of_module


def pods(namespace):
    return f"/api/v1/namespaces/{namespace}/pods"


def limits(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"


async def test_a_pod_of_a_labelled_namespace_gets_its_sidecar_and_restricted_pod_security_accepts_it(
    gate, api, new_namespace
):
    namespace = await new_namespace({**ASKS, **RESTRICTED})

    found = await api.create(pods(namespace), pod("shop"))

    assert has_sidecar(found)
    assert found["metadata"]["annotations"]["pillion.dev/injected"]
    app = found["spec"]["containers"][0]
    assert {"PILLION_URL", "PILLION_SOCKET", "OFREP_ENDPOINT"} <= {variable["name"] for variable in app["env"]}


async def test_the_namespace_is_given_the_authority_that_its_sidecars_mount(gate, api, new_namespace, cluster):
    namespace = await new_namespace(ASKS)

    told = await api.until(f"/api/v1/namespaces/{namespace}/configmaps", "pillion-ca", lambda _: True)

    secret = json.loads(
        cluster.kubectl.run("get", "secret", "pillion-ca", "--namespace=pillion-system", "--output=json")
    )
    assert "BEGIN CERTIFICATE" in told["data"]["ca.crt"]
    assert "PRIVATE" not in told["data"]["ca.crt"]
    assert set(secret["data"]) == {"ca.crt", "ca.key"}
    assert [entry["manager"] for entry in told["metadata"]["managedFields"]] == ["pillion-ca"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (({}, ASKS), True),
        ((ASKS, {"pillion.dev/inject": "false"}), False),
        (({}, {}), False),
        ((STRICT, ASKS), True),
    ],
)
async def test_the_label_of_the_pod_wins_over_its_namespaces(gate, api, new_namespace, labels, expected):
    of_namespace, of_pod = labels
    namespace = await new_namespace(of_namespace)

    found = await api.create(pods(namespace), pod("shop", labels=of_pod))

    assert has_sidecar(found) is expected


async def test_a_pod_that_asks_for_nothing_is_stored_as_it_was_sent(gate, api, namespace):
    sent = pod("plain", labels={"app": "plain"})

    found = await api.create(pods(namespace), sent)

    assert "initContainers" not in found["spec"]
    assert "annotations" not in found["metadata"]
    assert "env" not in found["spec"]["containers"][0]


async def test_a_pod_that_has_its_sidecar_is_left_as_it_is(gate, api, new_namespace):
    namespace = await new_namespace(ASKS)
    first = await api.create(pods(namespace), pod("first"))
    spec = {name: value for name, value in first["spec"].items() if name != "nodeName"}
    again = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again"}, "spec": spec}

    second = await api.create(pods(namespace), again)

    ours = ("initContainers", "containers", "volumes")
    assert {field: second["spec"][field] for field in ours} == {field: first["spec"][field] for field in ours}


async def test_annotations_of_pod_and_namespace_set_how_it_is_made(gate, api, new_namespace):
    namespace = await new_namespace(ASKS)
    annotations = {"pillion.dev/memory-limit": "64Mi", "pillion.dev/log-level": "debug"}
    await api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"annotations": annotations}})
    own = {"pillion.dev/memory-limit": "96Mi"}

    async def made():
        query = {"fieldValidation": "Strict", "dryRun": "All"}
        return (await api.request("POST", pods(namespace), pod("shop", annotations=own), **query))["spec"][
            "initContainers"
        ][0]

    async with asyncio.timeout(20):
        while {"name": "PILLION_LOG_LEVEL", "value": "debug"} not in (sidecar := await made())["env"]:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.05)  # the operator's watch follows within milliseconds, and announces it nowhere

    assert sidecar["resources"]["limits"] == {"memory": "96Mi"}


async def test_a_pod_that_can_have_none_starts_with_a_warning(gate, cluster, new_namespace):
    namespace = await new_namespace(ASKS)
    manifest = json.dumps(pod("host", hostNetwork=True))

    with pytest.raises(KubectlError) as warned:
        await cluster.kubectl.within(namespace)("apply", "--warnings-as-errors", "--filename=-", stdin=manifest)

    assert "no Pillion sidecar: the pod uses the node's network" in warned.value.output
    assert "pod/host created" in warned.value.output


async def test_what_lint_refuses_is_refused_by_the_api_server_with_the_same_words(gate, api, namespace):
    kinds = registry.kinds()
    for bad in MEANING:
        collection = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/{kinds[bad.kind].plural}"

        with pytest.raises(ApiError) as refused:
            await api.create(collection, yaml.safe_load(bad.text))

        assert 'admission webhook "resources.pillion.dev" denied the request' in refused.value.message, bad.name
        assert all(words in refused.value.message for words in (bad.path, *bad.says)), (bad.name, refused.value.message)


async def test_kubectl_apply_shows_the_sentence_with_path_value_rule_and_fix(gate, kubectl):
    with pytest.raises(KubectlError) as refused:
        await kubectl("apply", "--filename=-", stdin=json.dumps(WRONG))

    assert 'spec.rules[0].limits[0].per: "0s"' in refused.value.output


async def test_a_profile_that_ties_with_another_is_refused(gate, api, namespace):
    profiles = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles"
    await api.create(profiles, profile("z"))
    await eventually(lambda: gate.metric("pillion_operator_resources", kind="SidecarProfile", accepted="true") >= 1)

    with pytest.raises(ApiError) as refused:
        await api.create(profiles, profile("a"))

    assert "would make SidecarProfile z invalid" in refused.value.message


async def test_while_nobody_answers_pods_start_and_are_found_later(gate, api, new_namespace, cluster):
    lenient, strict = await new_namespace(ASKS), await new_namespace({**ASKS, **STRICT})
    profiles = f"/apis/pillion.dev/v1alpha1/namespaces/{lenient}/sidecarprofiles"
    await api.create(profiles, profile("default"))
    gate.stop()

    missed = await api.create(pods(lenient), pod("missed"))
    await api.create(limits(lenient), WRONG)
    with pytest.raises(ApiError) as refused:
        await api.create(pods(strict), pod("waits"))
    gate.start()

    assert not has_sidecar(missed)
    assert "failed calling webhook" in refused.value.message
    injected = await api.create(pods(lenient), pod("injected"))
    assert has_sidecar(injected)
    counted = {"pods": 2, "injected": 1, "missed": 1}
    await api.until(profiles, "default", lambda found: counted.items() <= found.get("status", {}).items())
    event = await first_event(api, lenient, "missed")
    assert (event["type"], event["reason"]) == ("Warning", "SidecarMissed")
    assert "kubectl rollout restart" in event["note"]
    await a_wrong_resource_can_be_labelled_and_deleted_but_not_edited_wrongly(api, f"{limits(lenient)}/wrong")
    table = cluster.kubectl.within(lenient).run("get", "scp")
    assert table.split()[:4] == ["NAME", "PODS", "INJECTED", "MISSED"]
    assert table.splitlines()[1].split()[:4] == ["default", "2", "1", "1"]


async def a_wrong_resource_can_be_labelled_and_deleted_but_not_edited_wrongly(api, path):
    await api.patch(path, {"metadata": {"labels": {"team": "shop"}}})
    with pytest.raises(ApiError, match="denied the request"):
        await api.patch(path, {"spec": {"suspend": True}})
    await api.delete(path)


async def first_event(api, namespace, pod_name, within=20):
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    async with asyncio.timeout(within):
        while True:
            for event in (await api.get(path))["items"]:
                if event["regarding"]["name"] == pod_name:
                    return event
            await asyncio.sleep(0.05)  # Events are posted by another process, and their names are not known


def owned(name, number, **metadata):
    """A pod with a controller that nothing runs."""
    made = pod(name, **metadata)
    uid = f"{number:08d}-0000-4000-8000-000000000000"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"shop-{number}", "uid": uid, "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
    return made


async def test_missed_pods_are_evicted_on_request_one_per_controller_within_disruption_budgets(gate, api, namespace):
    """The pods are older than the label of their namespace."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "guarded"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
    }
    await api.create(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)
    for made in (owned("shop", 1), owned("guarded", 2, labels={"app": "guarded"}), pod("alone")):
        await api.create(pods(namespace), made)
    running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await api.patch(f"{pods(namespace)}/guarded/status", {"status": running})
    before = gate.metric("pillion_operator_evictions_total", outcome="evicted")

    await api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": ASKS}})
    await eventually(lambda: gate.metric("pillion_operator_evictions_total", outcome="budget") >= 1)
    await eventually(lambda: gate.metric("pillion_operator_evictions_total", outcome="evicted") == before + 1)

    assert {one["metadata"]["name"] for one in (await api.get(pods(namespace)))["items"]} == {"guarded", "alone"}
