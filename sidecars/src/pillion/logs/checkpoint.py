"""How far a sink has confirmed, on disk: replaced in one step, checksummed, one file a sink.

Without a file everything is read from its beginning. A file that is damaged is moved aside and counts as none: what a sink has had may then
come again, but nothing is passed over.
"""

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from pillion.logs.identity import Position
from pillion.logs.spool import Cursor

FORMAT: Final = 1
MAX_BYTES: Final = 16 << 20


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What one sink has confirmed."""

    positions: tuple[Position, ...] = ()
    cursor: Cursor = Cursor(0, 0)


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    checksum: int
    progress: msgspec.Raw


class Checkpoint:
    """The file of one sink; its folder exists."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[Progress, str]:
        """Give what was saved last, and in words what was wrong with it; empty where nothing was."""
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Progress(), ""
        except OSError as error:
            return Progress(), f"{self._path.name} cannot be read: {error.strerror}"
        try:
            envelope = msgspec.json.decode(text, type=_Envelope)
            if envelope.format == FORMAT and zlib.crc32(bytes(envelope.progress)) == envelope.checksum:
                return msgspec.json.decode(envelope.progress, type=Progress), ""
        except msgspec.DecodeError:
            pass
        aside = self._path.with_suffix(".damaged")
        with suppress(OSError):
            self._path.replace(aside)
        return (
            Progress(),
            f"{self._path.name} is damaged and was moved to {aside.name}; files are read from their beginning",
        )

    def save(self, progress: Progress) -> None:
        """Keep *progress*; returns once it is on disk.

        Raises:
            OSError: the disk refused; the former one stands.
        """
        body = msgspec.json.encode(progress)
        text = msgspec.json.encode(_Envelope(format=FORMAT, checksum=zlib.crc32(body), progress=msgspec.Raw(body)))
        temporary = self._path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
