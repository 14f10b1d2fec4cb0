"""The fixtures of every test that talks to a cluster, whichever it is: they build on a fixture `cluster` that the importing conftest defines.

from tests.support.cluster.fixtures import api, control_plane, ...
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from tests.support.cluster import namespaces
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.identities import AUDIENCE, Pod, ensure_service_account, pod_identity, request_token
from tests.support.cluster.kubectl import Kubectl

__all__ = ["api", "control_plane", "kubectl", "namespace", "new_namespace", "new_pod", "token_for"]


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
