"""Cutting what was read into lines and pieces."""

from hypothesis import given
from hypothesis import strategies as st

from pillion.logs.lines import LOOKAHEAD, cut

MAX = 2048


def texts(data, pieces):
    return [(piece.place, data[piece.start : piece.end]) for piece in pieces]


def test_an_unfinished_line_is_held_back():
    data = b"one\ntwo\nthr"

    assert texts(data, cut(data, continues=False, final=False, max_line=MAX)) == [("whole", b"one\ntwo\n")]


def test_an_unfinished_line_counts_when_nothing_will_follow():
    data = b"one\nthr"

    assert texts(data, cut(data, continues=False, final=True, max_line=MAX)) == [("whole", b"one\n"), ("whole", b"thr")]


def test_a_long_line_is_cut_and_marked():
    long = b"x" * (2 * MAX + LOOKAHEAD)
    data = b"one\n" + long + b"\ntwo\n"

    assert texts(data, cut(data, continues=False, final=False, max_line=MAX)) == [
        ("whole", b"one\n"),
        ("start", b"x" * MAX),
        ("middle", b"x" * MAX),
        ("end", b"x" * LOOKAHEAD + b"\n"),
        ("whole", b"two\n"),
    ]


def test_a_cut_may_be_moved_back():
    data = b"x" * (MAX + LOOKAHEAD)

    (piece,) = cut(data, continues=False, final=False, max_line=MAX, safe_cut=lambda _data, place: place - 7)

    assert (piece.place, piece.end) == ("start", MAX - 7)


line = st.one_of(st.integers(0, 60), st.integers(MAX - 3, MAX + LOOKAHEAD + 3), st.integers(3 * MAX, 4 * MAX)).map(
    lambda n: b"y" * n
)


@given(st.lists(line, max_size=6), st.booleans(), st.integers(0, 5 * MAX), st.booleans())
def test_pieces_cover_the_data_and_tell_the_lines(lines, ended, held, continues):
    """The oracle splits the text by itself: what goes out, put together again, are its lines."""
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    first = cut(data[: len(data) - held], continues=continues, final=False, max_line=MAX)
    done = first[-1].end if first else 0
    inside = (first[-1].place in ("start", "middle")) if first else continues
    rest = cut(data[done:], continues=inside, final=True, max_line=MAX)
    pieces = [*first, *(piece._replace(start=piece.start + done, end=piece.end + done) for piece in rest)]

    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces)][: len(pieces)]
    assert (pieces[-1].end if pieces else 0) == len(data)
    for piece in pieces:
        text = data[piece.start : piece.end]
        before = data[piece.start - 1 : piece.start] if piece.start else (b"x" if continues else b"\n")
        assert (before == b"\n") == (piece.place in ("whole", "start"))
        if piece.place == "whole":
            assert max(map(len, text.split(b"\n"))) < MAX + LOOKAHEAD + 1
        else:
            assert len(text) <= MAX + LOOKAHEAD
            assert b"\n" not in text[:-1]
        assert text.endswith(b"\n") == (piece.place in ("whole", "end")) or piece.end == len(data)


@given(st.lists(line, max_size=4), st.lists(st.integers(1, 4000), max_size=20))
def test_arrival_in_small_parts_changes_nothing(lines, parts):
    data = b"".join(one + b"\n" for one in lines)
    whole = cut(data, continues=False, final=False, max_line=MAX)
    seen, done, inside, end = [], 0, False, 0
    for part in [*parts, len(data)]:
        end = min(end + part, len(data))
        for piece in cut(data[done:end], continues=inside, final=False, max_line=MAX):
            seen.append((data[done + piece.start : done + piece.end], piece.place))
            inside = piece.place in ("start", "middle")
        done = sum(len(text) for text, _ in seen)

    def split(pieces):
        return [
            (one, place)
            for text, place in pieces
            for one in (text.splitlines(keepends=True) if place == "whole" else [text])
        ]

    assert split(seen) == split([(data[p.start : p.end], p.place) for p in whole])
