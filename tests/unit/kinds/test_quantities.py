"""Durations and sizes: text in, exact integers out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.quantities import format_duration, parse_duration, parse_percentage, parse_size

MS = 1_000_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text, milliseconds):
    assert parse_duration(text) == milliseconds * MS


@pytest.mark.parametrize("text", ["", "5", "5 m", "-5m", "1.5h", "5min", "30m1h", "1h1h", "5m\n", "٣s"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="30s"):
        parse_duration(text)


@given(st.integers(0, 10**9).map(lambda n: n * MS))
def test_a_written_duration_reads_back(nanoseconds):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("64Ki", 65_536), ("10Mi", 10_485_760), ("1Gi", 1 << 30)]
)
def test_a_size_is_in_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10M", "10 Mi", "-1", "1.5Gi", "64KiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="64Ki"):
        parse_size(text)


@pytest.mark.parametrize("text", ["101%", "-1%", "5", "%", "1.5%"])
def test_what_is_no_percentage_is_refused(text):
    with pytest.raises(ValueError, match="percentage"):
        parse_percentage(text)
