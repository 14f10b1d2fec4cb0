"""What hurts nobody: a sidecar that the kernel kills for its memory, an operator that is away, an injector that missed a pod."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.cluster.api import Api
from tests.support.cluster.kubectl import KubectlError
from tests.support.cluster.node.product_image import SHOP
from tests.support.shop.cluster_shop import IMAGE, JSON, NAMESPACE, ClusterShop, until
from tests.support.shop.walkthrough import Reader

pytestmark = pytest.mark.timeout(1200)

# Many small processes in the sidecar's own cgroup: together they pass its limit, and the kernel kills the largest process, which is the sidecar.
HOGS = """
import os, time
for _ in range(16):
    if os.fork() == 0:
        held = b"x" * (20 << 20)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""

LOGIN = {"policy": "shop", "attributes": {"user": "grace@example.com", "route": "/login"}}


def _sidecar(pod: JSON) -> JSON:
    return next(one for one in pod["status"]["initContainerStatuses"] if one["name"] == "pillion")


async def _back(shop: ClusterShop, name: str, restarts: int) -> JSON:
    """The sidecar's status in pod *name*, once it is ready after its next restart."""
    found: JSON = None

    async def ready() -> bool:
        nonlocal found
        found = _sidecar(await shop.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"))
        return bool(found["restartCount"] > restarts and found["ready"])

    await until(ready, 90)
    return found


async def _run_out_of_memory(shop: ClusterShop, name: str) -> None:
    """Has the kernel kill the sidecar of pod *name*, and waits until it is back."""
    pod = await shop.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
    with pytest.raises(KubectlError):  # its container ends under it
        await shop.kubectl("exec", name, "--container=pillion", "--", "python3", "-c", HOGS, within=90)
    status = await _back(shop, name, _sidecar(pod)["restartCount"])
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"


@pytest_asyncio.fixture
async def eager(shop: ClusterShop) -> AsyncIterator[None]:
    """Failed deliveries are tried again every few seconds, so that a test need not wait for minutes."""
    schedule = {"spec": {"retry": {"schedule": ["1s", "2s", *["3s"] * 18]}}}
    await shop.kubectl("patch", "webhookendpoint", "accounting", "--type=merge", f"--patch={json.dumps(schedule)}")
    yield
    await shop.kubectl("apply", "--kustomize", str(SHOP))


@pytest.mark.usefixtures("eager")
async def test_a_sidecar_that_runs_out_of_memory_is_back_with_its_state(shop: ClusterShop) -> None:
    name = await shop.pod()
    await shop.kubectl("scale", "deployment/receiver", "--replicas=0")
    await shop.kubectl("wait", "pod", "--selector=app=receiver", "--for=delete", "--timeout=60s", within=70)
    decisions = [(await shop.call(name, "/v1/ratelimit/check", LOGIN))[1]["allowed"] for _ in range(6)]
    assert decisions == [True] * 5 + [False]
    for number in range(10):
        event = {"type": "order.created", "id": f"oom-{number}", "data": {"id": f"oom-{number}"}}
        assert (await shop.call(name, "/v1/events", event))[0] == 202

    await _run_out_of_memory(shop, name)

    # Counters begin with full quota, as docs/ratelimit.md says; the configuration is the one that was in force.
    for via in ("tcp", "socket"):
        assert (await shop.call(name, "/v1/ratelimit/check", LOGIN, via=via))[1]["allowed"]
    await shop.kubectl("scale", "deployment/receiver", "--replicas=1")

    async def delivered() -> bool:
        return {f"oom-{number}" for number in range(10)} <= await shop.events()

    await until(delivered, 90)


async def test_what_was_accepted_and_logged_around_the_end_of_a_sidecar_arrives(
    shop: ClusterShop, capfd: pytest.CaptureFixture[str]
) -> None:
    """The application goes on meanwhile: it answers 503, and its log lines wait in the file."""
    async with shop.customers() as tally:
        await _run_out_of_memory(shop, await shop.pod())
    told = await shop.accounts(tally)
    with capfd.disabled():
        print(f"\nsidecar out of memory under load: {told}")


async def _configuration(shop: ClusterShop, pod: str) -> JSON:
    return (await shop.call(pod, "/v1/config"))[1]


async def test_nothing_stops_without_the_operator_and_missed_pods_are_repaired(
    shop: ClusterShop, release: str, api: Api, reader: Reader
) -> None:
    operator = shop.kubectl.within(release)
    await operator("scale", "deployment/pillion-operator", "--replicas=0")
    await operator("wait", "pod", "--all", "--for=delete", "--timeout=60s", within=70)
    name = await shop.pod()

    # Decisions and deliveries go on, and the sidecar says that its configuration may be old.
    async with shop.customers() as tally:

        async def stale() -> bool:
            return bool((await _configuration(shop, name))["stale"])

        await until(stale, 60)
    assert tally.failures == []
    await shop.accounts(tally)

    # A sidecar that is killed meanwhile begins with its last known good configuration, secrets included.
    in_force = (await _configuration(shop, name))["revision"]
    await _run_out_of_memory(shop, name)
    assert (await _configuration(shop, name))["revision"] == in_force
    assert (await shop.page(name, "/checkout", user="ada@example.com"))["checkout"] == "one page"
    event = {"type": "order.created", "id": "alone", "data": {"id": "alone"}}
    assert (await shop.call(name, "/v1/events", event))[0] == 202

    async def delivered() -> bool:
        return "alone" in await shop.events()

    await until(delivered, 30)

    # A pod that is created meanwhile starts without a sidecar.
    await shop.kubectl("apply", "--filename=-", stdin=json.dumps(_latecomer()))
    await shop.kubectl("rollout", "status", "deployment/late", "--timeout=60s", within=70)
    (missed,) = await shop.pods("late")
    assert "initContainers" not in missed["spec"]

    # The operator comes back, takes up where it was, finds the pod and says so.
    upgrade = f"helm upgrade pillion charts/pillion --namespace {release} --reuse-values"
    reader.run(f"{upgrade} --set 'operator.extraArgs={{--repair-interval=2,--eviction-pause=0}}'")
    await operator("scale", "deployment/pillion-operator", "--replicas=2")
    await operator("rollout", "status", "deployment/pillion-operator", "--timeout=90s", within=100)

    async def fresh() -> bool:
        return not (await _configuration(shop, name))["stale"]

    await until(fresh, 120)
    profiles = f"/apis/pillion.dev/v1alpha1/namespaces/{NAMESPACE}/sidecarprofiles"
    await api.until(profiles, "default", lambda profile: profile.get("status", {}).get("missed") == 1, within=60)
    events = await shop.kubectl("get", "events", "--field-selector=reason=SidecarMissed", "--output=name")
    assert events

    # Asked to, it evicts the pod, and its successor has a sidecar.
    reader.run(f"{upgrade} --set injection.repair=evict")
    await operator("rollout", "status", "deployment/pillion-operator", "--timeout=90s", within=100)

    async def repaired() -> bool:
        # Its sidecar is never ready: the profile of the namespace has it check a shop, which this pod is not.
        return ["initContainers" in one["spec"] for one in await shop.pods("late", ready=False)] == [True]

    await until(repaired, 120)
    await api.until(profiles, "default", lambda profile: profile["status"]["missed"] == 0, within=60)
    await shop.kubectl("delete", "deployment", "late")
    reader.run(f"{upgrade} --set injection.repair=report")


def _latecomer() -> JSON:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    # Ends at once when asked to, so that its eviction takes no time.
    script = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {"name": "late", "image": IMAGE, "command": ["python3", "-c", script], "securityContext": security}
        ],
    }
    template = {"metadata": {"labels": {"app": "late"}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "late"},
        "spec": {"selector": {"matchLabels": {"app": "late"}}, "template": template},
    }
