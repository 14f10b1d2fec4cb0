"""Records that applications pushed, on disk until every sink has confirmed them.

A file source needs no such queue, because the file itself is the buffer; what was pushed exists nowhere else. Segments are appended to and
flushed before a push is answered, and removed once every sink is past them. Each entry stands in a frame: four bytes that begin one, length,
CRC-32 of both. Promises: an entry that was kept is read whole or reported as damaged with its place; a torn end, as a crash leaves it, was
never answered and is cut off; after damage reading goes on at the next sound frame. Deliberately absent: any bound on time.
"""

import os
import re
import struct
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MAX_SEGMENT: Final = 4 << 20
"""Bytes from which on a new segment is begun; small, because only whole segments are removed."""

MAX_ENTRY: Final = 16 << 20
"""Bytes of one entry; a longer length in a frame is damage."""

MAGIC: Final = b"\xffPLG"
"""Begins a frame. Its first byte stands in no UTF-8 text, so that no record can look like a frame."""

_HEADER: Final = struct.Struct(">4sII")
_LENGTH: Final = struct.Struct(">I")
_NAME: Final = re.compile(r"(\d{12})\.spool")


class Cursor(NamedTuple):
    """A place in the spool: segment number and byte offset."""

    segment: int
    offset: int


class SpoolFull(Exception):  # noqa: N818 - says what happened
    """The spool has reached its bound: sinks have taken nothing for long."""


class Frame(NamedTuple):
    """What stands at some place of a segment: an entry, or damage."""

    start: int
    end: int
    entry: bytes | None


def frame(entry: bytes) -> bytes:
    """Wrap one entry."""
    return _HEADER.pack(MAGIC, len(entry), zlib.crc32(entry, zlib.crc32(_LENGTH.pack(len(entry))))) + entry


def unframe(data: bytes, at: int) -> Frame | None:
    """Read the frame at *at*; damage reaches to the next sound frame. None where no sound frame follows, which may be a torn end."""
    start = at
    while 0 <= at <= len(data) - _HEADER.size:
        entry = _sound(data, at)
        if entry is not None:
            return Frame(start, at, None) if at > start else Frame(at, at + _HEADER.size + len(entry), entry)
        at = data.find(MAGIC, at + 1)
    return None


def _sound(data: bytes, at: int) -> bytes | None:
    magic, length, checksum = _HEADER.unpack_from(data, at)
    begin = at + _HEADER.size
    if magic != MAGIC or length > MAX_ENTRY or begin + length > len(data):
        return None
    entry = data[begin : begin + length]
    return entry if zlib.crc32(entry, zlib.crc32(_LENGTH.pack(length))) == checksum else None


class Spool:
    """The spool in *folder*, which exists. Its methods may be called from any thread.

    Args:
        folder: where segments are.
        max_bytes: bound of all segments together; may be changed at any time.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.damages: list[str] = []
        """What was found damaged, for the block to report; emptied by it."""
        self._folder = folder
        self._lock = threading.Lock()
        self._sizes = {
            int(match[1]): path.stat().st_size for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))
        }
        self._last = max(self._sizes, default=0)
        self._file: int | None = None
        if self._sizes:
            self._mend()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def start(self) -> Cursor:
        """The place of the first entry that is still there."""
        with self._lock:
            return Cursor(min(self._sizes, default=self._last), 0)

    def behind(self, cursor: Cursor) -> int:
        """Give the bytes after *cursor*."""
        with self._lock:
            whole = sum(size for number, size in self._sizes.items() if number > cursor.segment)
            return whole + max(self._sizes.get(cursor.segment, 0) - cursor.offset, 0)

    def append(self, entries: Sequence[bytes]) -> None:
        """Keep *entries*, all or none; returns once they are on disk.

        Raises:
            SpoolFull: the bound is reached; nothing was kept.
            OSError: the disk refused; nothing was kept.
        """
        data = b"".join(map(frame, entries))
        with self._lock:
            if sum(self._sizes.values()) + len(data) > self.max_bytes:
                raise SpoolFull
            # A quarter of the bound: else the segment in use alone, long confirmed, could keep the spool full.
            if self._file is None or self._sizes.get(self._last, 0) >= min(MAX_SEGMENT, self.max_bytes // 4):
                self._begin()
            file, before = self._file, self._sizes[self._last]
            if file is None:
                raise OSError("no segment is open")
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                os.fdatasync(file)
            except OSError:
                # What a failed flush leaves on disk is unknown: nothing is appended behind it.
                self._end()
                os.truncate(self._path(self._last), before)
                raise
            self._sizes[self._last] = before + len(data)

    def read(self, cursor: Cursor, limit: int) -> tuple[bytes, Cursor]:
        """Give entries from *cursor* on, about *limit* bytes of them but at least one, and the place after."""
        parts: list[bytes] = []
        total = 0
        while total < limit:
            with self._lock:
                first, last, size = min(self._sizes, default=self._last), self._last, self._sizes.get(cursor.segment, 0)
            if cursor.segment < first:
                cursor = Cursor(first, 0)
            elif cursor.offset < size:
                entries, cursor = self._read_segment(cursor, size, limit - total, first=not parts)
                parts += entries
                total += sum(map(len, entries))
                if not entries and cursor.offset < size:
                    break
            elif cursor.segment >= last:
                break
            else:
                cursor = Cursor(cursor.segment + 1, 0)
        return b"".join(parts), cursor

    def _read_segment(self, cursor: Cursor, size: int, limit: int, *, first: bool) -> tuple[list[bytes], Cursor]:
        """Give entries of one segment: as many as fit, and at least one where it is the *first* of all."""
        with self._path(cursor.segment).open("rb") as file:
            file.seek(cursor.offset)
            data = file.read(size - cursor.offset)
        entries: list[bytes] = []
        at = total = 0
        while at < len(data):
            found = unframe(data, at)
            if found is None or found.entry is None:
                end = found.end if found is not None else len(data)
                self.damages.append(f"{cursor.segment:012d} bytes {cursor.offset + at} to {cursor.offset + end}")
                at = end
                continue
            if total + len(found.entry) > limit and (entries or not first):
                break
            entries.append(found.entry)
            total += len(found.entry)
            at = found.end
        return entries, Cursor(cursor.segment, cursor.offset + at)

    def release(self, cursors: Iterable[Cursor]) -> None:
        """Remove the segments that every one of *cursors* is past."""
        lowest = min(cursors, default=None)
        with self._lock:
            for number in [n for n in self._sizes if lowest is not None and n < lowest.segment]:
                self._path(number).unlink(missing_ok=True)
                del self._sizes[number]

    def close(self) -> None:
        """Let go of the open segment."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self) -> None:
        """Begin a segment. After a restart, too: behind a torn end of the former life nothing is written."""
        self._end()
        number = self._last + 1
        self._file = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._last = number
        self._sizes[number] = 0

    def _mend(self) -> None:
        """Cut a torn end off the last segment. Damage before a sound frame stays, to be reported when it is read."""
        data = self._path(self._last).read_bytes()
        end = 0
        while (found := unframe(data, end)) is not None:
            end = found.end
        if end < len(data):
            os.truncate(self._path(self._last), end)
            self._sizes[self._last] = end

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.spool"
