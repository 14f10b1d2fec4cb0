"""What platform teams do all day, while customers order: restart the shop, drain its node, upgrade Pillion. Nothing that was accepted is lost."""

import asyncio
import shutil
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import CRDS
from tests.support.cluster.kubectl import KubectlError
from tests.support.cluster.node import product_image
from tests.support.cluster.node.kind import KindNode
from tests.support.cluster.node.node import Node
from tests.support.shop.cluster_shop import IMAGE, JSON, ClusterShop, until
from tests.support.shop.walkthrough import ROOT, Reader

pytestmark = pytest.mark.timeout(1200)

NEXT = "0.1.1"
"""The version that is upgraded to."""


async def _closed(shop: ClusterShop, pods: list[str]) -> None:
    """Waits until the very last line of each of *pods*, written on SIGTERM, has arrived."""

    async def complete() -> bool:
        last = {record["k8s.pod.name"] for record in await shop.records() if record.get("message") == "closed"}
        return last >= set(pods)

    await until(complete, 60)


async def _names(shop: ClusterShop) -> list[str]:
    return [pod["metadata"]["name"] for pod in await shop.pods()]


async def test_a_rolling_restart_loses_no_event_no_mail_and_no_log_line(
    shop: ClusterShop, capfd: pytest.CaptureFixture[str]
) -> None:
    before = await _names(shop)
    async with shop.customers(count=8, pause=0.05) as tally:
        for _ in range(2):
            await shop.kubectl("rollout", "restart", "deployment/shop")
            await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", within=130)
        await shop.kubectl("wait", "pod", *before, "--for=delete", "--timeout=60s", within=70)
        # In a hurry: three of these seconds are the application's, what is left is the sidecar's.
        await shop.kubectl("delete", "pod", await shop.pod(), "--grace-period=6")
        await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", within=130)
    told = await shop.accounts(tally)
    await _closed(shop, before)
    with capfd.disabled():
        print(f"\ntwo rolling restarts and a hasty end: {told}")
    assert not set(before) & set(await _names(shop))
    assert tally.failures == []


async def test_a_drain_loses_nothing_and_leaves_one_replica_of_the_operator(
    shop: ClusterShop, release: str, api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]["name"]
    before = await _names(shop)
    drain = ["drain", node, "--delete-emptydir-data", "--ignore-daemonsets"]
    async with shop.customers() as tally:
        try:
            await shop.kubectl(*drain, "--pod-selector=app=shop", "--timeout=90s", within=100)
            # There is no other node: the first replica that goes does not come back, and the budget keeps the second.
            with pytest.raises(KubectlError, match="disruption budget"):
                await shop.kubectl(
                    *drain, "--pod-selector=app.kubernetes.io/name=pillion-operator", "--timeout=15s", within=60
                )
            operators = await api.get(f"/apis/apps/v1/namespaces/{release}/deployments/pillion-operator")
            assert operators["status"]["readyReplicas"] == 1
        finally:
            await shop.kubectl("uncordon", node)
        await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", within=130)
        await shop.kubectl.within(release)(
            "rollout", "status", "deployment/pillion-operator", "--timeout=90s", within=100
        )
        assert await shop.pods()
        await until(lambda: _served(shop), 30)
    told = await shop.accounts(tally)
    await _closed(shop, before)
    with capfd.disabled():
        print(f"\ndrain and return: {told}")


async def _served(shop: ClusterShop) -> bool:
    return bool((await shop.page(await shop.pod(), "/"))["products"])


@pytest.fixture(scope="module")
def next_chart(node: Node | KindNode, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of the next version, and its image in the node: the same sources under another version."""
    folder = tmp_path_factory.mktemp("next")
    for name in ("requirements", "sidecars", "operator"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / name)
    version = folder / "sidecars" / "src" / "pillion" / "version.py"
    version.write_text(version.read_text().replace('VERSION = "0.1.0"', f'VERSION = "{NEXT}"'))
    assert NEXT in version.read_text()
    archive = folder / "image.tar"
    product_image.build(archive, lambda _: None, folder, f"docker.io/library/pillion:{NEXT}")
    node.load(archive)
    archive.unlink()
    reader.run(f"helm package charts/pillion --version {NEXT} --app-version {NEXT} --destination {folder}")
    return folder / f"pillion-{NEXT}.tgz"


@pytest.fixture(scope="module")
def earlier_chart(release: str, reader: Reader) -> str:
    """The release as an earlier chart leaves it, running; it names the same image."""
    archive = max((ROOT / "tests" / "chart" / "released").glob("pillion-*.tgz"))
    # Values that were set since may be none of its own.
    reader.run(f"helm upgrade pillion {archive} --namespace {release} --reset-values")
    reader.run(f"kubectl --namespace {release} rollout status deployment/pillion-operator --timeout=120s")
    return archive.stem


@pytest_asyncio.fixture
async def strict(api: Api) -> str:
    """A namespace whose pods wait when no operator answers, so that a failed admission is an error that one sees."""
    labels = {"pillion.dev/inject": "true", "pillion.dev/failure-policy": "strict"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}}
    await api.create("/api/v1/namespaces", namespace)

    async def has_account() -> bool:
        return bool(await api.get("/api/v1/namespaces/strict/serviceaccounts/default"))

    await until(has_account, 20)
    return "strict"


async def test_an_upgrade_fails_no_request_no_event_and_no_admission(  # noqa: PLR0917 - its fixtures
    shop: ClusterShop,
    release: str,
    next_chart: Path,
    earlier_chart: str,
    strict: str,
    reader: Reader,
    api: Api,
    capfd: pytest.CaptureFixture[str],
) -> None:
    operator = shop.kubectl.within(release)
    old = (await operator("get", "pods", "--output=name")).split()
    stop = asyncio.Event()
    admissions = asyncio.create_task(_admit(api, strict, stop), name="admissions")
    async with shop.customers() as tally:
        upgrade = f"helm upgrade pillion {next_chart} --namespace {release} --reset-then-reuse-values"
        await asyncio.to_thread(reader.run, upgrade)
        await operator("rollout", "status", "deployment/pillion-operator", "--timeout=120s", within=130)
        # A replica that ends still answers whoever is connected to it, and gives sidecars of its own version.
        await operator("wait", *old, "--for=delete", "--timeout=60s", within=70)
        deployment = await api.get(f"/apis/apps/v1/namespaces/{release}/deployments/pillion-operator")
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{NEXT}")
        stop.set()
        admitted = await admissions
        # The sidecars of the old version serve on, and follow the new operator.
        await shop.kubectl("rollout", "restart", "deployment/shop")
        await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", within=130)
    told = await shop.accounts(tally)
    with capfd.disabled():
        print(f"\nupgrade from {earlier_chart} to {NEXT}: {admitted} pods admitted; {told}")
    assert tally.failures == []
    for pod in await shop.pods():
        assert pod["spec"]["initContainers"][0]["image"].endswith(f":{NEXT}")
    assert admitted > 20


async def _admit(api: Api, namespace: str, stop: asyncio.Event) -> int:
    """Asks for pods, which are admitted but not stored, until *stop*; returns how many, each with its sidecar."""
    container = {"name": "app", "image": IMAGE}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "asked-"},
        "spec": {"containers": [container]},
    }
    admitted = 0
    while not stop.is_set():
        made: JSON = await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
        assert made["spec"]["initContainers"][0]["name"] == "pillion"
        admitted += 1
        await asyncio.sleep(0.05)
    return admitted


async def test_closing_the_shop_leaves_the_definitions_and_nothing_else(
    shop: ClusterShop, release: str, reader: Reader, api: Api
) -> None:
    """Last: it takes away what the other tests stand on."""
    await asyncio.to_thread(reader.follow, "Close it")

    listed = await shop.kubectl("get", "namespaces,crds,clusterroles,clusterrolebindings", "--output=name")
    webhooks = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
    listed += await shop.kubectl("get", webhooks, "--output=name")
    ours = {line for line in listed.split() if "pillion" in line or line == "namespace/shop"}
    definitions = {f"customresourcedefinition.apiextensions.k8s.io/{file.stem}.pillion.dev" for file in CRDS.iterdir()}
    assert len(definitions) >= 5
    assert ours == {f"namespace/{release}"} | definitions
