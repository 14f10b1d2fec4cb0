"""The header block, read once: what is admitted, aiohttp would read the same way."""

from unittest import mock

import pytest
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillion.runtime import heads
from pillion.runtime.gate import Gate
from pillion.runtime.heads import UNKNOWN, Head, Heads

HOST = b"\r\nHost: localhost"
JSON = b"\r\nContent-Type: application/json"


def fresh(token: bytes | None = None) -> Heads:
    gate = Gate(check_host=True)
    gate.set_token(token)
    return Heads(gate, 8190, 128)


def read(block: bytes) -> Head:
    return fresh().read(block)


def aiohttp_reads(block: bytes):
    """Give what aiohttp's own parser makes of a request with this block; None where it refuses."""
    parser = HttpRequestParser(
        mock.Mock(), mock.Mock(), 2**16, max_line_size=8190, max_field_size=8190, max_headers=128
    )
    try:
        messages, upgraded, _ = parser.feed_data(b"POST /x HTTP/1.1" + block + b"\r\n\r\n")
    except HttpProcessingError:
        return None
    return None if upgraded or not messages else messages[0][0]


FIELDS = st.sampled_from(
    [
        b"Host: localhost",
        b"host:127.0.0.1:80",
        b"Content-Length: 5",
        b"content-length:\t17 ",
        b"Content-Length: 05",
        b"Content-Type: application/json",
        b"Connection: keep-alive",
        b"Connection: close",
        b"Transfer-Encoding: chunked",
        b"Upgrade: websocket",
        b"X-Request-Id: abc",
        b"traceparent: 00-1-2-3",
        b"Authorization: Bearer x",
        b"Accept: */*",
        b"X-Empty:",
        b" folded",
        b"X-A: b\x00",
        b"X-A : b",
        b"Expect: 100-continue",
        b"X-B: \xc3\xa4",
    ]
)


@settings(max_examples=250)
@given(
    fields=st.lists(FIELDS, max_size=6),
    damage=st.none() | st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)),
)
@example(fields=[b"Host: localhost", b"Content-Length: 5"], damage=None)
def test_what_is_framed_or_admitted_aiohttp_reads_the_same_way(fields, damage):
    block = b"".join(b"\r\n" + field for field in fields)
    if damage is not None:
        at, length, what = damage
        block = block[:at] + what + block[at + length :]
    if b"\r\n\r\n" in block or block[:1] not in {b"\r", b""}:
        return  # the server cuts the block at the blank line
    head = read(block)
    message = aiohttp_reads(block)
    if head.admitted:
        assert message is not None
        assert not message.should_close
    if head.length != UNKNOWN and message is not None:
        assert int(message.headers.get("Content-Length", 0)) == head.length
        assert not message.chunked
        assert not message.upgrade


def test_a_plain_block_is_admitted_with_its_length():
    assert read(HOST + JSON + b"\r\nContent-Length: 7") == Head(
        7, admitted=True, json=True, names=frozenset({"host", "content-type"})
    )


def test_a_block_without_length_has_no_body():
    assert read(HOST) == Head(0, admitted=True, json=False, names=frozenset({"host"}))


@pytest.mark.parametrize(
    "field",
    [
        b"Expect: 100-continue",
        b"Content-Encoding: gzip",
        b"Origin: http://localhost",
        b"Connection: close",
        b"X-Request-Id: no good",
        b"X-Request-Id:",
    ],
)
def test_what_the_ordinary_lane_must_judge_is_framed_but_not_admitted(field):
    head = read(HOST + b"\r\n" + field + b"\r\nContent-Length: 7")
    assert (head.length, head.admitted) == (7, False)


@pytest.mark.parametrize(
    "block",
    [
        HOST + b"\r\nTransfer-Encoding: chunked",
        HOST + b"\r\nUpgrade: websocket",
        HOST + b"\r\nContent-Length: 7\r\nContent-Length: 7",
        HOST + b"\r\nContent-Length: 07",
        HOST + b"\r\nContent-Length:",
        HOST + HOST,
        HOST + b"\r\n folded",
        HOST + b"\r\nX: a\nY: b",
        HOST + b"\r\nX: " + b"a" * 5000,
        HOST + b"\r\nX: y" * 65,
        b"Host: localhost",
    ],
)
def test_the_end_of_an_odd_request_is_unknown(block):
    assert read(block) == Head(UNKNOWN)


def test_a_wrong_host_or_token_is_not_admitted():
    assert not read(b"\r\nHost: evil").admitted
    assert not fresh(b"sesame").read(HOST).admitted
    assert fresh(b"sesame").read(HOST + b"\r\nAuthorization: Bearer sesame").admitted


def test_a_good_request_id_comes_back_and_two_are_not_admitted():
    assert read(HOST + b"\r\nX-Request-Id: abc ") == Head(
        0, admitted=True, varies=True, request_id="abc", names=frozenset({"host"})
    )
    assert not read(HOST + b"\r\nX-Request-Id: a\r\nX-Request-Id: b").admitted


def test_blocks_that_differ_only_in_what_varies_share_one_entry():
    known = fresh()
    for number in range(500):
        block = HOST + b"\r\ntraceparent: 00-%032x-%016x-01\r\nX-Request-Id: r%d\r\nContent-Length: %d" % (
            number,
            number,
            number,
            number,
        )
        assert known.read(block).length == number
    assert len(known._shapes) == 1


def test_memory_for_blocks_is_bounded_in_count_and_size():
    known = fresh()
    for number in range(2000):
        known.read(HOST + b"\r\nX: %d" % number)
    known.read(HOST + b"\r\nX: " + b"a" * heads.MAX_BLOCK)
    assert len(known._shapes) <= 256
    assert max(map(len, known._shapes)) <= heads.MAX_BLOCK


def test_what_is_forgotten_is_judged_anew():
    gate = Gate(check_host=True)
    known = Heads(gate, 8190, 128)
    assert known.read(HOST).admitted
    gate.set_token(b"sesame")
    known.forget()
    assert not known.read(HOST).admitted
