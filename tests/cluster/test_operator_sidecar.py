"""The whole way with the real sidecar: a resource is applied, and the decision of `pillion sidecar` on localhost changes."""

import aiohttp
import pytest
import pytest_asyncio
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import policy
from tests.support.operator.sidecars import SidecarProcess

pytestmark = pytest.mark.slow


class Sidecar(SidecarProcess):
    """One that decides about rate limits."""

    async def check(self, user="ada", name="shop"):
        """Ask for one decision: True, False, or the problem's last word where there is none."""
        body = {"policy": name, "attributes": {"user": user}}
        async with self._session.post(f"{self.url}/v1/ratelimit/check", json=body) as answer:
            told = await answer.json(content_type=None)
            return told["allowed"] if answer.status == 200 else told["type"].rpartition("/")[2]

    async def allowed_of(self, requests, user):
        return [await self.check(user) for _ in range(requests)].count(True)


@pytest_asyncio.fixture
async def sidecar(operator, new_pod, tmp_path):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        running = Sidecar(operator, await new_pod("shop-1", labels={"app": "shop"}), tmp_path, session)
        running.process.start()
        yield running
        running.process.stop(timeout=15)


@pytest.fixture
def apply(api, kubectl, namespace):
    """Applies the policy with so many requests, and waits until `kubectl wait` returns."""

    async def applied(requests):
        limits = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"
        await api.apply(f"{limits}/shop", policy("shop", requests))
        await kubectl("wait", "--for=condition=Ready", "rlp/shop", "--timeout=30s")

    return applied


async def test_an_edit_is_enforced_and_a_deletion_withdrawn(apply, kubectl, sidecar):
    await sidecar.becomes(sidecar.configuration, lambda c: c["revision"] != "")
    assert await sidecar.check() == "unknown-policy"

    await apply(5)
    assert await sidecar.allowed_of(8, "ada") == 5

    await apply(7)
    assert await sidecar.allowed_of(9, "grace") == 7

    await kubectl("delete", "ratelimitpolicy/shop")
    await sidecar.becomes(sidecar.check, lambda answer: answer == "unknown-policy")


async def test_without_operator_and_api_server_it_keeps_deciding_and_says_so(apply, operator, control_plane, sidecar):
    await sidecar.becomes(sidecar.configuration, lambda c: c["revision"] != "")
    await apply(5)
    before = await sidecar.configuration()
    assert not before["stale"]

    control_plane.kill_apiserver()
    operator.kill()
    stale = await sidecar.becomes(sidecar.configuration, lambda c: c["stale"])
    assert stale["message"].startswith("Stale since")
    assert await sidecar.allowed_of(8, "ada") == 5

    sidecar.process.kill()
    sidecar.process.start()
    restored = await sidecar.becomes(sidecar.configuration, lambda c: c["revision"] != "")
    assert (restored["revision"], restored["stale"]) == (before["revision"], True)
    assert await sidecar.allowed_of(8, "grace") == 5

    control_plane.start_apiserver()
    operator.start()
    await sidecar.becomes(sidecar.configuration, lambda c: not c["stale"])
    await apply(6)
    assert await sidecar.allowed_of(8, "edsger") == 6
