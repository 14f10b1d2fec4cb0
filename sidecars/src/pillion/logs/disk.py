"""The real file system, as the tailer asks for it."""

import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Final

from pillion.logs.identity import Entry, FileKey, Listing, Stat

MAX_ENTRIES: Final = 20_000
"""Names of one folder that are looked at: beyond it somebody follows a folder that is no log folder."""


ATTEMPTS: Final = 5
"""How often a folder that changes is read again in one look."""

Entries = list[Entry]
"""Named out here, because `list` is a method's name in the class below."""


class DiskHandle:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def stat(self) -> Stat:
        """Look at it."""
        found = os.fstat(self._descriptor)
        return Stat(FileKey(found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns, found.st_nlink)

    def read(self, offset: int, length: int) -> bytes:
        """Give up to *length* bytes from *offset* on."""
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


class Disk:
    """Folders and files of this machine. Only regular files count: a FIFO or a device would block whoever opens it."""

    def list(self, patterns: Sequence[str]) -> Listing:
        """List the folders of *patterns*; wildcards stand in the last part of a path, and in folders one level at a time."""
        candidates: Entries = []
        others: dict[str, int] = {}
        folders: set[str] = set()
        problems: list[tuple[str, str]] = []
        wanted: dict[str, set[str]] = {}
        for pattern in patterns:
            for folder in _folders(str(Path(pattern).parent)):
                wanted.setdefault(folder, set()).add(Path(pattern).name)
        for folder, names in sorted(wanted.items()):
            try:
                found = _steady(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append((folder, (error.strerror or type(error).__name__).lower()))
                continue
            if found is None:
                # Rotated all the while: what is missing in the last look may be there.
                found = _names(folder)
            else:
                folders.add(folder)
            if len(found) > MAX_ENTRIES:
                problems.append((folder, f"holds more than {MAX_ENTRIES} names"))
            for name, inode in islice(found.items(), MAX_ENTRIES):
                path = f"{folder.rstrip('/')}/{name}"
                if not any(fnmatchcase(name, pattern) for pattern in names):
                    others[path] = inode
                    continue
                entry = self.entry(path)
                if entry is not None:
                    candidates.append(entry)
        return Listing(candidates, others, frozenset(folders), problems)

    def entry(self, path: str) -> Entry | None:
        """Look at one path; None when there is no regular file."""
        try:
            found = Path(path).stat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Entry(path, FileKey(found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)

    def open(self, path: str) -> DiskHandle:
        """Open a file for reading.

        Raises:
            OSError: it cannot be opened.
        """
        # Not blocking: between the look and the opening the path may have become a FIFO.
        return DiskHandle(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _names(folder: str) -> dict[str, int]:
    """Give the names in a folder, with their inodes.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in islice(entries, MAX_ENTRIES + 1)}


def _steady(folder: str) -> dict[str, int] | None:
    """Read a folder until it is the same twice: a file that is renamed meanwhile may show up under both names or under none (readdir(3)).

    Raises:
        OSError: it cannot be read.
    """
    found = _names(folder)
    for _ in range(ATTEMPTS):
        again = _names(folder)
        if again == found:
            return found
        found = again
    return None


def _folders(pattern: str) -> list[str]:
    """Expand the wildcards of a folder, part by part."""
    found = ["/"]
    for part in pattern.strip("/").split("/"):
        if not part:
            continue
        if not any(sign in part for sign in "*?["):
            found = [str(Path(folder) / part) for folder in found]
            continue
        expanded = []
        for folder in found:
            try:
                with os.scandir(folder) as entries:
                    expanded += [entry.path for entry in entries if fnmatchcase(entry.name, part) and entry.is_dir()]
            except OSError:
                continue
        found = sorted(expanded)[:MAX_ENTRIES]
    return found
