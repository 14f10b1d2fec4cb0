"""What one read gives: as much as a batch takes, and whether there was more."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.fakefs import FakeFileSystem

from pillion.logs.engine import Tailer, TailSource

MAX_LINE = 2048

line = st.sampled_from([0, 1, 40, 700, MAX_LINE + 900, 3 * MAX_LINE]).map(lambda length: b"x" * length + b"\n")
content = st.tuples(st.lists(line, max_size=8), st.sampled_from([b"", b"unfinished"])).map(
    lambda parts: b"".join(parts[0]) + parts[1]
)


@given(
    st.lists(st.lists(content, min_size=1, max_size=3), min_size=1, max_size=4),
    st.sampled_from([1, 100, 1000, 4096, 1 << 20]),
)
def test_only_a_read_that_left_nothing_says_so(files, limit):
    """Whoever waits for a batch to fill up must not wait when it is as full as it gets: the next read would give as much again."""
    fs = FakeFileSystem()
    # Each of its own: one that is the beginning of another would be taken for a copy of it.
    files = [[b"<%d.%d>\n" % (n, m) + data for m, data in enumerate(some)] for n, some in enumerate(files)]
    for number, generations in enumerate(files):
        for age, data in enumerate(generations):
            path = f"/logs/{number}.log" + (f".{age}" if age else "")
            fs.append(fs.create(path), data)
    tailer = Tailer(fs, [TailSource("app", ("/logs/*.log",))], max_line=MAX_LINE)
    tailer.scan(0)
    given_out = 0
    for _ in range(500):
        spans = tailer.read(limit)
        more = tailer.more
        given_out += sum(len(span.raw) for span in spans)
        tailer.acknowledge(spans)
        if not more:
            break

    assert not more
    assert tailer.read(limit) == []
    # All that is left are unfinished lines.
    assert tailer.lag() <= len(b"unfinished") * sum(map(len, files))
    assert given_out + tailer.lag() == sum(len(data) for generations in files for data in generations)
