"""Which files may be let go: open files cost descriptors, and deleted ones cost disk for as long as somebody holds them.

Promises: a file with something unread is only given up when too much disk is held, and then the oldest first. Deliberately absent: closing them,
and saying what was lost with them (`discovery.py`).
"""

from collections.abc import Iterable
from typing import Final

from pillion.logs.followed import Followed

KEEP_ROTATED: Final = 16
"""Rotated generations of one source that stay open although they are read, for a writer that never opened the new file."""

RETIRE_AFTER: Final = 60_000_000_000
"""Nanoseconds of quiet after which a deleted and fully read file is let go."""


def retired(files: Iterable[Followed], now: int) -> list[Followed]:
    """Give those files of one source that no pattern matches any more and that can bring nothing; *now* is monotonic nanoseconds."""
    done = [file for file in files if not (file.listed or file.unread or file.taken > file.offset)]
    deleted = [file for file in done if file.links == 0 and now - file.grew >= RETIRE_AFTER]
    kept = sorted((file for file in done if file.links), key=lambda file: file.mtime)
    return deleted + kept[: max(len(kept) - KEEP_ROTATED, 0)]


def too_much(files: Iterable[Followed], most: int) -> list[Followed]:
    """Give the deleted files to give up so that the others hold at most *most* bytes of disk; read ones first, then the oldest."""
    held = [file for file in files if file.links == 0]
    excess = sum(file.size for file in held) - most
    given_up = []
    for file in sorted(held, key=lambda file: (file.unread > 0, file.mtime)):
        if excess <= 0:
            break
        excess -= file.size
        given_up.append(file)
    return given_up
