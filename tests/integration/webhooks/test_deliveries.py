"""Signed deliveries to real receivers, which verify them with the official library."""

import asyncio
import itertools
import json
import time

import aiohttp
import pytest
from prometheus_client import generate_latest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.support.receivers import SECRET, Receiver, receiving
from tests.support.serving import FixedClock, running
from tests.support.webhooks import Surroundings, manifest, other_secret, webhooks

from pillion.version import VERSION


async def publish(session, url, **event):
    async with session.post(f"{url}/v1/events", json={"type": "order.created", "data": {"n": 1}} | event) as response:
        return response.status, await response.json()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as client:
        yield client


async def test_an_event_reaches_its_endpoints_signed(tmp_path, session):
    async with (
        receiving(Receiver()) as one,
        receiving(Receiver()) as two,
        webhooks(
            tmp_path,
            manifest("one", one.url, events=["order.*"], headers={"X-Tenant": "acme"}),
            manifest("two", two.url, events=["invoice.*"]),
        ) as (block, url),
    ):
        status, body = await publish(session, url)
        assert (status, body["durability"], body["deliveries"]) == (202, "local", 1)
        await block.until(lambda: one.got)
        headers, payload = one.got[0]
        assert headers["webhook-id"] == body["id"]
        assert headers["x-tenant"] == "acme"
        assert headers["user-agent"] == f"Pillion/{VERSION}"
        assert headers["content-type"] == "application/json"
        event = json.loads(payload)
        assert list(event) == ["type", "timestamp", "data"]
        assert (event["type"], event["data"]) == ("order.created", {"n": 1})
        assert two.got == []


async def test_data_arrives_byte_for_byte(tmp_path, session):
    async with receiving(Receiver()) as receiver, webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):
        data = '{"b" : 1.50, "a":[ 1e3,"\u00e9\\u00e9" ] }'
        body = f'{{"data":{data},"type":"x.y"}}'.encode()
        async with session.post(
            f"{url}/v1/events", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 202
        await block.until(lambda: receiver.got)
        assert receiver.got[0][1].endswith(b'"data":' + data.encode() + b"}")


async def test_connections_are_kept(tmp_path, session):
    async with receiving(Receiver()) as receiver, webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):
        for n in range(20):
            await publish(session, url)
            await block.until(lambda n=n: block.status("one").succeeded == n + 1)
        assert len(receiver.connections) == 1
        assert block.block.statistics()["connections"].reused == 19


async def test_all_secrets_of_a_rotation_sign(tmp_path, session):
    new, old = other_secret(1), other_secret(2)
    secrets = {"hook": {"key": f"{new}\n{old}\n".encode()}}
    async with (
        receiving(Receiver(old)) as slow_to_rotate,
        receiving(Receiver(new)) as rotated,
        webhooks(tmp_path, manifest("a", slow_to_rotate.url), manifest("b", rotated.url), secrets=secrets) as (
            block,
            url,
        ),
    ):
        await publish(session, url)
        await block.until(lambda: slow_to_rotate.got and rotated.got)
        tokens = rotated.got[0][0]["webhook-signature"].split(" ")
        assert len(tokens) == 2
        assert all(token.startswith("v1,") for token in tokens)


async def test_a_receiver_that_is_down_gets_everything_when_it_is_up_again(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        address = receiver.url
    port = int(address.rpartition(":")[2].partition("/")[0])
    retry = {"schedule": ["10ms"] * 20, "jitter": "0%"}
    async with webhooks(tmp_path, manifest("one", address, retry=retry)) as (block, url):
        ids = [(await publish(session, url))[1]["id"] for _ in range(10)]
        await block.until(lambda: block.status("one").retries >= 10)
        async with receiving(Receiver(), port=port) as up:
            await block.until(lambda: block.status("one").succeeded == 10)
            assert sorted(set(up.ids)) == sorted(ids)
            async with session.get(f"{url}/v1/webhooks/attempts?delivery={ids[0]}~one") as response:
                attempts = (await response.json())["attempts"]
            assert attempts[-1]["outcome"] == "retry"
            assert attempts[-1]["reason"].startswith("no connection (")
            assert attempts[0]["status"] == 204


async def test_every_attempt_has_the_same_id_and_the_same_bytes(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        receiver.answers = [(500, {}, b"no")] * 3
        retry = {"schedule": ["0s", "0s", "10ms"], "jitter": "0%"}
        async with webhooks(tmp_path, manifest("one", receiver.url, retry=retry)) as (block, url):
            _, body = await publish(session, url)
            await block.until(lambda: block.status("one").succeeded == 1)
        assert receiver.ids == [body["id"]] * 4
        assert len({payload for _, payload in receiver.got}) == 1


async def test_a_dead_letter_is_listed_with_its_reason_and_retried_by_api(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        receiver.answers = [(503, {}, b"maintenance \xff")]
        async with webhooks(tmp_path, manifest("one", receiver.url, retry={"schedule": []})) as (block, url):
            _, body = await publish(session, url)
            await block.until(lambda: block.status("one").failed == 1)
            async with session.get(f"{url}/v1/webhooks/deliveries?state=failed") as response:
                (dead,) = (await response.json())["deliveries"]
            assert dead["id"] == f"{body['id']}~one"
            assert dead["reason"] == "503 Service Unavailable; gave up after 1 attempt"
            assert "dueAt" not in dead
            async with session.get(f"{url}/v1/webhooks/deliveries/{dead['id']}") as response:
                detail = await response.json()
            assert detail["attempts"][0]["body"] == "maintenance \ufffd"
            async with session.post(f"{url}/v1/webhooks/deliveries/{dead['id']}:retry") as response:
                assert response.status == 202
                assert (await response.json())["state"] == "pending"
            await block.until(lambda: block.status("one").succeeded == 1)
            assert receiver.ids == [body["id"]] * 2


async def test_gone_disables_the_endpoint_until_it_is_enabled(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        receiver.answers = [(410, {}, b"")]
        async with webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):
            await publish(session, url)
            await block.until(lambda: block.status("one").failed == 1)
            await publish(session, url)
            async with session.get(f"{url}/v1/webhooks/endpoints") as response:
                (endpoint,) = (await response.json())["endpoints"]
            assert (endpoint["state"], endpoint["reason"]) == ("disabled", "410 Gone: the receiver wants no more")
            assert endpoint["backlog"] == 1
            (told,) = block.block.reports()
            assert (told.name, told.type, told.reason, told.stalls) == ("one", "Disabled", "ReceiverWantsNoMore", True)
            assert "endpoints/one:enable" in told.message
            async with session.post(f"{url}/v1/webhooks/endpoints/one:enable") as response:
                assert (await response.json())["state"] == "active"
            assert not list(block.block.reports())
            await block.until(lambda: block.status("one").succeeded == 1)
            async with session.post(f"{url}/v1/webhooks/endpoints/onne:enable") as response:
                assert response.status == 404
                assert 'did you mean "one"?' in (await response.json())["detail"]


async def test_an_endpoint_that_nothing_reaches_is_told_in_words_that_stay_the_same(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        receiver.answers = [(500, {}, b"")]
        async with webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):
            await publish(session, url)
            await block.until(lambda: block.status("one").retries == 1)
            assert not list(block.block.reports())  # it may be back in a moment
            await block.block._machine.tidy()
            clock = block.block._clock
            moments = [clock.wall_ns() + minutes * 60 * 10**9 for minutes in (6, 7)]
            told = []
            for moment in moments:
                block.block._clock = FixedClock(moment)
                told += block.block.reports()
            assert told[0] == told[1]
            assert (told[0].type, told[0].reason, told[0].degrades) == ("", "NothingDelivered", True)


async def test_two_secrets_are_told_as_a_rotation(tmp_path):
    async with webhooks(tmp_path, manifest("one", "https://receiver.example/")) as (block, _):
        assert not list(block.block.reports())
        both = f"{SECRET} {other_secret(7)}".encode()
        await block.apply(manifest("one", "https://receiver.example/"), secrets={"hook": {"key": both}})
        (told,) = block.block.reports()
        assert (told.type, told.status, told.degrades) == ("SecretRotating", True, False)


async def test_retry_after_holds_the_whole_endpoint(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        receiver.answers = [(429, {"Retry-After": "3600"}, b"")]
        spec = {"concurrency": {"max": 1}, "retry": {"schedule": ["1s"]}}
        async with webhooks(tmp_path, manifest("one", receiver.url, **spec)) as (block, url):
            await publish(session, url)
            await block.until(lambda: block.status("one").retries == 1)
            _, body = await publish(session, url)
            async with session.get(f"{url}/v1/webhooks/endpoints") as response:
                (endpoint,) = (await response.json())["endpoints"]
            assert endpoint["state"] == "paused"
            assert body["deliveries"] == 1
            assert len(receiver.got) == 1


async def test_a_missing_secret_holds_events_until_it_is_there(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        one = manifest("one", receiver.url)
        async with webhooks(tmp_path, one, secrets={}) as (block, url):
            assert block.unready == {"one": "SecretMissing"}
            await publish(session, url)
            async with session.get(f"{url}/v1/webhooks/endpoints") as response:
                (endpoint,) = (await response.json())["endpoints"]
            assert endpoint["state"] == "held"
            assert 'Secret "hook" does not exist' in endpoint["reason"]
            await block.apply(one, secrets={"hook": {"key": b"whsec_too-short"}})
            assert block.unready == {"one": "SecretInvalid"}
            await block.apply(one)
            await block.until(lambda: len(receiver.got) == 1)


async def test_a_configuration_change_loses_nothing_and_takes_effect_at_once(tmp_path, session):
    async with receiving(Receiver()) as old, receiving(Receiver()) as new:
        old.answers = [(500, {}, b"")] * 100
        retry = {"schedule": ["20ms"] * 20}
        async with webhooks(tmp_path, manifest("one", old.url, retry=retry)) as (block, url):
            ids = [(await publish(session, url))[1]["id"] for _ in range(5)]
            await block.until(lambda: len(old.got) >= 5)
            await block.apply(manifest("one", new.url, retry=retry))
            await block.until(lambda: block.status("one").succeeded == 5)
            assert sorted(new.ids) == sorted(ids)


async def test_tightened_egress_takes_effect_on_open_connections(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        retry = {"schedule": []}
        async with webhooks(tmp_path, manifest("one", receiver.url, retry=retry)) as (block, url):
            await publish(session, url)
            await block.until(lambda: block.status("one").succeeded == 1)
            named = receiver.url.replace("127.0.0.1", "localhost")
            await block.apply(manifest("one", named, retry=retry, egress={"allow": [{"cidr": "10.0.0.0/8"}]}))
            _, body = await publish(session, url)
            await block.until(lambda: block.status("one").failed == 1)
            async with session.get(f"{url}/v1/webhooks/deliveries/{body['id']}~one") as response:
                reason = (await response.json())["delivery"]["reason"]
            assert "egress denied: localhost (127.0.0.1) is not reachable by default (loopback)" in reason


async def test_each_endpoint_has_a_concurrency_of_its_own(tmp_path, session):
    async with receiving(Receiver()) as stuck, receiving(Receiver()) as good:
        stuck.gate.clear()
        async with webhooks(
            tmp_path,
            manifest("stuck", stuck.url, events=["a.*"], concurrency={"max": 4}),
            manifest("good", good.url, events=["b.*"], concurrency={"max": 2}),
        ) as (block, url):
            for _ in range(20):
                await publish(session, url, type="a.b")
            await block.until(lambda: stuck.flying == 4)
            for _ in range(20):
                await publish(session, url, type="b.c")
            await block.until(lambda: block.status("good").succeeded == 20)
            assert stuck.most_flying == 4
            assert good.most_flying <= 2
            stuck.gate.set()


async def test_what_waits_survives_a_restart(tmp_path, session):
    async with receiving(Receiver()) as receiver:
        one = manifest("one", receiver.url)
        block = Surroundings(tmp_path)
        await block.apply(one, secrets={})
        await block.block.start()
        async with running(block.block.operations()) as server:
            ids = [(await publish(session, server.url))[1]["id"] for _ in range(5)]
        await block.restart(one)
        await block.until(lambda: block.status("one").succeeded == 5)
        assert sorted(receiver.ids) == sorted(ids)
        await block.close()


async def test_metrics_and_figures_tell_what_happened(tmp_path, session):
    async with receiving(Receiver()) as receiver, webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):
        await publish(session, url)
        await publish(session, url, type="other")
        await block.until(lambda: block.status("one").succeeded == 2)
        text = generate_latest(block.metrics).decode()
        assert "pillion_webhooks_events_accepted_total 2.0" in text
        assert 'pillion_webhooks_deliveries_total{endpoint="one",state="succeeded"} 2.0' in text
        assert 'pillion_webhooks_attempt_duration_seconds_count{endpoint="one"} 2.0' in text
        figures = block.block.observed()["WebhookEndpoint", "one"]
        assert figures["backlog"] == 0
        assert figures["lastSuccess"].endswith("Z")


async def test_several_receivers_verify_under_load_from_many_callers(tmp_path, session):
    async with receiving(Receiver()) as receiver, webhooks(tmp_path, manifest("one", receiver.url)) as (block, url):

        async def caller(n):
            return [(await publish(session, url, data={"n": n, "i": i}))[1]["id"] for i in range(10)]

        ids = list(itertools.chain(*await asyncio.gather(*(caller(n) for n in range(20)))))
        await block.until(lambda: block.status("one").succeeded == 200)
        assert sorted(receiver.ids) == sorted(ids)


def test_the_receivers_of_these_tests_refuse_what_is_not_signed():
    headers = {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,xxxx"}
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(b"{}", headers)
