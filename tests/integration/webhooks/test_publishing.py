"""`POST /v1/events` and the lists: every form of event, idempotency, and what is refused."""

import asyncio
import json
import re

import aiohttp
import pytest
from tests.support.receivers import Receiver, receiving
from tests.support.webhooks import manifest, webhooks
from tests.support.wire import comparable

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
CLOUD = {"specversion": "1.0", "id": "a/1", "source": "/shop", "type": "order.created", "data": {"n": 1}}


def waiting(folder, *, hot_lane=True):
    """A block whose one endpoint waits for its secret, so that everything stays where it is."""
    endpoint = manifest("one", "https://hooks.example.com/", events=["order.*"])
    return webhooks(folder, endpoint, secrets={}, hot_lane=hot_lane)


@pytest.fixture(params=[True, False], ids=["hot lane", "ordinary lane"])
async def stage(tmp_path, request):
    """Such a block, and a session against it."""
    async with (
        waiting(tmp_path, hot_lane=request.param) as (block, url),
        aiohttp.ClientSession(url) as session,
    ):
        yield block, session


async def post(session, body, media="application/json", **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post("/v1/events", data=data, headers={"Content-Type": media} | headers) as response:
        return response.status, await response.json()


async def test_the_same_id_with_the_same_content_is_accepted_once(stage):
    block, session = stage
    event = {"id": "order-1", "type": "order.created", "data": {"a": 1, "b": 2}}
    first = await post(session, event)
    again = await post(session, b'{ "data": {"b":2, "a":1}, "type": "order.created", "id": "order-1" }')
    assert first == again == (202, {"id": "order-1", "durability": "local", "deliveries": 1})
    assert block.status("one").backlog == 1


async def test_the_same_id_with_other_content_is_a_conflict(stage):
    block, session = stage
    await post(session, {"id": "order-1", "type": "order.created", "data": 1})
    for other in ({"type": "order.created", "data": 2}, {"type": "order.paid", "data": 1}):
        status, problem = await post(session, {"id": "order-1"} | other)
        assert status == 409
        assert problem["type"].endswith("/id-conflict")
        assert problem["errors"][0]["pointer"] == "#/id"
    assert block.status("one").backlog == 1


async def test_twenty_callers_with_one_id_make_one_event(stage):
    block, session = stage
    event = {"id": "order-1", "type": "order.created", "data": 1}
    answers = await asyncio.gather(*(post(session, event) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert block.status("one").backlog == 1


async def test_an_event_that_nobody_wants_is_accepted_with_no_delivery(stage):
    block, session = stage
    status, body = await post(session, {"type": "invoice.paid", "data": 1})
    assert (status, body["deliveries"]) == (202, 0)
    assert block.block.statistics()["unrouted"] == 1
    async with session.get("/v1/webhooks/deliveries") as response:
        assert (await response.json())["deliveries"] == []


async def test_a_structured_cloud_event_and_its_binary_twin_are_one_event(stage):
    block, session = stage
    one = await post(session, CLOUD, STRUCTURED)
    headers = {"ce-specversion": "1.0", "ce-id": "a/1", "ce-source": "/shop", "ce-type": "order.created"}
    two = await post(session, {"n": 1}, "application/json", **headers)
    assert one == two
    assert one[0] == 202
    assert "." not in one[1]["id"]
    assert block.status("one").backlog == 1


async def test_a_batch_is_taken_whole(stage):
    block, session = stage
    batch = [CLOUD | {"id": str(n)} for n in range(3)] + [CLOUD | {"type": "other"}]
    status, body = await post(session, batch, BATCH)
    assert status == 202
    assert (body["durability"], body["deliveries"]) == ("local", 3)
    assert [event["deliveries"] for event in body["events"]] == [1, 1, 1, 0]
    status, problem = await post(session, [CLOUD | {"id": "new"}, CLOUD | {"id": "1", "data": 9}], BATCH)
    assert status == 409
    assert problem["errors"][0]["pointer"] == "#/1/id"
    assert block.status("one").backlog == 3


@pytest.mark.parametrize(
    ("body", "media", "status", "pointer"),
    [
        (b"", "application/json", 400, "#"),
        (b"", STRUCTURED, 400, "#"),
        (b"{", "application/json", 400, None),
        (b"\xff", "application/json", 400, None),
        (b'{"type":"order.x","data":"\xff"}', "application/json", 400, "#/data"),
        (b"[" * 5000, "application/json", 422, "#"),
        (b'{"type":"order.x","data":' + b"[" * 5000 + b"]" * 5000 + b"}", "application/json", 400, "#"),
        ([], "application/json", 422, "#"),
        ({"data": 1}, "application/json", 422, "#"),
        ({"type": "order.x"}, "application/json", 422, "#"),
        ({"type": 1, "data": 1}, "application/json", 422, "#/type"),
        ({"type": "a b", "data": 1}, "application/json", 422, "#/type"),
        ({"type": "a\n", "data": 1}, "application/json", 422, "#/type"),
        ({"type": "order.x", "data": 1, "id": "a.b"}, "application/json", 422, "#/id"),
        ({"type": "order.x", "data": 1, "unknown": 1}, "application/json", 422, "#"),
        ({"type": "order.x", "data": 1, "partitionKey": "x" * 300}, "application/json", 422, "#/partitionKey"),
        (CLOUD | {"specversion": "2.0"}, STRUCTURED, 422, "#/specversion"),
        (CLOUD | {"time": "now"}, STRUCTURED, 422, "#/time"),
        (CLOUD | {"datacontenttype": "text/xml"}, STRUCTURED, 422, "#/datacontenttype"),
        (CLOUD, BATCH, 422, "#"),
        ([CLOUD, CLOUD | {"datacontenttype": "text/xml"}], BATCH, 422, "#/1/datacontenttype"),
        ([CLOUD] * 1001, BATCH, 400, "#"),
        (CLOUD, "text/plain", 415, "header:content-type"),
        (b'{"type":"order.x","data":"' + b"x" * 262_144 + b'"}', "application/json", 413, None),
    ],
)
async def test_what_is_no_event_is_refused_with_the_field_named(stage, body, media, status, pointer):
    block, session = stage
    got, problem = await post(session, body, media)
    assert got == status, problem
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
    assert block.block.statistics()["delivery"].accepted == 0


async def test_a_binary_cloud_event_names_the_wrong_header(stage):
    _, session = stage
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "not valid"}
    status, problem = await post(session, {"n": 1}, **headers)
    assert (status, problem["errors"][0]["pointer"]) == (422, "header:ce-type")
    status, problem = await post(session, b"no json", **headers | {"ce-type": "order.x"})
    assert status == 400


async def test_an_event_as_clients_send_it_takes_the_hot_lane(tmp_path):
    async with waiting(tmp_path) as (block, url), aiohttp.ClientSession(url) as session:
        for number in range(5):
            event = {"type": "order.created", "data": {"filler": "x" * 20_000}, "id": f"order-{number}"}
            async with session.post("/v1/events", json=event) as response:
                assert response.status == 202
        # Of these the headers or the size say that they are no plain events.
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "order.paid"}
        assert (await post(session, {"n": 1}, **headers))[0] == 202
        assert (await post(session, CLOUD, STRUCTURED))[0] == 202
        assert (await post(session, {"type": "order.created", "data": "x" * 70_000}))[0] == 202
        assert block.server.traffic.hot_requests()["/v1/events"] == 5
        assert block.server.traffic.requests()["/v1/events", "POST", 202] == 8
        assert block.status("one").backlog == 8


async def ask(reader, writer, body, fields):
    """Send an event; give the whole answer, without what differs every time."""
    head = ["POST /v1/events HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields, "\r\n"]
    writer.write("\r\n".join(head).encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    answer += await reader.readexactly(int(answer.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    return re.sub(rb"msg_[0-9a-f]{32}|/[^ ]*/deliveries\.db", b"*", comparable(answer))


JSON = "Content-Type: application/json"
ID = "X-Request-Id: mine"
EVENT = b'{"type":"order.created","data":{"a":1}}'
NAMED = b'{"type":"order.created","data":{"a":1,"b":2},"id":"order-1","partitionKey":"k"}'
CONVERSATION = [
    (EVENT, (JSON,)),
    (EVENT, (JSON, ID)),
    (EVENT, (JSON, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
    (EVENT, ("Content-Type: application/json; charset=utf-8",)),
    (b'{"type":"invoice.paid","data":null}', (JSON,)),
    (NAMED, (JSON, ID)),
    (NAMED, (JSON,)),
    (b" " + NAMED.replace(b'"a":1,"b":2', b'"b":2, "a":1'), (JSON,)),
    (NAMED.replace(b"1,", b"3,"), (JSON, ID)),
    (b'{"type":"order.created","data":"\xff"}', (JSON, ID)),
    (b'{"type":"order.created"}', (JSON, ID)),
    (b'{"type":"a b","data":1}', (JSON, ID)),
    (b'{"type":"a.b","data":1,"id":"a.b"}', (JSON, ID)),
    (b"{", (JSON, ID)),
    (b"", (JSON, ID)),
    (EVENT, ("Content-Type: text/plain", ID)),
    (EVENT, (ID,)),
]


async def test_both_lanes_say_the_same_byte_for_byte(tmp_path):
    answers, counted = [], []
    for lane in (True, False):
        folder = tmp_path / str(int(lane))
        folder.mkdir()
        async with waiting(folder, hot_lane=lane) as (block, _):
            writer = block.block._machine._parts.writer
            reader, connection = await asyncio.open_connection("127.0.0.1", block.server.main_port)
            said = [await ask(reader, connection, body, fields) for body, fields in CONVERSATION]
            most, writer._store.max_pages = writer._store.max_pages, 1
            said.append(await ask(reader, connection, EVENT, (JSON, ID)))
            writer._store.max_pages = most
            commits = block.block._machine._parts.desk._commits
            submit, commits._submit = commits._submit, lambda _: None  # the disk hangs
            hanging = asyncio.create_task(ask(reader, connection, EVENT, (JSON, ID)))
            await block.until(lambda commits=commits: commits._waiting and not commits._waiting[-1].over)
            for wait in commits._waiting:
                wait.deadline = 0.0
            commits.expire()
            said.append(await hanging)
            commits._submit = submit
            block.block._machine._parts.intake.waiting += 4096
            said.append(await ask(reader, connection, EVENT, (JSON, ID)))
            block.block._machine._parts.intake.waiting -= 4096
            said.append(await ask(reader, connection, EVENT, (JSON,)))
            figures = block.block.statistics()
            delivery = figures["delivery"]
            counted.append((delivery.accepted, delivery.repeated, delivery.refused, delivery.waiting, figures["unrouted"],
                            block.server.traffic.requests(), block.status("one").backlog))  # fmt: skip
            await block.block.stop()
            said.append(await ask(reader, connection, EVENT, (JSON, ID)))
            answers.append(said)
            connection.close()
            assert bool(block.server.traffic.hot_requests().get("/v1/events")) == lane
    assert answers[0] == answers[1]
    assert counted[0] == counted[1]
    statuses = [int(answer[9:12]) for answer in answers[0]]
    assert {status: statuses.count(status) for status in set(statuses)} == {202: 9, 400: 3, 409: 1, 415: 2, 422: 3, 503: 3, 507: 1}  # fmt: skip


async def test_a_full_store_answers_507_and_recovers(stage, monkeypatch):
    block, session = stage
    writer = block.block._machine._parts.writer
    most = writer._store.max_pages
    writer._store.max_pages = 1
    status, problem = await post(session, {"id": "x", "type": "order.created", "data": 1})
    assert (status, problem["type"].rpartition("/")[2]) == (507, "insufficient-storage")
    assert [c.level for c in block.conditions if c.name == "webhooks: store full"] == ["fail"]
    writer._store.max_pages = most
    assert (await post(session, {"id": "x", "type": "order.created", "data": 1}))[0] == 202
    assert not [c for c in block.conditions if c.name == "webhooks: store full"]


async def test_a_stopped_block_answers_503(stage):
    block, session = stage
    await block.block.stop()
    status, problem = await post(session, {"type": "order.created", "data": 1})
    assert (status, problem["type"].rpartition("/")[2]) == (503, "store-unavailable")
    async with session.get("/v1/webhooks/deliveries") as response:
        assert response.status == 503


@pytest.mark.parametrize(
    ("path", "status", "pointer"),
    [
        ("/v1/webhooks/deliveries?limit=0", 400, "query:limit"),
        ("/v1/webhooks/deliveries?limit=x", 400, "query:limit"),
        ("/v1/webhooks/deliveries?state=lost", 400, "query:state"),
        ("/v1/webhooks/deliveries?cursor=abc", 400, "query:cursor"),
        ("/v1/webhooks/attempts?cursor=1.2", 400, "query:cursor"),
        ("/v1/webhooks/deliveries/nothing", 404, "path:id"),
        ("/v1/webhooks/deliveries/msg_1~one", 404, "path:id"),
        ("/v1/webhooks/deliveries/%00~%FF", 404, "path:id"),
    ],
)
async def test_wrong_questions_are_refused(stage, path, status, pointer):
    _, session = stage
    async with session.get(path) as response:
        assert response.status == status
        assert (await response.json())["errors"][0]["pointer"] == pointer


async def test_lists_go_page_by_page(stage):
    _, session = stage
    ids = [(await post(session, {"type": "order.created", "data": n}))[1]["id"] for n in range(7)]
    found, cursor = [], ""
    while True:
        async with session.get("/v1/webhooks/deliveries", params={"limit": 3, "cursor": cursor}) as response:
            page = await response.json()
        found += [delivery["event"] for delivery in page["deliveries"]]
        cursor = page.get("cursor", "")
        if not cursor:
            break
    assert found == ids[::-1]
    async with session.get("/v1/webhooks/deliveries", params={"event": ids[2], "endpoint": "one"}) as response:
        (only,) = (await response.json())["deliveries"]
    assert only["state"] == "pending"


async def test_what_is_being_attempted_cannot_be_retried(tmp_path):
    async with receiving(Receiver()) as receiver:
        receiver.gate.clear()
        async with (
            webhooks(tmp_path, manifest("one", receiver.url)) as (block, url),
            aiohttp.ClientSession(url) as session,
        ):
            _, body = await post(session, {"type": "order.created", "data": 1})
            await block.until(lambda: receiver.flying)
            async with session.post(f"/v1/webhooks/deliveries/{body['id']}~one:retry") as response:
                assert response.status == 409
                assert (await response.json())["type"].endswith("/delivery-in-flight")
            receiver.gate.set()
