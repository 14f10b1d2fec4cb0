"""The example shop on a real node, opened by the commands of its page: injected sidecars, all blocks, a flag that flips."""

import asyncio
import json
import time

import pytest
from tests.support.cluster.api import Api
from tests.support.shop.cluster_shop import ClusterShop, until
from tests.support.shop.walkthrough import Reader, commands

# The first test builds two images, installs the chart and waits for pods.
pytestmark = pytest.mark.timeout(1200)


async def test_both_replicas_of_the_operator_are_ready_under_restricted_pod_security(release: str, api: Api) -> None:
    deployment = await api.get(f"/apis/apps/v1/namespaces/{release}/deployments/pillion-operator")

    assert deployment["status"]["readyReplicas"] == 2
    pods = await api.get(f"/api/v1/namespaces/{release}/pods", labelSelector="app.kubernetes.io/name=pillion-operator")
    for pod in pods["items"]:
        path = f"/api/v1/namespaces/{release}/pods/{pod['metadata']['name']}:3790/proxy/metrics"
        assert "pillion_operator_watch_restarts_total 0.0" in await api.text(path)


async def test_pods_of_the_labelled_namespace_get_a_sidecar_and_others_do_not(
    shop: ClusterShop, open_shop: list[str]
) -> None:
    pods = await shop.pods()
    neighbour = (await shop.pods("receiver"))[0]

    assert len(pods) == 2
    for pod in pods:
        sidecar, *rest = pod["spec"]["initContainers"]
        assert (sidecar["name"], sidecar["restartPolicy"], rest) == ("pillion", "Always", [])
        assert [one["name"] for one in pod["spec"]["containers"]] == ["shop"]
    assert "initContainers" not in neighbour["spec"]
    table = open_shop[-1]
    assert "ratelimitpolicy.pillion.dev/shop" in table
    assert table.count("2/2") >= 7, (
        table
    )  # two pods with two containers each, and five resources with two sidecars each


async def test_the_page_does_what_it_says(shop: ClusterShop, reader: Reader) -> None:
    forward, limit, colleague, visitor, order, *looks, release_flag, released = commands("Try it")
    reader.run(forward)
    assert reader.run(limit).split() == ["200"] * 5 + ["429"]
    assert json.loads(reader.run(colleague)) == {"checkout": "one page"}
    assert json.loads(reader.run(visitor)) == {"checkout": "classic"}
    taken = json.loads(reader.run(order))["order"]["id"]

    async def arrived() -> bool:
        lines = {record.get("order") for record in await shop.records()}
        return taken in await shop.events() and taken in await shop.mails() and taken in lines

    await until(arrived, 20)
    webhooks, mails, records = [json.loads(reader.run(look)) for look in looks]
    webhook = next(one for one in webhooks["verified"] if one["event"]["data"]["id"] == taken)
    assert webhook["event"]["type"] == "order.created"
    mail = next(one for one in mails["messages"] if taken in one["subject"])
    assert (mail["to"], "2 x bell" in mail["text"]) == ("ada@example.com", True)
    line = next(one for one in records["records"] if one.get("order") == taken)
    assert line["user"] == "[email]"
    assert line["k8s.pod.name"].startswith("shop-")

    reader.run(release_flag)
    await until(lambda: _released(reader, released), 20)


async def _released(reader: Reader, command: str) -> bool:
    page = json.loads(await asyncio.to_thread(reader.run, command))
    return bool(page == {"checkout": "one page"})


@pytest.mark.parametrize("via", ["tcp", "socket"])
async def test_an_application_reaches_its_sidecar(shop: ClusterShop, via: str) -> None:
    pod = await shop.pod()

    asked = {"policy": "shop", "attributes": {"user": f"{via}@example.com", "route": "/login"}}
    decisions = [await shop.call(pod, "/v1/ratelimit/check", asked, via=via) for _ in range(6)]
    event = await shop.call(
        pod, "/v1/events", {"type": "order.created", "id": f"by-{via}", "data": {"id": via}}, via=via
    )

    assert [decision["allowed"] for _, decision in decisions] == [True] * 5 + [False]
    assert (event[0], event[1]["deliveries"]) == (202, 1)

    async def arrived() -> bool:
        return via in await shop.events()

    await until(arrived, 20)


async def test_a_flag_flips_soon_after_it_is_applied(shop: ClusterShop, capfd: pytest.CaptureFixture[str]) -> None:
    flag = json.loads(await shop.kubectl("get", "featureflag", "new-checkout", "--output=json"))
    manifest = {key: flag[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "new-checkout"}}
    pods = [pod["metadata"]["name"] for pod in await shop.pods()]
    figures = []
    for variant, page in (("off", "classic"), ("on", "one page"), ("off", "classic")):
        manifest["spec"]["defaultVariant"] = variant
        await shop.kubectl("apply", "--filename=-", "--server-side", "--force-conflicts", stdin=json.dumps(manifest))
        applied = time.monotonic()
        for pod in pods:

            async def flipped(pod: str = pod, page: str = page) -> bool:
                answer = await shop.page(pod, "/checkout", user="bob@elsewhere.org")
                return bool(answer["checkout"] == page)

            await until(flipped, 30, pause=0.01)
        figures.append(time.monotonic() - applied)
    with capfd.disabled():
        print(
            f"\nflag in force in {len(pods)} pods after kubectl apply: {', '.join(f'{s * 1000:.0f} ms' for s in figures)}"
        )


async def test_a_job_completes_beside_its_sidecar_and_its_last_event_is_delivered(shop: ClusterShop) -> None:
    script = (
        "import json, os, urllib.request as u; "
        "u.urlopen(u.Request(os.environ['PILLION_URL'] + '/v1/events', json.dumps({'type': 'order.created', 'data': {'id': 'job'}}).encode(), "
        "{'Content-Type': 'application/json'}))"
    )
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "job",
                "image": "pillion-shop:0.1.0",
                "command": ["python3", "-c", script],
                "securityContext": security,
            }
        ],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "nightly"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "nightly"}}, "spec": pod}},
    }

    await shop.kubectl("apply", "--filename=-", stdin=json.dumps(job))
    await shop.kubectl("wait", "job/nightly", "--for=condition=Complete", "--timeout=90s", within=100)

    assert "job" in await shop.events()
    await shop.kubectl("delete", "job", "nightly")
