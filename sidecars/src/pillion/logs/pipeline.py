"""One sink's pipeline: gather, hand over, and only then move the checkpoint. Each sink has its own, so that a dead one stalls no other.

Order of things, which is what makes it lossless: records are read without moving anything; the sink confirms; the progress is written and
flushed; only then is the next batch read. A crash at any point repeats at most the one batch that was under way. Deliberately absent: what
becomes of a batch that the sink does not take (`handover.py`), and what is said about it (`reporting.py`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pillion.logs.checkpoint import Checkpoint, Progress
from pillion.logs.compiled import LogPlan, SinkPlan
from pillion.logs.discovery import TailSource
from pillion.logs.disk import Disk
from pillion.logs.engine import Tailer
from pillion.logs.followed import Span
from pillion.logs.handover import HandOver
from pillion.logs.masking import Masker
from pillion.logs.quarantine import Quarantine
from pillion.logs.records import Shaper, shape
from pillion.logs.reporting import Figures, Report
from pillion.logs.sinks import Sink
from pillion.logs.spool import Cursor, Spool
from pillion.logs.steps import Steps
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions

POLL_FIRST: Final = 0.05
POLL_MAX: Final = 0.5
"""Seconds between two looks at quiet files: soon after something came, seldom when nothing comes."""


class _Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What can be shipped now, as it was read."""

    pushed: bytes
    spans: Sequence[Span]
    cursor: Cursor
    more: bool
    """Whether more was there than a batch takes."""

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return len(self.pushed) + sum(len(span.raw) for span in self.spans)


class Pipeline:
    """Ships to one sink.

    Args:
        plan: the sink.
        whole: the section that it stands in, for sources and masks.
        sink: what takes batches.
        spool: records that were pushed.
        folder: where its checkpoint and quarantine are.
        fields: what is put into every record, by source.
        clock: the time.
        conditions: where trouble is said.
    """

    def __init__(
        self,
        plan: SinkPlan,
        whole: LogPlan,
        sink: Sink,
        *,
        spool: Spool,
        folder: Path,
        fields: Callable[[str], Mapping[str, str]],
        clock: Clock,
        conditions: Conditions,
    ) -> None:
        self.plan = plan
        self.pushed = asyncio.Event()
        """Set by the block when something was pushed, so that it does not wait for the next look."""
        self.cursor = Cursor(0, 0)
        self._ending = False
        self._spool = spool
        self._checkpoint = Checkpoint(folder / f"{plan.name}.progress")
        self._clock = clock
        self._report = Report(plan.name, clock, conditions)
        quarantine = Quarantine(folder / f"{plan.name}.quarantine.ndjson")
        self._hand_over = HandOver(plan.name, sink, quarantine, self._report, clock)
        self._masker = Masker(whole.mask)
        self._shapers = {s.name: Shaper(fields(s.name), s.format, self._masker) for s in whole.sources}
        self._sources = [TailSource(s.name, s.files) for s in whole.sources]
        self._tailer: Tailer | None = None

    @property
    def figures(self) -> Figures:
        """What it has done."""
        return self._report.figures

    @property
    def masked(self) -> Mapping[str, int]:
        """How often each rule masked something."""
        return self._masker.hits

    async def run(self) -> None:
        """Ship until cancelled, or until drained."""
        steps = Steps(f"logs {self.plan.name}")
        try:
            tailer = await steps.run(self._open)
            await self._ship(steps, tailer)
        finally:
            # Whoever takes over must find its progress on disk.
            await steps.close(self._shut)
            await self._hand_over.close()

    async def _ship(self, steps: Steps, tailer: Tailer) -> None:
        pause = POLL_FIRST
        draining = self._hand_over.draining
        while True:
            gathered = await steps.run(self._gather, tailer)
            if not gathered.size or self._ending:
                if draining.is_set():
                    return
                pause = min(pause * 1.5, POLL_MAX)
                await self._wait(pause)
                continue
            if not self._full(gathered) and not draining.is_set():
                gathered = await self._linger(steps, tailer, gathered)
            body, records = await steps.run(self._shape, gathered)
            if body and not await self._hand_over.deliver(body, records, steps, lambda: self._look(tailer)):
                return
            await steps.run(self._commit, gathered, tailer)
            pause = POLL_FIRST
            if self._ending:
                return

    def drain(self) -> None:
        """Ship what is there without waiting for more, and end; end at the first refusal, too."""
        self._hand_over.draining.set()
        self.pushed.set()

    def end(self) -> None:
        """End after the batch that is under way: its records must not come again from a pipeline that takes over."""
        self._ending = True
        self.drain()

    async def _wait(self, seconds: float) -> None:
        """Wait, but not beyond a push or the drain."""
        try:
            async with asyncio.timeout(seconds):
                await self.pushed.wait()
        except TimeoutError:
            pass
        self.pushed.clear()

    def _full(self, gathered: _Gathered) -> bool:
        return gathered.more or gathered.size >= self.plan.batch_bytes

    async def _linger(self, steps: Steps, tailer: Tailer, gathered: _Gathered) -> _Gathered:
        """Wait for more until the batch is full or its time is up."""
        until = self._clock.monotonic_ns() + self.plan.linger_ns
        while not self._full(gathered) and not self._hand_over.draining.is_set():
            left = (until - self._clock.monotonic_ns()) / 1e9
            if left <= 0:
                break
            await self._hand_over.nap(min(left, POLL_MAX))
            gathered = await steps.run(self._gather, tailer)
        return gathered

    # In the pipeline's thread

    def _open(self) -> Tailer:
        progress, trouble = self._checkpoint.load()
        if trouble:
            self._report.damaged(trouble)
        self.cursor = max(progress.cursor, self._spool.start)
        self._tailer = Tailer(Disk(), self._sources, progress.positions, safe_cut=self._masker.safe_cut)
        return self._tailer

    def _shut(self) -> None:
        if self._tailer is not None:
            self._tailer.close()
            self._tailer = None

    def _gather(self, tailer: Tailer) -> _Gathered:
        """Read what can be shipped; nothing moves."""
        self._look(tailer)
        pushed, cursor = self._spool.read(self.cursor, self.plan.batch_bytes)
        left = self.plan.batch_bytes - len(pushed)
        spans = tailer.read(left) if left > 0 else []
        if not pushed and not spans:
            # Moves only where damage was passed over.
            self.cursor = cursor
            self._report.caught_up()
        # Whole lines hardly ever fill a batch to the byte.
        more = tailer.more if left > 0 else True
        return _Gathered(pushed=pushed, spans=spans, cursor=cursor, more=more or self._spool.behind(cursor) > 0)

    def _look(self, tailer: Tailer) -> None:
        """See what became of the files, and keep what must survive a crash."""
        scan = tailer.scan(self._clock.monotonic_ns())
        self._report.scanned(scan)
        if scan.changed:
            self._save(tailer)
        self._report.lag(tailer.lag() + self._spool.behind(self.cursor), tailer.files())

    def _shape(self, gathered: _Gathered) -> tuple[bytes, int]:
        """Make records of what was read, and count them."""
        bodies, records = [gathered.pushed] if gathered.pushed else [], gathered.pushed.count(b"\n")
        for span in gathered.spans:
            shaped = shape(self._shapers[span.source], span.raw, span.place)
            bodies.append(shaped.body)
            records += shaped.lines
        return b"".join(bodies), records

    def _commit(self, gathered: _Gathered, tailer: Tailer) -> None:
        tailer.acknowledge(gathered.spans)
        self.cursor = gathered.cursor
        self._save(tailer)

    def _save(self, tailer: Tailer) -> None:
        try:
            self._checkpoint.save(Progress(positions=tailer.positions(), cursor=self.cursor))
        except OSError as error:
            # What was confirmed may come again after a crash; going on is better than standing still on a full disk.
            self._report.saved(error)
        else:
            self._report.saved(None)
