"""Rendering beside the event loop: one process that may be killed, and that is begun anew when it was.

The sandbox bounds what we thought of. This bounds the rest: a rendering that takes too long, or more memory than it may, costs its own request an
error and everybody else a moment. The process is begun with the first rendering and ends with the sidecar. Jobs wait in a bounded queue; one task
sends them in batches, so that the pipe is not a round trip per message, and knows from the order of answers whose rendering it was that hung.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from typing import Any, Final

import msgspec
import structlog

from pillion.notifications.content import Rendered, RenderError, Source
from pillion.notifications.frames import LENGTH, MAX_FRAME, Job, Outcome, frame
from pillion.notifications.mail import Envelope
from pillion.runtime.tasks import Tasks

DEADLINE: Final = 2.0
"""Seconds of one rendering. The slowest that the bounds admit takes a fraction of one on a slow core."""

MEMORY: Final = 512 << 20
"""Bytes of address space of the process, of which the interpreter maps a fifth; the largest rendering within bounds needs some 50 MB."""

START_DEADLINE: Final = 20.0
"""Seconds until the process has loaded itself, on a machine that starts many things at once."""

MAX_WAITING: Final = 1024
"""Jobs that may wait; one more is refused at once."""

BATCH: Final = 64
"""Jobs that are sent at once."""


EMPTY: Final = msgspec.Raw(msgspec.msgpack.encode({}))
"""No variables."""


class RendererBusy(Exception):  # noqa: N818 - says what happened
    """Too many renderings wait. On HTTP: 503 with Retry-After."""


class RendererUnavailable(Exception):  # noqa: N818 - says what happened
    """The process cannot be started, or ended without a rendering to blame. On HTTP: 503 with Retry-After."""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the renderer is doing now.

    Args:
        waiting: jobs that wait.
        running: whether the process runs.
        rendered: jobs that came to a result.
        failed: jobs that could not be rendered.
        killed: times that the process was killed or died over a job.
        started: times that the process was started.
    """

    waiting: int = 0
    running: bool = False
    rendered: int = 0
    failed: int = 0
    killed: int = 0
    started: int = 0


class _Waiting:
    """A job and who waits for it."""

    __slots__ = ("data", "envelope", "future", "key", "locale", "source")

    def __init__(self, key: str, source: Source, locale: str, data: msgspec.Raw, envelope: Envelope | None) -> None:
        self.key, self.source, self.locale, self.data, self.envelope = key, source, locale, data, envelope
        self.future: asyncio.Future[tuple[Rendered, bytes]] = asyncio.get_running_loop().create_future()


class Renderer:
    """Renders in a process of its own.

    Args:
        tasks: where its background task lives.
        deadline: seconds of one rendering.
        memory: bytes of address space of the process.
    """

    def __init__(self, tasks: Tasks, *, deadline: float = DEADLINE, memory: int = MEMORY) -> None:
        self._tasks = tasks
        self._deadline = deadline
        self._memory = memory
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._known: set[str] = set()
        self._counts = {"rendered": 0, "failed": 0, "killed": 0, "started": 0}
        self._log = structlog.get_logger("notifications")

    async def render(
        self, key: str, source: Source, locale: str, data: dict[str, Any], envelope: Envelope | None = None
    ) -> tuple[Rendered, bytes]:
        """Render one message; with an *envelope*, build its bytes too.

        Args:
            key: identifies *source*: equal keys mean equal sources.
            source: the templates.
            locale: how numbers, amounts and dates are written.
            data: the variables.
            envelope: who writes to whom; None for a preview.

        Raises:
            RenderError: it cannot be rendered with this data, or took too long or too much.
            RendererBusy: too many wait.
            RendererUnavailable: the process cannot be started.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise RendererBusy(f"{MAX_WAITING} renderings wait already")
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn("renderer", self._run)
        try:
            # Here, not beside others' jobs: data that cannot travel is this caller's matter alone.
            raw = msgspec.Raw(msgspec.msgpack.encode(data))
        except (OverflowError, RecursionError, UnicodeEncodeError) as error:
            raise RenderError(
                "text", 0, "the data holds a number of more than 64 bits, or is nested too deeply"
            ) from error
        job = _Waiting(key, source, locale, raw, envelope)
        self._waiting.append(job)
        self._wake.set()
        return await job.future

    def statistics(self) -> Statistics:
        """Give what it is doing now."""
        return Statistics(waiting=len(self._waiting), running=self._process is not None, **self._counts)

    async def stop(self) -> None:
        """End the process and fail what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._end()
        for job in self._waiting:
            _fail(job, RendererUnavailable("the renderer is stopped"))
        self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                done = 0
                try:
                    done = await self._answer(batch)
                finally:
                    # Whatever ended this, nobody is left waiting: what was not answered goes back to the front.
                    self._waiting.extendleft(reversed([job for job in batch[done:] if not job.future.done()]))
            self._wake.clear()

    async def _answer(self, batch: list[_Waiting]) -> int:
        """Send *batch* and take its answers; gives how many are dealt with."""
        try:
            process = await self._ensure()
        except (OSError, TimeoutError, EOFError) as error:
            self._log.error("the renderer cannot be started", error=str(error))
            await self._end()
            for job in batch:
                _fail(job, RendererUnavailable("the renderer cannot be started"))
            return len(batch)
        assert process.stdin is not None  # noqa: S101 - made with a pipe
        process.stdin.write(b"".join(self._frame(job) for job in batch))
        for index, job in enumerate(batch):
            try:
                outcome = await self._read(process, self._deadline)
            except (TimeoutError, EOFError, OSError, msgspec.MsgspecError) as error:
                self._counts["killed"] += 1
                await self._end()
                slow = isinstance(error, TimeoutError)
                why = f"took longer than {self._deadline} s" if slow else "needed more memory or time than it may"
                self._log.warning("a rendering was cut", template=job.key, reason=why)
                self._counts["failed"] += 1
                _fail(job, RenderError("text", 0, f"the template {why}"))
                return index + 1
            self._deliver(job, outcome)
        return len(batch)

    def _deliver(self, job: _Waiting, outcome: Outcome) -> None:
        if job.future.done():
            return
        if outcome.rendered is not None:
            self._counts["rendered"] += 1
            job.future.set_result((outcome.rendered, outcome.message))
        elif outcome.forgotten:
            self._known.discard(job.key)
            self._waiting.appendleft(job)
        else:
            self._counts["failed"] += 1
            part = outcome.part if outcome.part in ("subject", "html") else "text"
            _fail(job, RenderError(part, outcome.line, outcome.reason))  # type: ignore[arg-type]  # narrowed just above

    def _frame(self, job: _Waiting) -> bytes:
        source = None if job.key in self._known else job.source
        self._known.add(job.key)
        return frame(Job(key=job.key, source=source, locale=job.locale, data=job.data, envelope=job.envelope))

    async def _ensure(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._end()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # neither the working directory nor the environment decides what is imported
            "-m",
            "pillion.notifications.renderer_process",
            str(self._memory),
            str(self._deadline),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "LANG", "TZDIR") if name in os.environ},
            limit=1 << 20,
        )
        self._counts["started"] += 1
        # The first answer says that it has loaded itself; only then a deadline measures the rendering.
        hello = frame(Job(key="", source=Source(subject="x"), locale="en", data=EMPTY, envelope=None))
        assert self._process.stdin is not None  # noqa: S101 - made with a pipe
        self._process.stdin.write(hello)
        await self._read(self._process, START_DEADLINE)
        return self._process

    @staticmethod
    async def _read(process: asyncio.subprocess.Process, deadline: float) -> Outcome:
        assert process.stdout is not None  # noqa: S101 - made with a pipe
        async with asyncio.timeout(deadline):
            (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            if length > MAX_FRAME:
                raise EOFError("the renderer speaks nonsense")
            return msgspec.msgpack.decode(await process.stdout.readexactly(length), type=Outcome)

    async def _end(self) -> None:
        process, self._process, self._known = self._process, None, set()
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def _fail(job: _Waiting, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
