"""Where records go: an HTTP endpoint or a file. A sink takes a batch of newline-delimited JSON and says what became of it.

Promises: `Taken` means that the other side has confirmed (HTTP 2xx) or that the disk has (fsync). A sink keeps nothing between batches.
"""

import asyncio
import email.utils
import gzip
import os
import time
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import msgspec

from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan
from pillion.version import VERSION

RETRYABLE: Final = frozenset({408, 425, 429})
"""Client errors that pass by themselves; all others of the 4xx mean that this batch will never be taken."""

MAX_PAUSE: Final = 300.0
"""Seconds that a Retry-After is heeded for."""

_DETAIL: Final = 2048
"""Bytes of an answer that are read, for the reason."""


class Taken(msgspec.Struct, frozen=True):
    """The batch arrived."""


class Later(msgspec.Struct, frozen=True):
    """The batch may arrive later; `after` are the seconds that the other side asked to wait."""

    reason: str
    after: float = 0.0


class Never(msgspec.Struct, frozen=True):
    """The other side will not take this batch, however often it is sent."""

    reason: str


Outcome = Taken | Later | Never


class Sink(Protocol):
    """Somewhere records go."""

    async def send(self, body: bytes) -> Outcome:
        """Hand over one batch."""
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

    async def send(self, body: bytes) -> Outcome:
        """Hand over one batch."""
        if self._plan.gzip:
            # Level 1: four times as fast as the default for a tenth more bytes.
            body = await asyncio.to_thread(gzip.compress, body, 1)
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._plan.timeout_ns / 1e9)
            connector = aiohttp.TCPConnector(limit=2)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        try:
            async with self._session.post(
                self._plan.url, data=body, headers=self._headers, allow_redirects=False
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

    async def send(self, body: bytes) -> Outcome:
        """Hand over one batch."""
        return await asyncio.to_thread(self._append, body)

    def _append(self, body: bytes) -> Outcome:
        try:
            if self._path.exists() and 0 < self._path.stat().st_size > self._max_bytes - len(body):
                self._path.replace(f"{self._path}.1")
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            return Later(f"{self._path} cannot be opened: {error.strerror}")
        try:
            before = os.fstat(descriptor).st_size
            view = memoryview(body)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fdatasync(descriptor)
            except OSError:
                # Half a batch must not stand there when the whole one is written later.
                os.ftruncate(descriptor, before)
                raise
        except OSError as error:
            return Later(f"{self._path} cannot be written: {error.strerror}")
        finally:
            os.close(descriptor)
        return Taken()

    async def close(self) -> None:
        """Nothing is held open."""


def _outcome(status: int, retry_after: str, detail: str) -> Outcome:
    if 200 <= status < 300:
        return Taken()
    reason = f"HTTP {status}: {detail[:200]}" if detail else f"HTTP {status}"
    if status >= 500 or status in RETRYABLE:
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
