"""Where records go: an HTTP endpoint or a file. A sink takes a batch of newline-delimited JSON and says what became of it.

Promises: `Taken` means that the other side has confirmed (HTTP 2xx) or that the disk has (fsync). A sink keeps nothing between batches. Only
answers about the batch itself (400, 415, 422 and the like) are `Never`; what is wrong with the sink (a token that has expired, an address that
moved) is `Later`, because the records are as good as ever.
"""

import asyncio
import email.utils
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import msgspec

from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan
from pillion.logs.compression import compress
from pillion.version import VERSION

ABOUT_THE_SINK: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 426, 429, 451})
"""Client errors that say nothing about the batch; all others of the 4xx mean that this batch will never be taken."""

MAX_PAUSE: Final = 300.0
"""Seconds that a Retry-After is heeded for."""

_WINDOW: Final = 64 << 10
"""Bytes that are looked at together for the end of a line."""

_DETAIL: Final = 2048
"""Bytes of an answer that are read, for the reason."""


class Taken(msgspec.Struct, frozen=True):
    """The batch arrived."""


class Later(msgspec.Struct, frozen=True):
    """The batch may arrive later; `after` are the seconds that the other side asked to wait."""

    reason: str
    after: float = 0.0


class TooLarge(msgspec.Struct, frozen=True):
    """The other side takes less at a time."""

    reason: str


class Never(msgspec.Struct, frozen=True):
    """The other side will not take this batch, however often it is sent."""

    reason: str


Outcome = Taken | Later | TooLarge | Never


class Sink(Protocol):
    """Somewhere records go."""

    def encode(self, body: bytes) -> bytes:
        """Give *body* as it travels; takes CPU time, so it belongs into a thread."""
        ...

    async def send(self, encoded: bytes) -> Outcome:
        """Hand over one batch as `encode` gave it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class HttpSink:
    """POSTs batches.

    Args:
        plan: where and how.
        token: bearer token; empty for none.
    """

    def __init__(self, plan: HttpSinkPlan, token: str) -> None:
        self._plan = plan
        self._headers = {"User-Agent": f"pillion/{VERSION}", **plan.headers, "Content-Type": "application/x-ndjson"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        if plan.gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._session: aiohttp.ClientSession | None = None

    def encode(self, body: bytes) -> bytes:
        """Compress where the plan says so."""
        return compress(body) if self._plan.gzip else body

    async def send(self, encoded: bytes) -> Outcome:
        """Hand over one batch."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._plan.timeout_ns / 1e9)
            connector = aiohttp.TCPConnector(limit=2)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        try:
            async with self._session.post(
                self._plan.url, data=encoded, headers=self._headers, allow_redirects=False
            ) as response:
                detail = (await response.content.read(_DETAIL)).decode("utf-8", "replace").strip()
                return _outcome(response.status, response.headers.get("Retry-After", ""), detail)
        except TimeoutError:
            return Later(f"no answer within {self._plan.timeout_ns / 1e9:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Later(f"{type(error).__name__}: {error}"[:300])

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class FileSink:
    """Appends to a file, and renames it once it is full."""

    def __init__(self, plan: FileSinkPlan) -> None:
        self._path = Path(plan.path)
        self._max_bytes = plan.max_bytes
        self._thread: ThreadPoolExecutor | None = None

    def encode(self, body: bytes) -> bytes:
        """Nothing to do."""
        return body

    async def send(self, encoded: bytes) -> Outcome:
        """Hand over one batch."""
        if self._thread is None:
            # Of its own: a disk that hangs must stall nobody else.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="logs file")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._append, encoded)

    def _append(self, body: bytes) -> Outcome:
        try:
            self._rotate(len(body))
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            return Later(f"{self._path} cannot be opened: {error.strerror}")
        try:
            before = _mend(descriptor)
            view = memoryview(body)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fdatasync(descriptor)
                if new:
                    _sync_folder(self._path.parent)
            except OSError:
                # Half a batch must not stand there when the whole one is written later.
                os.ftruncate(descriptor, before)
                raise
        except OSError as error:
            return Later(f"{self._path} cannot be written: {error.strerror}")
        finally:
            os.close(descriptor)
        return Taken()

    def _rotate(self, coming: int) -> None:
        """Rename the file when it is full, but not with half a line that a crash has left at its end."""
        if not self._path.exists() or not 0 < self._path.stat().st_size > self._max_bytes - coming:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _mend(descriptor)
        finally:
            os.close(descriptor)
        self._path.replace(f"{self._path}.1")

    async def close(self) -> None:
        """Let go of the thread; what it is writing it still writes."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _mend(descriptor: int) -> int:
    """Cut off half a line that a crash has left at the end of a file, and give its size; that batch comes again as a whole."""
    size = os.fstat(descriptor).st_size
    end = size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        window = os.pread(descriptor, min(end, _WINDOW), max(end - _WINDOW, 0))
        end = end - len(window) + window.rfind(b"\n") + 1
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _outcome(status: int, retry_after: str, detail: str) -> Outcome:
    if 200 <= status < 300:
        return Taken()
    reason = f"HTTP {status}: {detail[:200]}" if detail else f"HTTP {status}"
    if status == 413:
        return TooLarge(reason)
    if not 400 <= status < 500 or status in ABOUT_THE_SINK:
        return Later(reason, _seconds(retry_after))
    return Never(reason)


def _seconds(retry_after: str) -> float:
    """Read a Retry-After field (RFC 9110 section 10.2.3): seconds or a date."""
    text = retry_after.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), MAX_PAUSE) if seconds == seconds else 0.0  # noqa: PLR0124 - NaN differs from itself
