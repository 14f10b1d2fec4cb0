"""Notifications over HTTP into a real mail server."""

import asyncio
import datetime as dt
import json
import random

import aiohttp
import pytest
from tests.support.notifications.mailserver import (
    MailServer,
    channel,
    configuration,
    notification_block,
)
from tests.support.serving import running

ORDER = {
    "template": "order-confirmation",
    "to": "ada@example.com",
    "data": {"name": "Ada", "order": {"id": "A-1", "total": 19.9}},
}


class Api:
    """The block's routes as an application calls them."""

    def __init__(self, session, url):
        self._session, self._url = session, url

    async def post(self, path, body):
        async with self._session.post(self._url + path, json=body) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path):
        async with self._session.get(self._url + path) as response:
            return response.status, await response.json()

    async def send(self, **changes):
        return await self.post("/v1/notifications", ORDER | changes)


@pytest.fixture
async def server():
    async with MailServer() as made:
        yield made


@pytest.fixture
async def block(tmp_path, server):
    async with notification_block(tmp_path, configuration(channel(server))) as made:
        yield made


@pytest.fixture
async def api(block):
    async with running(block.block.operations(), metrics=block.metrics) as http, aiohttp.ClientSession() as session:
        yield Api(session, http.url)


async def test_a_notification_arrives_as_it_was_written(server, block, api):
    status, body, headers = await api.send(to={"email": "ada@example.com", "name": "Ada Lovelace, Countess"})

    (mail,) = await server.arrived(1)
    assert (status, body["durability"], body["deliveries"]) == (202, "local", 1)
    assert headers["Location"] == f"/v1/notifications/{body['id']}"
    assert (mail.sender, mail.recipients) == ("no-reply@shop.example", ["ada@example.com"])
    assert mail.message["Subject"] == "Order A-1 for Ada"
    assert mail.message["From"] == "Shop <no-reply@shop.example>"
    assert mail.message["To"] == '"Ada Lovelace, Countess" <ada@example.com>'
    assert mail.message["Message-ID"] == f"<{body['id']}@shop.example>"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.part("html") == "<p>Hi Ada, €19.90</p>\n"
    assert mail.part("plain") == "Hi Ada, €19.90\n"


async def test_the_readers_locale_decides_the_translation(server, api):
    await api.send(locale="de-AT")

    (mail,) = await server.arrived(1)
    assert mail.message["Subject"] == "Bestellung A-1"
    assert mail.message["Content-Language"] == "de"
    assert mail.part("plain") == "Hallo Ada: 19,90\xa0€\n"
    assert mail.message.get_content_type() == "text/plain"


async def test_a_trace_tells_what_became_of_it(server, block, api):
    server.rcpt.append("450 4.2.1 greylisted")
    _, body, _ = await api.send()
    await server.arrived(1)
    await block.until(lambda: block.block.statistics().delivery.destinations[0].succeeded)

    status, trace = await api.get(f"/v1/notifications/{body['id']}")

    delivery = trace["deliveries"][0]
    assert (status, trace["template"], trace["to"], trace["subject"], trace["locale"]) == (
        200, "order-confirmation", "ada@example.com", "Order A-1 for Ada", "en"
    )  # fmt: skip
    assert (delivery["channel"], delivery["state"]) == ("email", "succeeded")
    assert [(one["number"], one["outcome"], one["status"]) for one in delivery["attempts"]] == [
        (2, "delivered", 250),
        (1, "retry", 450),
    ]
    assert "greylisted" in delivery["attempts"][1]["reason"]
    assert delivery["attempts"][0]["reply"] == "2.0.0 OK: queued as 4XyZ"


async def test_what_the_server_refuses_for_good_is_a_dead_letter_that_can_be_tried_again(server, block, api):
    server.rcpt.append("550 5.1.1 no such user")
    _, body, _ = await api.send()
    await block.until(lambda: block.block.statistics().delivery.destinations[0].failed)

    _, listed = await api.get("/v1/notifications?state=failed&template=order-confirmation")
    assert [(one["id"], one["state"]) for one in listed["notifications"]] == [(body["id"], "failed")]
    assert "550 5.1.1 no such user" in listed["notifications"][0]["reason"]
    assert server.received == []
    assert block.block.observed()["NotificationTemplate", "order-confirmation"] == {"sent": 0, "failed": 1}

    status, again, _ = await api.post(f"/v1/notifications/{body['id']}:retry", None)
    await server.arrived(1)
    assert (status, again["state"]) == (202, "pending")


async def test_the_same_key_sends_once(server, block, api):
    first = await api.send(idempotencyKey="order A-1")
    again = await api.send(idempotencyKey="order A-1")
    other = await api.send(idempotencyKey="order A-1", locale="de")
    both = await asyncio.gather(*(api.send(idempotencyKey="order A-2") for _ in range(8)))

    await server.arrived(2)
    assert first[:2] == again[:2]
    assert (other[0], other[1]["type"]) == (409, "https://pillion.dev/problems/idempotency-conflict")
    assert {status for status, _, _ in both} == {202}
    assert len({body["id"] for _, body, _ in both}) == 1
    await block.until(lambda: not block.block.statistics().delivery.in_flight)
    assert len(server.received) == 2


async def test_a_scheduled_notification_waits_and_can_be_cancelled(server, api):
    _, body, _ = await api.send(sendAt="2999-01-01T00:00:00Z")
    assert body["errors"][0]["pointer"] == "#/sendAt"
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    _, body, _ = await api.send(sendAt=tomorrow.isoformat().replace("+00:00", "Z"))
    _, trace = await api.get(f"/v1/notifications/{body['id']}")
    status, cancelled, _ = await api.post(f"/v1/notifications/{body['id']}:cancel", None)

    assert trace["deliveries"][0]["state"] == "pending"
    assert trace["deliveries"][0]["dueAt"][:16] == tomorrow.isoformat()[:16]
    assert (status, cancelled["state"]) == (200, "cancelled")
    assert server.received == []


async def test_a_preview_reads_as_what_is_sent_and_sends_nothing(server, block, api):
    status, view, _ = await api.post(
        "/v1/notifications:preview", {"template": "order-confirmation", "data": ORDER["data"]}
    )
    await api.send()
    (mail,) = await server.arrived(1)

    assert (status, view["locale"]) == (200, "en")
    assert (view["subject"], view["html"]) == (mail.message["Subject"], mail.part("html").rstrip("\n"))
    assert view["text"] == mail.part("plain").rstrip("\n")
    assert block.block.statistics().delivery.accepted == 1


BAD = [
    ({"template": "order-confirmatoin"}, 404, "#/template", 'did you mean "order-confirmation"?'),
    ({"template": 5}, 422, "#/template", ""),
    ({"to": "ada"}, 422, "#/to", "has no @"),
    ({"to": "a@b\r\nBcc: eve@example.com"}, 422, "#/to", "has a"),
    ({"to": {"email": "ada@example.com\r\n"}}, 422, "#/to/email", "domain"),
    ({"to": {"email": "ada@example.com", "name": "x\r\nBcc: y"}}, 422, "#/to/name", "line break"),
    ({"to": {"phone": "1"}}, 422, "#/to", ""),
    ({"to": None}, 422, "#/to", ""),
    ({"data": {"name": "Ada"}}, 422, "#/data/order", "is missing"),
    (
        {"data": {"name": "Ada", "order": {"id": "A", "total": "5"}}},
        422,
        "#/data/order/total",
        "must be number, not string",
    ),
    ({"data": {"name": "Ada", "order": {"id": "A", "total": 5, "x/y": 1}}}, 422, "#/data/order/x~1y", "is no variable"),
    ({"data": {"name": "x" * 101, "order": {"id": "A", "total": 5}}}, 422, "#/data/name", "has 101 characters"),
    ({"data": []}, 422, "#/data", ""),
    ({"data": {"name": "Ada", "order": {"id": "A", "total": 5}, "more": 10**30}}, 422, "#/data", "more than 64 bits"),
    ({"data": {"name": "Ada", "order": {"id": "A", "total": 10**30}}}, 422, "#/data/order/total", "more digits"),
    ({"locale": "english please"}, 422, "#/locale", "is no language tag"),
    ({"channels": ["sms"]}, 422, "#/channels/0", "is no channel of this template"),
    ({"channels": []}, 422, "#/channels", "is empty"),
    ({"sendAt": "tomorrow"}, 422, "#/sendAt", "is no date-time"),
    ({"sendAt": "2026-02-31T00:00:00Z"}, 422, "#/sendAt", ""),
    ({"idempotencyKey": ""}, 422, "#/idempotencyKey", ""),
    ({"idempotencykey": "x"}, 422, "#", "idempotencykey"),
]


async def test_what_cannot_be_sent_is_refused_with_a_pointer_to_the_field(server, block, api):
    for change, expected, pointer, detail in BAD:
        status, body, headers = await api.send(**change)

        assert (status, headers["Content-Type"]) == (expected, "application/problem+json"), (change, body)
        assert body["errors"][0]["pointer"] == pointer, (change, body)
        assert detail in body["errors"][0]["detail"], (change, body)
    assert block.block.statistics().delivery.accepted == 0
    assert server.connections == 0


ODD = [
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    "",
    "x" * 3000,
    "\r\nBcc: x",
    "=?utf-8?q?=0A?=",
    "\u0000",
    "<b>",
    [],
    [[]],
    {},
    {"": ""},
    {"a": {"b": [1]}},
]


def odd_requests(chance, count):
    """Give the good request with one to three members replaced, added or removed, at any depth."""
    for _ in range(count):
        request = json.loads(json.dumps(ORDER | {"locale": "de", "channels": ["email"]}))
        for _ in range(chance.randrange(1, 4)):
            places = (
                [request, request["data"], request["data"].get("order")]
                if isinstance(request.get("data"), dict)
                else [request]
            )
            place = chance.choice([one for one in places if isinstance(one, dict)])
            name = chance.choice([*place, "sendAt", "idempotencyKey", "zzz", "", "~/"])
            if chance.random() < 0.2:
                place.pop(name, None)
            else:
                place[name] = chance.choice(ODD)
        yield request


async def test_odd_requests_are_accepted_or_refused_but_never_an_error_of_ours(server, block, api):
    seen = set()
    for request in odd_requests(random.Random(11), 250):
        status, body, _ = await api.post("/v1/notifications", request)
        seen.add(status)

        assert status in (202, 404, 422), (request, body)
        assert status == 202 or body["errors"], (request, body)
    assert seen == {202, 404, 422}
    statistics = block.block.statistics()
    assert len(await server.arrived(statistics.delivery.accepted)) == statistics.delivery.accepted
    assert statistics.renderer.killed == 0


async def test_deeply_nested_data_is_refused_and_hinders_nobody(server, block, api):
    deep = "x"
    for _ in range(700):
        deep = [deep]

    results = await asyncio.gather(*(api.send(data=ORDER["data"] | {"more": deep}) for _ in range(3)), api.send())

    assert results[3][0] == 202
    assert {status for status, _, _ in results} <= {202, 400, 422}
    assert block.block.statistics().renderer.killed == 0


async def test_what_is_not_there_is_not_found(api):
    for method, path in (
        ("get", "/v1/notifications/nope"),
        ("get", "/v1/notifications/a%2Fb"),
        ("post", "/v1/notifications/x:retry"),
        ("post", "/v1/notifications/x:cancel"),
    ):
        status, body, *_ = await (api.get(path) if method == "get" else api.post(path, None))

        assert (status, body["type"].rpartition("/")[2]) == (404, "unknown-notification"), path
    status, body = await api.get("/v1/notifications?cursor=zzz")
    assert (status, body["errors"][0]["pointer"]) == (400, "query:cursor")


async def test_without_a_channel_nothing_is_accepted_and_the_template_says_so(tmp_path):
    async with (
        notification_block(tmp_path, configuration()) as block,
        running(block.block.operations()) as http,
        aiohttp.ClientSession() as session,
    ):
        api = Api(session, http.url)
        prepared = await block.apply(configuration())

        status, body, _ = await api.send()
        preview = await api.post("/v1/notifications:preview", {"template": "plain"})

    assert (status, body["type"].rpartition("/")[2]) == (409, "channel-missing")
    assert "spec.notifications.email" in body["detail"]
    assert preview[0] == 200
    assert {(one.name, one.reason) for one in prepared.unready} == {
        ("order-confirmation", "ChannelMissing"),
        ("plain", "ChannelMissing"),
    }


async def test_figures_are_exported(server, block, api):
    await api.send()
    await api.send(data={})
    await server.arrived(1)
    await block.until(lambda: block.block.statistics().delivery.destinations[0].succeeded)

    assert block.sample("pillion_notifications_accepted_total", template="order-confirmation") == 1
    assert block.sample("pillion_notifications_sent_total", template="order-confirmation") == 1
    assert block.sample("pillion_notifications_refused_total", reason="data") == 1
    assert block.sample("pillion_notifications_rendered_total", result="ok") == 1
    assert block.sample("pillion_notifications_backlog", channel="email") == 0
    assert block.block.observed()["NotificationTemplate", "order-confirmation"] == {"sent": 1, "failed": 0}
