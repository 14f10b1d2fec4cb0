"""When files were last written to: what tells a generation that came and went between two looks from one that has long been delivered.

Times of files are only compared with each other, never with a clock. Promises: a generation counts as new when it was written to no earlier than
the newest one that was known a little while ago; of files that began after the first look, every generation does. Deliberately absent: the files.
"""

from typing import Final

SETTLE: Final = 2_000_000_000
"""Nanoseconds for which what one look found missing may still turn up: reading a folder while it is rotated can overlook a file."""

MAX_ORIGINS: Final = 2048
"""Files of which the times are kept; four times as many as are held open."""

_Times = dict[tuple[str, str], int]
"""By source and origin."""


class Ages:
    """The times of one sink's files, by source and by the path at which they are written to."""

    def __init__(self) -> None:
        self._newest: _Times = {}
        """When the newest known generation was last written to."""
        self._settled: tuple[_Times, _Times] = ({}, {})
        """The same as it was one and two `SETTLE` ago."""
        self._settled_at = 0
        self._former: frozenset[tuple[str, str]] = frozenset()

    def remember(self, source: str, origin: str, mtime: int) -> None:
        """Take in what an earlier life knew."""
        self._newest[source, origin] = max(mtime, self._newest.get((source, origin), 0))
        self._settled = (dict(self._newest), dict(self._newest))
        self._former = frozenset(self._newest)

    def advance(self, now: int) -> None:
        """Note that it is *now* (monotonic nanoseconds)."""
        if now - self._settled_at >= SETTLE:
            self._settled, self._settled_at = (dict(self._newest), self._settled[0]), now

    def note(self, source: str, origin: str, mtime: int, *, first: bool) -> None:
        """Note when a file was last written to; *first* tells whether this is the first look of all."""
        if len(self._newest) > MAX_ORIGINS:
            # Origins of long ago; forgetting them costs at most a generation that came and went unseen.
            self._newest.clear()
        self._newest[source, origin] = max(mtime, self._newest.get((source, origin), 0))
        # Of what began after the first look, everything is new, whatever order its generations turn up in.
        for older in self._settled:
            older.setdefault((source, origin), mtime if first else 0)

    def origins(self, source: str) -> list[str]:
        """Give the known origins of *source*."""
        return [origin for owner, origin in self._newest if owner == source]

    def is_former(self, source: str, origin: str) -> bool:
        """Tell whether an earlier life has looked at it."""
        return (source, origin) in self._former

    def may_be_new(self, source: str, origin: str, mtime: int) -> bool:
        """Tell whether a generation that was written to at *mtime* may have come since the last look."""
        return mtime >= self._settled[1].get((source, origin), 0)
