"""The tailer: follows files through growth, rotation and truncation, gives out what can be delivered, and knows what was.

One tailer serves one sink, so that a sink that takes nothing holds back nobody else. The files themselves are the buffer: an offset moves
only when `acknowledge` says that its bytes were delivered, and `positions` gives what must be on disk to go on after a crash.

Promises, for files that are only appended to: every line is delivered at least once, and once only unless a crash came between delivery and
the saving of positions, whatever rotation by renaming does meanwhile. Copying and truncating: the copy is recognised and its unread rest is
delivered; what nobody holds any more is reported with its exact byte range, never passed over. Deliberately absent: sinks, threads, clocks;
time comes in as an argument, the file system as an object.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from pillion.logs.discovery import Discovery, TailSource
from pillion.logs.followed import Followed, Scan, Span
from pillion.logs.identity import FileSystem, Position
from pillion.logs.lines import LOOKAHEAD, cut

MAX_LINE: Final = 256 << 10
"""Bytes after which a line is cut into pieces: what common stores take as one entry (Loki's default)."""

_MIN_SHARE: Final = 64 << 10
"""Bytes that a file may give to a batch, however many files wait."""


class Tailer:
    """Follows files for one sink.

    Args:
        files: the file system.
        sources: what is followed.
        positions: how far each file was delivered, from `positions` of an earlier life.
        max_held: bytes of deleted files that may be held open for delivery; beyond it the oldest are given up and reported.
        max_line: bytes after which a line is cut.
        safe_cut: moves such a cut to where it does no harm.
        history: whether generations count that were rotated away before the very first look.
    """

    def __init__(
        self,
        files: FileSystem,
        sources: Sequence[TailSource],
        positions: Iterable[Position] = (),
        *,
        max_held: int = 1 << 30,
        max_line: int = MAX_LINE,
        safe_cut: Callable[[bytes, int], int] = lambda _data, place: place,
        history: bool = True,
    ) -> None:
        self._discovery = Discovery(files, sources, positions, max_held, history=history)
        self._followed = self._discovery.followed
        self._max_line = max_line
        self._safe_cut = safe_cut
        self._turn = 0
        self.more = False
        """Whether the last `read` left something for its limit's sake: what it gave is then as much as one batch takes."""

    def scan(self, now: int) -> Scan:
        """Look at folders and files: find new ones, notice rotation and truncation. *now* is monotonic nanoseconds."""
        return self._discovery.scan(now)

    def read(self, limit: int) -> list[Span]:
        """Give about *limit* bytes that can be delivered now. Nothing moves: without an acknowledgement the same comes again."""
        for file in self._followed.values():
            file.taken = 0
        waiting = self._waiting()
        share = max(limit // max(len(waiting), 1), min(_MIN_SHARE, limit))
        spans: list[Span] = []
        total = 0
        self.more = False
        for group, generations in enumerate(waiting):
            for number, file in enumerate(generations):
                found = list(self._read(file, min(share, limit - total)))
                if found:
                    spans += found
                    total += sum(len(span.raw) for span in found)
                    # Of a file's generations one is read at a time.
                    self.more |= number + 1 < len(generations)
                    break
            if total >= limit:
                self.more |= group + 1 < len(waiting)
                break
        return spans

    def _waiting(self) -> list[list[Followed]]:
        """Give the files with something unread, by origin, the oldest generation first, beginning with another origin each time."""
        groups: dict[tuple[str, str], list[Followed]] = {}
        for file in self._followed.values():
            if file.unread and not file.suspect:
                groups.setdefault((file.source, file.origin), []).append(file)
        waiting = [sorted(group, key=lambda file: (file.live, file.mtime)) for _, group in sorted(groups.items())]
        self._turn += 1
        start = self._turn % len(waiting) if waiting else 0
        return waiting[start:] + waiting[:start]

    def _read(self, file: Followed, limit: int) -> Iterator[Span]:
        data = file.ahead(max(limit, self._max_line + LOOKAHEAD))
        if data is None:
            return
        if data.startswith(b"\0") and not file.tail.strip(b"\0"):
            # A writer that does not append has left a hole where the truncated bytes were.
            hole = len(data) - len(data.lstrip(b"\0"))
            file.advance(data[:hole])
            data = data[hole:]
        base = file.offset
        done = 0
        for piece in cut(
            data,
            continues=not file.tail.endswith((b"\n", b"\0")) and base > 0,
            final=base + len(data) >= file.size and file.finished(self._discovery.now),
            max_line=self._max_line,
            safe_cut=self._safe_cut,
        ):
            end = piece.end
            if piece.place == "whole" and end > limit:
                # Down to the limit, but at least one line.
                end = (
                    data.rfind(b"\n", piece.start, max(limit, piece.start)) + 1
                    or data.find(b"\n", piece.start) + 1
                    or end
                )
            file.taken = base + end
            done = end
            raw = data[piece.start : end]
            yield Span(file.source, file.path, file.key, file.generation, base + piece.start, raw, piece.place)
            if end >= limit or end < piece.end:
                break
        self.more |= data.find(b"\n", done) >= 0 or base + len(data) < file.size

    def acknowledge(self, spans: Iterable[Span]) -> None:
        """Say that *spans* were delivered, in the order in which they were given."""
        for span in spans:
            file = self._followed.get((span.source, span.key))
            if file is not None and file.generation == span.generation:
                if file.offset == span.start:
                    file.advance(span.raw)
                continue
            # Truncated meanwhile: what was delivered of it was delivered of its copy, as far as that goes.
            alias = (span.key, span.generation)
            copy = next((one for one in self._discovery.of(span.source) if one.alias == alias), None)
            if copy is not None and copy.offset < min(span.end, copy.size):
                copy.go_to(min(span.end, copy.size))

    def positions(self) -> tuple[Position, ...]:
        """Give what must be on disk before the next batch goes out."""
        return (*(file.position() for file in self._followed.values()), *self._discovery.saved)

    def lag(self) -> int:
        """Give the bytes that are not yet acknowledged, as of the last scan."""
        return sum(file.unread for file in self._followed.values())

    def files(self) -> int:
        """Give how many files are followed."""
        return len(self._followed)

    def skip_to_recent(self, keep: int) -> None:
        """Pass over all but about the last *keep* bytes of each file; for readers that only want what is recent."""
        for file in self._followed.values():
            if file.size - file.offset > keep:
                window = file.handle.read(file.size - keep, keep)
                feed = window.find(b"\n")
                file.go_to(file.size - keep + feed + 1 if feed >= 0 else file.size)

    def close(self) -> None:
        """Let go of all files."""
        for file in list(self._followed.values()):
            self._discovery.forget(file)


__all__ = ["MAX_LINE", "TailSource", "Tailer"]
