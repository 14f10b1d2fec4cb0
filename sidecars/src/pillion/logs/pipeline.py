"""One sink's pipeline: gather, hand over, and only then move the checkpoint. Each sink has its own, so that a dead one stalls no other.

Order of things, which is what makes it lossless: records are read without moving anything; the sink confirms; the progress is written and
flushed; only then is the next batch read. A crash at any point repeats at most the one batch that was under way.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pillion.logs.checkpoint import Checkpoint, Progress
from pillion.logs.compiled import LogPlan, SinkPlan
from pillion.logs.discovery import TailSource
from pillion.logs.disk import Disk
from pillion.logs.engine import Tailer
from pillion.logs.followed import Lost, Span
from pillion.logs.masking import Masker
from pillion.logs.records import Shaper
from pillion.logs.sinks import Later, Never, Sink, Taken
from pillion.logs.spool import Cursor, Spool
from pillion.runtime.conditions import Conditions

POLL_FIRST: Final = 0.05
POLL_MAX: Final = 1.0
"""Seconds between two looks at quiet files: soon after something came, seldom when nothing comes."""

BACKOFF_FIRST: Final = 0.2
BACKOFF_MAX: Final = 30.0

QUARANTINE_BYTES: Final = 16 << 20
"""Bound of what a sink refused for good; beyond it the file is renamed once, replacing the former one."""


class Figures(msgspec.Struct, kw_only=True):
    """What a pipeline has done."""

    records: int = 0
    bytes: int = 0
    batches: int = 0
    retries: int = 0
    quarantined: int = 0
    lost_bytes: int = 0
    lag_bytes: int = 0


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    records: int
    spans: Sequence[Span]
    cursor: Cursor


class Pipeline:
    """Ships to one sink.

    Args:
        plan: the sink.
        whole: the section that it stands in, for sources and masks.
        sink: what takes batches.
        spool: records that were pushed.
        folder: where its checkpoint and quarantine are.
        fields: what is put into every record, by source.
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
        conditions: Conditions,
    ) -> None:
        self.plan = plan
        self.figures = Figures()
        self.pushed = asyncio.Event()
        """Set by the block when something was pushed, so that it does not wait for the next look."""
        self._sink = sink
        self._spool = spool
        self._checkpoint = Checkpoint(folder / f"{plan.name}.progress")
        self._quarantine = folder / f"{plan.name}.quarantine.ndjson"
        self._conditions = conditions
        self._log = structlog.get_logger("logs")
        self._masker = Masker(whole.mask)
        self._shapers = {s.name: Shaper(fields(s.name), s.format, self._masker) for s in whole.sources}
        self._sources = [TailSource(s.name, s.files) for s in whole.sources]
        self._tailer: Tailer | None = None
        # A thread cannot be cancelled: whoever closes the files waits for the step that is under way.
        self._busy = threading.Lock()
        self.cursor = Cursor(0, 0)

    @property
    def masked(self) -> Mapping[str, int]:
        """How often each rule masked something."""
        return self._masker.hits

    async def run(self) -> None:
        """Ship until cancelled."""
        await asyncio.to_thread(self._open)
        pause = POLL_FIRST
        gathered_since: float | None = None
        try:
            while True:
                batch = await asyncio.to_thread(self._gather)
                if batch is None:
                    gathered_since = None
                    pause = min(pause * 1.5, POLL_MAX)
                    await self._wait(pause)
                    continue
                now = time.monotonic()
                gathered_since = gathered_since or now
                left = gathered_since + self.plan.linger_ns / 1e9 - now
                if len(batch.body) < self.plan.batch_bytes and left > 0:
                    await asyncio.sleep(min(left, POLL_MAX))
                    continue
                await self._deliver(batch)
                await asyncio.to_thread(self._commit, batch)
                gathered_since, pause = None, POLL_FIRST
        finally:
            await self.close()

    async def flush(self) -> None:
        """Hand over what is there now, once, without retries; for the end of the process."""
        if self._tailer is None:
            await asyncio.to_thread(self._open)
        while (batch := await asyncio.to_thread(self._gather)) is not None:
            if not isinstance(await self._sink.send(batch.body), Taken):
                return
            await asyncio.to_thread(self._commit, batch)

    async def close(self) -> None:
        """Let go of files and connections."""
        await asyncio.to_thread(self._shut)
        await self._sink.close()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.pushed.wait()
        except TimeoutError:
            pass
        self.pushed.clear()

    def _shut(self) -> None:
        with self._busy:
            if self._tailer is not None:
                self._tailer.close()
                self._tailer = None

    def _open(self) -> None:
        progress, trouble = self._checkpoint.load()
        if trouble:
            self._log.warning("log progress is damaged", sink=self.plan.name, reason=trouble)
            self._conditions.set(f"logs:{self.plan.name}:progress", "warn", trouble)
        self.cursor = max(progress.cursor, self._spool.start)
        self._tailer = Tailer(Disk(), self._sources, progress.positions, safe_cut=self._masker.safe_cut)

    def _gather(self) -> _Batch | None:
        with self._busy:
            return self._read(self._tailer) if self._tailer is not None else None

    def _read(self, tailer: Tailer) -> _Batch | None:
        scan = tailer.scan(time.monotonic_ns())
        for lost in scan.lost:
            self._report_lost(lost)
        for trouble in scan.troubles:
            self._log.warning("a log file cannot be read", path=trouble.path, reason=trouble.reason)
        pushed, cursor = self._spool.read(self.cursor, self.plan.batch_bytes)
        spans = tailer.read(max(self.plan.batch_bytes - len(pushed), 1)) if len(pushed) < self.plan.batch_bytes else []
        self.figures.lag_bytes = tailer.lag() + (self._spool.size if pushed else 0)
        if not spans and not pushed:
            if scan.changed:
                self._save(tailer)
            return None
        bodies, records = [pushed], pushed.count(b"\n")
        for span in spans:
            shaper = self._shapers[span.source]
            shaped = shaper.lines(span.raw) if span.place == "whole" else shaper.piece(span.raw, span.place)
            bodies.append(shaped.body)
            records += shaped.lines
        return _Batch(body=b"".join(bodies), records=records, spans=spans, cursor=cursor)

    async def _deliver(self, batch: _Batch) -> None:
        """Hand over *batch*; returns once it is confirmed or quarantined."""
        if not batch.body:
            return  # blank lines only
        condition = f"logs:{self.plan.name}"
        failures = 0
        since = time.time()
        while True:
            outcome = await self._sink.send(batch.body)
            match outcome:
                case Taken():
                    self._conditions.clear(condition)
                    self.figures.records += batch.records
                    self.figures.bytes += len(batch.body)
                    self.figures.batches += 1
                    return
                case Later(reason=reason, after=after):
                    failures += 1
                    self.figures.retries += 1
                    pause = max(min(BACKOFF_FIRST * 2 ** min(failures, 10), BACKOFF_MAX), after)
                    self._log.warning("a sink does not take records", sink=self.plan.name, reason=reason)
                    if failures >= 3:
                        text = f"sink {self.plan.name} has taken nothing for {time.time() - since:.0f} s: {reason}"
                        self._conditions.set(condition, "warn", text)
                    await asyncio.sleep(pause)
                case Never(reason=reason):
                    await asyncio.to_thread(self._set_aside, batch.body)
                    self.figures.quarantined += batch.records
                    self._log.error("a sink refused records for good", sink=self.plan.name, reason=reason)
                    text = f"sink {self.plan.name} refused {self.figures.quarantined} records ({reason}); they are in {self._quarantine}"
                    self._conditions.set(f"{condition}:quarantine", "warn", text)
                    return

    def _commit(self, batch: _Batch) -> None:
        with self._busy:
            if self._tailer is None:
                return
            self._tailer.acknowledge(batch.spans)
            self.cursor = batch.cursor
            self._save(self._tailer)

    def _save(self, tailer: Tailer) -> None:
        condition = f"logs:{self.plan.name}:checkpoint"
        try:
            self._checkpoint.save(Progress(positions=tailer.positions(), cursor=self.cursor))
        except OSError as error:
            # What was confirmed may come again after a crash; going on is better than standing still on a full disk.
            self._conditions.set(
                condition, "warn", f"progress of sink {self.plan.name} cannot be saved: {error.strerror}"
            )
        else:
            self._conditions.clear(condition)

    def _set_aside(self, body: bytes) -> None:
        if self._quarantine.exists() and self._quarantine.stat().st_size + len(body) > QUARANTINE_BYTES:
            self._quarantine.replace(f"{self._quarantine}.1")
        descriptor = os.open(self._quarantine, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())

    def _report_lost(self, lost: Lost) -> None:
        self.figures.lost_bytes += lost.end - lost.start
        self._log.error(
            "log bytes are gone before they could be shipped",
            sink=self.plan.name,
            path=lost.path,
            start=lost.start,
            end=lost.end,
            reason=lost.reason,
        )
        text = f"{lost.path}: bytes {lost.start} to {lost.end} are gone before sink {self.plan.name} had them: {lost.reason}"
        self._conditions.set(f"logs:{self.plan.name}:lost", "warn", text)
