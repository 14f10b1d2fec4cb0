"""Answers become responses with the same fields in the same order, and nothing in them breaks the message."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.serving import FixedClock

from pillion.runtime.operation import Answer, HotAnswer
from pillion.runtime.problems import Problem
from pillion.runtime.replies import Dates, Replies


def test_the_fields_of_an_answer_stand_in_one_order():
    response = Replies(FixedClock()).answer(Answer(body={"a": 1}, headers={"X-A": "b"}), "id")
    assert list(response.headers) == ["Content-Type", "Content-Length", "X-A", "Date", "Server", "X-Request-Id"]
    assert response.body == b'{"a":1}'


def test_bytes_go_out_as_they_are():
    response = Replies(FixedClock()).answer(Answer(body=b"\x00", media="application/x"), "id")
    assert (response.body, response.headers["Content-Type"]) == (b"\x00", "application/x")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_without_content_describes_none(status):
    response = Replies(FixedClock()).answer(Answer(status=status, body={"a": 1}), "id")
    assert response.body is None
    assert "Content-Length" not in response.headers
    assert "Content-Type" not in response.headers


def test_a_problem_is_rendered_with_its_instance_and_fields():
    problem = Problem(429, "x", "X", "Wait.", headers={"Retry-After": "1"}, extensions={"more": True})
    response = Replies(FixedClock()).problem(problem, "id-1")
    document = msgspec.json.decode(response.body)
    assert document["instance"] == "urn:pillion:request:id-1"
    assert document["more"] is True
    assert response.headers["Retry-After"] == "1"


@given(value=st.text(st.characters(max_codepoint=0x2FF), max_size=5))
def test_a_field_that_would_break_the_message_is_an_error_while_it_can_still_be_answered(value):
    breaks = any((ord(sign) < 32 and sign != "\t") or ord(sign) == 127 for sign in value)
    try:
        Replies(FixedClock()).answer(Answer(headers={"X-A": value}), "id")
    except ValueError:
        assert breaks
    else:
        assert not breaks


def test_the_lines_of_a_hot_answer_become_fields():
    answer = HotAnswer(200, "A: 1\r\nB: x: y\r\n", b"{}")
    response = Replies(FixedClock()).hot(answer, None)
    assert list(response.headers.items())[2:4] == [("A", "1"), ("B", "x: y")]
    assert "X-Request-Id" not in response.headers


@given(seconds=st.integers(0, 4_000_000_000), left=st.integers(1, 10**9))
def test_dates_are_those_of_rfc_9110_and_tell_how_long_they_hold(seconds, left):
    text, holds = Dates(FixedClock(seconds * 10**9 + 10**9 - left)).now_and_left()
    assert text == datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert holds == pytest.approx(left / 1e9)


def test_a_date_changes_with_the_second():
    clock = FixedClock(0)
    dates = Dates(clock)
    first = dates.now()
    clock.wall += 999_999_999
    assert dates.now() == first
    clock.wall += 1
    assert dates.now() != first


def test_responses_close_their_connection_while_draining():
    replies = Replies(FixedClock())
    replies.closing = True
    assert replies.answer(Answer(), "id").keep_alive is False
