"""Any byte stream gets the same answer with the hot lane as without it.

Both servers run in one process over the same made-up block; a stream is mutated, split anywhere and pipelined, then said to both. What is compared:
every byte that comes back (dates and generated ids aside), whether the connection is closed, and how often the block's functions changed something.
"""

import asyncio
import itertools
import os
import re
from typing import Self

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from tests.support.operations import MAX_BODY, Block
from tests.support.serving import FixedClock, running
from tests.support.wire import Piece, comparable, talk

TOKEN = b"sesame"

EXAMPLES = int(os.environ.get("PILLION_EXAMPLES", "500"))
"""More for a long hunt, by hand: then they differ from run to run."""

HOT_TARGETS = [
    "POST /v1/hot/check",
    "POST /v1/hot/check?enforce=status",
    "POST /v1/hot/keys/abc",
    "GET /v1/hot/ping",
]
COLD_TARGETS = [
    "POST /v1/hot/check?enforce=nonsense",
    "POST /v1/hot/check?enforce=status&enforce=status",
    "POST /v1/hot/check?a=%ff&b=%zz&&=",
    "POST /v1/hot/check?",
    "POST /v1/hot/check#x",
    "POST /v1/hot/check/",
    "POST /v1/hot//check",
    "POST /v1/hot/./check",
    "POST /v1/hot/%63heck",
    "POST //v1/hot/check",
    "POST /v1/hot/keys/",
    "POST /v1/hot/keys/.",
    "POST /v1/hot/keys/..",
    "POST /v1/hot/keys/a..b",
    "POST /v1/hot/keys/a%2fb",
    "POST /v1/hot/keys/a%2Fb:explain",
    "POST /v1/hot/keys/abc:explain",
    "POST /v1/hot/keys/:explain",
    "POST /v1/hot/keys/ABC",
    "POST /v1/hot/keys/a/b",
    "POST /v1/hot/keys/a;b",
    "POST http://localhost/v1/hot/check",
    "POST http://evil.example/v1/hot/check",
    "GET /v1/hot/check",
    "HEAD /v1/hot/ping",
    "OPTIONS *",
    "OPTIONS /v1/hot/check",
    "CONNECT localhost:80",
    "post /v1/hot/check",
    "PUT /v1/hot/check",
    "GET /v1/things?limit=5",
    "GET /v1/things?limit=500",
    "GET /v1/things/missing",
    "POST /v1/things",
    "POST /v1/things/a:touch",
    "PUT /v1/blob",
    "GET /v1/stream",
    "GET /v1/fail",
    "GET /livez",
    "GET /nowhere",
]
BODIES = [
    b'{"n":1}',
    b'{"n":42}',
    b'{"n":204}',
    b'{"n":-1}',
    b'{"n":13}',
    b'{"n":"x"}',
    b'{"n":1,"text":"' + b"a" * 300 + b'"}',
    b'{"n":1,"text":"' + b"b" * MAX_BODY + b'"}',
    b'{"n":1',
    b"[" * 1500,
    b'"\xff"',
    b"",
    b"\r\n\r\n",
    b"POST /v1/hot/check HTTP/1.1\r\n\r\n",
    b'{"name":"x"}',
]
EXTRA_FIELDS = [
    "Accept: */*",
    "User-Agent: test/1",
    "User-Agent: test/2",
    "Connection: keep-alive",
    "Connection: Keep-Alive",
    "Connection: close",
    "Connection: keep-alive, close",
    "Connection: upgrade",
    "Connection:",
    "Proxy-Connection: close",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "transfer-encoding : chunked",
    "Content-Encoding: gzip",
    "Content-Encoding: identity",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Content-Length: 7",
    "Content-Length: 007",
    "Content-Length: +7",
    "Content-Length: 7, 7",
    "Content-Length:",
    "Content-Length: 99999999999999999999",
    "Content-Type: text/plain",
    "X-Request-Id: abc-123",
    "x-request-id:   spaced   ",
    "X-Request-Id: no good",
    "X-Request-Id:",
    "X-Request-Id: " + "x" * 129,
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "traceparent: nonsense",
    "tracestate: a=b,c=d",
    "Origin: http://localhost",
    "Origin: null",
    "Origin: http://evil.example",
    "Authorization: Bearer sesame",
    "Authorization: bearer  sesame ",
    "Authorization: Bearer wrong",
    "Authorization: Basic c2VzYW1l",
    "X-Odd: a\tb",
    "X-Odd: a\x01b",
    "X-Odd: a\x00b",
    "X-Odd: a\x7fb",
    "X-Odd: \x80\xff",
    "X-Odd:",
    " folded: line",
    "\tcontinued",
    "No colon",
    "Bad Name: x",
    ": no name",
    "X-Long: " + "l" * 5000,
    "X-Longer: " + "l" * 9000,
    "Cookie: a=b",
    "Sec-WebSocket-Key1: x",
    "Trailer: x",
    "Range: bytes=0-1",
]
HOSTS = [
    "Host: localhost",
    "Host: 127.0.0.1:3700",
    "host: [::1]:3700",
    "Host: LOCALHOST.",
    "Host: evil.example",
    "Host:",
    "",
    "Host: a b",
    "Host: localhost:x",
]
PLAIN_FIELDS = (
    "X-Request-Id: abc-123",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "Accept: */*",
)
FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"\x16\x03\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"%",
    b"\xff",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X" * 70,
]


@st.composite
def plain(draw) -> bytes:
    """One request that the lane can take."""
    target = draw(st.sampled_from(HOT_TARGETS))
    body = b"" if target.startswith("GET") else draw(st.sampled_from(BODIES[:7]))
    fields = [
        "Host: localhost",
        "Authorization: Bearer sesame",
        *draw(st.sampled_from([(), PLAIN_FIELDS[:1], PLAIN_FIELDS])),
    ]
    if body:
        fields += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"{target} HTTP/1.1", *draw(st.permutations(fields)), "\r\n"]).encode() + body


@st.composite
def messages(draw) -> bytes:
    """One request, mostly good, often hot."""
    if draw(st.integers(0, 9)) < 6:
        return draw(plain())
    target = draw(st.sampled_from(HOT_TARGETS) if draw(st.integers(0, 9)) < 7 else st.sampled_from(COLD_TARGETS))
    body = (
        b""
        if target.startswith(("GET", "HEAD")) and draw(st.integers(0, 4))
        else draw(st.sampled_from(BODIES[:4]) if draw(st.booleans()) else st.sampled_from(BODIES))
    )
    version = draw(st.sampled_from(["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", ""]))
    fields = [draw(st.sampled_from(HOSTS[:3] * 4 + HOSTS))]
    chunked = draw(st.integers(0, 14)) == 0
    if chunked:
        fields.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif body or draw(st.booleans()):
        fields.append(f"Content-Length: {len(body)}")
    if body and draw(st.integers(0, 9)):
        fields.append(
            draw(
                st.sampled_from(
                    [
                        "Content-Type: application/json",
                        "content-type: application/json; charset=utf-8",
                        "Content-Type:application/JSON",
                    ]
                )
            )
        )
    fields += draw(st.lists(st.sampled_from(EXTRA_FIELDS), max_size=2) if draw(st.booleans()) else st.just([]))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    line = f"{target} {version}".rstrip()
    head = "\r\n".join([line, *[field for field in fields if field]]) + "\r\n\r\n"
    return head.encode("latin-1") + body


@st.composite
def streams(draw) -> list[Piece]:
    """Several requests, perhaps damaged, in pieces."""
    whole = draw(st.lists(messages(), min_size=1, max_size=4))
    data = bytearray(b"".join(whole))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:at] = draw(st.sampled_from(FRAGMENTS))
            case 1:
                del data[at : at + draw(st.integers(1, 4))]
            case 2:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case _:
                data[at:at] = data[max(0, at - draw(st.integers(1, 60))) : at]
    boundaries = set()
    where = 0
    for message in whole[:-1]:
        where += len(message)
        if draw(st.integers(0, 3)):
            boundaries.add(where)
    for message_end in re.finditer(rb"\r\n\r\n", bytes(data)):
        if draw(st.integers(0, 3)) == 0:
            boundaries.add(message_end.end())
    if draw(st.booleans()):
        boundaries |= draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=3))
    cuts = sorted({0, len(data), *(cut for cut in boundaries if cut < len(data))})
    return [
        Piece(bytes(data[a:b]), draw(st.sampled_from([True, True, True, False]))) for a, b in itertools.pairwise(cuts)
    ]


class Pair:
    """The same block served twice: with the lane and without."""

    def __init__(self) -> None:
        self.blocks = (Block(), Block())

    async def compare(self, pieces: list[Piece], *, token: bytes | None = None, listener: int = 0):
        results = []
        for block, server in zip(self.blocks, self.servers, strict=True):
            block.calls = 0
            server.set_token(token)
            said = await talk(server, pieces, listener)
            results.append((comparable(said.written), said.closed, block.calls))
        assert results[0] == results[1]
        return results[0]

    async def __aenter__(self) -> Self:
        clock = FixedClock()
        self._contexts = [
            running(block.operations(), block.hot_operations(), clock=clock, hot_lane=lane, socket_path="")
            for block, lane in zip(self.blocks, (True, False), strict=True)
        ]
        self.servers = [await context.__aenter__() for context in self._contexts]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for context in self._contexts:
            await context.__aexit__(None, None, None)

    @property
    def laned(self) -> int:
        return sum(self.servers[0].traffic.hot_requests().values())


@pytest.fixture(scope="module")
def pair():
    """Both servers, and the loop that they live in."""
    with asyncio.Runner() as runner:
        pair = Pair()
        runner.run(pair.__aenter__())
        pair.run = runner.run
        yield pair
        runner.run(pair.__aexit__())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 500,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(pieces=streams(), token=st.sampled_from([None, None, None, TOKEN]))
def test_any_stream_gets_the_same_answer_with_and_without_the_lane(pair, quiet, pieces, token):
    note(repr(pieces))
    before = pair.laned
    written, closed, _ = pair.run(pair.compare(pieces, token=token))
    event("laned" if pair.laned > before else "not laned")
    event(f"answers: {written.count(b'HTTP/1.')}")
    event("closed" if closed else "open")
