"""Any byte stream gets the same answer with the hot lane as without it.

Both servers run in one process over the same made-up block; a stream is mutated, split anywhere and pipelined, then said to both. What is compared:
every byte that comes back (dates and generated ids aside), whether the connection is closed, and how often the block's functions changed something.
"""

import asyncio
import itertools
import re
from typing import Self

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from tests.support.operations import MAX_BODY, Block
from tests.support.serving import FixedClock, running
from tests.support.wire import Piece, Wire, comparable, settle, talk

TOKEN = b"sesame"

EXAMPLES = max(300, settings().max_examples)
"""More for a long hunt, by hand: then they differ from run to run."""

HOT_TARGETS = [
    "POST /v1/hot/check",
    "POST /v1/hot/check?enforce=status",
    "POST /v1/hot/keys/abc",
    "GET /v1/hot/ping",
    "POST /v1/hot/store",
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
    "POST /v1/hot/store?a=b",
    "POST /v1/hot/store?",
    "GET /v1/hot/store",
    "HEAD /v1/hot/store",
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
SMUGGLED = (
    b"POST /v1/hot/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    b'{"n":7}'
)
"""A good hot request, to stand where no request is."""

BODIES = [
    b'{"n":1}',
    b'{"n":42}',
    b'{"n":204}',
    b'{"n":-1}',
    b'{"n":13}',
    b'{"n":"x"}',
    b'{"n":1,"text":"' + b"a" * 300 + b'"}',
    b'{"n":1,"text":"' + b"b" * MAX_BODY + b'"}',
    b'{"n":1}' + b" " * MAX_BODY,
    b'{"n":1',
    b"[" * 1500,
    b'"\xff"',
    b"",
    b"\r\n\r\n",
    SMUGGLED,
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
    "X-Mode: strange",
    "x-mode:",
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
    """One request that the lane can take, or that differs from such a one in a single way."""
    target = draw(st.sampled_from(HOT_TARGETS))
    body = b"" if target.startswith("GET") else draw(st.sampled_from(BODIES[:7]))
    host, version, more = HOSTS[0], "HTTP/1.1", draw(st.sampled_from([(), PLAIN_FIELDS[:1], PLAIN_FIELDS]))
    media, token, length = "Content-Type: application/json", "Authorization: Bearer sesame", str(len(body))
    match draw(st.integers(0, 19)):
        case 0 | 1 | 2 | 3:
            more = (*more, draw(st.sampled_from(EXTRA_FIELDS)))
        case 4:
            target = draw(st.sampled_from(COLD_TARGETS))
        case 5:
            body = draw(st.sampled_from(BODIES))
            length = str(len(body))
        case 6:
            host = draw(st.sampled_from(HOSTS))
        case 7:
            media = draw(st.sampled_from(["", "Content-Type: text/plain", "Content-Type: application/jsonx"]))
        case 8:
            length = draw(st.sampled_from([f"0{length}", f"+{length}", f"{length}, {length}", "0", f"{length}1", "x"]))
        case 9:
            version = draw(st.sampled_from(["HTTP/1.0", "HTTP/1.2", "http/1.1"]))
        case _:
            pass
    fields = [field for field in (host, token, *more) if field]
    if body:
        fields += [field for field in (media, f"Content-Length: {length}") if field]
    if draw(st.integers(0, 19)) == 0:
        fields.append(draw(st.sampled_from(fields)))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    return "\r\n".join([f"{target} {version}", *fields, "\r\n"]).encode("latin-1") + body


@st.composite
def messages(draw) -> bytes:
    """One request, mostly good, often hot."""
    if draw(st.integers(0, 9)) < 8:
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
    derandomize=EXAMPLES == 300,
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


def request(
    target: str = "POST /v1/hot/check",
    body: bytes = b'{"n":1}',
    *fields: str,
    host: str = "Host: localhost",
    version: str = "HTTP/1.1",
    media: str = "Content-Type: application/json",
) -> bytes:
    """Write a request; without arguments, one that the lane takes."""
    lines = [f"{target} {version}", host, media if body else "", *fields]
    if body and not any(field.lower().startswith("transfer-encoding") for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*(line for line in lines if line), "\r\n"]).encode("latin-1") + body


HOT = request()
PING = request("GET /v1/hot/ping", b"")
STORE = request("POST /v1/hot/store", b'{"n":3}')
BUSY = request("POST /v1/hot/store", b'{"n":42}', "X-Request-Id: busy")
THING = request("POST /v1/things", b'{"name":"x"}')
SPLIT = HOT.index(b"\r\n\r\n") + 4

TWISTS = {
    "nothing": [HOT],
    "no body": [PING],
    **{f"field {field[:30]!r}": [request("POST /v1/hot/check", b'{"n":1}', field)] for field in EXTRA_FIELDS},
    **{f"get with {field[:30]!r}": [request("GET /v1/hot/ping", b"", field)] for field in EXTRA_FIELDS},
    **{
        f"first {field[:30]!r}": [HOT.replace(b"Host:", field.encode("latin-1") + b"\r\nHost:")]
        for field in EXTRA_FIELDS
    },
    **{f"host {host!r}": [request(host=host)] for host in HOSTS},
    **{f"target {target}": [request(target)] for target in COLD_TARGETS},
    **{f"bare {target}": [request(target, b"")] for target in COLD_TARGETS + HOT_TARGETS},
    **{f"body {body[:12]!r}": [request("POST /v1/hot/check", body)] for body in BODIES},
    **{f"split body {body[:12]!r}": [request(body=body)[: -len(body) or None], body] for body in BODIES},
    **{
        f"as body {body[:12]!r}": [request("POST /v1/things", body)[: -len(body) or None], body, HOT] for body in BODIES
    },
    **{
        f"twice {name}": [HOT.replace(line, line + line)]
        for name, line in ((line[:14], line + b"\r\n") for line in HOT[:SPLIT].split(b"\r\n")[1:-2])
    },
    **{
        f"media {media}": [request(media=media)]
        for media in ("", "Content-Type: text/json", "Content-Type:", "Content-Type: application/json;charset=utf-8")
    },
    **{
        f"version {version}": [request(version=version)]
        for version in ("HTTP/1.0", "HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "")
    },
    **{f"before {part!r}": [part + HOT] for part in FRAGMENTS},
    **{f"after {part!r}": [HOT + part, HOT] for part in FRAGMENTS},
    **{f"later {part!r}": [HOT, part, HOT] for part in FRAGMENTS},
    **{f"within {part!r}": [HOT.replace(b"localhost", b"local" + part + b"host")] for part in FRAGMENTS},
    **{f"in the line {part!r}": [HOT.replace(b"/check", b"/ch" + part + b"eck")] for part in FRAGMENTS},
    "the same again and again": [HOT] * 9,
    "the same again and again, with others between": [
        HOT,
        HOT,
        PING,
        HOT,
        THING,
        HOT,
        HOT[:SPLIT],
        HOT[SPLIT:],
        HOT,
        HOT,
    ],
    "ids that differ": [
        request(
            "POST /v1/hot/check",
            b'{"n":1}',
            f"X-Request-Id: id-{number}",
            f"traceparent: 00-{number:032x}-{number:016x}-01",
        )
        for number in range(6)
    ],
    "ids that differ, one of them odd": [
        request("POST /v1/hot/check", b'{"n":1}', f"X-Request-Id: {given}")
        for given in ("abcd", "efgh", "i kl", "mn\top", "-rst", "uvwx")
    ],
    "later": [STORE],
    "later, again and again": [STORE, BUSY] * 4,
    "later, with ids": [
        request("POST /v1/hot/store", b'{"n":%d}' % number, f"X-Request-Id: id-{number}", "traceparent: nonsense")
        for number in range(6)
    ],
    **{f"later with {field[:30]!r}": [request("POST /v1/hot/store", b'{"n":1}', field), HOT] for field in EXTRA_FIELDS},
    **{f"later, body {body[:12]!r}": [request("POST /v1/hot/store", body), STORE] for body in BODIES},
    "later, of another type": [request("POST /v1/hot/store", b'{"n":1}', media="Content-Type: text/json"), HOT],
    "later, then everything": [STORE, HOT, PING, STORE, THING, BUSY, HOT, STORE],
    "later, several": [STORE * 3],
    "hot and later": [HOT * 2 + STORE + PING + BUSY, HOT],
    "later, and more in one piece": [STORE + HOT + THING, STORE],
    "later, and half of another": [STORE + HOT[:SPLIT], HOT[SPLIT:], STORE],
    "later, and garbage": [STORE + b"GARBAGE\r\n\r\n"],
    "later, then garbage": [STORE, b"GARBAGE\r\n\r\n", HOT],
    "later, then a problem": [STORE, request("POST /v1/hot/store", b'{"n":-1}'), STORE],
    "later, then a fault": [STORE, request("POST /v1/hot/store", b'{"n":13}'), STORE],
    "later, then the end": [STORE, request("POST /v1/hot/check", b'{"n":1}', "Connection: close"), HOT],
    "later, head, then body": [STORE[: STORE.index(b"{")], STORE[STORE.index(b"{") :], HOT],
    "later, byte by byte": [STORE[at : at + 1] for at in range(len(STORE))] + [HOT],
    "later, then another byte by byte": [STORE, *(HOT[at : at + 1] for at in range(len(HOT)))],
    "later, then an upload in pieces": [
        STORE,
        request("PUT /v1/blob", SMUGGLED, media="Content-Type: text/plain")[: -len(SMUGGLED)],
        SMUGGLED,
        STORE,
    ],
    "several": [HOT * 3],
    "several with a problem": [HOT + request(body=b'{"n":-1}') + PING],
    "several with a fault": [HOT + request(body=b'{"n":13}') + PING],
    "very many": [HOT * 200 + PING],
    "very many with a problem late": [HOT * 150 + request(body=b'{"n":-1}') + HOT * 60],
    "several, the last in pieces": [HOT * 2 + HOT[:SPLIT], HOT[SPLIT:], HOT],
    "several, the last broken": [HOT * 2 + b"BROKEN\r\n\r\n"],
    "hot, then ordinary": [HOT + THING],
    "ordinary, then hot": [THING + HOT, HOT],
    "ordinary, then hot, apart": [THING, HOT, THING, PING],
    "byte by byte": [HOT[at : at + 1] for at in range(len(HOT))],
    "head in pieces": [HOT[:20], HOT[20:], HOT],
    "head, then body": [HOT[:SPLIT], HOT[SPLIT:], HOT],
    "head, then body in pieces": [HOT[:SPLIT], b"{", b'"n":', b"1}", HOT],
    "head, then body and more": [HOT[:SPLIT], HOT[SPLIT:] + HOT, HOT],
    "head, then body and garbage": [HOT[:SPLIT], HOT[SPLIT:] + b"GARBAGE\r\n\r\n"],
    "head, then a body with a request in it": [
        request(body=SMUGGLED)[: -len(SMUGGLED)],
        SMUGGLED,
        HOT,
    ],
    "ordinary head, then a body that is a request": [
        request("PUT /v1/blob", SMUGGLED, media="Content-Type: text/plain")[: -len(SMUGGLED)],
        SMUGGLED,
        HOT,
    ],
    "ordinary head, then half a body, then a request as the rest": [
        request("PUT /v1/blob", b"xx" + SMUGGLED, media="Content-Type: text/plain")[: -len(SMUGGLED)],
        SMUGGLED,
        HOT,
    ],
    "ordinary, and another whose body is a request": [
        THING + request("PUT /v1/blob", SMUGGLED, media="Content-Type: text/plain")[: -len(SMUGGLED)],
        SMUGGLED,
        HOT,
    ],
    "ordinary, and a field in pieces": [THING + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", SMUGGLED, HOT],
    "ordinary head, then its body and a head without end, then a request": [
        THING[: -len(b'{"name":"x"}')],
        b'{"name":"x"}GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ',
        SMUGGLED,
        HOT,
    ],
    **{
        f"a known head and {rest!r} instead of its end": [HOT, HOT[: SPLIT - 4] + rest, b"GARBAGE", HOT]
        for rest in (b"", b"\r", b"\n", b"\r\n", b"\r\n\r", b"\r\n\n", b"X", b"\x00")
    },
    **{f"a known head and {rest!r} and no more": [HOT, HOT[: SPLIT - 4] + rest] for rest in (b"\n", b"\r\nX", b"\x00")},
    "two request ids": [request("POST /v1/hot/check", b'{"n":1}', "X-Request-Id: a", "X-Request-Id: b")],
    "a head without end, then a request": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", SMUGGLED, HOT],
    "too much body, then a request": [request("POST /v1/things", b'{"name":"x"}') + b"xx", HOT],
    "more body than said": [HOT.replace(b": 7", b": 6"), HOT],
    "less body than said": [HOT.replace(b": 7", b": 8"), HOT],
    "chunked": [
        request("POST /v1/hot/check", b"7\r\n" + b'{"n":1}' + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        HOT,
    ],
    "chunked, its chunk a request": [
        request(
            "PUT /v1/blob", b"%x\r\n" % len(SMUGGLED), "Transfer-Encoding: chunked", media="Content-Type: text/plain"
        ),
        SMUGGLED,
        b"\r\n0\r\n\r\n",
        HOT,
    ],
    "length and chunked": [
        request("POST /v1/hot/check", b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        SMUGGLED,
    ],
    "no content on a hot route": [request(body=b'{"n":204}'), HOT],
    "denied on a hot route": [request("POST /v1/hot/check", b'{"n":42}', "X-Request-Id: a"), HOT],
    "stream, then hot": [request("GET /v1/stream", b""), HOT],
    "bare line feeds": [HOT.replace(b"\r\n", b"\n")],
    "bare carriage returns": [HOT.replace(b"\r\n", b"\r")],
    "one bare line feed": [HOT.replace(b"localhost\r\n", b"localhost\n")],
    "many fields": [request("POST /v1/hot/check", b'{"n":1}', *(f"X-{number}: y" for number in range(60)))],
    "too many fields": [request("POST /v1/hot/check", b'{"n":1}', *(f"X-{number}: y" for number in range(130)))],
    "long line": [request("POST /v1/hot/check?q=" + "x" * 2000)],
    "too long line": [request("POST /v1/hot/check?q=" + "x" * 9000)],
    "expect, and the body later": [
        request("PUT /v1/blob", b"x" * 5, "Expect: 100-continue", media="Content-Type: text/plain")[:-5],
        b"x" * 5,
        HOT,
    ],
    "upgrade": [request("GET /v1/hot/ping", b"", "Connection: upgrade", "Upgrade: websocket"), HOT],
    "upgrade with body": [request("POST /v1/hot/check", b'{"n":1}', "Connection: upgrade", "Upgrade: websocket"), HOT],
    "tunnel": [request("CONNECT localhost:80", b""), HOT],
}


@pytest.mark.parametrize(
    ("apart", "token"), [(True, None), (True, TOKEN), (False, None)], ids=["apart", "apart, token", "at once"]
)
def test_every_known_trick_gets_the_same_answer_with_and_without_the_lane(pair, quiet, apart, token):
    different = []
    for name, pieces in TWISTS.items():
        try:
            pair.run(pair.compare([Piece(piece, apart) for piece in pieces], token=token))
        except AssertionError as error:
            different.append(f"{name}: {error}")
    assert not different, "\n\n".join(different)


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "no body",
        "the same again and again",
        "ids that differ",
        "several",
        "very many",
        "head, then body",
        "head, then body and more",
        "ordinary, then hot, apart",
        "denied on a hot route",
        "later",
        "later, with ids",
        "later, head, then body",
        "head, then a body with a request in it",
    ],
)
def test_what_the_lane_should_take_it_takes(pair, quiet, name):
    before = pair.laned
    pair.run(pair.compare([Piece(piece) for piece in TWISTS[name]]))
    assert pair.laned > before


def test_a_new_token_holds_for_connections_and_heads_that_are_known_already(pair, quiet):
    async def both(server):
        wire = Wire(server)
        await settle()
        statuses = []
        for token in (None, TOKEN, None, b"other"):
            server.set_token(token)
            wire.transport.written.clear()
            await wire.feed(Piece(HOT))
            statuses.append(bytes(wire.transport.written[9:12]))
        await wire.end()
        return statuses

    for server in pair.servers:
        assert pair.run(both(server)) == [b"200", b"401", b"200", b"401"]
        server.set_token(None)


def test_a_held_head_goes_to_the_ordinary_lane_when_its_time_is_over(pair, quiet):
    """Whether the timer fires before the rest comes must not matter."""

    async def both(server):
        wire = Wire(server)
        await settle()
        for piece in (HOT[:SPLIT], HOT[SPLIT : SPLIT + 3]):
            await wire.feed(Piece(piece))
        wire.protocol._release()
        await settle()
        await wire.feed(Piece(HOT[SPLIT + 3 :]))
        await wire.feed(Piece(HOT))
        written = bytes(wire.transport.written)
        await wire.end()
        return re.sub(rb'"calls":\d+', b"", comparable(written))

    assert pair.run(both(pair.servers[0])) == pair.run(both(pair.servers[1]))
