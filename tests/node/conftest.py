"""A real node for the tests of this folder, one per run: on this machine (`make test-node`) or in kind (`make test-kind`).

Never part of `make test`: a node on this machine needs root and changes the machine while it runs. Everything is undone at the end, and that is checked.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from tests.support.cluster import programs
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import Cluster, ClusterUnavailableError
from tests.support.cluster.fixtures import (  # noqa: F401 - pytest finds fixtures by their names here
    api,
    kubectl,
    namespace,
    new_namespace,
    token_for,
)
from tests.support.cluster.kubectl import KubectlError
from tests.support.cluster.node import kind, product_image
from tests.support.cluster.node.footprint import Footprint
from tests.support.cluster.node.node import Node, NodeUnavailableError, open_node
from tests.support.cluster.node.prerequisites import NODE_PROGRAMS, missing
from tests.support.shop.cluster_shop import ClusterShop
from tests.support.shop.walkthrough import Reader

HERE = Path(__file__).parent
RELEASE = "pillion-system"
"""Namespace of the installation."""
ON_KIND = os.environ.get("PILLION_TEST_NODE") == "kind"
"""Whether the node is one of kind's."""

LOOKS = {
    "pods": ("get", "pods", "--all-namespaces", "--output=wide"),
    "warnings": ("get", "events", "--all-namespaces", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"),
    "operator": (
        "logs",
        "--namespace=pillion-system",
        "--selector=app.kubernetes.io/name=pillion-operator",
        "--prefix",
    ),
    "sidecars": ("logs", "--namespace=shop", "--selector=app=shop", "--container=pillion", "--prefix", "--tail=20"),
}
"""What is shown of the cluster when a test fails."""

AnyNode = Node | kind.KindNode
OPENED = pytest.StashKey[AnyNode]()


def _say(line: str) -> None:
    print(f"pillion tests: {line}", file=sys.stderr, flush=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.is_relative_to(HERE)]
    for item in here:
        item.add_marker("node")
    # Tests that run a node of their own go first: there is room for one at a time.
    here.sort(key=lambda item: "node" in getattr(item, "fixturenames", ()))
    items[:] = [item for item in items if not item.path.is_relative_to(HERE)] + here


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what is missing where no test's time limit runs."""
    here = any(item.path.is_relative_to(HERE) for item in session.items)
    if here and not session.config.option.collectonly and not _lacking():
        with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            programs.build(["kubectl", "kind", "helm"] if ON_KIND else [*NODE_PROGRAMS, "helm"], _say)


def _lacking() -> list[str]:
    return kind.missing() if ON_KIND else missing()


def _opening(say: programs.Say) -> AbstractContextManager[AnyNode]:
    return kind.open_kind(say) if ON_KIND else open_node(say)


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Iterator[AnyNode]:
    """A cluster with one node and nothing in it. Afterwards the machine is as it was before, or the last test fails."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            _say(line)

    if lacking := _lacking():
        pytest.skip(f"a node needs {', '.join(lacking)}")
    before = None if ON_KIND else Footprint.take()
    try:
        with _opening(say) as opened:
            say(f"node ready in {opened.cluster.started_in:.1f} s")
            pytestconfig.stash[OPENED] = opened
            yield opened
            del pytestconfig.stash[OPENED]
    except (NodeUnavailableError, ClusterUnavailableError) as unavailable:
        pytest.skip(str(unavailable))
    if before is not None:
        assert before.differences(Footprint.take()) == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows what the cluster looks like where a test failed: it is gone when somebody reads of it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined] # pluggy's result, which hook wrappers are sent
    opened = item.config.stash.get(OPENED, None)
    if report.failed and opened is not None:
        kubectl = opened.cluster.kubectl
        for title, arguments in LOOKS.items():
            with suppress(KubectlError):
                report.sections.append((title, kubectl.run(*arguments)))


@pytest.fixture(scope="session")
def image(node: AnyNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The product's own image, built from its Dockerfile and loaded into the node: its name.

    The first build installs every dependency, so the first test that asks for it needs a time limit of minutes.
    """
    _load(node, tmp_path_factory, product_image.ROOT, product_image.IMAGE)
    return product_image.IMAGE


@pytest.fixture(scope="session")
def shop_image(node: AnyNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example shop's image, likewise."""
    _load(node, tmp_path_factory, product_image.SHOP, product_image.SHOP_IMAGE)
    return product_image.SHOP_IMAGE


def _load(node: AnyNode, folders: pytest.TempPathFactory, context: Path, image: str) -> None:
    archive = folders.mktemp("image") / "image.tar"
    product_image.build(archive, _say, context, image)
    node.load(archive)
    archive.unlink()  # some hundred megabytes


@pytest.fixture(scope="session")
def cluster(node: AnyNode) -> Cluster:
    """The node's cluster, for the fixtures shared with the API tests."""
    return node.cluster


@pytest.fixture(scope="session")
def reader(node: AnyNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Whoever follows the page of the example shop, with helm and kubectl at hand."""
    helm = programs.build(["helm"], _say)["helm"]
    one = Reader(node.cluster.kubectl, {"helm": helm}, tmp_path_factory.mktemp("reader"))
    yield one
    one.close()


@pytest.fixture(scope="session")
def release(node: AnyNode, image: str, shop_image: str, reader: Reader) -> str:
    """The chart, installed as the page says, where nothing but restricted pods may run; the namespace of the release.

    The shop's image is there beforehand, so that whoever opens the shop does so at once, as a script would: its first pods must not be missed.
    """
    node.cluster.kubectl.run("create", "namespace", RELEASE)
    node.cluster.kubectl.run("label", "namespace", RELEASE, "pod-security.kubernetes.io/enforce=restricted")
    reader.follow("Install")
    return RELEASE


@pytest.fixture(scope="session")
def open_shop(node: AnyNode, shop_image: str, release: str, reader: Reader) -> list[str]:
    """The shop, opened as the page says; what the commands printed."""
    return reader.follow("Open the shop")


@pytest.fixture
def shop(open_shop: list[str], api: Api, cluster: Cluster) -> ClusterShop:  # noqa: F811 - pytest gives fixtures by name
    """The open shop."""
    return ClusterShop(api, cluster.kubectl)
