"""Which delivery is attempted next. Pure: no I/O, no clock, no randomness.

Every destination is a *lane*. A lane holds a small window of deliveries that are due (`ready`), knows which of its deliveries are in memory at
all (`known`: ready, in flight, or finished but not yet committed), and knows when something on disk will be due (`disk_due`). Everything else
stays on disk, so memory is bounded whatever the backlog: a lane's window holds at most `WINDOW` deliveries, all windows together at most
`memory` bytes.

Fairness: lanes take turns (round robin), each within its own concurrency. When the total reaches `total`, lanes that have fewer than
`GUARANTEED` attempts in flight still get a turn; so a hundred destinations that hang cannot keep the hundred-and-first waiting.

What it deliberately does not do: store, send, or decide about retries.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pillion.delivery.model import DestinationName, Message, MessageId

WINDOW: Final = 256
"""Deliveries that one lane holds ready: enough to keep the fastest receiver busy during one load from disk (about 2 ms)."""

LOW_WATER: Final = WINDOW // 2
"""A lane loads more from disk when it holds fewer ready ones than this."""

GUARANTEED: Final = 4
"""Attempts that every lane may have in flight whatever the others do."""

OVERHEAD: Final = 1_024
"""Bytes that a delivery in memory is counted for beside its body."""


class Entry:
    """A delivery in memory. Identity matters, so this is no value."""

    __slots__ = ("attempts", "lane", "message", "seq", "step", "taken")

    def __init__(self, *, lane: int, seq: int, message: Message, attempts: int = 0, step: int = 0) -> None:
        self.lane = lane
        self.seq = seq
        self.message = message
        self.attempts = attempts
        self.step = step
        self.taken = False

    @property
    def cost(self) -> int:
        """Bytes that it is counted for."""
        return len(self.message.body) + OVERHEAD


_UNREAD: Final = Message(id=MessageId("-"), type="", body=b"")
"""Stands for the message of a claimed delivery, which nobody reads."""


class Load(msgspec.Struct, frozen=True):
    """A request to bring due deliveries of one lane from disk.

    Args:
        lane: which lane.
        limit: at most so many deliveries.
        size: at most so many bytes, but at least one delivery.
        now_ns: those due at or before this time.
        known: messages whose delivery of this lane is in memory already.
    """

    lane: int
    limit: int
    size: int
    now_ns: int
    known: frozenset[int]


class Lane:
    """One destination as the scheduler sees it."""

    __slots__ = (
        "concurrency",
        "disk_due",
        "held",
        "id",
        "in_flight",
        "known",
        "loading",
        "name",
        "parked_meanwhile",
        "paused_until",
        "queued",
        "ready",
        "wake",
    )

    def __init__(self, lane_id: int, name: DestinationName) -> None:
        self.id = lane_id
        self.name = name
        self.concurrency = 1
        self.held = True
        self.paused_until = 0
        self.ready: deque[Entry] = deque()
        self.known: dict[int, Entry] = {}
        self.in_flight = 0
        self.disk_due: int | None = None
        self.loading = False
        self.parked_meanwhile: int | None = None
        self.queued = False
        self.wake: int | None = None


class Scheduler:
    """All lanes.

    Args:
        total: attempts in flight over all lanes before only the guaranteed share is given, >= 1.
        memory: bytes that all windows may hold together.
    """

    def __init__(self, *, total: int = 1024, memory: int = 32 << 20) -> None:
        self._total = total
        self._memory = memory
        self._lanes: dict[int, Lane] = {}
        self._turns: deque[Lane] = deque()
        self._wakes: list[tuple[int, int]] = []
        self._hungry: dict[int, Lane] = {}
        self.in_flight = 0
        """Attempts running now."""
        self.held_bytes = 0
        """Bytes that the deliveries in memory are counted for."""

    # Lanes

    def lane(self, lane_id: int) -> Lane:
        """Give a lane.

        Raises:
            KeyError: there is none.
        """
        return self._lanes[lane_id]

    def lanes(self) -> Iterator[Lane]:
        """Give all lanes."""
        return iter(self._lanes.values())

    def add(self, lane_id: int, name: DestinationName, *, disk_due: int | None = None) -> Lane:
        """Add a lane, held until it is configured. *disk_due* is 0 when something may wait on disk."""
        lane = self._lanes[lane_id] = Lane(lane_id, name)
        lane.disk_due = disk_due
        return lane

    def configure(self, lane_id: int, *, concurrency: int, held: bool, now_ns: int) -> None:
        """Set how many attempts a lane may have in flight (>= 1), and whether it rests."""
        lane = self._lanes[lane_id]
        lane.concurrency = concurrency
        lane.held = held
        if held:
            self._put_back(lane, now_ns)
        self._review(lane, now_ns)

    def pause(self, lane_id: int, until_ns: int, now_ns: int) -> None:
        """Give a lane no turn before *until_ns*; a pause never gets shorter."""
        lane = self._lanes[lane_id]
        lane.paused_until = max(lane.paused_until, until_ns)
        self._review(lane, now_ns)

    def resume(self, lane_id: int, now_ns: int) -> None:
        """End a lane's pause."""
        lane = self._lanes[lane_id]
        lane.paused_until = 0
        self._review(lane, now_ns)

    # Deliveries come

    def offer(self, lane_id: int, entry: Entry, due_ns: int, now_ns: int) -> bool:
        """Take a delivery that is on disk into memory if it is due and there is room; else remember that the disk holds it.

        Returns:
            Whether it is in memory now.
        """
        lane = self._lanes[lane_id]
        if entry.seq in lane.known:
            return True
        older_on_disk = lane.loading or (lane.disk_due is not None and lane.disk_due <= now_ns)
        if (
            due_ns > now_ns
            or lane.held
            or older_on_disk
            or len(lane.ready) >= WINDOW
            or self.held_bytes + entry.cost > self._memory
        ):
            self.park(lane_id, due_ns, now_ns)
            return False
        self._admit(lane, entry)
        self._review(lane, now_ns)
        return True

    def park(self, lane_id: int, due_ns: int, now_ns: int) -> None:
        """Remember that a delivery of this lane waits on disk until *due_ns*."""
        lane = self._lanes[lane_id]
        if lane.loading:
            # The load may have looked before this one was written: what it reports must not hide it.
            lane.parked_meanwhile = due_ns if lane.parked_meanwhile is None else min(lane.parked_meanwhile, due_ns)
            return
        lane.disk_due = due_ns if lane.disk_due is None else min(lane.disk_due, due_ns)
        self._review(lane, now_ns)

    def loads(self, now_ns: int) -> list[Load]:
        """Say what is to be brought from disk now; each lane has at most one load under way."""
        hungry = [lane for lane in self._hungry.values() if self._wants_load(lane, now_ns)]
        self._hungry.clear()
        room = max(self._memory - self.held_bytes, 0)
        # A lane that still has something to do can wait for memory; it is looked at again when one of its deliveries is done.
        chosen = [lane for lane in hungry if room or not lane.ready]
        found = []
        for lane in chosen:
            lane.loading = True
            found.append(
                Load(
                    lane=lane.id,
                    limit=WINDOW - len(lane.ready),
                    size=room // len(chosen),
                    now_ns=now_ns,
                    known=frozenset(lane.known),
                )
            )
        return found

    def loaded(self, load: Load, entries: Iterable[Entry], next_due: int | None, now_ns: int) -> None:
        """Take in what a load brought.

        Args:
            load: the request.
            entries: what was found, in order of their due times.
            next_due: when the first delivery that was not brought is due; None when there is none.
            now_ns: now.
        """
        lane = self._lanes[load.lane]
        for entry in entries:
            if entry.seq not in lane.known:
                self._admit(lane, entry)
        self._load_over(lane, next_due, now_ns)

    def load_failed(self, load: Load, retry_at_ns: int, now_ns: int) -> None:
        """Say that a load did not work; it is asked for again at *retry_at_ns*."""
        self._load_over(self._lanes[load.lane], retry_at_ns, now_ns)

    def _load_over(self, lane: Lane, disk_due: int | None, now_ns: int) -> None:
        lane.loading = False
        meanwhile, lane.parked_meanwhile = lane.parked_meanwhile, None
        times = [t for t in (disk_due, meanwhile) if t is not None]
        lane.disk_due = min(times) if times else None
        self._review(lane, now_ns)

    # Deliveries go

    def take(self, now_ns: int) -> Entry | None:
        """Give the next delivery to attempt, or None when nothing may start now. The caller must say `finished` and `settled` later."""
        turns = self._turns
        scarce = self.in_flight >= self._total
        for _ in range(len(turns)):
            lane = turns.popleft()
            if not self._may_start(lane, now_ns):
                lane.queued = False
                continue
            if scarce and lane.in_flight >= GUARANTEED:
                turns.append(lane)
                continue
            entry = lane.ready.popleft()
            entry.taken = True
            lane.in_flight += 1
            self.in_flight += 1
            if self._may_start(lane, now_ns):
                turns.append(lane)
            else:
                lane.queued = False
            if len(lane.ready) < LOW_WATER:
                self._review(lane, now_ns)
            return entry
        return None

    def finished(self, entry: Entry, now_ns: int) -> None:
        """Say that an attempt is over: its slot is free. The delivery stays known until `settled`."""
        lane = self._lanes[entry.lane]
        lane.in_flight -= 1
        self.in_flight -= 1
        self._review(lane, now_ns)

    def settled(self, entry: Entry, due_ns: int | None, now_ns: int) -> None:
        """Say that an attempt's result is on disk; *due_ns* is when the delivery is attempted again, None for never."""
        lane = self._lanes[entry.lane]
        if lane.known.pop(entry.seq, None) is not None:
            self.held_bytes -= entry.cost
        if due_ns is not None:
            self.park(lane.id, due_ns, now_ns)
        else:
            self._review(lane, now_ns)

    def claim(self, lane_id: int, seq: int, now_ns: int) -> Entry | None:
        """Take a delivery out of play to change it by hand: nothing attempts or loads it until `settled`. None when it is in flight or claimed."""
        lane = self._lanes[lane_id]
        entry = lane.known.get(seq)
        if entry is None:
            entry = lane.known[seq] = Entry(lane=lane_id, seq=seq, message=_UNREAD)
            self.held_bytes += entry.cost
            return entry
        if entry.taken or entry not in lane.ready:
            return None
        lane.ready.remove(entry)
        self._review(lane, now_ns)
        return entry

    def is_in_flight(self, lane_id: int, seq: int) -> bool:
        """Whether a delivery is being attempted, or was and is not recorded yet."""
        lane = self._lanes[lane_id]
        entry = lane.known.get(seq)
        return entry is not None and entry.taken

    @property
    def hungry(self) -> bool:
        """Whether `loads` has something to say."""
        return bool(self._hungry)

    def pending(self, until_ns: int) -> bool:
        """Whether a lane that may work has a delivery in memory, or one on disk that is due by *until_ns*."""
        return any(
            lane.known or lane.loading or (lane.disk_due is not None and lane.disk_due <= until_ns)
            for lane in self._lanes.values()
            if not lane.held and lane.paused_until <= until_ns
        )

    # Time

    def next_wake(self) -> int | None:
        """Say when `wake` is to be called next; None for not until something happens."""
        return self._wakes[0][0] if self._wakes else None

    def wake(self, now_ns: int) -> None:
        """Look at the lanes whose time has come."""
        while self._wakes and self._wakes[0][0] <= now_ns:
            when, lane_id = heapq.heappop(self._wakes)
            lane = self._lanes[lane_id]
            if lane.wake == when:
                lane.wake = None
                self._review(lane, now_ns)

    # Inside

    def _admit(self, lane: Lane, entry: Entry) -> None:
        lane.known[entry.seq] = entry
        lane.ready.append(entry)
        self.held_bytes += entry.cost

    def _put_back(self, lane: Lane, now_ns: int) -> None:
        """Forget what is ready: it is on disk, and a resting lane shall not hold memory."""
        for entry in lane.ready:
            del lane.known[entry.seq]
            self.held_bytes -= entry.cost
        if lane.ready:
            lane.ready.clear()
            self.park(lane.id, now_ns, now_ns)

    def _may_start(self, lane: Lane, now_ns: int) -> bool:
        return bool(lane.ready) and not lane.held and lane.in_flight < lane.concurrency and lane.paused_until <= now_ns

    def _wants_load(self, lane: Lane, now_ns: int) -> bool:
        return (
            not lane.loading
            and not lane.held
            and lane.disk_due is not None
            and lane.disk_due <= now_ns
            and lane.paused_until <= now_ns
            and len(lane.ready) < LOW_WATER
        )

    def _review(self, lane: Lane, now_ns: int) -> None:
        """Put a lane where it now belongs: into the turns, among those that want a load, or to sleep."""
        if not lane.queued and self._may_start(lane, now_ns):
            lane.queued = True
            self._turns.append(lane)
        if self._wants_load(lane, now_ns):
            self._hungry[lane.id] = lane
        if lane.held:
            return
        times = []
        if lane.paused_until > now_ns and (lane.ready or lane.disk_due is not None):
            times.append(lane.paused_until)
        elif lane.disk_due is not None and lane.disk_due > now_ns and not lane.loading:
            times.append(lane.disk_due)
        if times and (lane.wake is None or times[0] < lane.wake):
            lane.wake = times[0]
            heapq.heappush(self._wakes, (times[0], lane.id))
            if len(self._wakes) > 4 * len(self._lanes) + 64:
                # Times that an earlier one overtook stay in the heap; without this they would pile up over days.
                self._wakes = [(lane.wake, lane.id) for lane in self._lanes.values() if lane.wake is not None]
                heapq.heapify(self._wakes)
