"""Thresholds, ages and the verdict over everything."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pillion.health.engine import (
    CheckPlan,
    Complaint,
    DiskTarget,
    HttpTarget,
    Observation,
    RedisTarget,
    Report,
    Standing,
    TcpTarget,
    judge,
    next_stale,
    observe,
    worst,
)

SECOND = 1_000_000_000


def plan(name="db", **changes):
    fields = {
        "name": name,
        "critical": False,
        "interval": 10 * SECOND,
        "timeout": SECOND,
        "failures": 3,
        "successes": 2,
        "target": TcpTarget("db", 5432),
    }
    return CheckPlan(**(fields | changes))


def seen(*, success=True, at=0, output=""):
    return Observation(
        success=success, wall=at, monotonic=at, duration=1_000_000, output=output or ("" if success else "refused")
    )


def by_windows(results, failures, successes):
    """The independent oracle: a state turns exactly when a whole window of results contradicts it."""
    states = []
    for end in range(1, len(results) + 1):
        if end == 1:
            states.append(results[0])
            continue
        now = states[-1]
        size = failures if now else successes
        window = results[max(0, end - size) : end]
        turns = len(window) == size and all(result is not now for result in window)
        states.append(now is not turns)
    return states


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 6))
def test_thresholds_agree_with_a_window_over_the_whole_history(results, failures, successes):
    standing, states, changes = Standing(), [], 0
    for result in results:
        standing = observe(standing, result, failures, successes)
        states.append(standing.healthy)

    expected = by_windows(results, failures, successes)
    changes = sum(a is not b for a, b in pairwise(expected))
    assert states == expected
    assert standing.changes == changes


@given(st.lists(st.booleans(), max_size=60), st.integers(2, 6))
def test_runs_shorter_than_the_threshold_never_turn_a_check(blips, failures):
    standing = observe(Standing(), success=True, failures=failures, successes=1)
    for blip in blips:
        for result in ([False] * (failures - 1) + [True]) if blip else [True]:
            standing = observe(standing, result, failures, 1)
            assert standing.healthy is True


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_the_streak_is_the_tail_of_results_that_contradict_the_state(results, failures, successes):
    standing = Standing()
    for result in results:
        standing = observe(standing, result, failures, successes)

    tail = 0
    for result in reversed(results):
        if result is standing.healthy:
            break
        tail += 1
    assert standing.streak == tail


def test_the_first_result_decides_alone():
    assert observe(Standing(), success=False, failures=5, successes=5).healthy is False
    assert observe(Standing(), success=True, failures=5, successes=5).healthy is True


def test_a_check_that_has_not_run_warns():
    result = judge(plan(), Standing(), None, 0)

    assert (result.status, result.output) == ("warn", "has not run yet")


def test_failures_below_the_threshold_pass_but_are_told():
    standing = Standing(healthy=True, streak=1)

    result = judge(plan(), standing, seen(success=False), SECOND)

    assert (result.status, result.output) == ("pass", "refused (1 of 3 failures in a row)")


def test_a_recovering_check_says_how_far_it_is():
    result = judge(plan(), Standing(healthy=False, streak=1), seen(), SECOND)

    assert (result.status, result.output) == ("fail", "recovering: 1 of 2 successes in a row")


@given(st.integers(0, 100 * SECOND), st.booleans())
def test_a_result_is_believed_exactly_until_its_bound(age, healthy):
    one = plan()
    result = judge(one, Standing(healthy=healthy), seen(success=healthy), age)

    stale = age >= 21 * SECOND
    assert result.status == (("warn" if stale else "pass") if healthy else "fail")
    assert ("no result for over 21 s" in result.output) == stale


@given(st.lists(st.integers(0, 50 * SECOND), max_size=8), st.integers(0, 100 * SECOND))
def test_nothing_becomes_stale_before_the_announced_moment(times, now):
    checks = [(plan(), seen(at=time)) for time in times]

    moment = next_stale(checks, now)

    def stale(at):
        return [judge(p, Standing(healthy=True), o, at).status for p, o in checks]

    if moment is None:
        assert stale(now) == stale(now + 1000 * SECOND)
    else:
        assert stale(moment - 1) == stale(now)
        assert stale(moment) != stale(now)


def report(*checks, started=True, draining=False, complaints=()):
    return Report(started=started, draining=draining, checks=checks, complaints=complaints)


def failing(**changes):
    return judge(plan(**changes), Standing(healthy=False), seen(success=False), 0)


def passing(**changes):
    return judge(plan(**changes), Standing(healthy=True), seen(), 0)


def test_only_a_critical_failure_fails():
    assert report(passing(), failing()).health == "warn"
    assert report(passing(), failing()).readiness == "pass"
    assert report(passing(), failing(critical=True)).health == "fail"
    assert report(passing(), failing(critical=True)).readiness == "fail"
    assert report(failing(critical=True)).unreadiness == "critical checks fail: db"


def test_the_sidecars_own_troubles_count_for_health_but_not_for_readiness():
    warn, fail = Complaint("configuration", "warn", "stale", 0), Complaint("logs", "fail", "lost", 0)

    assert report(complaints=(warn,)).health == "warn"
    assert report(complaints=(warn, fail)).health == "fail"
    assert report(complaints=(warn, fail)).readiness == "pass"


def test_nothing_is_ready_before_the_start_and_while_draining():
    assert report(started=False).readiness == "fail"
    assert report(draining=True).readiness == "fail"
    assert report(draining=True).unreadiness == "draining"
    assert report(draining=True).health == "pass"


@given(st.lists(st.sampled_from(["pass", "warn", "fail"])))
def test_worst_is_the_maximum(statuses):
    order = ["pass", "warn", "fail"]

    assert worst(statuses) == order[max((order.index(s) for s in statuses), default=0)]


def test_categories_follow_the_target():
    assert plan(target=RedisTarget("s", "k")).category == "datastore"
    assert plan(target=DiskTarget("/", 1)).category == "system"
    assert plan(target=HttpTarget("http://a", "GET", {})).category == "component"
