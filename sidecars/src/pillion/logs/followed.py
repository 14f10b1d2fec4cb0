"""One file that is followed, and what the tailer says about files."""

from typing import Final

import msgspec

from pillion.logs.identity import HEAD, TAIL, FileKey, Handle, Position, before, digest
from pillion.logs.records import Place

FLUSH_AFTER: Final = 5_000_000_000
"""Nanoseconds of quiet after which the unfinished last line of a rotated file counts as finished."""


class Span(msgspec.Struct, frozen=True):
    """Bytes of a file that can be delivered now: whole lines, or a piece of one that is too long."""

    source: str
    path: str
    key: FileKey
    generation: int
    start: int
    raw: bytes
    place: Place

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.start + len(self.raw)


class Lost(msgspec.Struct, frozen=True):
    """Bytes that are gone before they could be delivered."""

    source: str
    path: str
    start: int
    end: int
    reason: str


class Trouble(msgspec.Struct, frozen=True):
    """A path that cannot be read."""

    source: str
    path: str
    reason: str


class Scan(msgspec.Struct, frozen=True):
    """What a look at the files brought up.

    Args:
        lost: bytes that are gone.
        troubles: what cannot be read now.
        changed: whether positions should be saved although nothing was acknowledged.
    """

    lost: tuple[Lost, ...]
    troubles: tuple[Trouble, ...]
    changed: bool


class Followed:
    """An open file, what identifies it, and how far it was delivered.

    Attributes:
        origin: the path at which it is, or was, written to.
        live: whether it still stands there; otherwise it was rotated away or deleted.
        listed: whether the patterns of its source match it where it stands now.
        generation: how often its content was replaced.
        offset: bytes that were delivered.
        head: its first bytes, as far as they were seen.
        tail: the bytes before the offset.
        grew: when it last changed.
        fresh: whether it is not known yet if it is a copy of another file.
        shadow_of: the file that it is a copy of; it is not read while that one is.
        suspect: its content has changed under us; the next scan deals with it.
        taken: end of what was given out and not yet acknowledged.
        alias: key and generation of the truncated file that it is a copy of: acknowledgements for that one are for this one.
    """

    def __init__(self, source: str, path: str, handle: Handle, now: int) -> None:
        stat = handle.stat()
        self.source = source
        self.path = path
        self.origin = path
        self.handle = handle
        self.key = stat.key
        self.live = True
        self.listed = True
        self.generation = 0
        self.offset = 0
        self.head = b""
        self.tail = b""
        self.size = stat.size
        self.mtime = stat.mtime
        self.links = stat.links
        self.grew = now
        self.fresh = True
        self.shadow_of: Followed | None = None
        self.suspect = False
        self.taken = 0
        self.alias: tuple[FileKey, int] | None = None
        self.head = handle.read(0, HEAD)

    def verify(self) -> None:
        """Check what identifies it after it has changed, and learn more of its beginning; other content makes it suspect."""
        head = self.handle.read(0, HEAD)
        if head.startswith(self.head) and before(self.handle, self.offset) == self.tail:
            self.head = head
        else:
            self.suspect = True

    def go_to(self, offset: int) -> None:
        """Go to a place in the file."""
        self.tail = before(self.handle, offset)
        self.offset = offset

    def advance(self, raw: bytes) -> None:
        """Move on by bytes that were just read there."""
        self.tail = (self.tail + raw[-TAIL:])[-TAIL:]
        self.offset += len(raw)

    def begin_anew(self) -> None:
        """Forget what it held: its content was replaced."""
        self.generation += 1
        self.offset = self.taken = 0
        self.tail = b""
        self.suspect, self.alias, self.shadow_of = False, None, None
        self.size = self.handle.stat().size
        self.head = self.handle.read(0, HEAD)

    def ahead(self, length: int) -> bytes | None:
        """Give up to *length* bytes from the offset on; None, and the file is suspect, when its content is not what it was."""
        known = len(self.tail)
        data = self.handle.read(self.offset - known, known + length)
        seen = self.head[self.offset : self.offset + length]
        if data[:known] != self.tail or not data[known:].startswith(seen):
            self.suspect = True
            return None
        return data[known:]

    def finished(self, now: int) -> bool:
        """Tell whether an unfinished last line will stay as it is."""
        return not self.live and now - self.grew >= FLUSH_AFTER

    @property
    def unread(self) -> int:
        """Bytes not yet delivered."""
        return 0 if self.shadow_of is not None else max(self.size - self.offset, 0)

    def position(self) -> Position:
        """Give what is kept on disk about it."""
        offset, tail = self.offset, self.tail
        if self.shadow_of is not None and self.shadow_of.offset < offset:
            # Of a copy only that is delivered which was delivered of the original: both may have changed by the time this is read again.
            offset = self.shadow_of.offset
            tail = before(self.handle, offset)
        return Position(
            source=self.source,
            path=self.path,
            origin=self.origin,
            device=self.key.device,
            inode=self.key.inode,
            offset=offset,
            size=max(self.size, self.offset),
            mtime=self.mtime,
            head_length=len(self.head),
            head=digest(self.head),
            tail=digest(tail),
            shadow=self.shadow_of is not None,
        )


def is_copy(file: Followed, other: Followed) -> bool:
    """Tell whether all of *file* is also the beginning of *other*."""
    return (
        other.size >= file.size
        and file.handle.read(0, min(file.size, HEAD)) == other.handle.read(0, min(file.size, HEAD))
        and before(file.handle, file.size) == before(other.handle, file.size)
    )
