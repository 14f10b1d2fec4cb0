"""What the engine promises beyond the arithmetic: who is asked, who is spared, what is reported."""

import pytest

from pillion.ratelimit.compiled import CompiledLimit, CompiledPolicy, CompiledRule, Condition, KeyPart
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.decisions import NEVER
from pillion.ratelimit.engine import Engine, UnknownPolicy

SECOND = 10**9
NOW = 1_750_000_000 * SECOND
FIVE = CompiledLimit(algorithm="gcra", requests=5, per_ns=SECOND, burst=5)
TWO = CompiledLimit(algorithm="gcra", requests=2, per_ns=SECOND, burst=2)
DAILY = CompiledLimit(algorithm="fixedWindow", requests=3, per_ns=86_400 * SECOND, burst=3)


def rule(*limits, name="r", key=("user",), match=(), percent=100):
    parts = tuple(KeyPart(attribute=one) for one in key)
    return CompiledRule(name=name, match=match, key=parts, limits=limits, percent=percent)


def policy(*rules, **fields):
    return CompiledPolicy(rules=rules, **fields)


def engine_of(policies, counters=None):
    engine = Engine(policies, counters or Counters(1000))
    engine.adopt()
    return engine


def exact(attribute, value):
    return Condition(attribute=attribute, test="exact", value=value)


def tallies(engine, name):
    tally = engine.tallies[name]
    return tally.allowed, tally.limited, tally.shadowed


def test_without_a_name_every_policy_must_allow():
    engine = engine_of({"wide": policy(rule(FIVE)), "narrow": policy(rule(TWO))})

    outcomes = [engine.check(None, {"user": "a"}, 1, NOW).allowed for _ in range(3)]

    assert outcomes == [True, True, False]
    assert engine.check("wide", {"user": "a"}, 3, NOW).allowed


def test_a_named_policy_is_asked_alone():
    engine = engine_of({"wide": policy(rule(FIVE)), "narrow": policy(rule(TWO))})

    decision = engine.check("wide", {"user": "a"}, 3, NOW)

    assert decision.allowed
    assert decision.limit.policy == "wide"
    assert engine.check("narrow", {"user": "a"}, 2, NOW).allowed


def test_an_unknown_policy_is_told_with_those_that_exist():
    engine = engine_of({"shop": policy(rule(FIVE))})

    with pytest.raises(UnknownPolicy) as raised:
        engine.check("shopp", {}, 1, NOW)

    assert raised.value.known == ("shop",)


def test_a_request_without_the_key_is_not_counted():
    engine = engine_of({"shop": policy(rule(TWO))})

    decision = engine.check(None, {"ip": "192.0.2.1"}, 100, NOW)

    assert decision.allowed
    assert decision.limit is None
    assert tallies(engine, "shop") == (0, 0, 0)


def test_a_rule_without_key_has_one_counter_for_all():
    engine = engine_of({"shop": policy(rule(TWO, key=()))})

    outcomes = [engine.check(None, {"user": user}, 1, NOW).allowed for user in "abc"]

    assert outcomes == [True, True, False]


def test_several_key_parts_cannot_be_confused():
    engine = engine_of({"shop": policy(rule(TWO, key=("tenant", "user")))})
    engine.check(None, {"tenant": "a", "user": "bc"}, 2, NOW)

    assert engine.check(None, {"tenant": "ab", "user": "c"}, 2, NOW).allowed
    assert engine.check(None, {"tenant": "1:a", "user": "bc"}, 2, NOW).allowed
    assert not engine.check(None, {"tenant": "a", "user": "bc"}, 1, NOW).allowed


def test_deny_wins_over_bypass_and_bypass_over_rules():
    one = policy(rule(TWO), bypass=(exact("role", "admin"),), deny=(exact("ip", "192.0.2.1"),))
    engine = engine_of({"shop": one})

    bypassed = engine.check(None, {"user": "a", "role": "admin"}, 100, NOW)
    denied = engine.check(None, {"user": "a", "role": "admin", "ip": "192.0.2.1"}, 1, NOW)

    assert (bypassed.allowed, bypassed.limit) == (True, None)
    assert (denied.allowed, denied.denied_by, denied.retry_ns) == (False, "shop", NEVER)
    assert tallies(engine, "shop") == (0, 1, 0)


def test_a_deny_list_of_one_policy_charges_no_other():
    engine = engine_of({"a": policy(rule(TWO)), "b": policy(rule(TWO), deny=(exact("user", "x"),))})

    engine.check(None, {"user": "x"}, 1, NOW)

    assert engine.check("a", {"user": "x"}, 1, NOW, peek=True).remaining == 2


def test_the_limit_that_takes_longest_is_reported():
    engine = engine_of({"shop": policy(rule(TWO, DAILY))})
    engine.check(None, {"user": "a"}, 2, NOW)

    decision = engine.check(None, {"user": "a"}, 2, NOW)

    assert decision.limit.name == "shop/r/3-per-1d"
    assert [limit.name for limit in decision.violated] == ["shop/r/2-per-1s", "shop/r/3-per-1d"]


def test_the_limit_with_least_left_is_reported():
    engine = engine_of({"shop": policy(rule(FIVE, DAILY))})

    decision = engine.check(None, {"user": "a"}, 1, NOW)

    assert (decision.limit.name, decision.remaining) == ("shop/r/3-per-1d", 2)
    assert len(decision.applied) == 2


def test_a_cost_above_the_burst_never_passes_and_says_so():
    engine = engine_of({"shop": policy(rule(FIVE))})

    decision = engine.check(None, {"user": "a"}, 6, NOW)

    assert (decision.allowed, decision.retry_ns, decision.remaining, decision.reset_ns) == (False, NEVER, 5, 0)


def test_a_shadow_rule_tells_and_lets_pass():
    engine = engine_of({"shop": policy(rule(FIVE, name="real"), rule(TWO, name="trial", percent=0))})
    engine.check(None, {"user": "a"}, 2, NOW)

    decision = engine.check(None, {"user": "a"}, 1, NOW)

    assert (decision.allowed, decision.shadow, decision.limit.rule) == (True, True, "trial")
    assert (decision.enforced.limit.rule, decision.enforced.remaining) == ("real", 2)
    assert tallies(engine, "shop") == (2, 0, 1)


def test_a_shadow_rule_alone_has_no_say():
    engine = engine_of({"shop": policy(rule(TWO, percent=0))})

    quiet = engine.check(None, {"user": "a"}, 2, NOW)
    loud = engine.check(None, {"user": "a"}, 2, NOW)

    assert (quiet.allowed, quiet.limit) == (True, None)
    assert (loud.allowed, loud.shadow, loud.applied, loud.enforced.limit) == (True, True, (), None)


def test_a_percentage_is_enforced_on_that_share_of_keys_for_good():
    engine = engine_of({"shop": policy(rule(TWO, percent=30))})
    refused = set()
    for turn in range(3):
        for user in range(600):
            if not engine.check(None, {"user": str(user)}, 2, NOW + turn).allowed:
                refused.add((turn, user))

    share = {user for turn, user in refused if turn == 1}
    assert 120 < len(share) < 240
    assert share == {user for turn, user in refused if turn == 2}


def test_raising_the_burst_keeps_what_was_used():
    counters = Counters(1000)
    engine_of({"shop": policy(rule(TWO))}, counters).check(None, {"user": "a"}, 2, NOW)
    more = CompiledLimit(algorithm="gcra", requests=2, per_ns=SECOND, burst=3)

    assert engine_of({"shop": policy(rule(more))}, counters).check(None, {"user": "a"}, 1, NOW).remaining == 0


def test_lowering_the_burst_below_what_was_used_waits_longer():
    counters = Counters(1000)
    engine_of({"shop": policy(rule(FIVE))}, counters).check(None, {"user": "a"}, 5, NOW)
    less = CompiledLimit(algorithm="gcra", requests=5, per_ns=SECOND, burst=2)

    decision = engine_of({"shop": policy(rule(less))}, counters).check(None, {"user": "a"}, 1, NOW)

    assert (decision.allowed, decision.remaining, decision.retry_ns) == (False, 0, 800_000_000)


def test_changing_the_quota_of_a_window_keeps_what_was_used():
    counters = Counters(1000)
    engine_of({"shop": policy(rule(DAILY))}, counters).check(None, {"user": "a"}, 3, NOW)
    more = CompiledLimit(algorithm="fixedWindow", requests=4, per_ns=DAILY.per_ns, burst=4)

    assert engine_of({"shop": policy(rule(more))}, counters).check(None, {"user": "a"}, 1, NOW).remaining == 0


def test_changing_the_rate_begins_anew():
    counters = Counters(1000)
    engine_of({"shop": policy(rule(TWO))}, counters).check(None, {"user": "a"}, 2, NOW)

    assert engine_of({"shop": policy(rule(FIVE))}, counters).check(None, {"user": "a"}, 1, NOW).remaining == 4


def test_time_that_goes_back_grants_nothing():
    engine = engine_of({"shop": policy(rule(TWO), rule(DAILY, name="daily"))})
    for _ in range(2):
        engine.check(None, {"user": "a"}, 1, NOW)

    assert not engine.check(None, {"user": "a"}, 1, NOW - 10 * SECOND).allowed


def test_a_long_key_is_kept_as_a_digest():
    engine = engine_of({"shop": policy(rule(TWO))})
    long = "x" * 5_000
    engine.check(None, {"user": long}, 2, NOW)

    (key,) = (key for shard in engine.limits[0].shards for key in shard)

    assert len(key) == 16
    assert not engine.check(None, {"user": long}, 1, NOW).allowed
    assert engine.check(None, {"user": long + "y"}, 1, NOW).allowed
