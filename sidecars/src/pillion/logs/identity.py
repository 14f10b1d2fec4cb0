"""Which file is which: a path is only where a file stands, an inode is used again, and content can be replaced under both.

A file is known by device and inode *and* by two pieces of its content: its first kilobyte (or less, growing with the file) and the bytes
just before the place up to which it was delivered. Promises: a position is resumed only where both still agree; a name tells whether it is that of
a rotated generation. Deliberately absent: reading directories and files; what that needs is declared here and done in `filesystem.py`.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

import msgspec

HEAD: Final = 1024
"""Bytes at the beginning of a file that identify it: enough to hold the first time stamps of any log."""

TAIL: Final = 256
"""Bytes before the offset that must be the same; a file that was truncated and has grown again differs there."""


class FileKey(NamedTuple):
    """What the kernel calls a file, for as long as the file exists."""

    device: int
    inode: int


class Entry(NamedTuple):
    """A regular file in a folder."""

    path: str
    key: FileKey
    size: int
    mtime: int
    """Nanoseconds; a clock of the file system, only compared with itself."""


class Stat(NamedTuple):
    """An open file as it is now."""

    key: FileKey
    size: int
    mtime: int
    links: int
    """Names that it has; 0 once it is deleted."""


class Listing(NamedTuple):
    """What the folders of a source hold.

    Args:
        candidates: files that match its patterns.
        others: all else in the same folders: path and inode.
        folders: the folders that could be read.
        problems: paths that could not be read, and why.
    """

    candidates: Sequence[Entry]
    others: Mapping[str, int]
    folders: frozenset[str]
    problems: Sequence[tuple[str, str]]


class Handle(Protocol):
    """An open file; it stays readable when it is renamed or deleted."""

    def stat(self) -> Stat:
        """Look at it."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Give up to *length* bytes from *offset* on."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class FileSystem(Protocol):
    """Where files are."""

    def list(self, patterns: Sequence[str]) -> Listing:
        """List the folders of *patterns*."""
        ...

    def entry(self, path: str) -> Entry | None:
        """Look at one path; None when there is no regular file."""
        ...

    def open(self, path: str) -> Handle:
        """Open a file for reading.

        Raises:
            OSError: it cannot be opened.
        """
        ...


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file was read, as it is kept on disk. Content is there only as digests.

    Args:
        source: the name of the source that it belongs to.
        path: where it stood last.
        origin: where it stood while it was written to.
        device: see `FileKey`.
        inode: see `FileKey`.
        offset: bytes that were delivered.
        size: its size when last seen.
        mtime: its modification time when last seen.
        head_length: bytes at its beginning that were seen, at most HEAD.
        head: digest of those.
        tail: digest of the last min(offset, TAIL) bytes before the offset.
        shadow: whether it is a copy of a file that is read itself.
    """

    source: str
    path: str
    origin: str
    device: int
    inode: int
    offset: int
    size: int
    mtime: int
    head_length: int
    head: str
    tail: str
    shadow: bool = False

    @property
    def key(self) -> FileKey:
        """What the kernel called it."""
        return FileKey(self.device, self.inode)


def digest(data: bytes) -> str:
    """Give what stands for *data* in a position."""
    return blake2b(data, digest_size=16).hexdigest()


def before(handle: Handle, offset: int) -> bytes:
    """Read the bytes before *offset* that identify a place.

    Raises:
        OSError: it cannot be read.
    """
    return handle.read(max(offset - TAIL, 0), min(offset, TAIL))


def matches(handle: Handle, position: Position) -> bool:
    """Tell whether the file behind *handle* holds what *position* is about, whatever its inode.

    Raises:
        OSError: it cannot be read.
    """
    head, tail = handle.read(0, position.head_length), before(handle, position.offset)
    whole = len(head) == position.head_length and len(tail) == min(position.offset, TAIL)
    return whole and digest(head) == position.head and digest(tail) == position.tail


def origin_of(path: str, patterns: Sequence[str]) -> str | None:
    """Give the path that *patterns* match and that *path* is named like a rotated generation of; None where there is none."""
    folder, slash, name = path.rpartition("/")
    for length in range(len(name) - 1, 0, -1):
        origin = f"{folder}{slash}{name[:length]}"
        if any(matches_path(pattern, origin) for pattern in patterns) and is_generation(path, origin):
            return origin
    return None


def matches_path(pattern: str, path: str) -> bool:
    """Tell whether *pattern* matches *path* part by part: no wildcard reaches across a slash."""
    wanted, given = pattern.split("/"), path.split("/")
    return len(wanted) == len(given) and all(map(fnmatchcase, given, wanted))


_STAMP: Final = r"[0-9][0-9TZ:_.+-]*"
_AFTER: Final = re.compile(rf"[._-]?{_STAMP}|\.old|\.bak")
_INSIDE: Final = re.compile(rf"[._-]{_STAMP}")
_COMPRESSED: Final = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip")


def is_generation(path: str, origin: str) -> bool:
    """Tell whether *path* is named like a rotated generation of *origin*, not compressed.

    Known forms: `app.log.1`, `app.log-20260501`, `app.log.2026-05-01_12` (logrotate, Python), `app-2026-05-01T12-00-00.000.log`,
    `app.1.log` (lumberjack, Log4j), and `app.log.old`.
    """
    folder, _, name = path.rpartition("/")
    home, _, other = origin.rpartition("/")
    stem, dot, ending = other.rpartition(".")
    if not stem:
        stem, dot, ending = other, "", ""
    # By hand rather than by a pattern of each origin: with many files, all are compared with all.
    if folder != home or name == other or not name.startswith(stem) or name.endswith(_COMPRESSED):
        return False
    suffix = dot + ending
    inside = name[len(stem) : len(name) - len(suffix)] if name.endswith(suffix) else ""
    return (name.startswith(other) and _AFTER.fullmatch(name, len(other)) is not None) or (
        _INSIDE.fullmatch(inside) is not None
    )
