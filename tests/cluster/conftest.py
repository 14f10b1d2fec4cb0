"""A real API server for the tests of this folder: one per run, a namespace per test.

Programs that are missing are built before the first test, where no test's time limit runs. With several workers (`pytest -n`) all tests of this folder go to
one worker if pytest distributes by group (`--dist loadgroup`); otherwise each worker has a control plane of its own.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from tests.support.cluster import namespaces, sources
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import Cluster, ClusterUnavailableError, open_cluster, provision
from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.identities import AUDIENCE, Pod, ensure_service_account, pod_identity, request_token
from tests.support.cluster.kubectl import Kubectl

SOURCE = pytest.StashKey[sources.Source]()
REPORT = "pillion_cluster"


def pytest_report_header() -> str:
    return sources.choose().describe()


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(
        "cluster" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        return
    source = sources.choose()
    session.config.stash[SOURCE] = source
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        # The standard error of a worker is the terminal's; its standard output belongs to the protocol of the workers.
        provision(source, lambda line: print(f"pillion tests: {line}", file=sys.stderr, flush=True))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes over what a worker has to say at the end."""
    for line in getattr(node, "workeroutput", {}).get(REPORT, ()):
        _report(node.config, line)  # type: ignore[attr-defined] # xdist's WorkerController is untyped


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, ()):
        terminalreporter.write_line(line)


LINES = pytest.StashKey[list[str]]()


def _report(config: pytest.Config, line: str) -> None:
    config.stash.setdefault(LINES, []).append(line)
    if hasattr(config, "workeroutput"):
        config.workeroutput[REPORT] = config.stash[LINES]


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The API server of this run, with the product's CRDs."""
    try:
        with open_cluster(lambda line: print(line, file=sys.stderr), pytestconfig.stash.get(SOURCE, None)) as opened:
            opened.apply_crds()
            _report(pytestconfig, f"{opened.source.describe()}, ready in {opened.started_in:.1f} s")
            yield opened
            if opened.control_plane:
                memory = opened.control_plane.apiserver.resident_bytes() / 1e6
                _report(pytestconfig, f"API server: {memory:.0f} MB resident at the end")
    except ClusterUnavailableError as unavailable:
        pytest.skip(f"no API server: {unavailable}")


@pytest.fixture
def control_plane(cluster: Cluster) -> Iterator[ControlPlane]:
    """The control plane for tests that kill it; it runs again afterwards, whatever the test did."""
    own = cluster.control_plane
    if own is None:
        pytest.skip("the API server is not ours to kill")
    yield own
    if not own.etcd.running:
        own.apiserver.kill()
        own.start_etcd()
    if not own.apiserver.running:
        own.start_apiserver()


@pytest_asyncio.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """A raw client with all rights."""
    async with Api(cluster.access) as client:
        yield client


@pytest_asyncio.fixture
async def new_namespace(
    cluster: Cluster, api: Api, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Makes further namespaces: `await new_namespace({"label": "value"})`."""
    made: list[str] = []

    async def make(labels: dict[str, str] | None = None) -> str:
        name = namespaces.name_for(request.node.originalname or request.node.name)
        made.append(name)
        await namespaces.create(api, name, labels)
        return name

    yield make
    for name in made:
        await namespaces.remove(api, name, controlled=cluster.controlled)


@pytest_asyncio.fixture
async def namespace(new_namespace: Callable[..., Awaitable[str]]) -> str:
    """A namespace of this test alone, with a `default` service account."""
    return await new_namespace()


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    """The real kubectl, in the namespace of this test: `await kubectl("get", "pods")`."""
    return cluster.kubectl.within(namespace)


@pytest.fixture
def token_for(api: Api, namespace: str) -> Callable[..., Awaitable[str]]:
    """Tokens of service accounts: `await token_for("default", audience="pillion")`. An account is made when it is missing."""

    async def token(service_account: str = "default", audience: str = AUDIENCE, *, within: str | None = None) -> str:
        await ensure_service_account(api, within or namespace, service_account)
        return await request_token(api, within or namespace, service_account, audience=audience)

    return token


@pytest.fixture
def new_pod(api: Api, namespace: str) -> Callable[..., Awaitable[Pod]]:
    """Pods that nobody runs, with their pod-bound tokens: `await new_pod("shop-1", labels={"app": "shop"})`."""

    async def pod(name: str, *, within: str | None = None, **options: object) -> Pod:
        return await pod_identity(api, within or namespace, name, **options)  # type: ignore[arg-type] # passed through

    return pod
