"""Which files there are, and what became of those that are followed: new, grown, renamed, truncated, copied, deleted.

Promises: a file that is followed stays readable until it is delivered, whatever its name becomes; a generation that came and went between two
looks is found under its rotated name; content that nobody holds any more is reported with its exact byte range. Deliberately absent: reading
lines (`engine.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pillion.logs.ages import SETTLE, Ages
from pillion.logs.followed import Followed, Lost, Scan, Trouble, is_copy
from pillion.logs.holding import retired, too_much
from pillion.logs.identity import FileKey, FileSystem, Listing, Position, is_generation, matches, origin_of

MAX_FILES: Final = 512
"""Files that are held open for one sink."""


class TailSource(msgspec.Struct, frozen=True):
    """Files that belong together."""

    name: str
    patterns: tuple[str, ...]


class Discovery:
    """The files that are followed for one sink.

    Args:
        files: the file system.
        sources: what is followed.
        positions: where to go on, from an earlier life.
        max_held: bytes of deleted files that may be held open; beyond it the oldest are given up and reported.
        history: whether generations count that were rotated away before the very first look.
    """

    def __init__(
        self,
        files: FileSystem,
        sources: Sequence[TailSource],
        positions: Iterable[Position],
        max_held: int,
        *,
        history: bool = True,
    ) -> None:
        names = {source.name for source in sources}
        self.followed: dict[tuple[str, FileKey], Followed] = {}
        self.saved = [position for position in positions if position.source in names]
        """Positions whose file was not met yet."""
        self.now = 0
        self._began: int | None = None
        self._fs = files
        self._sources = tuple(sources)
        self._max_held = max_held
        self._lost: list[Lost] = []
        self._troubles: list[Trouble] = []
        self._ages = Ages()
        self._missing: dict[tuple[str, FileKey], int] = {}
        """By source and key: since when the file of a saved position was not found."""
        for position in self.saved:
            self._ages.remember(position.source, position.origin, position.mtime)
        self._history: dict[str, set[FileKey]] = {source.name: set() for source in sources} if history else {}
        """By source, for as long as its first look takes: what was rotated away before it."""
        self._others: dict[str, dict[str, int]] = {}
        """By source: what else stood in its folders at the last look."""
        self._changed = False

    def scan(self, now: int) -> Scan:
        """Look at folders and files; *now* is monotonic nanoseconds."""
        self.now = now
        self._began = now if self._began is None else self._began
        self._lost, self._troubles, self._changed = [], [], False
        self._ages.advance(now)
        for source in self._sources:
            self._scan(source)
        if now - self._began >= SETTLE:
            self._history.clear()
        self._release_held()
        return Scan(tuple(self._lost), tuple(self._troubles), self._changed)

    def of(self, source: str) -> list[Followed]:
        """Give the followed files of one source."""
        return [file for (owner, _), file in self.followed.items() if owner == source]

    def forget(self, file: Followed) -> None:
        """Let go of a file."""
        file.handle.close()
        del self.followed[file.source, file.key]
        self._changed = True

    def _scan(self, source: TailSource) -> None:
        resized = [file for file in self.of(source.name) if not self._look(file)]
        listing = self._fs.list(source.patterns)
        self._troubles += [Trouble(source.name, path, reason) for path, reason in listing.problems]
        for file in resized:
            self._truncated(file, listing)
        self._place(source.name, listing)
        for entry in listing.candidates:
            if (source.name, entry.key) not in self.followed:
                self._meet(source.name, entry.path, entry.key, listing)
        self._meet_saved(source.name, listing)
        if source.name in self._history:
            self._meet_history(source, listing)
        self._meet_missed(source, listing)
        for file in self.of(source.name):
            self._classify(file)
            self._ages.note(source.name, file.origin, file.mtime, first=self.now == self._began)
        for file in retired(self.of(source.name), self.now):
            self.forget(file)

    def _look(self, file: Followed) -> bool:
        """Take in how a file has grown; false when it has shrunk or changed instead."""
        stat = file.handle.stat()
        if stat.size != file.size or stat.mtime != file.mtime:
            file.grew = self.now
            file.verify()
        file.links, file.mtime = stat.links, stat.mtime
        if stat.size < file.size or file.suspect:
            return False
        file.size = stat.size
        return True

    def _truncated(self, file: Followed, listing: Listing) -> None:
        """Begin a file anew, after looking for a copy of what it held; one that only lost its end goes on."""
        now = file.handle.stat().size
        if now >= file.offset and not file.suspect:
            kept = max(file.taken, now)
            if file.size > kept and file.shadow_of is None:
                self._lost.append(
                    Lost(file.source, file.path, kept, file.size, "cut off before it was read to its end")
                )
            file.size = now
            return
        old, alias = file.position(), (file.key, file.generation)
        copy = next((one for one in self.of(file.source) if one.shadow_of is file), None)
        if copy is not None:
            copy.shadow_of = None
            copy.go_to(min(file.offset, copy.size))
        else:
            copy = self._rescue(old, listing)
        if copy is not None:
            copy.alias, copy.taken = alias, min(file.taken, copy.size)
        kept = max(file.offset, file.taken, copy.size if copy is not None else 0)
        if file.size > kept and file.shadow_of is None:
            self._lost.append(Lost(file.source, file.path, kept, file.size, "truncated before it was read to its end"))
        file.begin_anew()
        self._changed = True

    def _place(self, source: str, listing: Listing) -> None:
        """Note where the followed files stand now."""
        listed = {entry.key: entry.path for entry in listing.candidates}
        names = {inode: path for path, inode in listing.others.items()}
        for file in self.of(source):
            path = listed.get(file.key) or names.get(file.key.inode, file.path)
            live = file.key in listed and path == file.origin
            self._changed |= path != file.path or live != file.live
            file.path, file.live, file.listed = path, live, file.key in listed

    def _meet(self, source: str, path: str, key: FileKey, listing: Listing) -> None:
        """Begin to follow a file that the patterns match."""
        file = self._open(source, path)
        if file is None:
            return
        if file.key != key:
            # Renamed between listing and opening: the next scan sees it where it is now.
            self.forget(file)
            return
        originals = [entry.path for entry in listing.candidates if is_generation(path, entry.path)]
        file.origin = min(originals, key=len, default=path)
        for saved in [p for p in self.saved if p.source == source and p.inode == key.inode]:
            # A device may get another number when it is mounted again: then the content alone must tell.
            same = _holds(file, saved) and (saved.key == key or saved.head_length > 0)
            if not same and saved.key != key:
                continue
            self.saved.remove(saved)
            if same:
                file.go_to(saved.offset)
                file.origin, file.fresh = saved.origin, saved.shadow or not saved.offset
                break
            self._gone(saved, listing, "replaced while the sidecar was down")
        file.live = file.path == file.origin

    def _meet_saved(self, source: str, listing: Listing) -> None:
        """Find the files of saved positions under names that no pattern matches; report those that are gone."""
        names = {inode: path for path, inode in listing.others.items()}
        for saved in [p for p in self.saved if p.source == source]:
            if saved.path.rpartition("/")[0] not in listing.folders:
                continue
            path = names.get(saved.inode)
            file = self._open(source, path) if path is not None else None
            if file is not None and _holds(file, saved):
                self.saved.remove(saved)
                self._missing.pop((source, saved.key), None)
                file.go_to(saved.offset)
                file.origin, file.live, file.listed = saved.origin, False, False
                file.fresh = saved.shadow or not saved.offset
                continue
            if file is not None:
                self.forget(file)
            if self.now - self._missing.setdefault((source, saved.key), self.now) >= SETTLE:
                del self._missing[source, saved.key]
                self.saved.remove(saved)
                self._gone(saved, listing, "deleted while the sidecar was down")

    def _gone(self, saved: Position, listing: Listing, reason: str) -> None:
        """Deal with a position whose file is not there any more."""
        self._changed = True
        if saved.shadow:
            return
        # Also with nothing unread: a copy that the patterns match must not be taken for a new file.
        copy = self._rescue(saved, listing)
        kept = max(saved.offset, copy.size if copy is not None else 0)
        if saved.size > kept:
            self._lost.append(Lost(saved.source, saved.path, kept, saved.size, reason))

    def _rescue(self, old: Position, listing: Listing) -> Followed | None:
        """Find a copy of the content that *old* is about, and follow it from there."""
        if not old.head_length:
            return None
        for file in self.of(old.source):
            # One that was met before, because its folder was rotated as well, holds it no less.
            if (file.fresh or not file.live) and is_generation(file.path, old.origin) and _holds(file, old):
                file.go_to(max(file.offset, old.offset))
                file.origin, file.live, file.fresh = old.origin, False, False
                return file
        strangers = [entry.path for entry in listing.candidates if (old.source, entry.key) not in self.followed]
        for path in [*strangers, *listing.others]:
            found = self._open(old.source, path) if is_generation(path, old.origin) else None
            if found is None:
                continue
            if _holds(found, old):
                found.go_to(old.offset)
                found.origin, found.live, found.fresh = old.origin, False, False
                found.listed = path in strangers
                return found
            self.forget(found)
        return None

    def _meet_history(self, source: TailSource, listing: Listing) -> None:
        """Follow what was rotated away before the very first look: whoever ships a file from its beginning wants what came before, too.

        The first look takes as long as a folder that is rotated meanwhile may hide a file.
        """
        met = self._history[source.name]
        for path in listing.others:
            origin = origin_of(path, source.patterns)
            if origin is None or self._ages.is_former(source.name, origin):
                continue
            entry = self._fs.entry(path)
            if entry is None or entry.key in met:
                continue
            met.add(entry.key)
            file = self._open(source.name, path) if (source.name, entry.key) not in self.followed else None
            if file is not None:
                file.live, file.listed, file.origin = False, False, origin

    def _meet_missed(self, source: TailSource, listing: Listing) -> None:
        """Follow generations that came and were rotated away between two looks: newly there, and not older than the last one known."""
        name = source.name
        first, before = name not in self._others, self._others.get(name, {})
        origins = self._ages.origins(name)
        for path, inode in listing.others.items():
            if before.get(path) == inode:
                continue
            origin = next((origin for origin in origins if is_generation(path, origin)), None)
            if origin is None and not first:
                # The first of its kind: it was begun, too, since the last look.
                origin = origin_of(path, source.patterns)
            entry = self._fs.entry(path) if origin is not None else None
            if origin is None or entry is None or not self._ages.may_be_new(name, origin, entry.mtime):
                continue
            file = self._open(name, path) if (name, entry.key) not in self.followed else None
            if file is not None:
                file.live, file.listed, file.origin = False, False, origin
        self._others[name] = dict(listing.others)

    def _classify(self, file: Followed) -> None:
        """Recognise a copy of a file that is followed itself: reading both would deliver everything twice."""
        if file.shadow_of is not None:
            if (file.source, file.shadow_of.key) not in self.followed or not is_copy(file, file.shadow_of):
                # Somebody writes into the copy: from here on it is a file like any other.
                file.shadow_of, self._changed = None, True
            elif file.size > file.offset:
                file.go_to(file.size)
        elif file.fresh and file.size:
            file.fresh = False
            for other in self.of(file.source):
                if other is not file and other.live and is_generation(file.path, other.path) and is_copy(file, other):
                    file.shadow_of, file.origin, file.live, self._changed = other, other.path, False, True
                    file.go_to(file.size)
                    return

    def _release_held(self) -> None:
        """Give up deleted files when too much disk is held only by us."""
        for file in too_much(self.followed.values(), self._max_held):
            start = max(file.offset, file.taken)
            if file.size > start:
                self._lost.append(Lost(file.source, file.path, start, file.size, "deleted, and too much was held back"))
            self.forget(file)

    def _open(self, source: str, path: str) -> Followed | None:
        """Open a file that is not followed yet."""
        if len(self.followed) >= MAX_FILES:
            self._troubles.append(Trouble(source, path, f"more than {MAX_FILES} files; narrow the patterns"))
            return None
        try:
            file = Followed(source, path, self._fs.open(path), self.now)
        except OSError as error:
            self._troubles.append(Trouble(source, path, (error.strerror or type(error).__name__).lower()))
            return None
        if (source, file.key) in self.followed:
            file.handle.close()
            return None
        self.followed[source, file.key] = file
        self._changed = True
        return file


def _holds(file: Followed, position: Position) -> bool:
    """Tell whether *file* holds what *position* is about."""
    return file.size >= position.offset and matches(file.handle, position)
