"""The scheduler against a model that keeps every delivery in one plain list and looks at all of them each time."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.delivery import scheduler as module
from pillion.delivery.model import Message
from pillion.delivery.scheduler import GUARANTEED, OVERHEAD, Entry, Scheduler

LANES = 3


@dataclass
class Row:
    """A delivery on disk."""

    lane: int
    seq: int
    due: int
    state: str = "pending"  # pending | in-flight | unrecorded | claimed | done


@dataclass
class World:
    """The scheduler, the disk beside it, and what must hold."""

    total: int = 1000
    memory: int = 1 << 20
    now: int = 1_000
    rows: list[Row] = field(default_factory=list)
    concurrency: dict[int, int] = field(default_factory=dict)
    held: dict[int, bool] = field(default_factory=dict)
    paused: dict[int, int] = field(default_factory=dict)
    flying: list[tuple[Entry, Row]] = field(default_factory=list)
    waiting_record: list[tuple[Entry, Row]] = field(default_factory=list)

    def __post_init__(self):
        self.scheduler = Scheduler(total=self.total, memory=self.memory)
        for lane in range(LANES):
            self.scheduler.add(lane, f"lane-{lane}")
            self.configure(lane, 2, held=False)
            self.paused[lane] = 0

    def configure(self, lane, concurrency, *, held):
        self.concurrency[lane], self.held[lane] = concurrency, held
        self.scheduler.configure(lane, concurrency=concurrency, held=held, now_ns=self.now)

    def accept(self, lane, delay, size):
        self.offer(self.write(lane, delay), size)

    def write(self, lane, delay):
        row = Row(lane, len(self.rows) + 1, self.now + delay)
        self.rows.append(row)
        return row

    def offer(self, row, size):
        self.scheduler.offer(row.lane, self.entry(row, size), row.due, self.now)

    def entry(self, row, size=10):
        message = Message(id=f"m{row.seq}", type="t", body=b"x" * size)
        return Entry(lane=row.lane, seq=row.seq, message=message)

    def serve_loads(self, rng=None):
        """Do what the store does: look at the disk, then (later) report; other things may happen in between."""
        for load in self.scheduler.loads(self.now):
            seen = self.write(load.lane, 0) if rng and rng.random() < 0.5 else None
            on_disk = sorted(
                (r for r in self.rows if r.lane == load.lane and r.state != "done" and r.due <= load.now_ns),
                key=lambda r: r.due,
            )
            fresh = [r for r in on_disk if r.seq not in load.known]
            brought = fresh[: min(load.limit, max(load.size // OVERHEAD, 1))]
            left = fresh[len(brought) :]
            later = [r.due for r in self.rows if r.lane == load.lane and r.state == "pending" and r.due > load.now_ns]
            next_due = left[0].due if left else min(later, default=None)
            if rng and rng.random() < 0.5:
                self.accept(load.lane, rng.choice([0, 5]), 0)
            if rng and brought and rng.random() < 0.5:
                self.claim(rng.choice(brought), at_once=rng.random() < 0.5)
            self.scheduler.loaded(load, [self.entry(r) for r in brought], next_due, self.now)
            if seen:
                self.offer(seen, 0)

    def claim(self, row, *, at_once=True):
        entry = self.scheduler.claim(row.lane, row.seq, self.now)
        assert (entry is None) == (row.state in ("in-flight", "unrecorded", "claimed"))
        if entry is not None and at_once:
            row.due = self.now
            self.scheduler.settled(entry, row.due, self.now)
        elif entry is not None:
            row.state = "claimed"
            self.waiting_record.append((entry, row))

    def take(self):
        entry = self.scheduler.take(self.now)
        if entry is None:
            return False
        row = self.rows[entry.seq - 1]
        lane = row.lane
        assert row.state == "pending", "a delivery is attempted once at a time, and never after it is done"
        assert row.due <= self.now
        assert not self.held[lane]
        assert self.paused[lane] <= self.now
        in_lane = sum(r.lane == lane for _, r in self.flying)
        assert in_lane < self.concurrency[lane]
        assert len(self.flying) < self.total or in_lane < GUARANTEED
        row.state = "in-flight"
        self.flying.append((entry, row))
        return True

    def finish(self, index):
        if self.flying:
            entry, row = self.flying.pop(index % len(self.flying))
            row.state = "unrecorded"
            self.scheduler.finished(entry, self.now)
            self.waiting_record.append((entry, row))

    def record(self, retry_delay):
        for entry, row in self.waiting_record:
            if retry_delay is None:
                row.state = "done"
                self.scheduler.settled(entry, None, self.now)
            else:
                row.state, row.due = "pending", self.now + retry_delay
                self.scheduler.settled(entry, row.due, self.now)
        self.waiting_record.clear()

    def advance(self, step):
        self.now += step
        self.scheduler.wake(self.now)

    def settle(self):
        """Serve loads and start attempts until nothing more may start."""
        while True:
            self.scheduler.wake(self.now)
            self.serve_loads()
            if not self.take() and not self.scheduler.hungry:
                return

    def eligible(self):
        return [
            r
            for r in self.rows
            if r.state == "pending"
            and r.due <= self.now
            and not self.held[r.lane]
            and self.paused[r.lane] <= self.now
            and sum(f.lane == r.lane for _, f in self.flying) < self.concurrency[r.lane]
            and (len(self.flying) < self.total or sum(f.lane == r.lane for _, f in self.flying) < GUARANTEED)
        ]


@pytest.fixture(autouse=True)
def _small_window(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    monkeypatch.setattr(module, "LOW_WATER", 2)


def random_step(world, rng):
    lane = rng.randrange(LANES)
    match rng.choice(STEPS):
        case "accept":
            for _ in range(rng.choice([1, 1, 6])):
                world.accept(lane, rng.choice([0, 0, 0, 5, 50]), rng.choice([0, 3000]))
        case "take":
            world.take()
        case "settle":
            world.settle()
            assert not world.eligible(), "whatever may start has started"
        case "loads":
            world.serve_loads(rng)
        case "finish":
            world.finish(rng.randrange(10))
        case "record":
            world.record(rng.choice([None, None, 0, 3, 40]))
        case "advance":
            world.advance(rng.randrange(20))
        case "configure":
            world.configure(lane, rng.randint(1, 6), held=rng.random() < 0.3)
            assert not (world.held[lane] and world.scheduler.lane(lane).ready), "a resting lane holds no memory"
        case "pause":
            until = world.now + rng.randint(1, 30)
            world.paused[lane] = max(world.paused[lane], until)
            world.scheduler.pause(lane, until, world.now)
        case "claim" if world.rows:
            row = rng.choice(world.rows)
            if row.state != "done":
                world.claim(row, at_once=rng.random() < 0.5)


STEPS = [
    "accept",
    "accept",
    "take",
    "take",
    "take",
    "settle",
    "loads",
    "finish",
    "finish",
    "record",
    "advance",
    "configure",
    "pause",
    "claim",
]


@given(
    seed=st.integers(0, 2**32),
    total=st.sampled_from([1, 4, 1000]),
    memory=st.sampled_from([OVERHEAD, 6 * OVERHEAD, 1 << 20]),
)
def test_whatever_happens_each_delivery_is_attempted_in_its_time_and_none_is_forgotten(seed, total, memory):
    rng = random.Random(seed)
    world = World(total=total, memory=memory)
    for _ in range(150):
        random_step(world, rng)
    for lane in range(LANES):
        world.configure(lane, 2, held=False)
    while any(row.state != "done" for row in world.rows):
        world.settle()
        assert not world.eligible()
        while world.flying:
            world.finish(0)
        world.record(None)
        if not world.eligible():
            wake = world.scheduler.next_wake()
            pending = [r for r in world.rows if r.state != "done"]
            if not pending:
                break
            assert wake is not None, "something waits, so there is a time to wake up"
            earliest = min(max(r.due, world.paused[r.lane]) for r in pending)
            assert wake <= earliest, "the alarm is not later than what waits"
            world.advance(max(wake - world.now, 1))
    assert world.scheduler.in_flight == 0
    assert world.scheduler.held_bytes == 0


def test_memory_holds_a_window_whatever_the_backlog():
    world = World()
    for _ in range(1000):
        world.accept(0, 0, 100)
    assert len(world.scheduler.lane(0).known) == 4
    world.settle()
    assert len(world.scheduler.lane(0).known) <= 4 + 2


def test_lanes_take_turns():
    world = World()
    for lane in (0, 1, 2):
        world.configure(lane, 10, held=False)
        for _ in range(3):
            world.accept(lane, 0, 0)
    order = []
    while (entry := world.scheduler.take(world.now)) is not None:
        order.append(entry.lane)
    assert order == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_lanes_that_hang_leave_every_other_its_share():
    scheduler = Scheduler(total=8)
    for lane in range(10):
        scheduler.add(lane, f"lane-{lane}")
        scheduler.configure(lane, concurrency=16, held=False, now_ns=1)
    for lane in range(10):
        for seq in range(4):
            message = Message(id=f"m{lane}-{seq}", type="t", body=b"")
            scheduler.offer(lane, Entry(lane=lane, seq=lane * 100 + seq, message=message), 0, 1)
    started = []
    while (entry := scheduler.take(1)) is not None:
        started.append(entry.lane)
    assert all(started.count(lane) == GUARANTEED for lane in range(10))


def test_alarms_that_were_overtaken_do_not_pile_up():
    world = World()
    for _ in range(300):
        world.accept(0, 3600, 0)
        world.accept(0, 1, 0)
        world.advance(1)
        world.settle()
        world.finish(0)
        world.record(None)
    assert len(world.scheduler._wakes) < 100
