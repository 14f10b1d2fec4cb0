"""The control loop: what it does with events that nobody foresaw, with Secrets nobody needs any more, and with namespaces that are large."""

import asyncio
import time
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import VOCABULARY, gauge

from pillion_operator import controller as module
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.controller import Controller
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.secretstore import SecretStore
from pillion_operator.work import Later, QueueMetrics


class Reporter:
    def __init__(self):
        self.looked_at = set()

    def look_at(self, key):
        self.looked_at.add(key)

    def forget(self, key):
        pass

    def look_for_overdue(self):
        pass


class World:
    def __init__(self):
        registry = CollectorRegistry()
        self.catalogue, self.fleet, self.reporter = Catalogue(VOCABULARY), Fleet(), Reporter()
        self.secrets = SecretStore(None, 15.0, lambda _: None)
        self.controller = Controller(
            vocabulary=VOCABULARY,
            catalogue=self.catalogue,
            fleet=self.fleet,
            secrets=self.secrets,
            reporter=self.reporter,
            recall=AsyncMock(return_value=False),
            departure_grace=0.0,
            queues=QueueMetrics(registry),
            registry=registry,
        )


@pytest.fixture
async def world():
    return World()


async def test_an_event_that_makes_no_sense_does_not_take_its_neighbours_with_it(world):
    world.controller.told([(None, {}), ("DELETED", {"kind": "Gauge"}), ("ADDED", gauge("a", 1)), ("MODIFIED", None)])

    assert world.catalogue.get(ResourceKey("Gauge", "shop", "a")) is not None


async def test_a_deletion_that_is_told_twice_is_one(world):
    world.controller.told([(None, gauge("a", 1)), ("DELETED", gauge("a", 1)), ("DELETED", gauge("a", 1))])

    assert len(world.catalogue) == 0


async def test_a_large_namespace_rests_as_long_as_it_takes(world, monkeypatch):
    monkeypatch.setattr(module, "REST_ABOVE", 0.0)
    relate = world.catalogue.relate
    # Slow enough that the second turn comes well within the rest.
    monkeypatch.setattr(world.catalogue, "relate", lambda namespace: (time.sleep(0.05), relate(namespace))[1])
    world.controller.changed(gauge("a", 1))
    await world.controller._reconcile("shop")

    with pytest.raises(Later) as later:
        await world.controller._reconcile("shop")

    assert 0 < later.value.seconds < 1


async def test_what_another_replica_says_makes_unknown_namespaces_compile(world):
    world.controller.changed(gauge("a", 1))
    far = Facts(uid="u", namespace="shop", pod="far", labels={})
    world.controller.reported("replica-b", [far])
    await world.controller._reconcile("shop")

    assert world.fleet.tally(ResourceKey("Gauge", "shop", "a")).lagging == ("far",)
    depth = len(world.controller.queue)
    world.controller.reported("replica-b", [far])
    assert len(world.controller.queue) == depth


async def test_secrets_are_forgotten_with_the_last_sidecar(world, monkeypatch):
    monkeypatch.setattr(module, "EXPIRY_PAUSE", 0.0)
    world.secrets._held["shop"] = {}
    task = asyncio.create_task(world.controller._expire())
    async with asyncio.timeout(5):
        while world.secrets.namespaces():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
    task.cancel()

    assert world.secrets.namespaces() == []
