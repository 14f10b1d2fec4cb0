"""The search for missed pods: who is told, how often, and what the API server is asked."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import PROFILE, VOCABULARY, gauge

from pillion_operator.api import ApiError
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespaces
from pillion_operator.repairing import Repairer
from pillion_operator.settings import Settings

ASKS = {"pillion.dev/inject": "true"}
SIDECAR = {"name": "pillion", "restartPolicy": "Always"}


def pod(name, namespace="shop", labels=None, *, injected=False, started=False, controller="c", **spec):
    owners = [{"uid": controller, "controller": True}] if controller else []
    init = [SIDECAR] if injected else []
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels or {},
            "ownerReferences": owners,
        },
        "spec": {"containers": [{"name": "app"}], "initContainers": init, **spec},
        "status": {"initContainerStatuses": [{"name": "pillion", "started": started}] if injected else []},
    }


class World:
    """An API server with pods, page by page of one."""

    def __init__(self, *pods):
        self.pods = list(pods)
        self.events = []
        self.evicted = []
        self.refusal = None
        self.asked = []

    async def get(self, path, *, resource, query, timeout):  # noqa: ASYNC109 - the signature of the real one
        assert (resource, timeout > 0) == ("pods", True)
        self.asked.append(path)
        namespace = path.split("/")[4] if "/namespaces/" in path else None
        found = [
            one
            for one in self.pods
            if (one["metadata"]["namespace"] == namespace if namespace else one["metadata"]["labels"] == ASKS)
        ]
        start = int(query.get("continue", "0"))
        following = {"continue": str(start + 1)} if start + 1 < len(found) else {}
        return {"items": found[start : start + 1], "metadata": following}

    async def create(self, path, body, *, resource):
        assert (path.rpartition("/")[2], resource) == ("eviction", "pods/eviction")
        if self.refusal:
            raise self.refusal
        assert body["deleteOptions"]["preconditions"]["uid"] == f"uid-{body['metadata']['name']}"
        self.evicted.append(body["metadata"]["name"])

    def announce(self, regarding, kind, reason, _note, *, action):
        assert action
        self.events.append((regarding["name"], kind, reason))


def repairer(world, *, repair="report", leads=True, catalogue=None, **callbacks):
    namespaces = Namespaces(world, 60.0)
    for name, labels in (("shop", ASKS), ("other", {}), ("kube-system", ASKS), ("pillion-system", ASKS)):
        namespaces.told("ADDED", {"metadata": {"name": name, "labels": labels}})
    settings = Settings(namespace="pillion-system", repair=repair, repair_interval=1, eviction_pause=0)
    return Repairer(
        settings,
        world,
        kinds=VOCABULARY.kinds,
        catalogue=catalogue or Catalogue(VOCABULARY),
        namespaces=namespaces,
        inject=Injector(settings),
        announcer=world,
        leading=lambda: leads,
        counted=callbacks.get("counted", lambda _key: None),
        found=callbacks.get("found", lambda: None),
        connected=callbacks.get("connected", lambda _namespace, _uid: True),
        registry=callbacks.get("registry", CollectorRegistry()),
        sleep=callbacks.get("sleep", asyncio.sleep),
    )


async def rounds(world, count, **options):
    """Let the loop search *count* times."""
    left = [count]

    async def sleep(seconds):
        if seconds >= 1:
            left[0] -= 1
            if left[0] < 0:
                raise asyncio.CancelledError

    one = repairer(world, sleep=sleep, **options)
    with pytest.raises(asyncio.CancelledError):
        await one.run()
    return one


async def test_missed_and_impossible_pods_are_told_once_and_others_never():
    world = World(pod("a"), pod("b", injected=True), pod("c", hostNetwork=True), pod("d", "other", ASKS))

    await rounds(world, 3)

    assert sorted(world.events) == [
        ("a", "Warning", "SidecarMissed"),
        ("c", "Warning", "HostNetwork"),
        ("d", "Warning", "SidecarMissed"),
    ]
    assert world.evicted == []


async def test_namespaces_that_no_webhook_serves_are_not_searched():
    world = World(pod("a", "kube-system", ASKS), pod("b", "pillion-system", ASKS))

    await rounds(world, 1)

    assert world.events == []
    assert not [path for path in world.asked if "system" in path]


@pytest.mark.parametrize("options", [{"leads": False}, {"repair": "off"}])
async def test_only_the_leader_searches_and_only_if_asked_to(options):
    world = World(pod("a"))

    await rounds(world, 2, **options)

    assert world.asked == []


async def test_evictions_go_one_per_controller_and_search():
    world = World(pod("a"), pod("b"), pod("c", controller="other"), pod("d", controller=""))

    await rounds(world, 1, repair="evict")

    assert world.evicted == ["a", "c"]


@pytest.mark.parametrize(("status", "outcome"), [(429, "budget"), (404, "gone"), (409, "gone"), (403, "forbidden")])
async def test_an_eviction_that_is_refused_is_counted_and_tried_again(status, outcome):
    world, registry = World(pod("a")), CollectorRegistry()
    world.refusal = ApiError(status, "No", "no")

    await rounds(world, 2, repair="evict", registry=registry)

    assert registry.get_sample_value("pillion_operator_evictions_total", {"outcome": outcome}) == 2


async def test_an_api_server_that_is_away_ends_nothing():
    class Away(World):
        async def get(self, path, **_):
            self.asked.append(path)
            raise ApiError(0, "Unreachable", "refused")

    world = Away()

    await rounds(world, 3)

    assert len(world.asked) == 3


async def test_profiles_count_the_pods_that_they_select():
    catalogue, counted = Catalogue(VOCABULARY), []
    for name, labels in (("web", {"tier": "web"}), ("all", {})):
        catalogue.observe(
            {
                "apiVersion": "pillion.dev/v1alpha1",
                "kind": PROFILE.kind,
                "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "1"},
                "spec": {"selector": {"matchLabels": labels}},
                "status": {"pods": 9, "injected": 9, "missed": 0},
            }
        )
    catalogue.relate("shop")
    world = World(pod("a", labels={"tier": "web"}), pod("b", injected=True))
    one = repairer(world, catalogue=catalogue, counted=counted.append)
    known = {name: catalogue.get(ResourceKey(PROFILE.kind, "shop", name)) for name in ("web", "all")}

    assert one.counts(known["web"]) == {
        "pods": 9,
        "injected": 9,
        "missed": 0,
    }  # what stands there, until something was counted
    await one.search()
    await one.search()

    assert one.counts(known["web"]) == {"pods": 1, "injected": 0, "missed": 1}
    assert one.counts(known["all"]) == {"pods": 2, "injected": 1, "missed": 1}
    assert len(counted) == 2
    assert one.with_pods == {"shop"}


async def test_a_sidecar_that_runs_unheard_is_named_after_two_searches_until_it_is_heard():
    heard = {"uid-heard"}
    world = World(
        pod("heard", injected=True, started=True),
        pod("lost", injected=True, started=True),
        pod("starting", injected=True),
        pod("lost-too", labels={"app": "other"}, injected=True, started=True),
    )
    catalogue, looked_at = Catalogue(VOCABULARY), []
    catalogue.observe(gauge("all", 1))
    catalogue.observe(gauge("some", 1, selector={"matchLabels": {"app": "other"}}))
    catalogue.relate("shop")
    every, some = (catalogue.get(ResourceKey("Gauge", "shop", name)) for name in ("all", "some"))
    one = repairer(world, catalogue=catalogue, connected=lambda _, uid: uid in heard, counted=looked_at.append)

    await one.search()
    assert one.absent(every) is None
    await one.search()
    assert one.absent(every) == ("lost", "lost-too")
    assert one.absent(some) == ("lost-too",)
    assert {every.key, some.key} <= set(looked_at)
    heard.add("uid-lost")
    assert one.absent(every) == ("lost-too",)  # at once, not with the next search
    looked_at.clear()
    await one.search()
    await one.search()
    assert {every.key, some.key} <= set(looked_at)


async def test_a_replica_that_does_not_lead_knows_of_no_absence():
    one = await rounds(World(pod("lost", injected=True, started=True)), 3, leads=False)

    assert one._absence._searches == 0
