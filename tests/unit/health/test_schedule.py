"""When checks run."""

from hypothesis import given
from hypothesis import strategies as st

from pillion.health.schedule import JITTER, Schedule

SECOND = 1_000_000_000


def test_a_new_check_is_due_at_once_and_never_twice_at_a_time():
    schedule = Schedule()
    schedule.add("a", SECOND, 0)

    assert schedule.take_due(0, 0.0) == ["a"]
    assert schedule.take_due(10 * SECOND, 0.0) == []
    schedule.landed("a")
    assert schedule.take_due(10 * SECOND, 0.0) == ["a"]


def test_nothing_waits_while_all_fly():
    schedule = Schedule()
    schedule.add("a", SECOND, 5)

    assert schedule.next_due() == 5
    schedule.take_due(5, 0.0)
    assert schedule.next_due() is None
    schedule.landed("a")
    assert SECOND * (1 - JITTER) <= schedule.next_due() <= 5 + SECOND


def test_a_removed_check_never_runs_again():
    schedule = Schedule()
    schedule.add("a", SECOND, 0)
    schedule.take_due(0, 0.0)
    schedule.remove("a")
    schedule.landed("a")
    schedule.remove("a")

    assert "a" not in schedule
    assert schedule.take_due(10 * SECOND, 0.0) == []


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=30),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
    st.integers(0, 100),
)
def test_every_check_starts_within_its_interval_however_many_hang(intervals, entropy, hang_percent):
    """A simulation of a minute: runs land either at once or only after their whole interval (the longest timeout there is)."""
    schedule = Schedule()
    for index, interval in enumerate(intervals):
        schedule.add(index, interval * SECOND, 0)
    hung = {index for index in range(len(intervals)) if index * 100 < hang_percent * len(intervals)}
    last, landing, now, turn = {}, {}, 0, 0
    while now <= 60 * SECOND:
        for index in schedule.take_due(now, entropy[turn % len(entropy)]):
            gap = now - last.get(index, now)
            assert gap <= intervals[index] * SECOND
            assert not gap or gap >= intervals[index] * SECOND * (1 - JITTER)
            last[index] = now
            landing[index] = now + (intervals[index] * SECOND * 9 // 10 if index in hung else 0)
        turn += 1
        for index in [index for index, time in landing.items() if time <= now]:
            del landing[index]
            schedule.landed(index)
        now = min(filter(None, [schedule.next_due(), *landing.values()]), default=now + SECOND)

    assert set(last) == set(range(len(intervals)))
    assert all(now - time <= intervals[index] * SECOND for index, time in last.items())


def test_checks_that_start_together_drift_apart():
    schedule = Schedule()
    for name in range(20):
        schedule.add(name, SECOND, 0)
    schedule.take_due(0, 0.25)
    for name in range(20):
        schedule.landed(name)
    starts = set()
    for now in range(0, SECOND + 1, SECOND // 1000):
        starts.update((now, name) for name in schedule.take_due(now, 0.0))

    assert len({now for now, _ in starts}) > 10
