"""Takes records that are pushed: masked, framed and flushed to the spool before anybody is told that they were taken.

Group commit: what arrives while one flush is under way goes to disk together with the next, so that many clients share one wait for the disk.
Promises: a push is answered only when its records are on disk; a push that is refused has left nothing there; what waits is bounded.
Deliberately absent: HTTP.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from pillion.logs.engine import MAX_LINE
from pillion.logs.lines import cut
from pillion.logs.masking import Masker
from pillion.logs.records import Records, Shaper, shape
from pillion.logs.spool import Spool, SpoolFull

MAX_WAITING: Final = 16 << 20
"""Bytes of bodies that may wait for the disk."""

ENTRY: Final = 256 << 10
"""Bytes of lines in one entry of the spool. A short line grows when fields are put around it: entries must stay small all the same."""


class Busy(Exception):  # noqa: N818 - says what happened
    """More waits for the disk than the bound allows."""


class _Push(NamedTuple):
    body: bytes
    taken: asyncio.Future[int]


class Intake:
    """The way into the spool.

    Args:
        spool: where records are kept.
        on_taken: called in the event loop with the records of each push once they are on disk.
    """

    def __init__(self, spool: Spool, on_taken: Callable[[bytes], None]) -> None:
        self.records = 0
        """Records that were taken."""
        self._spool = spool
        self._on_taken = on_taken
        self._shaper = Shaper({}, "json", Masker(()))
        self._masker = Masker(())
        self._waiting: list[_Push] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="logs intake")

    def set(self, shaper: Shaper, masker: Masker) -> None:
        """Make records with *shaper* from now on; *masker* is what it masks with."""
        self._shaper, self._masker = shaper, masker

    async def push(self, body: bytes) -> int:
        """Take the lines of *body*; gives the number of records once they are on disk.

        Raises:
            Busy: too much waits for the disk.
            SpoolFull: sinks have taken nothing for long.
            OSError: the disk refused.
        """
        if self._size + len(body) > MAX_WAITING:
            raise Busy
        push = _Push(body, asyncio.get_running_loop().create_future())
        self._waiting.append(push)
        self._size += len(body)
        self._wake.set()
        return await push.taken

    async def run(self) -> None:
        """Write what waits, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting, []
                self._size = 0
                await self._write(group)

    async def _write(self, group: list[_Push]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._thread, self._keep, [push.body for push in group])
        except Exception as error:  # noqa: BLE001 - whoever pushed must hear of it, whatever it is
            outcomes = [error] * len(group)
        except BaseException:
            for push in group:
                push.taken.cancel()
            raise
        for push, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Records):
                self.records += outcome.lines
                self._on_taken(outcome.body)
                if not push.taken.done():
                    push.taken.set_result(outcome.lines)
            elif not push.taken.done():
                push.taken.set_exception(outcome)

    def _keep(self, bodies: list[bytes]) -> "list[Records | Exception]":
        """Write all bodies with one flush; where they do not fit together, each by itself."""
        shaped = [self._entries(body) for body in bodies]
        try:
            self._spool.append([entry.body for entries in shaped for entry in entries])
        except (SpoolFull, OSError) as error:
            if len(shaped) == 1:
                return [error]
            return [self._keep_one(entries) for entries in shaped]
        return [_joined(entries) for entries in shaped]

    def _keep_one(self, entries: list[Records]) -> Records | Exception:
        try:
            self._spool.append([entry.body for entry in entries])
        except (SpoolFull, OSError) as error:
            return error
        return _joined(entries)

    def _entries(self, body: bytes) -> list[Records]:
        """Make records of a body, in entries of bounded size."""
        entries: list[Records] = []
        at = 0
        pieces = cut(body, continues=False, final=True, max_line=MAX_LINE, safe_cut=self._masker.safe_cut)
        for piece in pieces:
            at = piece.start
            while at < piece.end:
                end = piece.end
                if piece.place == "whole" and end - at > ENTRY:
                    end = body.rfind(b"\n", at, at + ENTRY) + 1 or body.find(b"\n", at) + 1 or end
                raw = body[at:end]
                if piece.place == "whole" and not raw.endswith(b"\n"):
                    raw += b"\n"
                entries.append(shape(self._shaper, raw, piece.place))
                at = end
        return [entry for entry in entries if entry.lines]

    def close(self) -> None:
        """Let go of the thread, once it has written what it has begun."""
        for push in self._waiting:
            push.taken.cancel()
        self._thread.shutdown(wait=True)


def _joined(entries: list[Records]) -> Records:
    return Records(b"".join(entry.body for entry in entries), sum(entry.lines for entry in entries))
