"""The memory: bounded whatever comes, swept in bounded steps, and honest about what it forgets."""

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pillion.ratelimit import counters as module
from pillion.ratelimit.compiled import CompiledLimit, CompiledPolicy, CompiledRule, KeyPart
from pillion.ratelimit.counters import SHARD_TARGET, Counters
from pillion.ratelimit.engine import Engine

SECOND = 10**9
NOW = 1_750_000_000 * SECOND


def policy(*periods, key="user"):
    limits = [
        CompiledRule(
            name=f"r{index}",
            match=(),
            key=(KeyPart(attribute=key),),
            limits=(CompiledLimit(algorithm="gcra", requests=10, per_ns=per * SECOND, burst=10),),
            percent=100,
        )
        for index, per in enumerate(periods)
    ]
    return CompiledPolicy(rules=tuple(limits))


def engine_of(counters, **policies):
    engine = Engine(policies, counters)
    engine.adopt()
    return engine


def held(engine):
    return sum(len(shard) for limit in engine.limits for shard in limit.shards)


class Memory(RuleBasedStateMachine):
    """Requests, sweeps and new configurations in any order; afterwards the count is right and the bound holds."""

    @initialize(bound=st.sampled_from([1, 7, 300]))
    def begin(self, bound):
        self.counters = Counters(bound)
        self.now = NOW
        self.engine = engine_of(self.counters, a=policy(1, 60))

    @rule(
        first=st.integers(0, 5_000),
        count=st.integers(1, 300),
        pause=st.integers(0, 2 * SECOND),
        cost=st.integers(1, 10),
    )
    def ask(self, first, count, pause, cost):
        for user in range(first, first + count):
            self.engine.check(None, {"user": str(user)}, cost, self.now)
        self.now += pause

    @rule(budget=st.integers(1, 5_000))
    def sweep(self, budget):
        self.counters.sweep(self.now, budget)

    @rule(periods=st.lists(st.sampled_from([1, 2, 60]), max_size=3))
    def configure(self, periods):
        self.engine = engine_of(self.counters, a=policy(*periods), b=policy(1))

    @invariant()
    def the_count_is_right_and_the_bound_holds(self):
        assert self.counters.keys == held(self.engine) <= self.counters.max_keys


TestMemory = Memory.TestCase
TestMemory.settings = settings(stateful_step_count=20)


def test_a_sweep_forgets_what_says_nothing_any_more():
    counters = Counters(100_000)
    engine = engine_of(counters, a=policy(1))
    for user in range(5_000):
        engine.check(None, {"user": str(user)}, 1, NOW)

    while counters.sweep(NOW + SECOND):
        pass

    assert (counters.keys, held(engine), counters.expirations, counters.evictions) == (0, 0, 5_000, 0)


def test_a_sweep_keeps_what_still_says_something():
    counters = Counters(100_000)
    engine = engine_of(counters, a=policy(1))
    engine.check(None, {"user": "heavy"}, 10, NOW)
    for user in range(500):
        engine.check(None, {"user": str(user)}, 1, NOW)

    while counters.sweep(NOW + SECOND // 2):
        pass

    assert counters.keys == 1
    assert engine.check(None, {"user": "heavy"}, 1, NOW + SECOND // 2).remaining == 4


@given(st.integers(1, 2_000))
def test_a_step_of_a_sweep_looks_at_one_shard_more_than_its_budget_at_most(budget):
    counters = Counters(8_000)
    engine = engine_of(counters, a=policy(60))
    for user in range(1_000):
        engine.check(None, {"user": str(user)}, 1, NOW)
    largest = max(len(shard) for shard in engine.limits[0].shards)

    counters.sweep(NOW + 60 * SECOND, budget)

    assert counters.expirations < budget + largest


def test_withdrawn_tables_are_given_back_step_by_step():
    counters = Counters(50_000)
    engine = engine_of(counters, a=policy(60))
    for user in range(5_000):
        engine.check(None, {"user": str(user)}, 1, NOW)
    shards = engine.limits[0].shards

    engine_of(counters, b=policy(60))

    assert counters.keys == 0
    steps = 0
    while counters.sweep(NOW, SHARD_TARGET):
        steps += 1
    assert steps >= 3
    assert shards == []


def test_room_is_made_by_forgetting_whoever_has_most_quota_left():
    counters = Counters(1_000)
    engine = engine_of(counters, a=policy(60))
    for user in range(100):
        engine.check(None, {"user": f"heavy-{user}"}, 10, NOW)
    for user in range(5_000):
        engine.check(None, {"user": f"light-{user}"}, 1, NOW)

    assert counters.keys <= 1_000
    assert counters.evictions >= 4_000
    assert not any(engine.check(None, {"user": f"heavy-{user}"}, 1, NOW).allowed for user in range(100))


def test_room_is_made_by_what_says_nothing_first():
    counters = Counters(1_000)
    engine = engine_of(counters, a=policy(1))
    for user in range(900):
        engine.check(None, {"user": f"old-{user}"}, 1, NOW)

    for user in range(900):
        engine.check(None, {"user": f"new-{user}"}, 1, NOW + SECOND)

    assert (counters.evictions, counters.keys <= 1_000) == (0, True)


def test_a_flood_on_one_limit_does_not_evict_the_counters_of_another():
    counters = Counters(1_000)
    engine = engine_of(counters, flooded=policy(60, key="ip"), quiet=policy(60))
    for user in range(50):
        engine.check("quiet", {"user": str(user)}, 10, NOW)

    for address in range(5_000):
        engine.check("flooded", {"ip": str(address)}, 1, NOW)

    assert not any(engine.check("quiet", {"user": str(user)}, 1, NOW).allowed for user in range(50))


def test_windows_never_touch_in_memory():
    assert module.WINDOW_SCALE > 1_000_000_000
