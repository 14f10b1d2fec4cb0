"""The server over real sockets, on both event loops: listeners, limits, tokens, ids, drain."""

import asyncio
import contextlib
import json
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp
import msgspec
import pytest
import uvloop
from prometheus_client import CollectorRegistry, generate_latest
from tests.support.operations import MAX_BODY, Block
from tests.support.serving import FixedClock, running
from tests.support.wire import Wire, settle

from pillion.runtime.conditions import Conditions
from pillion.runtime.endpoints import OrdinaryEndpoint
from pillion.runtime.operation import Answer, Operation, Parameter
from pillion.runtime.replies import Replies
from pillion.runtime.server import ListenError, Server, ServerSettings
from pillion.runtime.telemetry import Tracing

HOT = (
    b"POST /v1/hot/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    b'{"n":1}'
)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Response(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class Client:
    """A connection that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(line.split()[1]), headers, body)

    async def ask(self, data: bytes) -> Response:
        await self.say(data)
        return await self.answer()

    async def closed(self) -> bool:
        """Wait for the server to close."""
        with contextlib.suppress(ConnectionError):
            assert await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def connected(server: Server, transport: str = "tcp"):
    """A connection to the main listener."""
    if transport == "unix":
        reader, writer = await asyncio.open_unix_connection(server.socket_path)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.main_port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on a loop of each kind, with a bound of time."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        def bounded(coroutine: Awaitable) -> object:
            async def within() -> object:
                async with asyncio.timeout(20):
                    return await coroutine

            return runner.run(within())

        yield bounded


@pytest.fixture
def block() -> Block:
    return Block()


@pytest.fixture
def serving(block, tmp_path) -> Callable[..., contextlib.AbstractAsyncContextManager[Server]]:
    """Serve the made-up block, also on a unix socket."""
    return lambda **settings: running(
        block.operations(), block.hot_operations(), socket_path=str(tmp_path / "p.sock"), **settings
    )


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_both_lanes_answer_on_tcp_and_on_the_unix_socket(run, serving, transport):
    async def scenario():
        async with serving() as server, connected(server, transport) as client:
            for _ in range(3):
                assert (await client.ask(HOT)).status == 200
                assert (await client.ask(LIVEZ)).status == 200
            assert server.traffic.hot_requests()["/v1/hot/check"] == 3

    run(scenario())


def test_the_unix_socket_is_for_owner_and_group_and_goes_with_the_server(run, serving, tmp_path):
    async def scenario():
        path = tmp_path / "p.sock"
        async with serving():
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert not path.exists()

    run(scenario())


def test_a_socket_mode_of_the_settings_holds_whatever_the_umask(run, serving, tmp_path):
    async def scenario():
        before = os.umask(0o077)
        try:
            async with serving(socket_mode=0o666):
                assert stat.S_IMODE((tmp_path / "p.sock").stat().st_mode) == 0o666
        finally:
            os.umask(before)

    run(scenario())


def test_a_stale_socket_is_replaced(run, serving, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "p.sock"))

    async def scenario():
        async with serving() as server, connected(server, "unix") as client:
            assert (await client.ask(LIVEZ)).status == 200

    run(scenario())


def test_a_socket_in_use_is_not_taken_over(run, serving, tmp_path):
    async def scenario():
        async with serving() as first:
            with pytest.raises(ListenError, match=r"p\.sock: another process listens on it"):
                async with serving():
                    pass
            async with connected(first, "unix") as client:
                assert (await client.ask(LIVEZ)).status == 200

    run(scenario())


def test_a_file_that_is_no_socket_is_not_deleted(run, serving, tmp_path):
    (tmp_path / "p.sock").write_text("precious")

    async def scenario():
        with pytest.raises(ListenError, match="no socket is there"):
            async with serving():
                pass

    run(scenario())
    assert (tmp_path / "p.sock").read_text() == "precious"


def test_a_missing_folder_is_named(run, block):
    async def scenario():
        with pytest.raises(ListenError, match=r"/nowhere/p\.sock: .*check that its folder exists"):
            async with running(socket_path="/nowhere/p.sock"):
                pass

    run(scenario())


def test_a_port_in_use_is_named_and_leaves_nothing_open(run, serving, tmp_path):
    async def scenario():
        async with running() as first:
            with pytest.raises(ListenError, match=f"main listener: cannot listen on 127.0.0.1:{first.main_port}"):
                async with serving(port=first.main_port):
                    pass
            with pytest.raises(ListenError, match="admin listener"):
                async with serving(admin_port=first.main_port):
                    pass
        assert not (tmp_path / "p.sock").exists()

    run(scenario())


def test_the_admin_listener_serves_only_what_is_for_it_and_asks_for_nothing(run, serving):
    async def scenario():
        async with serving() as server, aiohttp.ClientSession() as session:
            server.set_token(b"sesame")
            async with session.get(f"{server.admin_url}/livez", headers={"Host": "10.0.0.7:3790"}) as response:
                assert response.status == 200
            async with session.get(f"{server.admin_url}/v1/things") as response:
                assert response.status == 404

    run(scenario())


def test_a_token_is_asked_for_on_every_route_that_is_not_public(run, serving):
    async def scenario():
        async with serving() as server, connected(server) as client:
            assert (await client.ask(HOT)).status == 200
            server.set_token(b"sesame")
            for request in (HOT, HOT.replace(b"\r\nHost", b"\r\nAuthorization: Bearer wrong\r\nHost")):
                refused = await client.ask(request)
                assert refused.status == 401
                assert refused.headers["www-authenticate"] == 'Bearer realm="pillion"'
                assert b"sesame" not in refused.body
            assert (
                await client.ask(HOT.replace(b"\r\nHost", b"\r\nAuthorization: Bearer sesame\r\nHost"))
            ).status == 200
            assert (await client.ask(LIVEZ)).status == 200
            server.set_token(None)
            assert (await client.ask(HOT)).status == 200

    run(scenario())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:3700", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:3700", 200),
        ("shop.internal", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.2", 421),
        ("[::2]", 421),
        ("localhost:x", 421),
        ("", 421),
    ],
)
async def test_only_known_host_names_are_served_on_tcp(serving, host, status):
    request = HOT.replace(b"Host: localhost", f"Host: {host}".encode())
    async with serving(allowed_hosts=("shop.internal",)) as server:
        async with connected(server) as client:
            assert (await client.ask(request)).status == status
        async with connected(server, "unix") as client:
            assert (await client.ask(request)).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 200), ("http://evil.example", 403), ("null", 403), ("http://localhost:9", 403), ("", 403)],
)
async def test_web_pages_of_another_origin_are_not_answered(serving, origin, status):
    async with serving() as server, connected(server) as client:
        request = HOT.replace(b"Host: ", f"Origin: {origin}\r\nHost: ".encode())
        assert (await client.ask(request)).status == status


async def test_an_absolute_target_overrules_the_host_field(serving):
    async with serving() as server, connected(server) as client:
        request = HOT.replace(b"POST /", b"POST http://evil.example/")
        assert (await client.ask(request)).status == 421


@pytest.mark.parametrize(
    ("target", "status", "kind", "pointer"),
    [
        ("GET /nowhere", 404, "not-found", ""),
        ("DELETE /v1/things", 405, "method-not-allowed", ""),
        ("GET /v1/things?limit=0", 400, "malformed-request", "query:limit"),
        ("GET /v1/things?limit=ten", 400, "malformed-request", "query:limit"),
        ("GET /v1/things?kind=odd", 400, "malformed-request", "query:kind"),
        ("GET /v1/things?limit=1&limit=2", 400, "malformed-request", "query:limit"),
        ("GET /v1/things/" + "x" * 21, 400, "malformed-request", "path:id"),
        ("GET /v1/things/missing", 404, "unknown-thing", ""),
        ("GET /v1/fail", 500, "internal-error", ""),
        ("GET /v1/\xe4", 400, "malformed-request", ""),
    ],
)
async def test_every_refusal_is_a_problem_that_names_the_fault(  # noqa: PLR0917 - fixtures and columns
    serving, quiet, target, status, kind, pointer
):
    async with serving() as server, connected(server) as client:
        response = await client.ask(f"{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
        problem = response.problem
        assert (response.status, problem["status"]) == (status, status)
        assert problem["type"] == f"https://pillion.dev/problems/{kind}"
        assert problem["instance"] == f"urn:pillion:request:{response.headers['x-request-id']}"
        assert [error["pointer"] for error in problem.get("errors", [])] == ([pointer] if pointer else [])
        assert b"sesame" not in response.body
        assert b"Traceback" not in response.body


async def test_a_wrong_method_is_told_the_right_ones(serving):
    async with serving() as server, connected(server) as client:
        response = await client.ask(b"DELETE /v1/things HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert response.headers["allow"] == "GET, POST"


def thing(body: bytes, *fields: str, media: str = "application/json") -> bytes:
    lines = ["POST /v1/things HTTP/1.1", "Host: localhost", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *fields, "\r\n"]).encode() + body


@pytest.mark.parametrize(
    ("request_", "status", "pointer"),
    [
        (thing(b'{"name":"x"}'), 201, None),
        (thing(b'{"name":"x"}', media="application/json; charset=utf-8"), 201, None),
        (thing(b'{"name":"x"}', media="text/plain"), 415, "header:content-type"),
        (thing(b'{"name":"x"}', "Content-Encoding: rot13"), 415, "header:content-encoding"),
        (thing(b""), 400, "#"),
        (thing(b"{"), 400, "#"),
        (thing(b'{"name":1}'), 422, "#/name"),
        (thing(b'{"name":"x","parts":[{"name":"X"}]}'), 422, "#/parts/0/name"),
        (thing(b'{"name":"\xff"}'), 400, "#"),
        (thing(b'{"name":"x","zzz":1}'), 422, "#"),
        (thing(b'{"name":"' + b"x" * MAX_BODY + b'"}'), 413, None),
    ],
)
async def test_bodies_are_checked_before_a_handler_sees_them(serving, request_, status, pointer):
    async with serving() as server, connected(server) as client:
        response = await client.ask(request_)
        assert response.status == status
        if pointer is not None:
            assert [error["pointer"] for error in response.problem["errors"]] == [pointer]


async def test_a_compressed_body_is_bounded_by_what_comes_out(serving):
    import gzip

    async with serving() as server, connected(server) as client:
        small = gzip.compress(b'{"name":"x"}')
        assert (await client.ask(thing(small, "Content-Encoding: gzip"))).status == 201
        bomb = gzip.compress(b'{"name":"' + b"x" * 1_000_000 + b'"}')
        assert len(bomb) < MAX_BODY
        assert (await client.ask(thing(bomb, "Content-Encoding: gzip"))).status == 413


async def test_a_chunked_body_is_bounded_while_it_arrives(serving):
    async with serving() as server, connected(server) as client:
        head = b"PUT /v1/blob HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
        await client.say(head + chunk * 3)
        assert (await client.answer()).status == 413


@pytest.mark.parametrize("path", ["/v1/hot/check", "/v1/things"])
def test_a_body_that_does_not_arrive_is_given_up(run, serving, path):
    async def scenario():
        async with serving(body_timeout=0.1, split_timeout=0.05) as server, connected(server) as client:
            head = HOT.replace(b"/v1/hot/check", path.encode())[:-3]
            response = await client.ask(head)
            assert response.status == 408

    run(scenario())


def test_a_head_that_does_not_arrive_is_given_up(run, serving):
    async def scenario():
        async with serving(keepalive_timeout=0.3) as server, connected(server) as client:
            await client.say(HOT[:40])
            assert await client.closed()

    run(scenario())


@pytest.mark.parametrize("request_", [HOT, LIVEZ])
def test_an_idle_connection_is_closed_after_its_time(run, serving, request_):
    async def scenario():
        async with serving(keepalive_timeout=0.5) as server, connected(server) as client:
            assert (await client.ask(request_)).status == 200
            assert await client.closed()

    run(scenario())


def test_a_hot_answer_puts_off_the_end_of_an_idle_connection(run, serving):
    """The timer of aiohttp knows nothing of hot answers unless it is told."""

    async def scenario():
        async with serving(keepalive_timeout=60) as server, connected(server) as client:
            assert (await client.ask(LIVEZ)).status == 200
            (connection,) = server._main[0].connections.connections
            connection._next_keepalive_close_time = 0.0
            assert (await client.ask(HOT)).status == 200
            assert connection._next_keepalive_close_time > asyncio.get_running_loop().time() + 50

    run(scenario())


HOSTILE = {
    "length and chunked": (
        b"POST /v1/hot/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [400],
    ),
    "chunked twice": (
        b"POST /v1/hot/check HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        [400],
    ),
    "chunked with a space": (HOT.replace(b"Content-Length: 7", b"Transfer-Encoding : chunked"), [400]),
    "two lengths": (HOT.replace(b"Content-Length: 7", b"Content-Length: 7\r\nContent-Length: 8"), [400]),
    "the same length twice": (HOT.replace(b"Content-Length: 7", b"Content-Length: 7\r\nContent-Length: 7"), [400]),
    "a list of lengths": (HOT.replace(b"Content-Length: 7", b"Content-Length: 7, 7"), [400]),
    "a signed length": (HOT.replace(b"Content-Length: 7", b"Content-Length: +7"), [400]),
    "a negative length": (HOT.replace(b"Content-Length: 7", b"Content-Length: -7"), [400]),
    "a hexadecimal length": (HOT.replace(b"Content-Length: 7", b"Content-Length: 0x7"), [400]),
    "a length beyond numbers": (HOT.replace(b"Content-Length: 7", b"Content-Length: 99999999999999999999"), [400]),
    "a huge length": (HOT.replace(b"Content-Length: 7", b"Content-Length: 9999999999"), [413]),
    "a folded field": (HOT.replace(b"\r\nContent-Type", b"\r\nX-A: b\r\n c\r\nContent-Type"), [400]),
    "a folded first field": (HOT.replace(b"\r\nHost", b"\r\n Host"), [400]),
    "a zero byte in a field": (HOT.replace(b"localhost", b"local\x00host"), [400]),
    "a zero byte in the line": (HOT.replace(b"/check", b"/ch\x00eck"), [400]),
    "a control character in a field": (HOT.replace(b"\r\nHost", b"\r\nX-A: \x01\r\nHost"), [400]),
    "a bare line feed": (HOT.replace(b"localhost\r\n", b"localhost\n"), [400]),
    "bare line feeds": (HOT.replace(b"\r\n", b"\n"), [400]),
    "a bare carriage return": (HOT.replace(b"localhost\r\n", b"localhost\r"), [400]),
    "a space in a name": (HOT.replace(b"Host:", b"Ho st:"), [400]),
    "no name": (HOT.replace(b"Host:", b":"), [400]),
    "no host": (HOT.replace(b"Host: localhost\r\n", b""), [400]),
    "two hosts": (HOT.replace(b"Host: localhost\r\n", b"Host: localhost\r\nHost: evil\r\n"), [400]),
    "a long line": (HOT.replace(b"/check", b"/check?" + b"x" * 9000), [431]),
    "a long field": (HOT.replace(b"localhost", b"l" * 9000), [431]),
    "many fields": (HOT.replace(b"\r\nHost", b"\r\nX: y" * 200 + b"\r\nHost"), [400]),
    "another version": (HOT.replace(b"HTTP/1.1", b"HTTP/3.0"), [400]),
    "no version": (b"GET /livez\r\n\r\n", [421]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    "an unknown method": (HOT.replace(b"POST", b"STEAL"), [400]),
    "an unknown expectation": (HOT.replace(b"\r\nHost", b"\r\nExpect: miracles\r\nHost"), [417]),
    "a request after a broken one": (b"BROKEN\r\n\r\n" + HOT, [400]),
    "a broken one after a request, apart": (HOT + b"\x00", [400]),
}


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_bytes_get_a_problem_and_nothing_more(serving, quiet, name, lane):
    data, statuses = HOSTILE[name]
    async with serving(hot_lane=lane) as server, connected(server) as client:
        await client.say(data)
        for status in statuses:
            response = await client.answer()
            assert (response.status, response.problem["status"]) == (status, status)
        if response.status in {413, 417}:
            return  # the request was understood: its connection may go on
        assert await client.closed()


def test_a_client_that_does_not_read_is_not_read_from(run, serving, block):
    """Answers must not pile up in memory while requests go on coming in."""

    async def scenario():
        async with serving() as server:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that little fits on the way
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.main_port))
            _, writer = await asyncio.open_connection(sock=sock, limit=1024)
            writer.transport.pause_reading()

            async def send() -> None:
                while True:
                    writer.write(HOT * 500)
                    await writer.drain()

            (connection,) = await _until(lambda: server._main[0].connections.connections)
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sending = asyncio.create_task(send())
            await _until(lambda: connection.writing_paused)
            await asyncio.wait([sending], timeout=0.2)
            calls = block.calls
            await asyncio.wait([sending], timeout=0.2)
            assert block.calls == calls
            assert connection.transport.get_write_buffer_size() < 1_000_000
            sending.cancel()
            writer.transport.abort()

    run(scenario())


async def test_reading_rests_while_answers_cannot_be_written_whoever_wants_it_back(serving):
    async with serving() as server:
        wire = Wire(server)
        await settle()
        wire.protocol.pause_writing()
        assert wire.transport.paused
        wire.protocol.resume_reading()  # as aiohttp does when a handler has read a body
        assert wire.transport.paused
        wire.protocol.resume_writing()
        assert not wire.transport.paused
        wire.protocol.pause_writing()
        wire.protocol._reading_paused = True  # aiohttp has a reason of its own
        wire.protocol.resume_writing()
        assert wire.transport.paused
        await wire.end()


@pytest.mark.parametrize("given", ["abc-123", "A" * 128, "urn:x/y+z=1@h"])
async def test_a_good_request_id_is_repeated_on_both_lanes(serving, given):
    async with serving() as server, connected(server) as client:
        for request in (HOT, LIVEZ):
            response = await client.ask(request.replace(b"Host", f"X-Request-Id: {given}\r\nHost".encode()))
            assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "A" * 129, "-x", "a\tb", "<script>"])
async def test_a_bad_request_id_is_replaced(serving, given):
    async with serving() as server, connected(server) as client:
        response = await client.ask(LIVEZ.replace(b"Host", f"X-Request-Id: {given}\r\nHost".encode()))
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


async def test_a_hot_success_has_an_id_only_where_the_client_sent_one(serving):
    async with serving() as server, connected(server) as client:
        assert "x-request-id" not in (await client.ask(HOT)).headers


async def test_handlers_run_in_the_trace_of_the_caller():
    from opentelemetry import trace

    seen = []

    async def handler(_):
        seen.append(trace.get_current_span().get_span_context().trace_id)
        return Answer()

    operation = Operation(method="GET", path="/t", name="t", summary="T.", tag="t", handler=handler)
    async with running([operation]) as server, connected(server) as client:
        for parent in ("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n", ""):
            await client.ask(f"GET /t HTTP/1.1\r\nHost: localhost\r\n{parent}\r\n".encode())
    assert seen == [0x4BF92F3577B34DA6A3CE929D0E0E4736, 0]


def test_requests_of_both_lanes_are_counted(run, block):
    async def scenario():
        metrics = CollectorRegistry()
        conditions = Conditions()
        conditions.set("stale", "warn", "old")
        async with (
            running(block.operations(), block.hot_operations(), metrics=metrics, conditions=conditions) as server,
            connected(server) as client,
        ):
            await client.ask(HOT)
            await client.ask(HOT.replace(b'"n":1', b'"n":x'))
            await client.ask(LIVEZ)
            await client.ask(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            text = generate_latest(metrics).decode()
        for line in (
            'pillion_http_requests_total{method="POST",route="/v1/hot/check",status="200"} 1.0',
            'pillion_http_requests_total{method="POST",route="/v1/hot/check",status="400"} 1.0',
            'pillion_http_requests_total{method="GET",route="/livez",status="200"} 1.0',
            'pillion_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
            'pillion_http_hot_lane_requests_total{route="/v1/hot/check"} 1.0',
            'pillion_http_request_duration_seconds_count{route="/livez"} 1.0',
            'pillion_condition{level="warn",name="stale"} 1.0',
        ):
            assert line in text

    run(scenario())


def test_drain_finishes_what_is_in_flight_and_closes_the_rest(run, serving, block, tmp_path):
    async def scenario():
        async with (
            serving(grace_period=10) as server,
            connected(server) as busy,
            connected(server) as idle,
            connected(server, "unix") as half,
        ):
            assert (await idle.ask(HOT)).status == 200
            await busy.say(b"GET /v1/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await block.started.wait()
            await half.say(HOT[:-3])  # the hot lane holds it
            (connection,) = await _until(lambda: [one for one in server._main[1].connections.connections if one._need])
            assert connection._need
            port = server.main_port
            draining = asyncio.create_task(server.drain())
            assert await idle.closed()
            await half.say(HOT[-3:])
            answer = await half.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert not draining.done()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            assert not (tmp_path / "p.sock").exists()
            async with aiohttp.ClientSession() as session, session.get(f"{server.admin_url}/livez") as probe:
                assert probe.status == 200
            block.gate.set()
            answer = await busy.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            await draining
            assert await busy.closed()

    run(scenario())


STORE = (
    b"POST /v1/hot/store HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
    b'{"n":99}'
)


@pytest.mark.parametrize("lane", [True, False], ids=["hot lane", "ordinary lane"])
def test_drain_waits_for_an_answer_that_comes_later(run, serving, block, lane):
    async def scenario():
        async with serving(grace_period=10, hot_lane=lane) as server, connected(server) as busy:
            await busy.say(STORE)
            await block.started.wait()
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0)
            await busy.say(HOT)  # too late
            block.gate.set()
            answer = await busy.answer()
            assert (answer.status, list(answer.headers)[-2:]) == (202, ["x-request-id", "connection"])
            assert answer.headers["connection"] == "close"
            assert await busy.closed()
            await draining
            assert block.calls == 1
            assert bool(sum(server.traffic.hot_requests().values())) == lane

    run(scenario())


def test_drain_cuts_off_an_answer_that_does_not_come(run, serving, block):
    async def scenario():
        async with serving(grace_period=0.1) as server, connected(server) as busy:
            await busy.say(STORE)
            await block.started.wait()
            await server.drain()
            assert await busy.closed()
            block.gate.set()
            await block.waiting
            assert server.traffic.hot_requests()["/v1/hot/store"] == 1

    run(scenario())


def test_what_arrives_while_an_answer_is_due_waits_its_turn_and_is_bounded(run, serving, block):
    async def scenario():
        async with serving() as server, connected(server) as client:
            await client.say(STORE)
            await block.started.wait()
            (connection,) = server._main[0].connections.connections
            flood = HOT * 8_000  # a megabyte: four times what is read at once
            pushing = asyncio.create_task(client.say(flood))
            await _until(lambda: connection._later)
            for _ in range(200):
                await asyncio.sleep(0)
            assert block.calls == 1
            assert sum(map(len, connection._later)) <= 256 << 10
            block.gate.set()
            assert (await client.answer()).status == 202
            for _ in range(8_000):
                assert (await client.answer()).status == 200
            await pushing
            assert block.calls == 8_001

    run(scenario())


def test_a_client_that_leaves_before_its_answer_takes_nothing_with_it(run, serving, block):
    async def scenario():
        async with serving() as server:
            async with connected(server) as client:
                await client.say(STORE)
                await block.started.wait()
            await _until(lambda: not server._main[0].connections.connections)
            block.gate.set()
            await block.waiting
            assert server.traffic.requests()["/v1/hot/store", "POST", 202] == 1
            async with connected(server) as client:
                assert (await client.ask(STORE)).status == 202

    run(scenario())


def test_a_connection_that_is_owed_an_answer_is_not_idle(run, serving, block):
    async def scenario():
        async with serving(keepalive_timeout=0.01) as server, connected(server) as client:
            await client.say(STORE)
            await block.started.wait()
            (connection,) = server._main[0].connections.connections
            connection._next_keepalive_close_time = 0
            connection._process_keepalive()
            block.gate.set()
            assert (await client.answer()).status == 202
            assert await client.closed()

    run(scenario())


@pytest.mark.parametrize("lane", [True, False], ids=["hot lane", "ordinary lane"])
async def test_an_answer_that_comes_later_is_counted_and_timed_like_any_other(block, lane):
    metrics = CollectorRegistry()
    block.gate.set()
    async with (
        running(block.operations(), block.hot_operations(), metrics=metrics, hot_lane=lane) as server,
        connected(server) as client,
    ):
        for body in (b'{"n":99}', b'{"n":-1}', b'{"n":42}'):
            await client.ask(STORE.replace(b'{"n":99}', body))
        text = generate_latest(metrics).decode()
    for line in (
        *(
            f'pillion_http_requests_total{{method="POST",route="/v1/hot/store",status="{status}"}} 1.0'
            for status in (202, 400, 503)
        ),
        'pillion_http_request_duration_seconds_count{route="/v1/hot/store"} 3.0',
    ):
        assert line in text
    assert ('pillion_http_hot_lane_requests_total{route="/v1/hot/store"} 2.0' in text) == lane


async def test_where_spans_are_recorded_the_ordinary_lane_answers(serving, block, monkeypatch):
    monkeypatch.setattr(Tracing, "started", True)
    block.gate.set()
    async with serving() as server, connected(server) as client:
        assert (await client.ask(STORE)).status == 202
        assert server.traffic.hot_requests()["/v1/hot/store"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "PUT"},
        {"path": "/v1/s/{id}", "parameters": (Parameter(name="id", place="path", description="D.", required=True),)},
        {"public": True},
        {"body_media": ("text/plain",)},
        {"parameters": (Parameter(name="q", place="query", description="D.", required=True),)},
    ],
)
def test_a_shortcut_where_the_lane_could_differ_is_refused(block, wrong):
    operation = msgspec.structs.replace(
        next(one for one in block.operations() if one.shortcut), **{"parameters": (), **wrong}
    )
    with pytest.raises(ValueError, match="shortcut"):
        OrdinaryEndpoint(operation, None, Replies(FixedClock()), 1.0)


def test_drain_ends_after_the_grace_period_whatever_is_in_flight(run, serving, block):
    async def scenario():
        async with serving(grace_period=0.1) as server, connected(server) as busy:
            await busy.say(b"GET /v1/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await block.started.wait()
            await server.drain()
            assert await busy.closed()

    run(scenario())


async def _until(condition: Callable[[], object]) -> object:
    """Wait for something that the server does by itself."""
    while not (result := condition()):  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)
    return result


def test_two_operations_with_one_route_or_one_name_are_refused():
    async def handler(_):
        return Answer()

    def operation(path: str, name: str) -> Operation:
        return Operation(method="GET", path=path, name=name, summary="S.", tag="t", handler=handler)

    for pair in ([operation("/a", "a"), operation("/a", "b")], [operation("/a", "a"), operation("/b", "a")]):
        with pytest.raises(ValueError, match="two operations are called"):
            Server(ServerSettings(), pair, [], Conditions(), CollectorRegistry(), _Clock())


class _Clock:
    def wall_ns(self) -> int:
        return 0

    def monotonic_ns(self) -> int:
        return 0


def test_the_more_literal_route_wins(run, serving):
    async def scenario():
        async with serving() as server, connected(server) as client:
            answer = await client.ask(HOT.replace(b"/v1/hot/check", b"/v1/hot/keys/a:explain"))
            assert answer.body == b'{"bytes":7}'

    run(scenario())


def test_the_server_leaves_no_file_descriptors_behind(run, serving):
    async def scenario():
        open_files = []
        for _ in range(4):
            async with serving() as server, connected(server) as client:
                await client.ask(HOT)
            open_files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - the count alone
        assert open_files[-1] == open_files[0]

    run(scenario())
