"""A file system in memory that behaves like the kernel where a tailer depends on it: inodes, open handles, reuse of numbers."""

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pillion.logs.identity import Entry, FileKey, Listing, Stat


class Inode:
    def __init__(self, number):
        self.number = number
        self.data = bytearray()
        self.mtime = 0
        self.links = 0
        self.handles = 0


class FakeHandle:
    def __init__(self, inode):
        self.inode = inode
        inode.handles += 1

    def stat(self):
        return Stat(FileKey(1, self.inode.number), len(self.inode.data), self.inode.mtime, self.inode.links)

    def read(self, offset, length):
        assert offset >= 0
        assert length >= 0
        return bytes(self.inode.data[offset : offset + length])

    def close(self):
        self.inode.handles -= 1


class FakeFileSystem:
    """Paths to inodes. A number is free again, and is used again at once, when neither a name nor a handle is left."""

    def __init__(self):
        self.paths = {}
        self.ticks = 0
        self.overlooked = None
        """A path that the next look at its folder does not show, as happens when it is renamed meanwhile (readdir(3))."""

    def create(self, path):
        used = {inode.number for inode in self._alive}
        inode = Inode(next(n for n in range(1, 10_000) if n not in used))
        self._alive.append(inode)
        inode.links = 1
        self.paths[path] = inode
        self._touch(inode)
        return inode

    @property
    def _alive(self):
        if not hasattr(self, "_inodes"):
            self._inodes = []
        self._inodes = [inode for inode in self._inodes if inode.links or inode.handles]
        return self._inodes

    def _touch(self, inode):
        # Coarse, as a kernel's clock is: several changes may bear the same time.
        self.ticks += 1
        inode.mtime = self.ticks // 3

    def append(self, inode, data):
        inode.data += data
        self._touch(inode)

    def truncate(self, inode):
        inode.data.clear()
        self._touch(inode)

    def rename(self, old, new):
        if new in self.paths:
            self.unlink(new)
        self.paths[new] = self.paths.pop(old)

    def unlink(self, path):
        self.paths.pop(path).links -= 1

    # What the tailer asks

    def list(self, patterns):
        folders = {str(PurePosixPath(pattern).parent) for pattern in patterns}
        candidates, others = [], {}
        overlooked, self.overlooked = self.overlooked, None
        for path, inode in sorted(self.paths.items()):
            if path == overlooked:
                continue
            if any(fnmatchcase(path, pattern) for pattern in patterns):
                candidates.append(Entry(path, FileKey(1, inode.number), len(inode.data), inode.mtime))
            elif str(PurePosixPath(path).parent) in folders:
                others[path] = inode.number
        return Listing(candidates, others, frozenset(folders), ())

    def entry(self, path):
        inode = self.paths.get(path)
        return Entry(path, FileKey(1, inode.number), len(inode.data), inode.mtime) if inode else None

    def open(self, path):
        if path not in self.paths:
            raise FileNotFoundError(2, "No such file", path)
        return FakeHandle(self.paths[path])
