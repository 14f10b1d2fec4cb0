"""The engine against oracles that share nothing with it: a token bucket in fractions, and a count per window."""

import itertools
from fractions import Fraction

import hypothesis.strategies as st
from hypothesis import given, settings

from pillion.ratelimit.compiled import CompiledLimit, CompiledPolicy, CompiledRule, Condition, KeyPart
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.decisions import NEVER
from pillion.ratelimit.engine import Engine

EPOCH = 1_750_000_000_123_456_789


class Bucket:
    """A token bucket that refills continuously, in exact fractions of a token."""

    def __init__(self, limit):
        self.rate = Fraction(limit.requests, limit.per_ns)
        self.burst = limit.burst
        self.tokens = Fraction(limit.burst)
        self.seen = None

    def refill(self, now):
        if self.seen is not None:
            self.tokens = min(Fraction(self.burst), self.tokens + (now - self.seen) * self.rate)
        self.seen = now

    def left(self, now):
        self.refill(now)
        return int(self.tokens)

    def take(self, cost, now):
        self.refill(now)
        self.tokens -= cost

    def fits(self, cost, now):
        self.refill(now)
        return self.tokens >= cost

    def wait(self, cost, now):
        self.refill(now)
        if cost > self.burst:
            return NEVER
        return max(_up((cost - self.tokens) / self.rate), 0)

    def reset(self, now):
        self.refill(now)
        return _up((self.burst - self.tokens) / self.rate)


class Window:
    """Counts per window."""

    def __init__(self, limit):
        self.limit = limit
        self.used = {}

    def left(self, now):
        return self.limit.burst - self.used.get(now // self.limit.per_ns, 0)

    def take(self, cost, now):
        window = now // self.limit.per_ns
        self.used[window] = self.used.get(window, 0) + cost

    def fits(self, cost, now):
        return self.left(now) >= cost

    def wait(self, cost, now):
        if cost > self.limit.burst:
            return NEVER
        return 0 if self.fits(cost, now) else self.limit.per_ns - now % self.limit.per_ns

    def reset(self, now):
        return self.limit.per_ns - now % self.limit.per_ns if now // self.limit.per_ns in self.used else 0


def _up(number):
    return -(-number.numerator // number.denominator)


def oracle_of(limit):
    return Bucket(limit) if limit.algorithm == "gcra" else Window(limit)


PERIODS = st.sampled_from([1_000_000, 7_000_000, 999_999_999, 10**9, 60 * 10**9, 86_400 * 10**9]) | st.integers(
    1, 10**10
)


@st.composite
def gcra(draw):
    requests = draw(st.integers(1, 12) | st.integers(1, 10**9))
    burst = draw(st.integers(1, 12) | st.just(requests))
    return CompiledLimit(algorithm="gcra", requests=requests, per_ns=draw(PERIODS), burst=burst)


@st.composite
def fixed_window(draw):
    requests = draw(st.integers(1, 12) | st.integers(1, 10**9))
    return CompiledLimit(algorithm="fixedWindow", requests=requests, per_ns=draw(PERIODS), burst=requests)


def steps(limit):
    """Pauses and costs that hit the edges of *limit*: none, one token, one token less a nanosecond, a window, long silence."""
    token = max(limit.per_ns // limit.requests, 1)
    pauses = st.sampled_from([0, 0, 1, token, token - 1, token + 1, limit.per_ns, 10 * limit.per_ns]) | st.integers(
        0, 3 * token
    )
    costs = st.sampled_from([1, 1, 1, limit.burst, limit.burst + 1]) | st.integers(1, limit.burst)
    return st.lists(st.tuples(pauses, st.sampled_from("ab"), costs), min_size=1, max_size=40)


def rule(*limits, name="r", key=("user",), match=(), percent=100):
    parts = tuple(KeyPart(attribute=one) for one in key)
    return CompiledRule(name=name, match=match, key=parts, limits=limits, percent=percent)


def engine_of(*rules, counters=None, **fields):
    counters = counters or Counters(100_000)
    engine = Engine({"p": CompiledPolicy(rules=rules, **fields)}, counters)
    engine.adopt()
    return engine


def stored(engine):
    """Every counter of the engine, as it stands in memory."""
    return {
        (index, key): level
        for index, limit in enumerate(engine.limits)
        for shard in limit.shards
        for key, level in shard.items()
    }


@given(st.data(), gcra() | fixed_window(), st.booleans())
@settings(max_examples=300)
def test_one_limit_decides_exactly_as_the_oracle(data, limit, general):
    """Also where the sweep comes between, and on the general path that single limits do not take."""
    engine = engine_of(rule(limit))
    if general:
        engine.policies[0].rules[0].single = False
    oracles = {user: oracle_of(limit) for user in "ab"}
    now = EPOCH
    for pause, user, cost in data.draw(steps(limit)):
        now += pause
        engine._counters.sweep(now)
        oracle = oracles[user]
        wait = oracle.wait(cost, now)
        if fits := oracle.fits(cost, now):
            oracle.take(cost, now)
        decision = engine.check("p", {"user": user}, cost, now)

        expected = (fits, oracle.left(now), oracle.reset(now), wait)
        assert (decision.allowed, decision.remaining, decision.reset_ns, decision.retry_ns) == expected


@given(st.data(), gcra())
def test_no_window_admits_more_than_the_burst_and_the_rate(data, limit):
    engine = engine_of(rule(limit))
    now, admitted = EPOCH, []
    for pause, user, cost in data.draw(steps(limit)):
        now += pause
        if user == "a" and engine.check("p", {"user": user}, cost, now).allowed:
            admitted.append((now, cost))

    for first, last in itertools.combinations_with_replacement(range(len(admitted)), 2):
        window = admitted[last][0] - admitted[first][0]
        total = sum(cost for _, cost in admitted[first : last + 1])
        assert total <= limit.burst + Fraction(window * limit.requests, limit.per_ns)


@given(st.data(), gcra() | fixed_window())
def test_waiting_as_told_is_enough_and_a_nanosecond_less_is_not(data, limit):
    engine = engine_of(rule(limit))
    now = EPOCH
    for pause, user, cost in data.draw(steps(limit)):
        now += pause
        decision = engine.check("p", {"user": user}, cost, now)
        if decision.retry_ns > 0:
            wait = decision.retry_ns
            assert not engine.check("p", {"user": user}, cost, now + wait - 1, peek=True).allowed
            assert engine.check("p", {"user": user}, cost, now + wait, peek=True).allowed
        if decision.more_ns != NEVER:
            more = engine.check("p", {"user": user}, 1, now + decision.more_ns, peek=True).remaining
            before = engine.check("p", {"user": user}, 1, now + decision.more_ns - 1, peek=True).remaining
            assert before == decision.remaining < more


LIMITS = gcra() | fixed_window()
ROUTES = ("/a", "/b")


@st.composite
def rules(draw):
    """Up to three rules: for one route or all, by user or together, with one or two limits, enforced, shadowed or for nobody."""
    made = []
    for number in range(draw(st.integers(1, 3))):
        limits = draw(
            st.lists(
                LIMITS, min_size=1, max_size=2, unique_by=lambda limit: (limit.algorithm, limit.per_ns, limit.requests)
            )
        )
        if len({(limit.algorithm, limit.per_ns) for limit in limits}) < len(limits):
            limits = limits[:1]
        match = draw(st.sampled_from([(), (Condition(attribute="route", test="exact", value="/a"),)]))
        key = draw(st.sampled_from([("user",), ()]))
        made.append(
            rule(*limits, name=f"r{number}", key=key, match=match, percent=draw(st.sampled_from([100, 100, 0])))
        )
    return made


class Policies:
    """All rules together, naively: ask each oracle, then take from all or from none."""

    def __init__(self, rules):
        self.rules = rules
        self.oracles = {}

    def of(self, rule, user):
        key = user if rule.key else ""
        return [
            self.oracles.setdefault((rule.name, index, key), oracle_of(limit))
            for index, limit in enumerate(rule.limits)
        ]

    def check(self, user, route, cost, now):
        """Gives (allowed, shadow): a refusal takes nothing, a shadow rule is charged where it agrees."""
        asked = [rule for rule in self.rules if not rule.match or route == "/a"]
        agree = {rule.name: all(one.fits(cost, now) for one in self.of(rule, user)) for rule in asked}
        if not all(agree[rule.name] for rule in asked if rule.percent):
            return False, False
        for one in asked:
            if agree[one.name]:
                for oracle in self.of(one, user):
                    oracle.take(cost, now)
        return True, not all(agree.values())


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 3) | st.integers(0, 2 * 10**9), st.sampled_from("ab"), st.sampled_from(ROUTES), st.integers(1, 4)
    ),
    min_size=1,
    max_size=40,
)


@given(rules(), REQUESTS)
@settings(max_examples=200)
def test_all_matching_rules_are_charged_or_none_is(rules, requests):
    engine, oracle = engine_of(*rules), Policies(rules)
    now = EPOCH
    for pause, user, route, cost in requests:
        now += pause
        before = stored(engine)
        decision = engine.check(None, {"user": user, "route": route}, cost, now)

        assert (decision.allowed, decision.shadow) == oracle.check(user, route, cost, now)
        if not decision.allowed:
            assert stored(engine) == before


@given(rules(), REQUESTS)
def test_a_peek_tells_the_decision_and_changes_nothing(rules, requests):
    engine = engine_of(*rules)
    now = EPOCH
    for pause, user, route, cost in requests:
        now += pause
        attributes = {"user": user, "route": route}
        before = stored(engine), [vars_of(tally) for tally in engine.tallies.values()]
        peeked = engine.check(None, attributes, cost, now, peek=True)

        assert before == (stored(engine), [vars_of(tally) for tally in engine.tallies.values()])
        decided = engine.check(None, attributes, cost, now)
        assert (peeked.allowed, peeked.shadow, peeked.retry_ns) == (decided.allowed, decided.shadow, decided.retry_ns)


def vars_of(tally):
    return tally.allowed, tally.limited, tally.shadowed


@given(st.data(), gcra() | fixed_window())
def test_counters_survive_other_changes_of_the_configuration(data, limit):
    """An engine that is rebuilt all the time, with rules and policies coming and going around it, decides like one that never is."""
    counters = Counters(100_000)
    calm, busy = engine_of(rule(limit)), engine_of(rule(limit), counters=counters)
    now = EPOCH
    for pause, user, cost in data.draw(steps(limit)):
        now += pause
        others = data.draw(st.sampled_from([(), ("x",), ("y", "x")]))
        changed = CompiledPolicy(rules=(*(rule(limit, name=name) for name in others), rule(limit)))
        busy = Engine({"p": changed, **{f"q{name}": changed for name in others}}, counters, busy.tallies)
        busy.adopt()
        counters.sweep(now)

        attributes = {"user": user}
        of_rule = [one for one in busy.plan("p", attributes) if one[0].identity == "p/r"]
        decisions = calm.check("p", attributes, cost, now), busy.decide(of_rule, cost, now)
        assert decisions[0].allowed == decisions[1].allowed
        assert decisions[0].remaining == decisions[1].remaining
    assert busy.tallies["p"].allowed == calm.tallies["p"].allowed
