"""The event parser against the standard's own algorithm, written down naively over the whole text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.runtime.sse import Event, EventParser, EventTooLong


def oracle(stream: bytes) -> list[Event]:
    """Section 9.2.6 of the HTML standard, over the complete stream at once."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines.pop()  # what follows the last line end is incomplete
    events, kind, data, last_id = [], "", "", ""
    for line in lines:
        if line == "":
            if data != "":
                events.append(Event(kind or "message", data[:-1], last_id))
            kind, data = "", ""
        elif not line.startswith(":"):
            field, colon, value = line.partition(":")
            if colon and value.startswith(" "):
                value = value[1:]
            if field == "event":
                kind = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                last_id = value
    return events


pieces = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"{}", b"snapshot", b"\0",
     b"\xef\xbb\xbf", "ü€".encode(), b"\xff", b"data: x\n\n", b"data:\n\n", b"id: 7\r\n"]
)  # fmt: skip
streams = st.lists(pieces, max_size=40).map(b"".join)


@given(streams, st.lists(st.integers(0, 200), max_size=8))
def test_any_stream_split_anywhere_gives_the_events_of_the_standard(stream, cuts):
    parser = EventParser(10_000)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    events = [e for start, end in itertools.pairwise(bounds) for e in parser.feed(stream[start:end])]

    assert events == oracle(stream)


@given(streams)
def test_byte_by_byte_is_the_same_as_at_once(stream):
    slow, quick = EventParser(10_000), EventParser(10_000)

    assert [e for i in range(len(stream)) for e in slow.feed(stream[i : i + 1])] == quick.feed(stream)


@pytest.mark.parametrize("endless", [b"data: " + b"x" * 200, b"data: xxxxxxxx\n" * 20, b"x" * 200])
def test_an_event_over_the_limit_is_refused_instead_of_kept(endless):
    with pytest.raises(EventTooLong, match="longer than 100 bytes"):
        EventParser(100).feed(endless)


def test_comments_and_finished_events_do_not_count_towards_the_limit():
    parser = EventParser(100)

    for _ in range(50):
        parser.feed(b": keep-alive\n")
        assert parser.feed(b"data: " + b"x" * 80 + b"\n\n") == [Event("message", "x" * 80, "")]
