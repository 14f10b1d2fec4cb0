"""Records that applications pushed, on disk until every sink has confirmed them.

A file source needs no such queue, because the file itself is the buffer; what was pushed exists nowhere else. Segments of about 4 MiB are
appended to and flushed before the push is answered, and removed once every sink is past them. Each entry is framed by its length and its
CRC-32; a torn entry at the end, as a crash leaves it, was never answered and is cut off. A damaged one elsewhere is reported with its range
and passed over to the next segment, never half-read.
"""

import os
import re
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

SEGMENT_BYTES: Final = 4 << 20
MAX_ENTRY: Final = 16 << 20
_HEADER: Final = struct.Struct(">II")
_NAME: Final = re.compile(r"(\d{12})\.spool")


class Cursor(NamedTuple):
    """A place in the spool: segment number and byte offset."""

    segment: int
    offset: int


class SpoolFull(Exception):  # noqa: N818 - says what happened
    """The spool has reached its bound: sinks have taken nothing for long."""


class Spool:
    """The spool in *folder*, which exists. Its methods may be called from any thread.

    Args:
        folder: where segments are.
        max_bytes: bound of all segments together.
        segment_bytes: size from which on a new segment is begun.
    """

    def __init__(self, folder: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.max_bytes = max_bytes
        self.damages: list[str] = []
        """What was found damaged, for the block to report; emptied by it."""
        self._folder = folder
        self._segment_bytes = segment_bytes
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
    def end(self) -> Cursor:
        """The place after the last entry."""
        with self._lock:
            return Cursor(self._last, self._sizes.get(self._last, 0))

    @property
    def start(self) -> Cursor:
        """The place of the first entry that is still there."""
        with self._lock:
            return Cursor(min(self._sizes, default=self._last), 0)

    def append(self, records: bytes) -> None:
        """Keep *records*; returns once they are on disk.

        Raises:
            SpoolFull: the bound is reached; nothing was kept.
            OSError: the disk refused; nothing was kept.
        """
        frame = _HEADER.pack(len(records), zlib.crc32(records)) + records
        with self._lock:
            if sum(self._sizes.values()) + len(frame) > self.max_bytes:
                raise SpoolFull
            if self._file is None or self._sizes.get(self._last, 0) >= self._segment_bytes:
                self._begin()
            file = self._file
            if file is None:
                raise OSError("no segment is open")
            before = self._sizes[self._last]
            try:
                view = memoryview(frame)
                while view:
                    view = view[os.write(file, view) :]
                os.fdatasync(file)
            except OSError:
                os.ftruncate(file, before)
                raise
            self._sizes[self._last] = before + len(frame)

    def read(self, cursor: Cursor, limit: int) -> tuple[bytes, Cursor]:
        """Give entries from *cursor* on, about *limit* bytes of them, and the place after."""
        parts: list[bytes] = []
        total = 0
        while total < limit:
            with self._lock:
                first, last, size = min(self._sizes, default=self._last), self._last, self._sizes.get(cursor.segment, 0)
            if cursor.segment < first:
                cursor = Cursor(first, 0)
                continue
            if cursor.offset >= size:
                if cursor.segment >= last:
                    break
                cursor = Cursor(cursor.segment + 1, 0)
                continue
            entry = self._entry(cursor, size)
            if entry is None:
                self.damages.append(f"{self._path(cursor.segment).name} bytes {cursor.offset} to {size}")
                cursor = Cursor(cursor.segment, size)
                continue
            if parts and total + len(entry) > limit:
                break
            parts.append(entry)
            total += len(entry)
            cursor = Cursor(cursor.segment, cursor.offset + _HEADER.size + len(entry))
        return b"".join(parts), cursor

    def release(self, cursors: Iterable[Cursor]) -> None:
        """Remove the segments that every one of *cursors* is past."""
        lowest = min(cursors, default=None)
        with self._lock:
            gone = [number for number in self._sizes if lowest is not None and number < lowest.segment]
            for number in gone:
                self._path(number).unlink(missing_ok=True)
                del self._sizes[number]

    def close(self) -> None:
        """Let go of the open segment."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _begin(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        # Never appended to after a restart: a torn end of the former life stays where it was cut.
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
        """Cut a torn entry off the last segment; entries before it are whole or are reported when they are read."""
        offset, size = 0, self._sizes[self._last]
        while offset < size:
            entry = self._entry(Cursor(self._last, offset), size)
            if entry is None:
                break
            offset += _HEADER.size + len(entry)
        if offset < size:
            os.truncate(self._path(self._last), offset)
            self._sizes[self._last] = offset

    def _entry(self, cursor: Cursor, size: int) -> bytes | None:
        """Read one entry; None where it is torn or damaged."""
        with self._path(cursor.segment).open("rb") as file:
            file.seek(cursor.offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return None
            length, checksum = _HEADER.unpack(header)
            if length > MAX_ENTRY or cursor.offset + _HEADER.size + length > size:
                return None
            entry = file.read(length)
        return entry if len(entry) == length and zlib.crc32(entry) == checksum else None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.spool"
