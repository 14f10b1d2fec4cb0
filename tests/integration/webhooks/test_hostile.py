"""Receivers that misbehave: every wait ends, nothing grows, nobody else suffers."""

import asyncio
import gzip
import ipaddress
import resource
import socket
import ssl
import subprocess

import aiohttp
import pytest
from tests.support.deliveries import Hands
from tests.support.receivers import SECRET, Receiver, raw, read_request, receiving
from tests.support.webhooks import manifest, webhooks

from pillion.delivery.model import Delivered, Delivery, Message, Rejected, Retry
from pillion.runtime.clock import SystemClock
from pillion.webhooks import dialing, http1, pool
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.dialing import Dialer, Resolver, default_tls
from pillion.webhooks.egress import Guard
from pillion.webhooks.pool import Pool
from pillion.webhooks.sender import WebhookSender, build_route
from pillion.webhooks.signing import read_keys
from pillion.webhooks.target import parse_target

LOOPBACK = Guard(networks=(ipaddress.ip_network("127.0.0.0/8"),))
MESSAGE = Message(id="msg_1", type="a.b", body=b'{"n":1}')
DELIVERY = Delivery(message="msg_1", destination="one", state="in-flight")


def endpoint(url):
    return CompiledEndpoint(
        url=url,
        events=("*",),
        secret=("s", "k"),
        schedule_ns=(),
        jitter_percent=0,
        respect_retry_after=True,
        timeout_ns=10**9,
        concurrency=1,
        headers=(),
        allow=(),
        retain_succeeded_ns=1,
        retain_failed_ns=1,
        excerpt_bytes=1000,
    )


class Sending:
    """A sender without a machine around it."""

    def __init__(self, *, guard=LOOPBACK, resolve=None, tls=None, clock=None):
        self.guard = guard
        self.resolver = Resolver()
        self.pool = Pool(Dialer(resolve or self.resolver, (lambda: tls) if tls else default_tls))
        self.sender = WebhookSender(self.pool, clock or SystemClock())

    async def send(self, url, within=5.0):
        one = endpoint(url)
        self.sender.replace({"one": build_route(one, parse_target(url), self.guard, read_keys(SECRET.encode()))})
        deadline = asyncio.get_running_loop().time() + within
        return await self.sender.send(MESSAGE, DELIVERY, 1, deadline)


@pytest.fixture
async def sending():
    made = []

    def make(**options):
        made.append(Sending(**options))
        return made[-1]

    yield make
    for one in made:
        one.pool.close()
        one.resolver.close()
    await asyncio.sleep(0)


def answering(*pieces, forever=b"", pause=0.0):
    """Answer every request with *pieces*, then go on with *forever* until the connection ends."""

    async def handle(reader, writer):
        while True:
            await read_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            while forever:
                writer.write(forever)
                await writer.drain()
                await asyncio.sleep(pause)

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([OK], Delivered(status=200, excerpt=b"ok")),
        ([OK[n : n + 1] for n in range(len(OK))], Delivered(status=200, excerpt=b"ok")),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], Delivered(status=204)),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"],
            Delivered(status=200, excerpt=b"abc"),
        ),
        (
            [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nRetry-After: 9\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
            Delivered(status=200, excerpt=b"ok"),
        ),
        (
            [b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"],
            Retry(status=503, reason="503 Service Unavailable", retry_after_ns=7 * 10**9),
        ),
        (
            [b"HTTP/1.1 500 x\r\nWEBHOOK-DELIVERY: Abort-Message\r\nContent-Length: 0\r\n\r\n"],
            Rejected(status=500, reason="500 Internal Server Error, webhook-delivery: abort-message"),
        ),
        ([b"HTTP/1.0 200 OK\r\n\r\n"], Delivered(status=200)),
    ],
)
async def test_answers_in_every_form_are_read(sending, pieces, expected):
    async def handle(reader, writer):
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw(handle) as url:
        assert await sending().send(url) == expected


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], "the connection broke before the answer"),
        ([b"HTTP/1.1 2"], "the connection broke before the answer"),
        ([b"220 smtp.example ESMTP\r\n"], "the answer is no HTTP/1.1"),
        ([b"\x16\x03\x01\x02\x00"], "the answer is no HTTP/1.1"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "protocols"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], "the answer is no HTTP/1.1"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * (1 << 20)], "head is longer than 65536"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (1 << 17)], "head is longer than 65536"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000 + b"Content-Length: 0\r\n\r\n"], "head is longer than 65536"),
        ([b"HTTP/1.1 103 Early\r\n\r\n" * 100 + OK], "more than 8 informational answers"),
    ],
)
async def test_what_is_no_answer_is_a_retry_with_a_reason(sending, pieces, reason):
    async def handle(reader, writer):
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw(handle) as url:
        result = await sending().send(url)
        assert isinstance(result, Retry)
        assert reason in result.reason


async def test_every_attempt_is_stamped_and_signed_with_its_own_time(sending):
    heads = []

    async def handle(reader, writer):
        while True:
            heads.append((await read_request(reader))[0].decode())
            writer.write(OK)

    clock = Hands(1_614_265_330_900_000_000)
    async with raw(handle) as url:
        one = sending(clock=clock)
        await one.send(url)
        clock.pass_time(61_000_000_000)
        await one.send(url)
    fields = [dict(line.split(": ", 1) for line in head.strip().splitlines()[1:]) for head in heads]
    assert [f["webhook-timestamp"] for f in fields] == ["1614265330", "1614265391"]
    assert len({f["webhook-signature"] for f in fields}) == 2
    assert {f["webhook-id"] for f in fields} == {"msg_1"}


async def test_silence_ends_at_the_deadline(sending):
    async def handle(reader, writer):
        await read_request(reader)
        await asyncio.sleep(60)

    async with raw(handle) as url:
        assert (await sending().send(url, within=0.1)).reason == "timeout: the answer did not come in time"


async def test_a_head_that_drips_ends_at_the_deadline(sending):
    async with raw(answering(b"HTTP/1.1 200 OK\r\n", forever=b"X: y\r\n", pause=0.005)) as url:
        assert (await sending().send(url, within=0.1)).reason == "timeout: the answer's head did not end in time"


async def test_a_body_that_drips_for_ever_costs_a_log_entry_and_nothing_else(sending):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    async with raw(answering(head, forever=b"x", pause=0.005)) as url:
        result = await sending().send(url, within=0.1)
        assert isinstance(result, Delivered)
        assert 1 <= len(result.excerpt) <= 1000


@pytest.mark.parametrize(
    ("head", "forever"),
    [
        (b"HTTP/1.1 500 no\r\nConnection: close\r\n\r\n", b"x" * 65_536),
        (b"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
        (b"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
        (b"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: " + b"y" * 1000 + b"\r\n"),
        (b"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: ", b"y" * 65_536),
    ],
    ids=["until close", "chunks", "chunk extensions", "trailers", "one trailer"],
)
async def test_an_endless_body_is_cut_off_in_bounded_memory(sending, head, forever):
    async with raw(answering(head, forever=forever)) as url:
        one = sending()
        await one.send(url)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(5):
            result = await one.send(url)
            assert result.status == 500
            assert len(result.excerpt) <= 1000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096, "KiB"
        assert one.pool.statistics().idle == 0


async def test_a_gzip_bomb_is_not_inflated(sending):
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with raw(answering(head + bomb)) as url:
        result = await sending().send(url)
        assert result == Delivered(status=200, excerpt=bomb[:1000])


async def test_a_stale_connection_is_replaced_at_once(sending):
    requests = 0

    async def handle(reader, writer):
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(OK)
        await writer.drain()
        await reader.read(1)  # the next request's first byte: too late, this server is gone

    async with raw(handle) as url:
        one = sending()
        assert isinstance(await one.send(url), Delivered)
        assert isinstance(await one.send(url), Delivered)
        assert requests == 2
        assert one.pool.statistics().opened == 2


async def test_a_fresh_connection_that_breaks_is_a_failure_and_not_tried_twice(sending):
    connections = 0

    async def handle(reader, writer):
        nonlocal connections
        connections += 1
        await read_request(reader)

    async with raw(handle) as url:
        assert isinstance(await sending().send(url), Retry)
        assert connections == 1


async def test_bytes_that_nobody_asked_for_close_the_connection(sending):
    more = asyncio.Event()

    async def handle(reader, writer):
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await more.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with raw(handle) as url:
        one = sending()
        await one.send(url)
        (kept,) = (k for o in one.pool._origins.values() for k in o.idle)
        more.set()
        async with asyncio.timeout(5):
            while kept.reusable:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)


async def test_an_answer_and_more_behind_it_is_not_reused(sending):
    async with raw(answering(OK + b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")) as url:
        one = sending()
        for _ in range(3):
            assert await one.send(url) == Delivered(status=200, excerpt=b"ok")


async def test_a_cancelled_attempt_closes_its_connection(sending):
    arrived = asyncio.Event()

    async def handle(reader, writer):
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with raw(handle) as url:
        one = sending()
        task = asyncio.create_task(one.send(url))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.pool.statistics().open == 0


async def test_idle_connections_are_closed_after_a_while(sending, monkeypatch):
    monkeypatch.setattr(pool, "IDLE", 0.02)
    async with raw(answering(OK)) as url:
        one = sending()
        await one.send(url)
        assert one.pool.statistics().idle == 1
        async with asyncio.timeout(5):
            while one.pool.statistics().open:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.005)


async def test_connections_to_one_host_are_bounded_and_others_wait(sending, monkeypatch):
    monkeypatch.setattr(pool, "PER_ORIGIN", 2)
    async with receiving(Receiver()) as receiver:
        receiver.gate.clear()
        one = sending()
        tasks = [asyncio.create_task(one.send(receiver.url)) for _ in range(5)]
        async with asyncio.timeout(5):
            while receiver.flying < 2:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
        late = await one.send(receiver.url, within=0.02)
        assert late.reason == "timeout: all 2 connections to this host are busy"
        receiver.gate.set()
        assert all(isinstance(r, Delivered) for r in await asyncio.gather(*tasks))
        assert one.pool.statistics().opened == 2


# Names, addresses, TLS


class Names:
    """A resolver that answers differently each time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host, _port):
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_a_name_that_turns_private_is_refused_and_nothing_connects(sending):
    async with receiving(Receiver()) as receiver:
        url = receiver.url.replace("127.0.0.1", "rebind.example").replace("http:", "https:")
        names = Names(["127.0.0.1"])
        result = await sending(guard=Guard(), resolve=names).send(url)
        assert "egress denied: rebind.example (127.0.0.1) is not reachable by default (loopback)" in result.reason
        assert names.asked == 1
        assert receiver.got == []


async def test_a_name_is_resolved_once_per_connection_and_the_judged_address_is_connected_to(sending):
    async with receiving(Receiver()) as receiver:
        # The second answer would be another one: connecting by name would ask again and get it.
        names = Names(["127.0.0.1"], ["127.0.0.99"])
        url = receiver.url.replace("127.0.0.1", "rebind.example")
        one = sending(guard=LOOPBACK, resolve=names)
        assert isinstance(await one.send(url), Delivered)
        assert names.asked == 1
        assert receiver.got[0][0]["host"].startswith("rebind.example:")


async def test_a_mixed_answer_is_refused_even_if_the_first_address_would_do(sending):
    result = await sending(guard=Guard(), resolve=Names(["8.8.8.8", "10.0.0.1"])).send("https://mixed.example/")
    assert "mixed.example (10.0.0.1) is not reachable by default (private)" in result.reason


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/", "https://[::1]:1/", "https://169.254.169.254/", "https://[::ffff:10.0.0.1]/"]
)
async def test_address_literals_are_judged_too(sending, url):
    assert "egress denied" in (await sending(guard=Guard()).send(url)).reason


async def test_the_next_address_is_tried_when_one_does_not_answer(sending):
    async with receiving(Receiver()) as receiver:
        one = sending(resolve=Names(["127.0.0.77", "127.0.0.1"]))
        result = await one.send(receiver.url.replace("127.0.0.1", "two.example"))
        assert isinstance(result, Delivered)


async def test_a_name_that_cannot_be_resolved_is_a_retry(sending):
    async def nothing(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = await sending(resolve=nothing).send("https://nowhere.example/")
    assert result.reason == "nowhere.example cannot be resolved (Name or service not known)"


async def test_a_resolver_that_hangs_ends_at_the_deadline(sending):
    async def hang(_host, _port):
        await asyncio.sleep(60)

    assert (
        await sending(resolve=hang).send("https://slow.example/", within=0.05)
    ).reason == "timeout: no connection in time"


async def test_lookups_of_one_name_share_a_thread(monkeypatch):
    looked = []

    def look_up(host, port):
        looked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(dialing, "_look_up", look_up)
    resolver = Resolver()
    answers = await asyncio.gather(*(resolver("a.example", 443) for _ in range(10)))
    resolver.close()
    assert answers == [["127.0.0.1"]] * 10
    assert looked == ["a.example"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A self-signed certificate for hooks.example, as files."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hooks.example"
    )
    files = ["-addext", "subjectAltName=DNS:hooks.example", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


async def test_https_verifies_the_certificate_for_the_name(sending, authority):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    trusting = default_tls()
    trusting.load_verify_locations(authority / "cert.pem")
    async with receiving(Receiver(), ssl=server) as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example")
        names = Names(["127.0.0.1"])
        good = sending(resolve=names, tls=trusting)
        assert isinstance(await good.send(url), Delivered)
        assert isinstance(await good.send(url), Delivered)
        assert good.pool.statistics().opened == 1
        stranger = await sending(resolve=names).send(url)
        assert stranger.reason.startswith("TLS: the certificate is not valid: self-signed certificate")
        wrong_name = await sending(resolve=names, tls=trusting).send(url.replace("hooks", "other"))
        assert "Hostname mismatch" in wrong_name.reason
        assert len(receiver.got) == 2


async def test_plain_http_on_a_tls_port_is_said(sending):
    async with receiving(Receiver()) as receiver:
        result = await sending().send(receiver.url.replace("http:", "https:"))
        assert result.reason.startswith("TLS: ")


async def test_a_hostile_endpoint_delays_no_good_one(tmp_path):
    async def silent(reader, writer):
        await asyncio.sleep(60)

    async with raw(silent) as bad, receiving(Receiver()) as good:
        endpoints = [manifest(f"bad-{n}", bad, concurrency={"max": 8}) for n in range(5)]
        async with (
            webhooks(tmp_path, *endpoints, manifest("good", good.url)) as (block, url),
            aiohttp.ClientSession(url) as session,
        ):
            for n in range(20):
                async with session.post("/v1/events", json={"type": "a.b", "data": n}) as response:
                    assert (await response.json())["deliveries"] == 6
            await block.until(lambda: block.status("good").succeeded == 20)
            assert block.status("bad-0").succeeded == 0
            assert block.status("bad-0").in_flight == 8


def test_bounds_are_what_the_documentation_says():
    assert (http1.MAX_HEAD, http1.MAX_BODY) == (65_536, 65_536)
