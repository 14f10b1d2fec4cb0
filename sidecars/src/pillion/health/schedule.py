"""When each check runs next: jitter, single flight, and nothing else.

Promises: a check starts again at most one interval after it last started, unless that run is still under way; checks with the same
interval drift apart. Deliberately absent: running and timing out; this is pure bookkeeping over keys and monotonic nanoseconds.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)

JITTER: Final = 0.1
"""Part of an interval by which a run may come early. Never late: the interval is a promise about freshness."""

_GOLDEN: Final = 0.618033988749895
"""Multiples of the golden ratio, modulo one, spread neighbours that start together evenly over the jitter."""


class _Slot(msgspec.Struct):
    interval: int
    due: int
    flying: bool = False


class Schedule(Generic[K]):
    """Who is due. A key stands for one check in one form; a check that changes gets a new key."""

    def __init__(self) -> None:
        self._slots: dict[K, _Slot] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._slots

    def add(self, key: K, interval: int, now: int) -> None:
        """Take in a check that runs every *interval* nanoseconds; it is due at once."""
        self._slots[key] = _Slot(interval, now)

    def remove(self, key: K) -> None:
        """Forget a check; an unknown key is fine."""
        self._slots.pop(key, None)

    def take_due(self, now: int, jitter: float) -> list[K]:
        """Give the checks to start now, and plan the next start of each.

        Args:
            now: monotonic nanoseconds.
            jitter: a random number from 0 (inclusive) to 1 (exclusive).
        """
        started = []
        for index, (key, slot) in enumerate(self._slots.items()):
            if slot.flying or slot.due > now:
                continue
            part = (jitter + index * _GOLDEN) % 1.0
            slot.due = now + slot.interval - int(slot.interval * JITTER * part)
            slot.flying = True
            started.append(key)
        return started

    def landed(self, key: K) -> None:
        """Say that a run has ended; an unknown key is fine, its check was removed meanwhile."""
        if key in self._slots:
            self._slots[key].flying = False

    def next_due(self) -> int | None:
        """Give the monotonic time of the next start; None while nothing waits for one."""
        return min((slot.due for slot in self._slots.values() if not slot.flying), default=None)
