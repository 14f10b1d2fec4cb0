"""The real file system, as the tailer asks for it."""

import os
import stat
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pillion.logs.identity import Entry, FileKey, Listing, Stat

MAX_ENTRIES: Final = 20_000
"""Names of one folder that are looked at: beyond it somebody follows a folder that is no log folder."""


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
                with os.scandir(folder) as entries:
                    for count, entry in enumerate(entries):
                        if count >= MAX_ENTRIES:
                            problems.append((folder, f"holds more than {MAX_ENTRIES} names"))
                            break
                        self._note(entry, names, candidates, others)
                folders.add(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append((folder, error.strerror or type(error).__name__))
        return Listing(candidates, others, frozenset(folders), problems)

    @staticmethod
    def _note(entry: os.DirEntry[str], names: Iterable[str], candidates: Entries, others: dict[str, int]) -> None:
        if not any(fnmatchcase(entry.name, name) for name in names):
            others[entry.path] = entry.inode()
            return
        try:
            found = entry.stat()
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            candidates.append(Entry(entry.path, FileKey(found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns))

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
