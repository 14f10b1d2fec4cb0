"""One sink's pipeline: gather, hand over, and only then move the checkpoint. Each sink has its own, so that a dead one stalls no other.

Order of things, which is what makes it lossless: records are read without moving anything; the sink confirms; the progress is written and
flushed; only then is the next batch read. A crash at any point repeats at most the one batch that was under way. While a sink takes nothing,
the files are still looked at, so that generations that are rotated away meanwhile stay open and readable.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple, Unpack

import msgspec
import structlog

from pillion.logs.checkpoint import Checkpoint, Progress
from pillion.logs.compiled import LogPlan, SinkPlan
from pillion.logs.discovery import TailSource
from pillion.logs.disk import Disk
from pillion.logs.engine import Tailer
from pillion.logs.followed import Scan, Span
from pillion.logs.masking import Masker
from pillion.logs.quarantine import Quarantine, QuarantineFull
from pillion.logs.records import Shaper, shape
from pillion.logs.sinks import Later, Never, Outcome, Sink, Taken, TooLarge
from pillion.logs.spool import Cursor, Spool
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions

POLL_FIRST: Final = 0.05
POLL_MAX: Final = 0.5
"""Seconds between two looks at quiet files: soon after something came, seldom when nothing comes."""

WATCH: Final = 1.0
"""Seconds between two looks at the files while a sink keeps the pipeline waiting."""

CLOSE: Final = 5.0
"""Seconds that the end of a pipeline waits for a disk."""

BACKOFF_FIRST: Final = 0.2
BACKOFF_MAX: Final = 30.0

TELL_DAMAGE: Final = 600_000_000_000
"""Nanoseconds for which damaged progress is told, for somebody to see it."""

LAG_WARNING: Final = 64 << 20
"""Bytes that a sink may be behind before that is said; a minute of a busy application."""

T = TypeVar("T")
A = TypeVarTuple("A")


class Figures(msgspec.Struct, kw_only=True):
    """What a pipeline has done."""

    records: int = 0
    bytes: int = 0
    sent_bytes: int = 0
    batches: int = 0
    retries: int = 0
    quarantined: int = 0
    lost_bytes: int = 0
    lag_bytes: int = 0
    files: int = 0


class _Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What can be shipped now, as it was read."""

    pushed: bytes
    spans: Sequence[Span]
    cursor: Cursor

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
        self.figures = Figures()
        self.pushed = asyncio.Event()
        """Set by the block when something was pushed, so that it does not wait for the next look."""
        self.cursor = Cursor(0, 0)
        self._draining = asyncio.Event()
        self._ending = False
        self._sink = sink
        self._spool = spool
        self._checkpoint = Checkpoint(folder / f"{plan.name}.progress")
        self._quarantine = Quarantine(folder / f"{plan.name}.quarantine.ndjson")
        self._clock = clock
        self._conditions = conditions
        self._log = structlog.get_logger("logs")
        self._masker = Masker(whole.mask)
        self._shapers = {s.name: Shaper(fields(s.name), s.format, self._masker) for s in whole.sources}
        self._tailer: Tailer | None = None
        self._sources = [TailSource(s.name, s.files) for s in whole.sources]
        self._troubles: frozenset[tuple[str, str]] = frozenset()
        self._damaged: int | None = None
        """When its progress was found damaged, until that is no longer worth telling."""
        self._thread: ThreadPoolExecutor | None = None

    @property
    def masked(self) -> Mapping[str, int]:
        """How often each rule masked something."""
        return self._masker.hits

    async def run(self) -> None:
        """Ship until cancelled, or until drained."""
        # One thread: its steps never overlap, and what a cancelled task has begun is over before the files are closed.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"logs {self.plan.name}")
        try:
            tailer = await self._step(self._open)
            pause = POLL_FIRST
            while True:
                gathered = await self._step(self._gather, tailer)
                if not gathered.size or self._ending:
                    if self._draining.is_set():
                        return
                    pause = min(pause * 1.5, POLL_MAX)
                    await self._wait(pause)
                    continue
                if gathered.size < self.plan.batch_bytes and not self._draining.is_set():
                    gathered = await self._linger(tailer, gathered)
                body, records = await self._step(self._shape, gathered)
                if body and not await self._hand_over(body, records, tailer):
                    return
                await self._step(self._commit, gathered, tailer)
                pause = POLL_FIRST
                if self._ending:
                    return
        finally:
            await self._close()

    def drain(self) -> None:
        """Ship what is there without waiting for more, and end; end at the first refusal, too."""
        self._draining.set()
        self.pushed.set()

    def end(self) -> None:
        """End after the batch that is under way: its records must not come again from a pipeline that takes over."""
        self._ending = True
        self.drain()

    async def _step(self, function: Callable[[Unpack[A]], T], *arguments: *A) -> T:
        """Run *function* in the pipeline's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _wait(self, seconds: float) -> None:
        """Wait, but not beyond a push or the drain."""
        try:
            async with asyncio.timeout(seconds):
                await self.pushed.wait()
        except TimeoutError:
            pass
        self.pushed.clear()

    async def _nap(self, seconds: float) -> None:
        """Wait, but not beyond the drain."""
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            pass

    async def _linger(self, tailer: Tailer, gathered: _Gathered) -> _Gathered:
        """Wait for more until the batch is full or its time is up."""
        until = self._clock.monotonic_ns() + self.plan.linger_ns
        while gathered.size < self.plan.batch_bytes and not self._draining.is_set():
            left = (until - self._clock.monotonic_ns()) / 1e9
            if left <= 0:
                break
            await self._nap(min(left, POLL_MAX))
            gathered = await self._step(self._gather, tailer)
        return gathered

    async def _close(self) -> None:
        """Let go of files and connections."""
        if self._thread is not None:
            # Behind the step that is under way: whoever takes over must find its progress on disk.
            await asyncio.wait({asyncio.wrap_future(self._thread.submit(self._shut))}, timeout=CLOSE)
            self._thread.shutdown(wait=False)
        await self._sink.close()

    def _shut(self) -> None:
        if self._tailer is not None:
            self._tailer.close()
            self._tailer = None

    # In the pipeline's thread

    def _open(self) -> Tailer:
        progress, trouble = self._checkpoint.load()
        if trouble:
            self._damaged = self._clock.monotonic_ns()
            self._log.warning("log progress is damaged", sink=self.plan.name, reason=trouble)
            self._conditions.set(f"logs:{self.plan.name}:progress", "warn", trouble)
        self.cursor = max(progress.cursor, self._spool.start)
        self._tailer = Tailer(Disk(), self._sources, progress.positions, safe_cut=self._masker.safe_cut)
        return self._tailer

    def _gather(self, tailer: Tailer) -> _Gathered:
        """Read what can be shipped; nothing moves."""
        self._look(tailer)
        pushed, cursor = self._spool.read(self.cursor, self.plan.batch_bytes)
        left = self.plan.batch_bytes - len(pushed)
        spans = tailer.read(left) if left > 0 else []
        if not pushed and not spans and cursor != self.cursor:
            # Damage was passed over.
            self.cursor = cursor
        caught_up = not pushed and not spans
        if self._damaged is not None and caught_up and self._clock.monotonic_ns() - self._damaged > TELL_DAMAGE:
            self._damaged = None
            self._conditions.clear(f"logs:{self.plan.name}:progress")
        return _Gathered(pushed=pushed, spans=spans, cursor=cursor)

    def _look(self, tailer: Tailer) -> None:
        """See what became of the files, and keep what must survive a crash."""
        scan = tailer.scan(self._clock.monotonic_ns())
        self._report(scan)
        if scan.changed:
            self._save(tailer)
        self.figures.files = tailer.files()
        self.figures.lag_bytes = lag = tailer.lag() + self._spool.behind(self.cursor)
        condition = f"logs:{self.plan.name}:lag"
        if lag > LAG_WARNING:
            self._conditions.set(condition, "warn", f"sink {self.plan.name} is {lag >> 20} MiB behind")
        elif lag < LAG_WARNING // 2:
            self._conditions.clear(condition)

    def _shape(self, gathered: _Gathered) -> tuple[bytes, int]:
        """Make records of what was read."""
        bodies, records = [gathered.pushed], gathered.pushed.count(b"\n")
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
        condition = f"logs:{self.plan.name}:checkpoint"
        try:
            self._checkpoint.save(Progress(positions=tailer.positions(), cursor=self.cursor))
        except OSError as error:
            # What was confirmed may come again after a crash; going on is better than standing still on a full disk.
            text = f"progress of sink {self.plan.name} cannot be saved: {error.strerror}"
            self._conditions.set(condition, "warn", text)
        else:
            self._conditions.clear(condition)

    def _report(self, scan: Scan) -> None:
        """Say what is gone and what cannot be read; each once."""
        name = self.plan.name
        for lost in scan.lost:
            self.figures.lost_bytes += lost.end - lost.start
            where = f"{lost.path}: bytes {lost.start} to {lost.end}"
            self._log.error(
                "log bytes are gone before they could be shipped", sink=name, where=where, reason=lost.reason
            )
            text = f"{where} are gone before sink {name} had them: {lost.reason}"
            self._conditions.set(f"logs:{name}:lost", "warn", text)
        troubles = frozenset((trouble.path, trouble.reason) for trouble in scan.troubles)
        if troubles == self._troubles:
            return
        self._troubles = troubles
        condition = f"logs:{name}:unreadable"
        if not troubles:
            self._conditions.clear(condition)
            return
        text = "; ".join(f"{path}: {reason}" for path, reason in sorted(troubles)[:5])
        self._log.warning("log files cannot be read", sink=name, where=text)
        self._conditions.set(condition, "warn", f"cannot be read: {text}")

    # Handing over

    async def _hand_over(self, body: bytes, records: int, tailer: Tailer) -> bool:
        """Hand over one batch; returns once it is confirmed or quarantined, or false when a drain ends without that."""
        encoded = await self._step(self._sink.encode, body)
        condition = f"logs:{self.plan.name}"
        failures, since = 0, self._clock.monotonic_ns()
        while True:
            outcome = await self._send(encoded, tailer)
            match outcome:
                case Taken():
                    self._conditions.clear(condition)
                    self.figures.records += records
                    self.figures.bytes += len(body)
                    self.figures.sent_bytes += len(encoded)
                    self.figures.batches += 1
                    return True
                case TooLarge() if body.count(b"\n") > 1:
                    half = body.index(b"\n", len(body) // 2 - 1) + 1
                    half = half if half < len(body) else body.rindex(b"\n", 0, len(body) - 1) + 1
                    first, second = body[:half], body[half:]
                    return await self._hand_over(first, first.count(b"\n"), tailer) and await self._hand_over(
                        second, second.count(b"\n"), tailer
                    )
                case TooLarge(reason=reason) | Never(reason=reason):
                    if await self._set_aside(body, records, reason):
                        return True
                    pause = BACKOFF_MAX
                case Later(reason=reason, after=after):
                    failures += 1
                    most = min(BACKOFF_FIRST * 2 ** min(failures, 10), BACKOFF_MAX)
                    # Half of it by chance, so that the pods of an application do not come back to a sink all at once.
                    pause = max(most * (0.5 + random.random() / 2), after)  # noqa: S311 - spreads load, guards nothing
                    self._log.warning("a sink does not take records", sink=self.plan.name, reason=reason)
                    if failures >= 3:
                        seconds = (self._clock.monotonic_ns() - since) // 1_000_000_000
                        text = f"sink {self.plan.name} has taken nothing for {seconds} s: {reason}"
                        self._conditions.set(condition, "warn", text)
            if self._draining.is_set():
                return False
            self.figures.retries += 1
            await self._sit_out(pause, tailer)
            if self._draining.is_set():
                return False

    async def _send(self, encoded: bytes, tailer: Tailer) -> Outcome:
        """Send, and look at the files meanwhile."""
        sending = asyncio.create_task(self._sink.send(encoded), name=f"logs: send to {self.plan.name}")
        try:
            while not (await asyncio.wait({sending}, timeout=WATCH))[0]:
                await self._step(self._look, tailer)
            return sending.result()
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _sit_out(self, seconds: float, tailer: Tailer) -> None:
        """Wait before the next attempt, and look at the files meanwhile."""
        until = self._clock.monotonic_ns() + int(seconds * 1e9)
        while not self._draining.is_set() and (left := (until - self._clock.monotonic_ns()) / 1e9) > 0:
            await self._nap(min(left, WATCH))
            await self._step(self._look, tailer)

    async def _set_aside(self, body: bytes, records: int, reason: str) -> bool:
        """Keep what a sink refused for good; false when there is no room, and the batch must wait."""
        condition = f"logs:{self.plan.name}:quarantine"
        try:
            await self._step(self._quarantine.add, body)
        except (QuarantineFull, OSError) as error:
            why = "it is full" if isinstance(error, QuarantineFull) else str(error.strerror)
            text = f"sink {self.plan.name} refuses records ({reason}) and {self._quarantine.path} cannot take them: {why}; look into it and remove it"
            self._conditions.set(condition, "fail", text)
            return False
        self.figures.quarantined += records
        self._log.error("a sink refused records for good", sink=self.plan.name, reason=reason)
        text = f"sink {self.plan.name} refused {self.figures.quarantined} records ({reason}); they are in {self._quarantine.path}"
        self._conditions.set(condition, "warn", text)
        return True
