"""A bad edit that got past admission: what was accepted last stays in force, for running and for new sidecars, over a crash of the operator."""

import json

import pytest
from tests.support.kstatus import kstatus
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import condition, eventually, is_now, policies, policy, requests_of

pytestmark = pytest.mark.slow


@pytest.fixture
def limits(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"


def bad(requests=9):
    edited = policy("shop", requests)
    edited["spec"]["rules"][0]["match"] = [{"attribute": "ip", "cidr": "10.0.0.0/99"}]
    return edited


def keeps_the_first(resource):
    return is_now("Stale", "True", "LastGoodVersion")(resource) and is_now("Stalled", "True", "Invalid")(resource)


async def test_a_new_operator_gives_new_sidecars_the_version_that_was_accepted(api, limits, operator, new_sidecar):
    running = await new_sidecar("running")
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await api.until(limits, "shop", is_now("Ready", "True", "Ready"))

    await api.apply(f"{limits}/shop", bad())
    refused = await api.until(limits, "shop", keeps_the_first)
    assert refused["status"]["lastGood"]["generation"] == 1
    assert kstatus(refused) == "Failed"
    operator.kill()
    operator.start()
    late = await new_sidecar("late")

    await late.until(lambda document: requests_of(document, "shop") == 5)
    assert requests_of(running.documents[-1], "shop") == 5
    seen = await api.until(limits, "shop", lambda r: r["status"]["sidecars"]["total"] == 2)
    assert keeps_the_first(seen)
    assert "generation 1 stays in force" in condition(seen, "Stale")["message"]
    assert condition(seen, "Stale")["lastTransitionTime"] == condition(refused, "Stale")["lastTransitionTime"]

    await api.apply(f"{limits}/shop", policy("shop", 7))
    mended = await api.until(limits, "shop", is_now("Ready", "True", "Ready"))
    assert not {"lastGood"} & mended["status"].keys()
    assert not condition(mended, "Stale")
    assert requests_of(late.documents[-1], "shop") == 7


async def test_an_edit_while_no_operator_runs_takes_nothing_from_anybody(api, limits, operator, new_sidecar):
    """Nobody could write the good version down; the API server still knows what there was before, several edits ago."""
    running = await new_sidecar("running")
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await api.until(limits, "shop", is_now("Ready", "True", "Ready"))

    operator.kill()
    for requests in (6, 7, 8):
        await api.apply(f"{limits}/shop", bad(requests))
    operator.start()
    late = await new_sidecar("late")

    await late.until(lambda document: requests_of(document, "shop") == 5)
    assert all("shop" in policies(document) for document in running.documents[1:])
    seen = await api.until(limits, "shop", keeps_the_first)
    assert seen["status"]["lastGood"]["generation"] == 1


async def test_what_was_never_accepted_has_no_last_version(api, limits, operator, new_sidecar):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/shop", bad())
    await api.apply(f"{limits}/shop", bad(7))
    await api.apply(f"{limits}/other", policy("other", 1))

    await sidecar.until(lambda document: "other" in policies(document))
    seen = await api.until(limits, "shop", is_now("Accepted", "False", "Invalid"))
    assert "no sidecar runs this resource" in condition(seen, "Propagated")["message"]
    assert not condition(seen, "Stale")
    assert "shop" not in policies(sidecar.documents[-1])


async def test_a_restart_over_refused_and_good_resources_writes_nothing(api, limits, operator, new_sidecar):
    await new_sidecar()
    await api.apply(f"{limits}/good", policy("good", 1))
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await api.until(limits, "shop", is_now("Ready", "True", "Ready"))
    await api.apply(f"{limits}/shop", bad())
    await api.until(limits, "shop", keeps_the_first)
    await api.until(limits, "good", is_now("Ready", "True", "Ready"))
    before = {name: (await api.get(f"{limits}/{name}"))["metadata"]["resourceVersion"] for name in ("good", "shop")}

    operator.kill()
    operator.start()
    await eventually(operator.leads, what="leadership")
    await eventually(lambda: operator.metric("pillion_operator_streams") >= 1, what="the sidecar's return")
    await eventually(lambda: operator.metric("pillion_operator_queue_depth") == 0, what="empty queues")

    after = {name: (await api.get(f"{limits}/{name}"))["metadata"]["resourceVersion"] for name in ("good", "shop")}
    assert after == before, json.dumps(await api.get(f"{limits}/shop"))
