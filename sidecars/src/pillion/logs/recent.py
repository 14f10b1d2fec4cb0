"""Recent lines, for whoever looks at them now: read from the files themselves when asked, so that nobody pays while nobody looks.

What was pushed is kept in a small ring beside, because the spool lets go of it once it is shipped. All lines are masked like those that are
shipped: a query must not show what a sink would not get.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pillion.logs.compiled import LogPlan
from pillion.logs.discovery import TailSource
from pillion.logs.disk import Disk
from pillion.logs.engine import Tailer
from pillion.logs.masking import Masker
from pillion.logs.records import Shaper

WINDOW: Final = 1 << 20
"""Bytes at the end of each file that a query looks at."""

RING_BYTES: Final = 1 << 20
"""Bytes of pushed records that are remembered."""


class Ring:
    """The newest pushed records."""

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._parts: deque[tuple[int, bytes]] = deque()
        self._count = 0

    def add(self, records: bytes) -> None:
        """Remember *records* and forget the oldest."""
        self._count += 1
        self._parts.append((self._count, records))
        self._size += len(records)
        while self._size > self._limit and len(self._parts) > 1:
            self._size -= len(self._parts.popleft()[1])

    def since(self, mark: int) -> tuple[bytes, int]:
        """Give what was added after *mark*, and the mark to come back with."""
        return b"".join(part for count, part in self._parts if count > mark), self._count


class Reader:
    """One look at the files of a section; its methods do file I/O and belong into a thread.

    Args:
        plan: the section.
        fields: what is put into every record, by source.
        source: only this source; empty means all.
    """

    def __init__(self, plan: LogPlan, fields: Callable[[str], Mapping[str, str]], source: str) -> None:
        masker = Masker(plan.mask)
        chosen = [s for s in plan.sources if source in ("", s.name)]
        self._shapers = {s.name: Shaper(fields(s.name), s.format, masker) for s in chosen}
        self._tailer = Tailer(Disk(), [TailSource(s.name, s.files) for s in chosen], safe_cut=masker.safe_cut)
        self._begun = False

    def lines(self) -> Iterator[bytes]:
        """Give the records that came since the last call; the first call gives those of the window."""
        self._tailer.scan(time.monotonic_ns())
        if not self._begun:
            self._tailer.skip_to_recent(WINDOW)
            self._begun = True
        while spans := self._tailer.read(WINDOW):
            for span in spans:
                shaper = self._shapers[span.source]
                shaped = shaper.lines(span.raw) if span.place == "whole" else shaper.piece(span.raw, span.place)
                yield from shaped.body.splitlines()
            self._tailer.acknowledge(spans)

    def close(self) -> None:
        """Let go of the files."""
        self._tailer.close()


def matching(lines: Iterator[bytes], query: str, limit: int) -> list[bytes]:
    """Give the last *limit* lines that hold every word of *query*, whatever the case."""
    words = [word.encode() for word in query.lower().split()]
    found: deque[bytes] = deque(maxlen=limit)
    for line in lines:
        low = line.lower()
        if all(word in low for word in words):
            found.append(line)
    return list(found)
