"""What happens when something is gone: the operator, the API server, the leader, an event. Sidecars keep serving and say so; everything converges."""

import asyncio

import pytest
import pytest_asyncio
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import (
    QUICK,
    OperatorProcess,
    account_access,
    eventually,
    install,
    is_now,
    peer_token,
    policies,
    policy,
    profile,
    requests_of,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def limits(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"


@pytest.fixture
def profiles(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles"


def stale(sidecar):
    return [c.message for c in sidecar.conditions if c.message.startswith("Stale since")]


async def test_a_killed_operator_leaves_the_sidecar_serving_and_its_successor_writes_nothing_new(
    api, limits, operator, new_sidecar
):
    sidecar = await new_sidecar()
    for name in ("a", "b"):
        await api.apply(f"{limits}/{name}", policy(name, 5))
    await sidecar.until(lambda document: policies(document).keys() == {"a", "b"})
    for name in ("a", "b"):
        await api.until(limits, name, is_now("Ready", "True", "Ready"))
    versions = {name: (await api.get(f"{limits}/{name}"))["metadata"]["resourceVersion"] for name in "ab"}
    count = len(sidecar.documents)

    operator.kill()
    await eventually(lambda: stale(sidecar), what="the sidecar says that it may be stale")
    assert "the last configuration goes on serving" in stale(sidecar)[0]
    assert policies(sidecar.documents[-1]).keys() == {"a", "b"}

    operator.start()
    await eventually(lambda: not stale(sidecar), what="the sidecar is current again")
    await eventually(operator.leads, what="the new process has taken the Lease")
    await eventually(lambda: operator.metric("pillion_operator_queue_depth") == 0, what="empty queues")
    after = {name: (await api.get(f"{limits}/{name}"))["metadata"]["resourceVersion"] for name in "ab"}
    assert after == versions  # zero writes
    assert len(sidecar.documents) == count  # the same revision is not sent again

    await api.apply(f"{limits}/a", policy("a", 6))
    await sidecar.until(lambda document: requests_of(document, "a") == 6)
    await api.until(limits, "a", is_now("Propagated", "True", "Propagated"))


async def test_an_edit_while_the_operator_is_away_is_enforced_when_it_is_back(api, limits, operator, new_sidecar):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/a", policy("a", 5))
    await api.apply(f"{limits}/b", policy("b", 5))
    await sidecar.until(lambda document: policies(document).keys() == {"a", "b"})

    operator.kill()
    await api.apply(f"{limits}/a", policy("a", 6))
    await api.delete(f"{limits}/b")
    operator.start()

    await sidecar.until(lambda document: policies(document).keys() == {"a"} and requests_of(document, "a") == 6)


async def test_the_sidecar_starts_with_the_last_known_good_configuration(api, limits, operator, new_sidecar):
    first = await new_sidecar()
    await api.apply(f"{limits}/a", policy("a", 5))
    await first.until(lambda document: requests_of(document, "a") == 5)
    await eventually(lambda: first.stream.statistics.acknowledged)
    await first.__aexit__()
    operator.kill()

    restored = await first.stream.restore()

    assert restored is not None
    assert restored.applied
    assert requests_of(first.documents[-1], "a") == 5
    assert stale(first)


async def test_streams_outlive_the_api_server_and_edits_flow_after_it_is_back(
    api, limits, operator, control_plane, new_sidecar
):
    sidecar = await new_sidecar()
    for name in ("kept", "gone"):
        await api.apply(f"{limits}/{name}", policy(name, 5))
    await sidecar.until(lambda document: policies(document).keys() == {"kept", "gone"})

    control_plane.kill_apiserver()
    await asyncio.to_thread(control_plane.apiserver.kill)
    assert operator.ready()
    assert not stale(sidecar)
    control_plane.start_apiserver()
    # At once, before the watch is back: a watcher that lists anew never tells what was deleted meanwhile.
    await api.delete(f"{limits}/gone")
    await api.apply(f"{limits}/kept", policy("kept", 6))

    await sidecar.until(lambda document: policies(document).keys() == {"kept"} and requests_of(document, "kept") == 6)
    await api.until(limits, "kept", is_now("Propagated", "True", "Propagated"))
    assert operator.process.running
    assert len(sidecar.documents) < 10


async def test_a_definition_that_goes_and_comes_back_is_watched_without_a_restart(
    api, cluster, limits, operator, new_sidecar
):
    sidecar = await new_sidecar()
    await api.apply(f"{limits}/a", policy("a", 5))
    await sidecar.until(lambda document: "a" in policies(document))

    await cluster.kubectl("delete", "crd", "ratelimitpolicies.pillion.dev")
    await sidecar.until(lambda document: "a" not in policies(document))
    assert operator.ready()

    await asyncio.to_thread(install, cluster, cluster.folder)
    await api.apply(f"{limits}/b", policy("b", 5))
    await sidecar.until(lambda document: policies(document).keys() == {"b"})


async def test_a_refused_edit_over_a_restart_is_still_refused_and_the_last_good_version_runs(
    api, profiles, operator, new_sidecar
):
    sidecar = await new_sidecar(labels={"app": "shop"})
    await api.apply(f"{profiles}/a", profile("a", selector={"matchLabels": {"app": "none"}}))
    await api.apply(f"{profiles}/b", profile("b", selector={"matchLabels": {"app": "shop"}}))
    await sidecar.until(lambda document: document["profile"]["name"] == "b")
    await api.apply(f"{profiles}/b", profile("b", selector={"matchLabels": {"app": "none"}}))
    await api.until(profiles, "b", is_now("Accepted", "False"))
    assert sidecar.documents[-1]["profile"]["name"] == "b"

    operator.kill()
    operator.start()
    late = await new_sidecar("late", labels={"app": "shop"})

    await late.until(lambda document: document["profile"]["name"] == "b")
    assert sidecar.documents[-1]["profile"]["name"] == "b"
    seen = await api.until(profiles, "b", lambda r: r["status"]["sidecars"]["total"] == 2)
    assert is_now("Accepted", "False")(seen)
    assert is_now("Stale", "True", "LastGoodVersion")(seen)


@pytest_asyncio.fixture
async def replicas(cluster, operator, tmp_path):
    """Two replicas that are not started yet, in place of the operator of this module."""
    token = tmp_path / "peer.token"
    token.write_text(await peer_token(cluster))
    access = await account_access(cluster)

    def replica(name):
        process = OperatorProcess(access, tmp_path / name, *QUICK, name=name)
        extra = [
            f"--advertise-url={process.url}",
            f"--peer-token-file={token}",
            f"--peer-ca-file={tmp_path / 'both.crt'}",
            "--peer-server-name=pillion-operator.pillion-system.svc",
        ]
        process.process.command = (*process.process.command, *extra)
        return process

    operator.stop()
    one, two = replica("one"), replica("two")
    (tmp_path / "both.crt").write_bytes(one.ca_file.read_bytes() + two.ca_file.read_bytes())
    yield one, two
    one.stop()
    two.stop()


async def test_a_leader_that_ends_hands_over_at_once_and_sidecars_of_all_replicas_count(
    api, limits, replicas, new_sidecar
):
    one, two = replicas
    one.start()
    await eventually(one.leads, what="replica one leads")
    two.start()
    near = await new_sidecar("near", at=one)
    far = await new_sidecar("far", at=two)
    await api.apply(f"{limits}/shop", policy("shop", 5))
    await api.until(limits, "shop", lambda r: r["status"].get("sidecars", {}).get("summary") == "2/2")
    assert not two.leads()
    assert two.metric("pillion_operator_status_writes_total") == 0

    one.stop()
    await eventually(two.leads, within=3, what="replica two leads")
    await api.apply(f"{limits}/shop", policy("shop", 6))
    await far.until(lambda document: requests_of(document, "shop") == 6)
    await api.until(limits, "shop", is_now("Propagated", "True", "Propagated"))
    await eventually(lambda: stale(near), what="the sidecar without a replica says so")
    assert requests_of(near.documents[-1], "shop") == 5

    one.start()
    await near.until(lambda document: requests_of(document, "shop") == 6)
    await api.until(limits, "shop", lambda r: r["status"]["sidecars"]["summary"] == "2/2")

    two.kill()
    await eventually(one.leads, within=10, what="replica one leads again, after the duration")
