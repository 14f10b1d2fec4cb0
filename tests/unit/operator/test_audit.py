"""The audit: what a watch owes is found, fetched, counted; nothing is complete before everything is known."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import GAUGE, VOCABULARY, gauge

from pillion_operator import audit
from pillion_operator.api import ApiError, ListedMetadata
from pillion_operator.audit import Audit
from pillion_operator.catalogue import Catalogue, ResourceKey


class Server:
    """The truth."""

    def __init__(self, *documents):
        self.documents = {d["metadata"]["name"]: d for d in documents}
        self.trouble = None
        self.reads = self.lists = 0
        self.unlisted = set()  # appeared after the first list

    async def list_metadata(self, plural):
        assert plural == "gauges"
        if self.trouble:
            raise self.trouble
        for document in list(self.documents.values()):
            m = document["metadata"]
            yield ListedMetadata(
                name=m["name"], namespace=m["namespace"], uid=m["uid"], resource_version=m["resourceVersion"]
            )

    async def list_objects(self, plural):
        assert plural == "gauges"
        if self.trouble:
            raise self.trouble
        self.lists += 1
        for document in list(self.documents.values()):
            if document["metadata"]["name"] not in self.unlisted:
                yield document

    async def get(self, path, *, resource):  # noqa: ARG002
        self.reads += 1
        name = path.rpartition("/")[2]
        if name not in self.documents:
            raise ApiError(404, "NotFound", "")
        return self.documents[name]


class World:
    def __init__(self, *documents):
        self.server, self.catalogue, self.pauses = Server(*documents), Catalogue(VOCABULARY), []
        self.registry = CollectorRegistry()
        self.on_pause = lambda: None
        self.audit = Audit(
            self.server,
            [GAUGE],
            self.catalogue,
            changed=lambda document: self.catalogue.observe(document, trusted=True),
            deleted=self.catalogue.forget,
            loaded=lambda: None,
            interval=60.0,
            registry=self.registry,
            sleep=self.sleep,
        )

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.on_pause()
        await asyncio.sleep(0)

    def missed(self):
        return self.registry.get_sample_value("pillion_operator_watch_missed_total", {"kind": "Gauge"}) or 0

    async def one_round(self):
        await self.audit._repair(self.audit._still(await self.audit._owed()))

    def values(self):
        return {known.key.name: known.current.resource.spec.value for known in self.catalogue}


async def test_an_empty_cluster_is_known_at_once():
    world = World()
    await world.audit._first()

    assert world.audit.complete.is_set()
    assert world.pauses == []


async def test_the_start_reads_everything_itself():
    world = World(gauge("a", 1), gauge("b", 2))
    await world.audit._first()

    assert world.values() == {"a": 1, "b": 2}
    assert (world.server.lists, world.server.reads, world.missed()) == (1, 0, 0)
    assert world.pauses == []


async def test_what_the_watch_told_before_the_start_has_read_it_stays_where_it_is_newer():
    world = World(gauge("a", 1, version=5))
    world.catalogue.observe(gauge("a", 2, version=6))
    await world.audit._first()

    assert world.values() == {"a": 2}


async def test_nothing_is_complete_before_the_watch_has_told_what_appeared_meanwhile():
    world = World(gauge("a", 1), gauge("b", 2))
    world.server.unlisted = {"a", "b"}
    told = iter([gauge("a", 1), gauge("b", 2)])

    def tell():
        assert not world.audit.complete.is_set()
        world.catalogue.observe(next(told))

    world.on_pause = tell
    await world.audit._first()

    assert world.audit.complete.is_set()
    assert world.server.reads == 0


async def test_a_watch_that_tells_nothing_at_the_start_is_replaced_by_reading(monkeypatch):
    monkeypatch.setattr(audit, "FIRST_PATIENCE", 0.0)
    world = World(gauge("a", 1))
    world.server.unlisted = {"a"}
    await world.audit._first()

    assert world.values() == {"a": 1}
    assert world.missed() == 1


async def test_a_definition_that_is_not_installed_is_an_empty_kind():
    world = World()
    world.server.trouble = ApiError(404, "NotFound", "the server could not find the requested resource")
    await world.audit._first()

    assert world.audit.complete.is_set()


@pytest.mark.parametrize("trouble", [ApiError(0, "Unreachable", "x"), ApiError(403, "Forbidden", "x")])
async def test_an_api_server_that_does_not_answer_is_waited_for(trouble):
    world = World(gauge("a", 1))
    world.catalogue.observe(gauge("a", 1))
    world.server.trouble = trouble

    def mend():
        world.server.trouble = None

    world.on_pause = mend
    await world.audit._first()

    assert world.audit.complete.is_set()
    assert world.values() == {"a": 1}


async def test_a_missed_edit_a_missed_creation_and_a_missed_deletion_are_mended_and_counted():
    world = World(gauge("same", 1), gauge("edited", 2, generation=2, version=5), gauge("new", 3))
    for document in (gauge("same", 1), gauge("edited", 1), gauge("deleted", 1)):
        world.catalogue.observe(document)

    await world.one_round()

    assert world.values() == {"same": 1, "edited": 2, "new": 3}
    assert world.missed() == 3
    assert world.server.reads == 3


async def test_what_is_newer_here_than_in_the_list_is_left_alone():
    world = World(gauge("a", 1, version=5))
    world.catalogue.observe(gauge("a", 2, generation=2, version=9))

    await world.one_round()

    assert world.values() == {"a": 2}
    assert world.server.reads == 0


async def test_a_resource_that_is_back_by_the_time_it_is_read_is_not_forgotten():
    world = World()
    world.catalogue.observe(gauge("a", 1))
    owed = await world.audit._owed()
    world.server.documents["a"] = gauge("a", 4, uid="second", version=9)

    await world.audit._repair(owed)

    assert world.values() == {"a": 4}
    assert world.catalogue.get(ResourceKey("Gauge", "shop", "a")).uid == "second"


async def test_what_the_watch_tells_within_the_grace_is_not_missed():
    world = World(gauge("a", 1), gauge("b", 1))
    world.catalogue.observe(gauge("gone", 1))
    owed = await world.audit._owed()
    assert len(owed) == 3

    world.catalogue.observe(gauge("a", 1))
    world.catalogue.observe(gauge("b", 2, generation=2, version=8))
    world.catalogue.forget(ResourceKey("Gauge", "shop", "gone"))

    assert world.audit._still(owed) == {}


async def test_a_resource_that_came_while_the_list_was_read_is_neither_missed_nor_forgotten():
    world = World()
    world.catalogue.observe(gauge("fresh", 1))  # told by the watch after its kind had been listed
    owed = await world.audit._owed()
    world.server.documents["fresh"] = gauge("fresh", 1)

    await world.audit._repair(world.audit._still(owed))

    assert world.values() == {"fresh": 1}
    assert world.missed() == 0
