"""Requests are counted in plain integers and shown as Prometheus wants them."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pillion.runtime.conditions import Conditions
from pillion.runtime.traffic import BUCKETS, Durations, Traffic


@given(seconds=st.lists(st.floats(0, 20) | st.sampled_from(BUCKETS)))
def test_buckets_are_those_of_the_official_histogram(seconds):
    ours, theirs = Durations(), Histogram("x", "X.", buckets=BUCKETS, registry=None)
    for one in seconds:
        ours.observe(one)
        theirs.observe(one)
    samples = next(iter(theirs.collect())).samples
    expected = [sample.value for sample in samples if sample.name == "x_bucket"]
    assert [count for _, count in ours.cumulative()] == expected


def test_the_two_lanes_are_added_up():
    traffic = Traffic(Conditions())
    hot = traffic.hot_count("/r", "POST")
    hot.statuses[200] = 5
    traffic.finished("/r", "POST", 200, 0.001)
    traffic.finished("/r", "POST", 400, 0.001)
    assert traffic.requests() == {("/r", "POST", 200): 6, ("/r", "POST", 400): 1}
    assert traffic.hot_requests() == {"/r": 5}


def test_methods_that_clients_invent_are_one_label():
    traffic = Traffic(Conditions())
    for number in range(100):
        traffic.finished("unmatched", f"M{number}", 405, 0.0)
    traffic.refused(400)
    assert set(traffic.requests()) == {("unmatched", "OTHER", 405), ("unmatched", "OTHER", 400)}


def test_both_text_formats_can_be_read_back():
    registry = CollectorRegistry()
    traffic = Traffic(Conditions())
    registry.register(traffic)
    traffic.finished("/r", "GET", 200, 0.3)
    assert b'pillion_http_request_duration_seconds_bucket{le="0.5",route="/r"} 1.0' in generate_latest(registry)
    families = {family.name for family in text_string_to_metric_families(generate_openmetrics(registry).decode())}
    assert "pillion_http_requests" in families
