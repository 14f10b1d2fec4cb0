"""Injection by the API server itself: no webhook is called, so that pods get their sidecar while no operator is there at all."""

import asyncio

import pytest
from tests.support.cluster.api import Api
from tests.support.shop.cluster_shop import JSON, ClusterShop, until
from tests.support.shop.walkthrough import Reader

pytestmark = pytest.mark.timeout(1200)


async def test_pods_get_their_sidecar_by_policy_while_the_operator_is_away(
    shop: ClusterShop, release: str, reader: Reader, api: Api
) -> None:
    if int((await api.get("/version"))["minor"].rstrip("+")) < 36:
        pytest.skip("MutatingAdmissionPolicy is stable from Kubernetes 1.36 on")
    operator = shop.kubectl.within(release)
    upgrade = f"helm upgrade pillion charts/pillion --namespace {release} --reuse-values"
    before = {pod["metadata"]["name"] for pod in await shop.pods()}
    await asyncio.to_thread(reader.run, f"{upgrade} --set injection.mode=policy")
    await operator("scale", "deployment/pillion-operator", "--replicas=0")
    await operator("wait", "pod", "--all", "--for=delete", "--timeout=60s", within=70)

    await shop.kubectl("rollout", "restart", "deployment/shop")

    made: list[JSON] = []

    async def appeared() -> bool:
        made[:] = [pod for pod in await shop.pods(ready=False) if pod["metadata"]["name"] not in before]
        return bool(made)

    await until(appeared, 60)
    assert [one["name"] for one in made[0]["spec"]["initContainers"]] == ["pillion"]
    # It waits for its first configuration, and the rollout with it: the pods of before serve on.
    assert before <= {pod["metadata"]["name"] for pod in await shop.pods()}
    await operator("scale", "deployment/pillion-operator", "--replicas=2")
    await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", within=130)
    async with shop.customers() as tally:
        pass
    assert tally.failures == []
    await shop.accounts(tally)
    await asyncio.to_thread(reader.run, f"{upgrade} --set injection.mode=webhook")
