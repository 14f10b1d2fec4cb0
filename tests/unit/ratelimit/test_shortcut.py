"""The shortcut and the memory of bodies change how fast an answer comes, never a byte of it."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from pillion.ratelimit.checks import MAX_REMEMBERED, MAX_REMEMBERED_BYTES, Checks
from pillion.ratelimit.compiled import CompiledLimit, CompiledPolicy, CompiledRule, KeyPart
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.engine import Engine
from pillion.runtime.operation import OK_JSON

SECOND = 10**9
NOW = 1_750_000_000 * SECOND + 123_456_789


def policy(algorithm, requests, per, burst):
    limit = CompiledLimit(algorithm=algorithm, requests=requests, per_ns=per, burst=burst)
    rule = CompiledRule(name="r", match=(), key=(KeyPart(attribute="user"),), limits=(limit,), percent=100)
    return CompiledPolicy(rules=(rule,))


class Way:
    """One way to an answer: remembered and short, short, or neither."""

    def __init__(self, name):
        self.name = name
        self.counters = Counters(5)
        self.engine = None

    def configure(self, policy):
        self.engine = Engine({"p": policy}, self.counters, self.engine.tallies if self.engine else None)
        self.engine.adopt()
        self.checks = Checks(self.engine, self.counters)
        if self.name == "general":
            self.checks._shortcuts = [lambda *_: None for _ in self.engine.limits]

    def answer(self, body, now, query):
        again = self.name == "again" and self.checks.again(body, lambda: now, 0)
        if again and (text := again("tail\r\n\r\n")) is not None:
            return text
        known = self.checks.remembered.get(body)
        if known and self.name == "remembered":
            short, key, index, cost, _ = known
            return short(key, index, cost, now, query != "") or self.checks.answer(query, body, now)
        return self.checks.answer(query, body, now)

    def state(self):
        shards = [shard for limit in self.engine.limits for shard in limit.shards]
        tally = self.engine.tallies["p"]
        return shards, tally.allowed, tally.limited, self.counters.keys, self.counters.evictions


@given(
    st.data(),
    st.sampled_from(["gcra", "fixedWindow"]),
    st.integers(1, 9) | st.integers(1, 10**9),
    st.sampled_from([1_000_000, SECOND, 7 * SECOND, 86_400 * SECOND]) | st.integers(1, 10**11),
)
@settings(max_examples=200)
def test_all_ways_give_the_same_bytes_and_leave_the_same_memory(data, algorithm, requests, per):
    ways = [Way(name) for name in ("remembered", "short", "general", "again")]
    now = NOW
    token = max(per // requests, 1)
    for _ in range(data.draw(st.integers(1, 3))):
        burst = data.draw(st.integers(1, 9))
        if algorithm == "fixedWindow":
            requests = burst
        for way in ways:
            way.configure(policy(algorithm, requests, per, burst))
        pauses = st.sampled_from([0, 0, 1, token, token - 1, per, -token, -per, "edge", "brink"]) | st.integers(
            0, 3 * token
        )
        costs = st.sampled_from([1, 1, burst, burst + 1])
        requests_made = st.lists(
            st.tuples(pauses, st.sampled_from("aaabcdefg"), costs, st.sampled_from(["", "", "enforce=status"]))
        )
        for pause, user, cost, query in data.draw(requests_made):
            edge = per - now % per
            now += {"edge": edge, "brink": edge - 1}.get(pause, pause)
            body = msgspec.json.encode({"policy": "p", "attributes": {"user": user}, "cost": cost})
            answers = [way.answer(body, now, query) for way in ways]

            assert answers[0] == answers[1] == answers[2]
            assert answers[3] in (answers[0], as_text(answers[0]))
            assert ways[0].state() == ways[1].state() == ways[2].state() == ways[3].state()


def as_text(answer):
    """What the lane makes of an answer."""
    return f"{OK_JSON}{len(answer.body)}\r\n{answer.headers}tail\r\n\r\n{answer.body.decode()}"


@pytest.mark.parametrize(("requests", "per"), [(1, SECOND), (1, SECOND + 1), (2, 3 * SECOND), (100, 60 * SECOND)])
def test_the_seconds_until_more_are_the_same(requests, per):
    ways = [Way("short"), Way("general"), Way("again")]
    for way in ways:
        way.configure(policy("gcra", requests, per, 3))
    for step in range(12):
        body = b'{"attributes":{"user":"a"}}'
        answers = [way.answer(body, NOW + step * per // requests // 4, "") for way in ways]

        assert answers[0] == answers[1]
        assert answers[2] in (answers[0], as_text(answers[0]))


@pytest.fixture
def checks():
    way = Way("remembered")
    way.configure(policy("gcra", 5, SECOND, 5))
    return way.checks


def test_a_peek_is_not_remembered(checks):
    checks.answer("", b'{"attributes":{"user":"a"},"peek":true}', NOW)

    assert checks.remembered == {}


def test_a_long_body_is_not_remembered(checks):
    checks.answer("", b'{"attributes":{"user":"%s"}}' % (b"a" * MAX_REMEMBERED_BYTES), NOW)

    assert checks.remembered == {}


def test_what_is_remembered_is_bounded(checks):
    for user in range(MAX_REMEMBERED + 10):
        checks.answer("", b'{"attributes":{"user":"%d"}}' % user, NOW)

    assert len(checks.remembered) == 10


def test_what_answers_again_ends_with_the_configuration(checks):
    body = b'{"attributes":{"user":"a"}}'
    checks.answer("", body, NOW)
    again = checks.again(body, lambda: NOW, 0)

    assert again("") is not None
    checks.live.now = False
    assert again("") is None


def test_nothing_answers_again_what_is_not_plain(checks):
    peek = b'{"attributes":{"user":"a"},"peek":true}'
    checks.answer("", peek, NOW)

    assert checks.again(peek, lambda: NOW, 0) is None
