"""The listener for sidecars over real sockets: full, starting, stopping, and readers that do not read. Who gets in is another test's business."""

import asyncio
from unittest.mock import AsyncMock

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import VOCABULARY, gauge

from pillion_operator import server as module
from pillion_operator.authentication import Client, Refusal
from pillion_operator.catalogue import Catalogue
from pillion_operator.controller import Controller
from pillion_operator.fleet import Fleet
from pillion_operator.secretstore import SecretStore
from pillion_operator.server import Server
from pillion_operator.settings import Settings
from pillion_operator.work import QueueMetrics


class Anybody:
    """Believes the name that is presented."""

    async def sidecar(self, authorization):
        name = authorization.removeprefix("Bearer ")
        if not name:
            raise Refusal(401, "no-token", "No token", "say who you are")
        return Client(namespace="shop", service_account="default", pod=name, pod_uid=f"uid-{name}")

    client = sidecar

    async def labels(self, client):  # noqa: ARG002
        return {}


class Reporter:
    def look_at(self, key):
        pass

    def forget(self, key):
        pass


class World:
    def __init__(self, **settings):
        registry = CollectorRegistry()
        catalogue, fleet = Catalogue(VOCABULARY), Fleet()
        self.fleet, self.answers = fleet, []
        self.controller = Controller(
            vocabulary=VOCABULARY,
            catalogue=catalogue,
            fleet=fleet,
            secrets=SecretStore(None, 15.0, lambda _: None),
            reporter=Reporter(),
            recall=AsyncMock(return_value=False),
            departure_grace=15.0,
            queues=QueueMetrics(registry),
            registry=registry,
        )
        self.server = Server(
            Settings(insecure=True, stream_address="127.0.0.1:0", **settings),
            self.controller,
            Anybody(),
            tls=None,
            own_account="",
            take_report=lambda _: None,
            registry=registry,
        )

    async def __aenter__(self):
        await self.server.start()
        self.loop = asyncio.create_task(self.controller.run())
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(self, *_):
        for answer in self.answers:
            answer.close()
        await self.session.close()
        await self.server.stop()
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)

    async def open(self, name, **query):
        url = f"http://127.0.0.1:{self.server.port}/v1/stream"
        answer = await self.session.get(url, headers={"Authorization": f"Bearer {name}"}, params=query)
        self.answers.append(answer)
        return answer


async def events(answer):
    async for line in answer.content:
        if line.startswith(b"event: "):
            yield line.decode().removeprefix("event: ").strip()


async def next_event(answer):
    async for event in events(answer):
        return event
    return None


@pytest_asyncio.fixture
async def world():
    async with World() as made:
        made.controller.complete.set()
        yield made


async def test_a_stream_begins_with_a_ping_and_the_snapshot_follows(world):
    world.controller.changed(gauge("a", 1))
    answer = await world.open("p")

    assert answer.headers["Cache-Control"] == "no-store"
    assert [await next_event(answer) for _ in range(2)] == ["ping", "snapshot"]


async def test_nothing_is_served_before_all_resources_are_known(monkeypatch):
    monkeypatch.setattr(module, "SYNC_TIMEOUT", 0.05)
    async with World() as world:
        answer = await world.open("p")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await answer.json())["type"].endswith("/starting")

        world.controller.complete.set()
        assert (await world.open("p")).status == 200


async def test_a_full_replica_sends_sidecars_to_another():
    async with World(max_streams=1) as world:
        world.controller.complete.set()
        first = await world.open("p1")
        await next_event(first)

        second = await world.open("p2")
        assert second.status == 503
        assert (await second.json())["type"].endswith("/no-room")


async def test_a_stream_ends_at_its_age_with_a_goodbye():
    async with World(stream_max_age=1.0) as world:
        world.controller.complete.set()
        answer = await world.open("p")

        assert [event async for event in events(answer)][-1] == "bye"


async def test_stopping_says_goodbye_to_everybody(world):
    answers = [await world.open(f"p{n}") for n in range(3)]
    for answer in answers:
        await next_event(answer)

    await world.server.stop()

    for answer in answers:
        assert [event async for event in events(answer)][-1] == "bye"


async def test_a_newer_stream_of_the_same_pod_ends_the_older_one(world):
    older = await world.open("p")
    await next_event(older)
    newer = await world.open("p")
    await next_event(newer)

    assert [event async for event in events(older)][-1] == "bye"
    assert len(world.controller.distribution) == 1


async def test_a_reader_that_does_not_read_is_dropped(monkeypatch):
    monkeypatch.setattr(module, "WRITE_TIMEOUT", 0.2)
    async with World() as world:
        world.controller.complete.set()
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port, limit=1024)
        writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer p\r\n\r\n")
        await reader.readuntil(b"event: ping")

        subscription = world.controller.distribution.subscription("uid-p")
        subscription.offer("r", b"x" * 16_000_000, 1.0)  # far more than the buffers of two sockets hold
        async with asyncio.timeout(10):
            while len(world.controller.distribution):  # noqa: ASYNC110 - nothing announces the end of a stream
                await asyncio.sleep(0.01)
        writer.close()


async def test_an_acknowledgement_of_the_stream_here_counts(world):
    world.controller.changed(gauge("a", 1))
    answer = await world.open("p")
    await next_event(answer)
    await next_event(answer)
    (sidecar,) = world.fleet
    url = f"http://127.0.0.1:{world.server.port}/v1/acks"
    said = {"revision": sidecar.target, "applied": True}

    async with world.session.post(url, headers={"Authorization": "Bearer p"}, json=said) as done:
        assert done.status == 204

    assert sidecar.facts.revision == sidecar.target


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/stream"), ("GET", "/v1/acks"), ("GET", "/"), ("GET", "/metrics")]
)
async def test_what_is_not_there_is_not_there(world, method, path):
    async with world.session.request(method, f"http://127.0.0.1:{world.server.port}{path}") as answer:
        assert answer.status in (web.HTTPNotFound.status_code, web.HTTPMethodNotAllowed.status_code)
