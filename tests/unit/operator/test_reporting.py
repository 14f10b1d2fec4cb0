"""The writer of statuses: only the leader, only what is new, verdicts at once and numbers at their pace."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import VOCABULARY, gauge

from pillion.kinds.exchange import Acknowledgement, ConditionReport
from pillion_operator.announcing import Announcer
from pillion_operator.api import ApiError
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.reporting import MANAGER, Reporter
from pillion_operator.secretstore import SecretStore
from pillion_operator.settings import Settings
from pillion_operator.verdicts import PATIENCE
from pillion_operator.work import Later, QueueMetrics

A = ResourceKey("Gauge", "shop", "a")


class Server:
    """Keeps what is applied."""

    def __init__(self):
        self.bodies, self.version, self.trouble, self.meanwhile = [], 10, None, None

    async def apply(self, path, body, *, manager, resource):
        assert (path, manager, resource) == (
            "/apis/pillion.dev/v1alpha1/namespaces/shop/gauges/a/status", MANAGER, "gauges",
        )  # fmt: skip
        if self.trouble:
            raise self.trouble
        self.version += 1
        self.bodies.append(body)
        metadata = {"uid": body["metadata"]["uid"], "generation": 1, "resourceVersion": str(self.version)}
        return {"metadata": metadata | (self.meanwhile or {}), "status": body["status"]}


class World:
    def __init__(self, pods=lambda _: {}, absent=lambda _: (), **changes):
        self.server, self.catalogue, self.fleet = Server(), Catalogue(VOCABULARY), Fleet()
        self.leading = True
        settings = Settings(insecure=True, status_interval=5.0, figures_interval=50.0, settle_time=20.0, **changes)
        registry = CollectorRegistry()
        self.reporter = Reporter(
            settings,
            self.server,
            vocabulary=VOCABULARY,
            catalogue=self.catalogue,
            fleet=self.fleet,
            secrets=SecretStore(self.server, 15.0, lambda _: None),
            announcer=Announcer(self.server, "me"),
            leading=lambda: self.leading,
            queues=QueueMetrics(registry),
            registry=registry,
            pods=pods,
            absent=absent,
        )
        self.observe(gauge("a", 1))

    def observe(self, document):
        self.catalogue.observe(document)
        self.catalogue.relate("shop")

    def sidecars(self, count, *, applied=None):
        good = self.catalogue.get(A).good
        contents = {("Gauge", "a"): good.fingerprint}
        for number in range(count):
            pod = f"p{number}"
            if self.fleet.get("shop", pod) is None:
                self.fleet.put(Facts(uid=pod, namespace="shop", pod=pod, labels={}))
            self.fleet.retarget(self.fleet.get("shop", pod), good.fingerprint, contents)
            if applied is None or number < applied:
                said = Acknowledgement(revision=good.fingerprint, applied=True)
                self.fleet.acknowledge("shop", pod, said)

    async def handle(self):
        """One turn of the queue; the seconds to wait where it asks for that."""
        try:
            await self.reporter._handle(A)
        except Later as later:
            return later.seconds
        return 0.0

    @property
    def summaries(self):
        return [body["status"]["sidecars"]["summary"] for body in self.server.bodies]


async def test_the_same_is_written_once():
    world = World()
    for _ in range(3):
        await world.handle()

    assert len(world.server.bodies) == 1
    assert world.server.bodies[0]["metadata"] == {"name": "a", "namespace": "shop", "uid": "uid-a"}


async def test_a_restart_over_an_unchanged_status_writes_nothing():
    first = World()
    await first.handle()
    again = World()
    again.observe(gauge("a", 1, version=11, status=first.server.bodies[0]["status"]))

    await again.handle()

    assert again.server.bodies == []


async def test_only_the_leader_writes():
    world = World()
    world.leading = False
    await world.handle()

    assert world.server.bodies == []


async def test_nothing_is_written_before_a_resource_is_judged():
    world = World()
    world.catalogue.observe(gauge("a", 2, generation=2, version=5))
    await world.handle()

    assert world.server.bodies == []


async def test_counts_wait_for_their_interval_and_verdicts_do_not():
    world = World()
    world.sidecars(3, applied=1)
    await world.handle()
    world.sidecars(3, applied=2)
    assert 4.5 < await world.handle() <= 5.0
    world.sidecars(3)
    assert await world.handle() == 0.0

    assert world.summaries == ["1/3", "3/3"]


async def test_sidecars_that_are_still_coming_back_are_waited_for():
    first = World()
    first.sidecars(2)
    await first.handle()
    world = World()
    world.observe(gauge("a", 1, version=11, status=first.server.bodies[0]["status"]))
    world.reporter.settle()

    assert 19 < await world.handle() <= 20
    world.sidecars(1)
    assert 19 < await world.handle() <= 20
    world.sidecars(2)
    assert await world.handle() == 0.0
    assert world.server.bodies == []


async def test_a_refusal_does_not_wait_for_anybody():
    first = World()
    first.sidecars(2)
    await first.handle()
    world = World()
    world.observe(gauge("a", 1, version=11, status=first.server.bodies[0]["status"]))
    world.reporter.settle()
    world.observe(gauge("a", 13, generation=2, version=12, status=first.server.bodies[0]["status"]))

    assert await world.handle() == 0.0
    assert world.server.bodies[0]["status"]["conditions"][0]["status"] == "False"


@pytest.mark.parametrize("status", [404, 409])
async def test_an_object_that_is_gone_or_another_one_is_left_to_the_watch(status):
    world = World()
    world.server.trouble = ApiError(status, "", "")

    assert await world.handle() == 0.0


async def test_other_errors_come_back():
    world = World()
    world.server.trouble = ApiError(0, "Unreachable", "x")

    with pytest.raises(ApiError):
        await world.handle()


async def test_an_edit_that_overtook_the_write_is_still_seen():
    world = World()
    world.server.meanwhile = {"generation": 2, "resourceVersion": "30"}
    await world.handle()

    _, change = world.catalogue.observe(gauge("a", 2, generation=2, version=29))

    assert change.meaning


async def test_a_thousand_sidecars_that_complain_one_after_another_are_two_writes():
    """The first word at once, the number of those who agree when figures are due."""
    world = World()
    world.sidecars(1000)
    await world.handle()
    good = world.catalogue.get(A).good.fingerprint
    full = ConditionReport(kind="Gauge", name="a", reason="StoreFull", message="make room", degrades=True)
    for number in range(1000):
        world.fleet.acknowledge("shop", f"p{number}", Acknowledgement(revision=good, applied=True, conditions=(full,)))
        world.reporter._written_at[A] -= 0.01  # ten seconds in all
        if number % 10 == 0:
            await world.handle()

    assert len(world.server.bodies) == 2
    (degraded,) = [c for c in world.server.bodies[1]["status"]["conditions"] if c["type"] == "Degraded"]
    assert (degraded["reason"], degraded["message"][:9]) == ("StoreFull", "make room")
    assert 0 < await world.handle() <= 50


async def test_sidecars_that_stay_behind_are_called_stale_once():
    world = World(status_debounce=0.0)
    world.sidecars(2, applied=1)
    await world.handle()
    world.reporter.look_for_overdue()
    assert len(world.reporter.queue) == 0
    world.reporter._lagging_since[A] -= PATIENCE
    world.reporter.look_for_overdue()
    world.reporter.look_for_overdue()
    assert len(world.reporter.queue) == 1
    await world.handle()

    def stale(body):
        return [(c["reason"], c["message"][:2]) for c in body["status"]["conditions"] if c["type"] == "Stale"]

    assert [stale(body) for body in world.server.bodies] == [[], [("Lagging", "p1")]]
    world.sidecars(2)
    await world.handle()
    assert stale(world.server.bodies[2]) == []
    assert world.reporter._lagging_since == {}


async def test_a_new_leader_waits_until_it_knows_who_is_absent():
    first = World(absent=lambda _: ("lost",))
    await first.handle()
    status = first.server.bodies[0]["status"]
    assert [c["reason"] for c in status["conditions"] if c["type"] == "Stale"] == ["Disconnected"]
    known = {"absent": None}
    again = World(absent=lambda _: known["absent"])
    again.observe(gauge("a", 1, version=11, status=status))

    assert await again.handle() == 5.0
    known["absent"] = ("lost",)
    assert await again.handle() == 0.0
    assert again.server.bodies == []
    known["absent"] = ()
    await again.handle()
    assert not [c for c in again.server.bodies[0]["status"]["conditions"] if c["type"] == "Stale"]


async def test_pods_without_their_sidecar_degrade_what_counts_them():
    world = World(pods=lambda _: {"pods": 3, "injected": 2, "missed": 1})
    await world.handle()

    (degraded,) = [c for c in world.server.bodies[0]["status"]["conditions"] if c["type"] == "Degraded"]
    assert (degraded["reason"], degraded["message"][:25]) == ("SidecarsMissed", "1 of 3 pods run without t")


async def test_a_deleted_resource_is_no_work():
    world = World()
    world.catalogue.forget(A)
    world.reporter.forget(A)

    assert await world.handle() == 0.0
    assert world.server.bodies == []


async def test_a_new_leader_looks_at_everything():
    world = World(status_debounce=0.0)
    world.reporter.look_at_all()
    task = asyncio.create_task(world.reporter.queue.run())
    await world.reporter.queue.idle()
    task.cancel()

    assert len(world.server.bodies) == 1
