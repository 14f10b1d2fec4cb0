"""Routing against regular expressions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.webhooks import engine
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.engine import Router, matches

segment = st.sampled_from(["a", "b", "order", "x-y", "x_1"])
types = st.lists(segment, min_size=1, max_size=4).map(".".join)
patterns = st.lists(segment | st.just("*"), min_size=1, max_size=4).map(".".join)


def as_regex(pattern):
    parts = [r"[^.]+" if part == "*" else re.escape(part) for part in pattern.split(".")]
    if pattern.split(".")[-1] == "*":
        parts[-1] = ".+"
    return r"\.".join(parts)


@given(pattern=patterns, event=types)
def test_a_pattern_matches_what_its_regular_expression_matches(pattern, event):
    assert matches(pattern, event) == bool(re.fullmatch(as_regex(pattern), event))


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ("*", "anything.at.all", True),
        ("order.*", "order.created", True),
        ("order.*", "order.line.added", True),
        ("order.*", "order", False),
        ("order.*", "orders.created", False),
        ("*.created", "order.created", True),
        ("*.created", "order.line.created", False),
        ("order.*.paid", "order.12.paid", True),
        ("order", "order", True),
        ("order", "Order", False),
    ],
)
def test_examples(pattern, event, expected):
    assert matches(pattern, event) is expected


def endpoint(*events):
    return CompiledEndpoint(
        url="https://x/",
        events=events,
        secret=("s", "k"),
        schedule_ns=(),
        jitter_percent=0,
        respect_retry_after=True,
        timeout_ns=1,
        concurrency=1,
        headers=(),
        allow=(),
        retain_succeeded_ns=1,
        retain_failed_ns=1,
        excerpt_bytes=0,
    )


@given(rules=st.dictionaries(types, st.lists(patterns, min_size=1, max_size=3), max_size=4), events=st.lists(types))
def test_a_router_gives_each_matching_endpoint_once_in_order(rules, events):
    router = Router({name: endpoint(*wanted) for name, wanted in rules.items()})
    for event in events:
        expected = sorted(n for n, wanted in rules.items() if any(re.fullmatch(as_regex(w), event) for w in wanted))
        assert list(router.route(event)) == expected
        assert list(router.route(event)) == expected, "remembered is the same"


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(engine, "REMEMBERED", 10)
    router = Router({"a": endpoint("*")})
    for n in range(100):
        router.route(f"t.{n}")
    assert len(router._known) <= 10
