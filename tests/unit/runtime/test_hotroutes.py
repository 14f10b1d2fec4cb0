"""Where request lines lead, what is remembered, and how much of a request is still to come."""

import pytest
from aiohttp.web_protocol import RequestHandler
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.serving import FixedClock

from pillion.runtime.conditions import Conditions
from pillion.runtime.endpoints import HotEndpoint
from pillion.runtime.gate import Gate
from pillion.runtime.heads import UNKNOWN
from pillion.runtime.hotlane import LaneProtocol
from pillion.runtime.hotroutes import Lane
from pillion.runtime.operation import HotAnswer, HotOperation, Operation, Parameter
from pillion.runtime.replies import Replies
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.traffic import Traffic

HOST = b"\r\nHost: localhost"
PATHS = [
    ("POST", "/v1/keys/{key}:explain"),
    ("GET", "/v1/keys/list"),
    ("POST", "/v1/keys/{key}"),
    ("POST", "/v1/check"),
]


def nothing(*_) -> HotAnswer:
    return HotAnswer(200, "", b"")


def lane(*shortcuts: Operation, **settings) -> Lane:
    gate, replies = Gate(check_host=True), Replies(FixedClock())
    enforce = Parameter(name="enforce", place="query", description="How.", schema={"enum": ["status"]})
    operations = [
        HotOperation(
            method="POST",
            path="/v1/check",
            name="check",
            summary="C.",
            tag="t",
            answer=nothing,
            body=dict,
            parameters=(enforce,),
            max_body=100,
        ),
        HotOperation(
            method="POST", path="/v1/keys/{key}", name="key", summary="K.", tag="t", answer=nothing, body=dict
        ),
        HotOperation(method="GET", path="/v1/keys/{key}", name="keys", summary="K.", tag="t", answer=nothing),
    ]
    return Lane(
        [HotEndpoint(operation, gate, replies, 1.0) for operation in operations],
        shortcuts,
        [*PATHS, ("GET", "/v1/keys/{key}")],
        gate=gate,
        replies=replies,
        traffic=Traffic(Conditions()),
        clock=FixedClock(),
        settings=ServerSettings(**settings),
    )


@pytest.mark.parametrize(
    ("line", "leads"),
    [
        (b"POST /v1/check HTTP/1.1", ("", "")),
        (b"POST /v1/check?enforce=status HTTP/1.1", ("", "enforce=status")),
        (b"POST /v1/check?a=%20b HTTP/1.1", ("", "a=%20b")),
        (b"POST /v1/check?enforce=no HTTP/1.1", None),
        (b"POST /v1/keys/a.b~c:d HTTP/1.1", ("a.b~c:d", "")),
        (b"POST /v1/keys/a:explain HTTP/1.1", None),
        (b"GET /v1/keys/a:explain HTTP/1.1", ("a:explain", "")),
        (b"GET /v1/keys/list HTTP/1.1", None),
        (b"POST /v1/keys/list HTTP/1.1", ("list", "")),
        (b"POST /v1/keys/ HTTP/1.1", None),
        (b"POST /v1/keys/.. HTTP/1.1", None),
        (b"POST /v1/keys/a/b HTTP/1.1", None),
        (b"POST /v1/keys/%61 HTTP/1.1", None),
        (b"POST /v1/check#x HTTP/1.1", None),
        (b"PUT /v1/check HTTP/1.1", None),
        (b"POST /v1/check HTTP/1.0", None),
        (b"POST  /v1/check HTTP/1.1", None),
        (b" POST /v1/check HTTP/1.1", None),
        (b"POST http://localhost/v1/check HTTP/1.1", None),
        (b"POST /v1/check?" + b"a" * 1100 + b" HTTP/1.1", None),
        (b"", None),
    ],
)
def test_only_plain_lines_lead_to_hot_routes(line, leads):
    plan = lane().plan(line + HOST)
    assert (plan and (plan.rest, plan.query)) == leads


def test_a_plan_tells_where_the_body_stands():
    head = b"POST /v1/check HTTP/1.1" + HOST + b"\r\nContent-Type: application/json\r\nContent-Length: 7"
    plan = lane().plan(head)
    assert (plan.body, plan.end) == (len(head) + 4, len(head) + 11)


@pytest.mark.parametrize(
    "fields",
    [
        b"\r\nContent-Type: application/json\r\nContent-Length: 101",
        b"\r\nContent-Type: text/plain\r\nContent-Length: 7",
        b"\r\nContent-Length: 7",
    ],
)
def test_a_body_that_the_ordinary_lane_refuses_is_left_to_it(fields):
    assert lane().plan(b"POST /v1/check HTTP/1.1" + HOST + fields) is None


def test_a_route_that_reads_no_body_takes_none():
    assert (
        lane().plan(b"GET /v1/keys/a HTTP/1.1" + HOST + b"\r\nContent-Type: application/json\r\nContent-Length: 1")
        is None
    )


def test_heads_that_vary_are_not_remembered():
    one = lane()
    for number in range(100):
        assert one.plan(b"GET /v1/keys/a HTTP/1.1" + HOST + b"\r\nX-Request-Id: r%d" % number)
    assert not one.plans
    one.plan(b"GET /v1/keys/a HTTP/1.1" + HOST)
    assert len(one.plans) == 1


def test_memory_for_heads_and_lines_is_bounded():
    one = lane()
    for number in range(12_000):
        one.plan(b"GET /v1/keys/k%d HTTP/1.1" % number + HOST)
    assert sum(map(len, one.plans)) + 300 * len(one.plans) <= 2 << 20
    assert len(one.plans) > 1000
    assert len(one._lines) <= 1024


IDS = st.tuples(
    st.sampled_from([b"traceparent", b"TraceParent", b"tracestate", b"X-Request-Id", b"x-request-id", b"X-Other"]),
    st.sampled_from(
        [b"aaaa", b"bbbb", b"cc-1", b"a b ", b" a  ", b"-abc", b"a\tbc", b"a\rbc", b"a\r\nb", b"", b"a:bc", b"\xffabc"]
    ),
)


@settings(max_examples=120)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b"]), st.lists(IDS, max_size=3), st.booleans(), st.sampled_from([b"", b" "])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_lane_that_has_seen_similar_heads_decides_as_one_that_has_seen_none(requests):
    seasoned = lane()
    for key, ids, first, space in requests:
        fields = b"".join(b"\r\n%b:%b%b" % (name, space, value) for name, value in ids)
        head = b"GET /v1/keys/%b HTTP/1.1" % key + (HOST + fields if first else fields + HOST)
        fresh = lane().plan(head)
        known = seasoned.plans.get(head) or seasoned.plan(head)
        assert (known and (known.rest, known.end, known.request_id)) == (
            fresh and (fresh.rest, fresh.end, fresh.request_id)
        )


def test_heads_with_other_ids_are_found_without_reading_them():
    one = lane()
    for number in range(10):
        head = b"GET /v1/keys/a HTTP/1.1" + HOST + b"\r\ntraceparent: %055d\r\nX-Request-Id: r%d" % (number, number)
        assert one.plan(head).request_id == f"r{number}"
        assert one._varying.find(head) is not None
    assert one._varying.find(head.replace(b"/a ", b"/b ")) is None
    one.forget()
    assert one._varying.find(head) is None


def test_memory_for_similar_heads_is_bounded():
    one = lane()
    for number in range(5_000):
        one.plan(
            b"GET /v1/keys/%b HTTP/1.1" % (b"k" * (number % 150 + 1))
            + HOST
            + b"\r\nX: %05d\r\nX-Request-Id: r" % number
        )
    assert len(one._varying._layouts) <= 64
    assert max(len(layout.plans) for layout in one._varying._layouts.values()) <= 64


@pytest.mark.parametrize(
    ("data", "owed"),
    [
        (b"GET /x HTTP/1.1" + HOST + b"\r\n\r\n", 0),
        (b"PUT /x HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\n\r\nab", 3),
        (b"PUT /x HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\n\r\nabcde", 0),
        (b"PUT /x HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\n\r\nabcdefg", UNKNOWN),
        (b"GET /x HTTP/1.1" + HOST + b"\r\n", UNKNOWN),
        (b"PUT /x HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked\r\n\r\n", UNKNOWN),
        (b"CONNECT x:1 HTTP/1.1" + HOST + b"\r\n\r\n", UNKNOWN),
        (b"GET /x HTTP/1.0" + HOST + b"\r\n\r\n", UNKNOWN),
        (b"\r\nGET /x HTTP/1.1" + HOST + b"\r\n\r\n", UNKNOWN),
        (b"GET /x HTTP/1.1\r\n\r\n", 0),
        (b"", UNKNOWN),
    ],
)
def test_what_is_still_owed_of_a_request(data, owed):
    assert lane().owed(data) == owed


@given(data=st.binary(max_size=80) | st.text(st.sampled_from("GETPOS /v1chek\r\nHost:cal0 .")).map(str.encode))
def test_nothing_that_can_be_sent_makes_the_lane_fail(data):
    one = lane()
    one.plan(data)
    one.owed(data)
    one.whole(data)


def test_the_internals_of_aiohttp_that_the_lane_relies_on_are_there():
    for name in (
        "_waiter",
        "_messages",
        "_request_count",
        "_next_keepalive_close_time",
        "_process_keepalive",
        "_keepalive_timeout",
        "_paused",
        "_reading_paused",
        "_buffer_paused",
        "_pause_transport_reading",
        "_resume_transport_reading",
        "handle_error",
    ):
        assert hasattr(RequestHandler, name)
    assert LaneProtocol.data_received is not RequestHandler.data_received
