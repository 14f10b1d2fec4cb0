"""A real node on this machine for the tests of this folder: one per run, everything undone at the end, and that is checked.

Never part of `make test`: these tests need root and change the machine while they run.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import programs
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.fixtures import (  # noqa: F401 - pytest finds fixtures by their names here
    api,
    kubectl,
    namespace,
    new_namespace,
    token_for,
)
from tests.support.cluster.node import product_image
from tests.support.cluster.node.footprint import Footprint
from tests.support.cluster.node.node import Node, NodeUnavailableError, open_node
from tests.support.cluster.node.prerequisites import NODE_PROGRAMS, missing

HERE = Path(__file__).parent


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
    if here and not session.config.option.collectonly and not missing():
        with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            programs.build(NODE_PROGRAMS, _say)


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Iterator[Node]:
    """A cluster with one node, with the product's CRDs. Afterwards the machine is as it was before, or the last test fails."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            _say(line)

    if lacking := missing():
        pytest.skip(f"a node needs {', '.join(lacking)}")
    before = Footprint.take()
    try:
        with open_node(say) as opened:
            say(f"node ready in {opened.cluster.started_in:.1f} s")
            opened.cluster.apply_crds()
            yield opened
    except NodeUnavailableError as unavailable:
        pytest.skip(str(unavailable))
    assert before.differences(Footprint.take()) == []


@pytest.fixture(scope="session")
def image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The product's own image, built from its Dockerfile and loaded into the node: its name, for `imagePullPolicy: Never`.

    The first build installs every dependency, so the first test that asks for it needs a time limit of minutes.
    """
    archive = tmp_path_factory.mktemp("image") / "pillion.tar"
    product_image.build(archive, _say)
    node.load(archive)
    archive.unlink()  # half a gigabyte
    return product_image.IMAGE


@pytest.fixture(scope="session")
def cluster(node: Node) -> Cluster:
    """The node's cluster, for the fixtures shared with the API tests."""
    return node.cluster
