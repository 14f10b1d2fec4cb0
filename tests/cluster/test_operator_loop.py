"""From `kubectl apply` to the sidecar and back to `kubectl wait`, against a real API server, with the operator's real rights."""

import asyncio
import base64
import json
from contextlib import aclosing

import pytest
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import condition, eventually, is_now, policies, policy, profile, requests_of

from pillion.runtime.block import Unready
from pillion.runtime.host import ApplyResult

pytestmark = pytest.mark.slow


@pytest.fixture
def limits(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"


@pytest.fixture
def profiles(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles"


async def test_an_applied_resource_reaches_the_sidecar_and_kubectl_wait_returns(kubectl, new_sidecar, namespace):
    sidecar = await new_sidecar()
    await sidecar.until(lambda document: document["namespace"] == namespace)

    await kubectl("apply", "--filename=-", stdin=json.dumps(policy("shop", 5)))
    await kubectl("wait", "--for=condition=Propagated", "ratelimitpolicy/shop", "--timeout=20s")
    await kubectl("wait", "--for=condition=Ready", "ratelimitpolicy/shop", "--timeout=20s")

    assert requests_of(sidecar.documents[-1], "shop") == 5
    name, *_, sidecars, ready, _reason, _age = (await kubectl("get", "rlp", "--no-headers")).split()
    assert (name, sidecars, ready) == ("shop", "1/1", "True")


async def test_an_edit_is_enforced_and_wait_returns_only_after_the_acknowledgement(api, kubectl, limits, new_sidecar):
    hold = asyncio.Event()
    held = asyncio.Event()

    async def slowly(document):
        if requests_of(document, "shop") == 9:
            held.set()
            await hold.wait()
        return ApplyResult(applied=True)

    sidecar = await new_sidecar(answer=slowly)
    await api.apply(f"{limits}/shop", policy("shop", 5))
    before = await api.until(limits, "shop", is_now("Propagated", "True"))

    await api.apply(f"{limits}/shop", policy("shop", 9))
    await held.wait()
    waiting = asyncio.create_task(kubectl("wait", "--for=condition=Propagated", "rlp/shop", "--timeout=20s"))
    pending = await api.until(limits, "shop", is_now("Propagated", "False", "Propagating"))
    assert pending["status"]["sidecars"] == {"applied": 0, "total": 1, "summary": "0/1", "lagging": ["shop-1"]}
    assert not waiting.done()
    hold.set()
    await waiting

    after = await api.until(limits, "shop", is_now("Propagated", "True"))
    assert requests_of(sidecar.documents[-1], "shop") == 9
    assert after["status"]["observedGeneration"] == before["status"]["observedGeneration"] + 1
    assert after["status"]["revision"] != before["status"]["revision"]
    accepted = condition(before, "Accepted")["lastTransitionTime"]
    assert condition(after, "Accepted")["lastTransitionTime"] == accepted


async def test_a_deletion_is_withdrawn(api, limits, new_sidecar):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await sidecar.until(lambda document: "shop" in policies(document))

    await api.delete(f"{limits}/shop")

    await sidecar.until(lambda document: "shop" not in policies(document))


async def test_a_suspended_resource_is_withdrawn_and_says_so(api, limits, new_sidecar):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await sidecar.until(lambda document: "shop" in policies(document))

    await api.apply(f"{limits}/shop", policy("shop", 5, suspend=True))

    await sidecar.until(lambda document: "shop" not in policies(document))
    parked = await api.until(limits, "shop", is_now("Propagated", "True", "Suspended"))
    assert parked["status"]["sidecars"]["summary"] == "0/0"


async def test_only_selected_pods_get_a_resource_and_are_counted(api, limits, new_sidecar):
    shop = await new_sidecar("shop-1", labels={"app": "shop"})
    other = await new_sidecar("other-1", labels={"app": "other"})

    await api.apply(f"{limits}/all", policy("all", 1))
    await api.apply(f"{limits}/some", policy("some", 2, selector={"matchLabels": {"app": "shop"}}))

    await shop.until(lambda document: policies(document).keys() == {"all", "some"})
    await other.until(lambda document: policies(document).keys() == {"all"})
    summaries = []
    for name, total in (("all", 2), ("some", 1)):
        seen = await api.until(limits, name, lambda r, n=total: r["status"].get("sidecars", {}).get("applied") == n)
        summaries.append(seen["status"]["sidecars"]["summary"])
    assert summaries == ["2/2", "1/1"]


async def test_another_namespaces_token_sees_nothing(api, limits, new_namespace, new_sidecar):
    elsewhere = await new_namespace()
    mine = await new_sidecar("mine")
    stranger = await new_sidecar("stranger", within=elsewhere)

    await api.apply(f"{limits}/shop", policy("shop", 5))
    await mine.until(lambda document: "shop" in policies(document))
    await stranger.until(lambda document: document["namespace"] == elsewhere)

    seen = await api.until(limits, "shop", is_now("Propagated", "True"))
    assert seen["status"]["sidecars"]["summary"] == "1/1"
    assert all(not policies(document) for document in stranger.documents)


async def first_event(api, namespace, name):
    """The first Kubernetes Event about a resource."""
    events = api.watch(f"/api/v1/namespaces/{namespace}/events", fieldSelector=f"involvedObject.name={name}")
    async with asyncio.timeout(20), aclosing(events):
        return (await anext(events))["object"]


async def test_a_refused_edit_says_why_and_the_last_good_version_stays(api, namespace, profiles, new_sidecar):
    """The same selector twice is beyond any schema: only the operator can refuse it."""
    sidecar = await new_sidecar(labels={"app": "shop", "tier": "web"})
    await api.apply(f"{profiles}/a", profile("a", selector={"matchLabels": {"app": "shop"}}))
    await api.apply(f"{profiles}/b", profile("b", selector={"matchLabels": {"tier": "nobody"}}))
    await sidecar.until(lambda document: document["profile"]["name"] == "a")
    await api.until(profiles, "b", is_now("Ready", "True"))

    await api.apply(f"{profiles}/b", profile("b", selector={"matchLabels": {"app": "shop"}}))

    refused = await api.until(profiles, "b", is_now("Accepted", "False", "Invalid"))
    message = condition(refused, "Accepted")["message"]
    assert "spec.selector: selects the same pods as SidecarProfile a; give each profile a selector" in message
    assert "sidecars keep generation 1" in condition(refused, "Propagated")["message"]
    assert condition(refused, "Ready")["status"] == "False"
    assert condition(refused, "Stalled")["status"] == "True"

    told = await first_event(api, namespace, "b")
    assert (told["type"], told["reason"]) == ("Warning", "Refused")
    assert "selects the same pods" in told["message"]

    await api.apply(f"{profiles}/b", profile("b", selector={"matchLabels": {"tier": "web"}}))
    mended = await api.until(profiles, "b", is_now("Accepted", "True"))
    assert not condition(mended, "Stalled")


async def test_an_edit_beyond_the_schema_keeps_the_last_good_limits(api, limits, new_sidecar, kubectl):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await sidecar.until(lambda document: requests_of(document, "shop") == 5)

    bad = policy("shop", 6)
    bad["spec"]["rules"] *= 1
    bad["spec"]["rules"][0]["match"] = [{"attribute": "ip", "cidr": "10.0.0.0/99"}]
    await kubectl("apply", "--filename=-", "--server-side", "--force-conflicts", stdin=json.dumps(bad))

    refused = await api.until(limits, "shop", is_now("Accepted", "False"))
    assert "10.0.0.0/99" in condition(refused, "Accepted")["message"]
    assert requests_of(sidecar.documents[-1], "shop") == 5


async def test_a_sidecar_that_refuses_is_named(api, limits, new_sidecar):
    async def refuse(document):
        return ApplyResult(applied=not policies(document), message="ratelimit: RateLimitPolicy shop: no memory for it")

    await new_sidecar("brave", answer=None)
    await new_sidecar("timid", answer=refuse)
    await api.apply(f"{limits}/shop", policy("shop", 5))

    seen = await api.until(
        limits, "shop", lambda r: is_now("Ready", "False", "Refused")(r) and r["status"]["sidecars"]["applied"] == 1
    )
    assert condition(seen, "Ready")["message"].endswith("timid: ratelimit: RateLimitPolicy shop: no memory for it")
    assert seen["status"]["sidecars"] == {"applied": 1, "total": 2, "summary": "1/2", "lagging": ["timid"]}


async def test_what_is_applied_but_cannot_work_is_propagated_and_not_ready(api, limits, new_sidecar):
    async def unready(document):
        reports = [
            Unready(kind="RateLimitPolicy", name=name, reason="StoreMissing", message="no Redis; set stores.redis")
            for name in policies(document)
        ]
        return ApplyResult(applied=True, unready=tuple(reports))

    await new_sidecar(answer=unready)
    await api.apply(f"{limits}/shop", policy("shop", 5))

    seen = await api.until(limits, "shop", is_now("Ready", "False", "StoreMissing"))
    assert condition(seen, "Propagated")["status"] == "True"
    assert condition(seen, "Ready")["message"] == "no Redis; set stores.redis (shop-1)"


async def test_without_sidecars_nothing_holds_a_rollout_up(kubectl, operator):
    await kubectl("apply", "--filename=-", stdin=json.dumps(policy("shop", 5)))
    await kubectl("wait", "--for=condition=Ready", "rlp/shop", "--timeout=20s")

    reason = await kubectl("get", "rlp/shop", '-o=jsonpath={.status.conditions[?(@.type=="Ready")].reason}')
    assert reason == "NoSidecars"


@pytest.mark.usefixtures("secret_reader")
async def test_secret_values_travel_on_the_stream_and_rotations_follow(api, profiles, namespace, new_sidecar):
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    first = {"metadata": {"name": "api"}, "data": {"token": base64.b64encode(b"first-token-value").decode()}}
    await api.create(secrets, first)
    await api.create(secrets, {"metadata": {"name": "unrelated"}, "data": {}})
    sidecar = await new_sidecar()

    await api.apply(f"{profiles}/main", profile("main", auth={"tokenRef": {"name": "api", "key": "token"}}))
    document = await sidecar.until(lambda d: d["profile"]["name"] == "main" and d["secrets"]["api"] != "")
    assert sidecar.secrets == {"api": {"token": b"first-token-value"}}
    assert "first-token-value" not in json.dumps(document)
    await api.until(profiles, "main", is_now("Ready", "True"))

    await api.patch(f"{secrets}/api", {"data": {"token": base64.b64encode(b"second-token-value").decode()}})
    await sidecar.until(lambda d: d["secrets"]["api"] != document["secrets"]["api"])
    assert sidecar.secrets == {"api": {"token": b"second-token-value"}}
    status = await api.until(profiles, "main", is_now("Ready", "True"))
    assert "token-value" not in json.dumps(status)


async def test_a_secret_that_may_not_be_read_names_the_missing_right(api, profiles, new_sidecar):
    await new_sidecar()

    await api.apply(f"{profiles}/main", profile("main", auth={"tokenRef": {"name": "api", "key": "token"}}))

    seen = await api.until(profiles, "main", is_now("Ready", "False", "SecretForbidden"))
    assert "bind the ClusterRole pillion-operator-secrets" in condition(seen, "Ready")["message"]


async def test_figures_of_the_sidecars_are_added_up_in_the_status(api, limits, operator, new_sidecar):
    """Whatever figures a kind's status schema knows; others are left out instead of failing the write."""
    one, two = await new_sidecar("one"), await new_sidecar("two")
    for stand_in, count in ((one, 3), (two, 4)):
        stand_in.figures = {("RateLimitPolicy", "shop"): {"rules": 77, "nonsense": count}}
    await api.apply(f"{limits}/shop", policy("shop", 5))

    seen = await api.until(limits, "shop", lambda r: r["status"].get("sidecars", {}).get("summary") == "2/2")
    assert seen["status"]["rules"] == 1  # what the spec says wins
    assert "nonsense" not in seen["status"]


async def test_a_storm_of_acknowledgements_gives_few_writes(api, limits, operator, new_sidecar):
    sidecars = [await new_sidecar(f"pod-{number}") for number in range(25)]
    await asyncio.gather(*(s.until(lambda _: True) for s in sidecars))
    await api.apply(f"{limits}/shop", policy("shop", 1))
    await api.until(limits, "shop", lambda r: r["status"].get("sidecars", {}).get("summary") == "25/25")
    before = operator.metric("pillion_operator_status_writes_total")

    for requests in range(2, 6):
        await api.apply(f"{limits}/shop", policy("shop", requests))
        await asyncio.gather(*(s.until(lambda d, r=requests: requests_of(d, "shop") == r) for s in sidecars))
        await api.until(limits, "shop", is_now("Propagated", "True"))

    # 100 acknowledgements: per edit at best one write, at worst the first sight, the counts on the way, and the end.
    assert operator.metric("pillion_operator_status_writes_total") - before <= 4 * 4


async def test_an_edit_that_changes_nothing_writes_nothing(api, limits, operator, new_sidecar):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/shop", policy("shop", 5))
    before = await api.until(limits, "shop", is_now("Ready", "True", "Ready"))
    await eventually(lambda: operator.metric("pillion_operator_queue_depth") == 0, what="empty queues")
    writes = operator.metric("pillion_operator_status_writes_total")

    await api.patch(f"{limits}/shop", {"metadata": {"labels": {"team": "checkout"}}})
    await api.apply(f"{limits}/other", policy("other", 1))
    await sidecar.until(lambda document: "other" in policies(document))
    await api.until(limits, "other", is_now("Ready", "True", "Ready"))

    await eventually(lambda: operator.metric("pillion_operator_queue_depth") == 0, what="empty queues")
    assert (await api.get(f"{limits}/shop"))["status"] == before["status"]
    assert operator.metric("pillion_operator_status_writes_total") - writes <= 2  # those of the other one
