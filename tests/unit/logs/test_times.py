"""When a record was written, in the forms that applications write."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.logs.times import record_time, since

moments = st.integers(10**15, 4 * 10**15).map(
    lambda micros: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(moments, zones, st.sampled_from(["time", "timestamp", "@timestamp", "ts"]), st.sampled_from("T "))
def test_written_times_are_read_in_their_zone(moment, zone, field, gap):
    record = json.dumps({"pod": "p", field: moment.astimezone(zone).isoformat(gap)}).encode()

    assert record_time(record) == pytest.approx(moment.timestamp(), abs=1e-5)


@given(moments, st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]))
def test_numbers_are_seconds_or_parts_of_them(moment, unit):
    seconds = int(moment.timestamp())

    assert record_time(json.dumps({"ts": seconds * unit}).encode()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("message", "time"),
    [
        ("2026-05-01 12:00:00,123 INFO started", datetime(2026, 5, 1, 12, 0, 0, 123_000, UTC)),
        ("[2026-05-01T12:00:00Z] started", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00+0200 started", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-13-41 12:00:00 started", None),
        ("started at 2026-05-01 12:00:00", None),
    ],
)
def test_lines_of_text_that_begin_with_their_time(message, time):
    record = json.dumps({"source": "app", "message": message}, separators=(",", ":")).encode()

    assert record_time(record) == (time.timestamp() if time else None)


@given(st.lists(st.one_of(st.none(), st.integers(1_000_000_000, 1_000_000_100)), max_size=12), st.integers(0, 100))
def test_a_record_without_a_time_belongs_to_the_one_before_it(times, offset):
    start = 1_000_000_000 + offset
    records = [(b'{"ts":%d}' % time if time else b'{"more":1}') for time in times]
    expected, last = [], None
    for index, time in enumerate(times):
        last = time or last
        if last is None or last >= start:
            expected.append(records[index])

    assert list(since(records, start)) == expected
