"""What may be published, and the payload that is made of it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.runtime.problems import Problem
from pillion.webhooks.events import (
    CloudEvent,
    Draft,
    Event,
    cloud_event_id,
    from_cloud_event,
    from_event,
    from_headers,
    timestamp,
)

NOW = 1_800_000_000_123_000_000
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
types = st.from_regex(r"[A-Za-z0-9_-]{1,8}(\.[A-Za-z0-9_-]{1,8}){0,3}", fullmatch=True)


def event(text: str) -> Event:
    return msgspec.json.decode(text, type=Event)


def cloud(**members) -> CloudEvent:
    base = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
    return msgspec.json.decode(json.dumps(base | members), type=CloudEvent)


@given(data=json_values, kind=types)
def test_the_payload_is_json_with_type_timestamp_and_the_same_data(data, kind):
    raw = json.dumps(data)
    draft = from_event(event(json.dumps({"type": kind, "data": data})))
    payload = draft.payload(NOW)
    assert json.loads(payload) == {"type": kind, "timestamp": "2027-01-15T08:00:00.123Z", "data": json.loads(raw)}
    assert payload.endswith(b'"data":' + raw.encode() + b"}")


@given(data=st.dictionaries(st.text(max_size=4), st.integers(), max_size=5), indent=st.integers(0, 3))
def test_spacing_and_order_do_not_change_what_was_said(data, indent):
    one = event(json.dumps({"type": "a", "data": data}))
    other = event(json.dumps({"data": dict(reversed(data.items())), "type": "a"}, indent=indent))
    assert from_event(one).fingerprint() == from_event(other).fingerprint()


@given(one=st.tuples(types, json_values, st.text(max_size=5)), other=st.tuples(types, json_values, st.text(max_size=5)))
def test_different_contents_have_different_fingerprints(one, other):
    def draft(said):
        return Draft(id=None, type=said[0], data=json.dumps(said[1]).encode(), partition_key=said[2])

    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (draft(one).fingerprint() == draft(other).fingerprint()) == same


def test_a_number_that_no_double_holds_is_the_same_only_as_the_same_bytes():
    assert event('{"type":"a","data":1e999}').data != b""
    drafts = [from_event(event(f'{{"type":"a","data":{n}}}')) for n in ("1e999", "1e999", "10e998")]
    assert drafts[0].fingerprint() == drafts[1].fingerprint() != drafts[2].fingerprint()


@pytest.mark.parametrize("bad", ["a.b", "", "x" * 129, "ü", "a~b", "a\n"])
def test_an_id_that_cannot_be_signed_is_refused(bad):
    text = json.dumps({"type": "a", "data": 1, "id": bad})
    with pytest.raises((Problem, msgspec.ValidationError)) as caught:
        from_event(event(text))
    if isinstance(caught.value, Problem):
        assert caught.value.errors[0].pointer == "#/id"


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a b", "ä", "a/b", "x" * 257, "a\n"])
def test_a_type_that_is_not_dotted_words_is_refused(bad):
    with pytest.raises((Problem, msgspec.ValidationError)):
        from_event(event(json.dumps({"type": bad, "data": 1})))


def test_data_that_is_no_utf_8_is_refused():
    broken = msgspec.json.decode(b'{"type":"a","data":"\xff"}', type=Event)
    with pytest.raises(Problem, match="not UTF-8"):
        from_event(broken)


def test_a_cloud_event_keeps_its_time_source_and_subject():
    draft = from_cloud_event(cloud(time="2026-12-24T18:00:00+01:00", subject="o-1", data={"n": 1}, partitionkey="c"))
    assert json.loads(draft.payload(NOW)) == {
        "type": "order.created",
        "timestamp": "2026-12-24T18:00:00+01:00",
        "source": "/shop",
        "subject": "o-1",
        "data": {"n": 1},
    }
    assert draft.partition_key == "c"


def test_a_cloud_event_is_identified_by_source_and_id():
    assert cloud_event_id("/a", "1") == from_cloud_event(cloud(source="/a", data=2)).id
    pairs = [("/a", "1"), ("/a", "2"), ("/b", "1"), ("/a1", ""), ("", "/a1"), ('/a","1', ""), ("/a", '","1')]
    assert len({cloud_event_id(*pair) for pair in pairs}) == len(pairs)
    assert "." not in cloud_event_id("https://a.b/c", "x.y")


def test_null_attributes_and_extensions_are_allowed():
    draft = from_cloud_event(cloud(subject=None, time=None, traceparent="00-abc", dataschema=None))
    assert json.loads(draft.payload(NOW))["data"] is None


@pytest.mark.parametrize(
    "members",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"source": ""},
        {"type": "a b"},
        {"time": "yesterday"},
        {"time": "2026-13-01T00:00:00Z"},
        {"time": "2026-12-24T18:00:00Z\n"},
        {"datacontenttype": "text/xml"},
        {"data_base64": "AA=="},
        {"partitionkey": "x" * 257},
        {"subject": 1},
    ],
)
def test_what_is_no_deliverable_cloud_event_is_refused(members):
    with pytest.raises((Problem, msgspec.ValidationError)):
        from_cloud_event(cloud(**members))


def test_binary_mode_reads_attributes_from_headers_and_data_from_the_body():
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "%E2%82%AC 1",
        "ce-source": "/shop",
        "ce-type": "order.created",
        "ce-data": '"forged"',
        "content-type": "application/json",
    }
    found = from_headers(headers, b'{"n":1}')
    assert (found.id, bytes(found.data)) == ("€ 1", b'{"n":1}')
    assert from_headers(headers, b"").data is msgspec.UNSET


def test_binary_mode_names_the_wrong_header():
    with pytest.raises(Problem) as caught:
        from_headers({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "a b"}, b"1")
    assert caught.value.errors[0].pointer == "header:ce-type"


@given(st.integers(0, 253_402_300_799_999_999_999))
def test_times_read_back(nanoseconds):
    from datetime import datetime

    moment = datetime.fromisoformat(timestamp(nanoseconds))
    assert int(moment.timestamp() * 1000) in (nanoseconds // 1_000_000, nanoseconds // 1_000_000 - 1)
