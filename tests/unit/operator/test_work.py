"""The work queue: coalescing, no key twice at once, failures later."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pillion_operator.work import Later, QueueMetrics, Schedule, WorkQueue


class Naive:
    """The same promises, written down without a heap."""

    def __init__(self):
        self.due, self.order, self.busy, self.count = {}, {}, set(), 0

    def add(self, key, due):
        if key not in self.due or due < self.due[key]:
            self.due[key] = due
            self.count += 1
            self.order[key] = self.count

    def ready(self, now):
        return {key for key, due in self.due.items() if due <= now and key not in self.busy}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.integers(0, 20)),
        st.tuples(st.just("take"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("done"), st.integers(0, 4), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_a_schedule_gives_exactly_what_is_due_and_not_worked_on(script):
    schedule, naive = Schedule(), Naive()

    for verb, one, two in script:
        if verb == "add":
            schedule.add(one, two)
            naive.add(one, two)
        elif verb == "take":
            ready = naive.ready(one)
            key = schedule.take(one)
            assert (key in ready) if ready else key is None
            if key is not None:
                assert naive.due[key] == min(naive.due[k] for k in ready)
                del naive.due[key]
                naive.busy.add(key)
        elif one in naive.busy:
            schedule.done(one)
            naive.busy.remove(one)
        waiting = {k: d for k, d in naive.due.items() if k not in naive.busy}
        assert schedule.next_due() == (min(waiting.values()) if waiting else None)
        assert len(schedule) == len(naive.due)
        assert schedule.busy == len(naive.busy)


async def running(queue):
    return asyncio.create_task(queue.run())


def queue_of(handle, workers=2):
    return WorkQueue("test", handle, workers=workers, metrics=QueueMetrics(CollectorRegistry()))


async def test_many_changes_before_the_work_are_one_piece_of_work():
    worked = []

    async def handle(key):
        worked.append(key)

    queue = queue_of(handle)
    for _ in range(10):
        queue.add("a")
    task = await running(queue)
    await queue.idle()
    task.cancel()

    assert worked == ["a"]


async def test_a_change_during_the_work_is_worked_on_afterwards_never_beside():
    begun, go_on = asyncio.Event(), asyncio.Event()
    active, most, count = 0, 0, 0

    async def handle(_key):
        nonlocal active, most, count
        active, count = active + 1, count + 1
        most = max(most, active)
        begun.set()
        await go_on.wait()
        active -= 1

    queue = queue_of(handle)
    queue.add("a")
    task = await running(queue)
    await begun.wait()
    queue.add("a")
    queue.add("a")
    go_on.set()
    await queue.idle()
    task.cancel()

    assert (count, most) == (2, 1)


@pytest.mark.parametrize("raised", [RuntimeError("no"), Later(0.001)])
async def test_what_failed_comes_back_and_holds_nobody_up(raised, monkeypatch):
    monkeypatch.setattr("pillion_operator.work.FIRST_BACKOFF", 0.001)
    worked = []

    async def handle(key):
        worked.append(key)
        if key == "bad" and worked.count("bad") < 3:
            raise raised

    queue = queue_of(handle, workers=1)
    queue.add("bad")
    queue.add("good")
    task = await running(queue)
    await queue.idle()
    task.cancel()

    assert worked.count("bad") == 3
    assert worked.count("good") == 1


async def test_no_more_workers_than_allowed():
    active = most = 0

    async def handle(_key):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1

    queue = queue_of(handle, workers=3)
    for key in range(20):
        queue.add(key)
    task = await running(queue)
    await queue.idle()
    task.cancel()

    assert most == 3
