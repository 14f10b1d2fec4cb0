"""What every answer means."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.delivery.model import SECOND, Delivered, DisableDestination, Rejected, Retry
from pillion.webhooks.answers import outcome, pause_ns

NOW = 1_800_000_000 * SECOND


def judge(status, retry_after="", control=""):
    return outcome(status, retry_after=retry_after, control=control, now_ns=NOW, excerpt=b"x")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_every_2xx_is_delivered(status):
    assert judge(status) == Delivered(status=status, excerpt=b"x")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status):
    assert "redirects are not followed" in judge(status).reason
    assert isinstance(judge(status), Retry)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 500, 501, 503, 507, 599])
def test_other_errors_are_tried_again_by_schedule(status):
    assert isinstance(judge(status), Retry)
    assert judge(status).retry_after_ns is None


@pytest.mark.parametrize("status", [429, 502, 504])
def test_a_receiver_under_load_slows_the_endpoint_down(status):
    assert judge(status).retry_after_ns == SECOND
    assert judge(status, retry_after="30").retry_after_ns == 30 * SECOND


@pytest.mark.parametrize("status", [400, 404, 503])
def test_retry_after_counts_on_every_failure(status):
    assert judge(status, retry_after="7").retry_after_ns == 7 * SECOND


def test_gone_disables():
    assert isinstance(judge(410), DisableDestination)
    assert judge(410).reason == "410 Gone: the receiver wants no more"


def test_an_unread_format_is_final():
    assert isinstance(judge(415), Rejected)


def test_the_control_header():
    assert isinstance(judge(500, control="disable"), DisableDestination)
    assert isinstance(judge(500, control="abort-message"), Rejected)
    assert isinstance(judge(500, control="something"), Retry)
    assert judge(200, control="disable").disable == "the receiver answered webhook-delivery: disable"
    assert judge(200, control="abort-message") == Delivered(status=200, excerpt=b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("120", 120 * SECOND),
        (" 5 ", 5 * SECOND),
        ("1.5", 1_500_000_000),
        ("2.", 2 * SECOND),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("9" * 13, None),
        ("tomorrow", None),
        ("٣", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30 * SECOND),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30 * SECOND),
        ("Fri Jan 15 08:00:30 2027", 30 * SECOND),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 99 Jan 2027 07:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text, expected):
    assert pause_ns(text, NOW) == expected


@given(st.integers(0, 10**9))
def test_a_date_means_what_it_says(seconds):
    date = formatdate(NOW // SECOND + seconds, usegmt=True)
    assert pause_ns(date, NOW) == seconds * SECOND


@given(st.text(max_size=64))
def test_no_text_breaks_it(text):
    pause = pause_ns(text, NOW)
    assert pause is None or pause >= 0
