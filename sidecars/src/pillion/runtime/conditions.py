"""What the sidecar knows to be wrong with itself, in one place: stale configuration, a full disk, a crashed task.

Whoever notices sets a condition by name and clears it when it is over; the health endpoints and the metrics read them. A condition is about
the sidecar; the health of the application's dependencies is the health block's.
"""

import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from pillion.runtime.journal import CONCEALED

Level = Literal["warn", "fail"]
"""`warn`: serves, but degraded. `fail`: some of what it promises is not kept."""


class Condition(msgspec.Struct, frozen=True):
    """One thing that is wrong now."""

    name: str
    level: Level
    message: str
    since: float
    """Unix seconds."""


class Conditions:
    """All that is wrong now; empty when all is well."""

    def __init__(self) -> None:
        self._now: dict[str, Condition] = {}

    def set(self, name: str, level: Level, message: str) -> None:
        """Say that something is wrong; saying it again keeps the time it began.

        Secret values are taken out of *message*: whom we talk to may repeat what we said, and what is said here is shown to everybody.
        """
        known = self._now.get(name)
        since = known.since if known else time.time()
        self._now[name] = Condition(name, level, CONCEALED.hide(message), since)

    def clear(self, name: str) -> None:
        """Say that it is over."""
        self._now.pop(name, None)

    def __iter__(self) -> Iterator[Condition]:
        return iter(tuple(self._now.values()))
