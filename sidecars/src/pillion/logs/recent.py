"""Recent lines, for whoever looks at them now: read from the files themselves when asked, so that nobody pays while nobody looks.

What was pushed is kept in a small ring beside, because the spool lets go of it once it is shipped. All lines are masked like those that are
shipped: a query must not show what a sink would not get.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pillion.logs.compiled import LogPlan
from pillion.logs.discovery import TailSource
from pillion.logs.disk import Disk
from pillion.logs.engine import Tailer
from pillion.logs.masking import Masker
from pillion.logs.records import Shaper, shape
from pillion.logs.times import since

WINDOW: Final = 1 << 20
"""Bytes at the end of each file that a query looks at."""

RING_BYTES: Final = 1 << 20
"""Bytes of pushed records that are remembered."""


MAX_READS: Final = 64
"""Windows that one call reads, so that a writer that is faster than the reader cannot hold it for ever."""


class _Part(NamedTuple):
    number: int
    arrived: float
    records: bytes


class Ring:
    """The newest pushed records."""

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._parts: deque[_Part] = deque()
        self._count = 0

    def add(self, records: bytes, arrived: float) -> None:
        """Remember *records*, which arrived at that Unix second, and forget the oldest."""
        self._count += 1
        self._parts.append(_Part(self._count, arrived, records))
        self._size += len(records)
        while self._size > self._limit and len(self._parts) > 1:
            self._size -= len(self._parts.popleft().records)

    @property
    def mark(self) -> int:
        """What `after` is asked with, to get what is added from now on."""
        return self._count

    def after(self, mark: int) -> bytes:
        """Give what was added after *mark*."""
        return b"".join(part.records for part in self._parts if part.number > mark)

    def since(self, start: float) -> bytes:
        """Give what arrived from *start* (Unix seconds) on."""
        return b"".join(part.records for part in self._parts if part.arrived >= start)


class Reader:
    """One look at the files of a section; its methods do file I/O and belong into a thread.

    Args:
        plan: the section.
        fields: what is put into every record, by source.
        source: only this source; empty means all.
        start: of what is there already, only records written from this Unix second on.
    """

    def __init__(
        self, plan: LogPlan, fields: Callable[[str], Mapping[str, str]], source: str, start: float = 0.0
    ) -> None:
        masker = Masker(plan.mask)
        chosen = [s for s in plan.sources if source in ("", s.name)]
        self._shapers = {s.name: Shaper(fields(s.name), s.format, masker) for s in chosen}
        sources = [TailSource(s.name, s.files) for s in chosen]
        # Of files that are still written to: what was rotated away is not recent.
        self._tailer = Tailer(Disk(), sources, safe_cut=masker.safe_cut, history=False)
        self._start = start
        self._begun = False

    def lines(self) -> Iterator[bytes]:
        """Give the records that came since the last call; the first call gives those of the window."""
        self._tailer.scan(time.monotonic_ns())
        start = 0.0 if self._begun else self._start
        if not self._begun:
            self._tailer.skip_to_recent(WINDOW)
            self._begun = True
        for _ in range(MAX_READS):
            spans = self._tailer.read(WINDOW)
            if not spans:
                return
            for span in spans:
                records = shape(self._shapers[span.source], span.raw, span.place).body.splitlines()
                yield from since(records, start) if start else records
            self._tailer.acknowledge(spans)

    def close(self) -> None:
        """Let go of the files."""
        self._tailer.close()


def matching(lines: Iterable[bytes], query: str, limit: int) -> list[bytes]:
    """Give the last *limit* lines that hold every word of *query*, whatever the case."""
    words = [word.encode() for word in query.lower().split()]
    found: deque[bytes] = deque(maxlen=limit)
    for line in lines:
        low = line.lower()
        if all(word in low for word in words):
            found.append(line)
    return list(found)
