"""Cuts what was read from a file into whole lines, and lines that are too long into pieces.

Promises: the pieces cover the beginning of the data without gap or overlap; a line that is not finished is held back, unless it is already
longer than the bound or will never be finished; the same bytes at the same place are cut the same way. Deliberately absent: any meaning of
the bytes.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pillion.logs.records import Place

LOOKAHEAD: Final = 1024
"""Bytes by which a line may be longer than the bound: a cut needs to see them, to avoid a value that it would tear."""


class Piece(NamedTuple):
    """A part of the data: whole lines, or a part of one long line."""

    start: int
    end: int
    place: Place


def cut(
    data: bytes,
    *,
    continues: bool,
    final: bool,
    max_line: int,
    safe_cut: Callable[[bytes, int], int] = lambda _data, place: place,
) -> list[Piece]:
    """Cut *data*.

    Args:
        data: bytes of a file from some place on.
        continues: whether that place is inside a line, the first part of which went out before.
        final: whether nothing will follow, so that an unfinished line counts as finished.
        max_line: bytes after which a long line is cut (> LOOKAHEAD); one that is up to LOOKAHEAD longer stays whole.
        safe_cut: moves a cut inside a long line back to where it does no harm.
    """
    pieces: list[Piece] = []
    limit = max_line + LOOKAHEAD
    at = 0
    while at < len(data):
        end = data.find(b"\n", at, at + limit) + 1 if continues else _whole_lines(data, at, limit)
        if end > at:
            pieces.append(Piece(at, end, "end" if continues else "whole"))
            at, continues = end, False
        elif len(data) - at >= limit:
            end = at + safe_cut(data[at : at + limit], max_line)
            pieces.append(Piece(at, end, "middle" if continues else "start"))
            at, continues = end, True
        elif final:
            pieces.append(Piece(at, len(data), "end" if continues else "whole"))
            at = len(data)
        else:
            break
    return pieces


def _whole_lines(data: bytes, at: int, limit: int) -> int:
    """Give where the whole lines from *at* on end, the first that is too long excluded."""
    end = at
    while True:
        feed = data.rfind(b"\n", end, end + limit)
        if feed < 0:
            return end
        end = feed + 1
