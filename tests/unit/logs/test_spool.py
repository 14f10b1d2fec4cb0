"""The disk queue of pushed records: what was kept is read back, whatever the crash left behind."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pillion.logs import spool as module
from pillion.logs.spool import MAGIC, Cursor, Spool, SpoolFull, frame, unframe

START = Cursor(0, 0)


def drain(spool, cursor=START):
    """Read everything, a batch at a time."""
    found = []
    while True:
        data, cursor = spool.read(cursor, 1 << 20)
        if not data:
            return b"".join(found), cursor
        found.append(data)


class Histories(RuleBasedStateMachine):
    """Appends, partial reads, releases, crashes with torn ends, against a plain list."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.spool = Spool(self.folder, 1 << 30)
        self.kept = []
        self.cursors = [Cursor(0, 0), Cursor(0, 0)]
        self.read = [0, 0]
        self.number = 0

    @rule(sizes=st.lists(st.sampled_from([1, 20, 5000]), min_size=1, max_size=4))
    def append(self, sizes):
        entries = []
        for size in sizes:
            self.number += 1
            entries.append(f"<{self.number}>".encode() + b"x" * size)
        self.spool.append(entries)
        self.kept += entries

    @rule(reader=st.integers(0, 1), limit=st.sampled_from([1, 100, 7000, 1 << 20]))
    def consume(self, reader, limit):
        data, self.cursors[reader] = self.spool.read(self.cursors[reader], limit)
        count = 0
        while len(b"".join(self.kept[self.read[reader] : self.read[reader] + count])) < len(data):
            count += 1
        assert data == b"".join(self.kept[self.read[reader] : self.read[reader] + count])
        assert count or self.read[reader] == len(self.kept)
        assert len(data) <= limit or count == 1
        self.read[reader] += count

    @rule()
    def release(self):
        self.spool.release(self.cursors)

    @rule(torn=st.binary(max_size=40), cut=st.booleans())
    def crash_while_appending(self, torn, cut):
        """The process dies while a frame is written: part of it, or anything, stands behind the last one."""
        self.spool.close()
        segments = sorted(self.folder.iterdir())
        if segments:
            whole = frame(b"never answered")
            with segments[-1].open("ab") as file:
                file.write(whole[: len(torn) % len(whole)] if cut else torn.replace(MAGIC, b""))
        self.spool = Spool(self.folder, 1 << 30)

    @precondition(lambda self: self.number)
    @rule()
    def restart(self):
        self.spool.close()
        self.spool = Spool(self.folder, 1 << 30)

    def teardown(self):
        if not hasattr(self, "spool"):
            return
        for reader in (0, 1):
            data, _ = drain(self.spool, self.cursors[reader])
            assert data == b"".join(self.kept[self.read[reader] :])
        assert self.spool.damages == []
        self.spool.close()
        shutil.rmtree(self.folder)


@pytest.fixture(autouse=True, scope="module")
def small_segments():
    """Segments of a few kilobytes, so that histories cross many."""
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "MAX_SEGMENT", 8000)
    yield
    patch.undo()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=25, derandomize=True)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.data())
def test_damage_anywhere_costs_only_what_it_touches_and_is_reported(entries, data):
    frames = [frame(entry) for entry in entries]
    whole = bytearray(b"".join(frames) + frame(b"end"))
    place = data.draw(st.integers(0, len(whole) - len(frame(b"end")) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))

    found, at, damaged = [], 0, 0
    while (one := unframe(bytes(whole), at)) is not None:
        if one.entry is None:
            damaged += one.end - one.start
        else:
            found.append(one.entry)
        at = one.end

    ends = [sum(map(len, frames[: index + 1])) for index in range(len(frames))]
    hit = next(index for index, end in enumerate(ends) if place < end)
    assert found == [*entries[:hit], *entries[hit + 1 :], b"end"]
    assert damaged == len(frames[hit])


def test_damage_is_told_with_its_place(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    spool.append([b"one", b"two", b"three"])
    (segment,) = tmp_path.iterdir()
    content = bytearray(segment.read_bytes())
    content[len(frame(b"one")) + 13] ^= 1
    segment.write_bytes(content)

    assert drain(spool)[0] == b"onethree"
    assert spool.damages == ["000000000001 bytes 15 to 30"]


def test_a_full_spool_keeps_nothing_of_what_it_refuses_and_recovers(tmp_path):
    spool = Spool(tmp_path, 4000)
    entry = b"x" * 500
    for _ in range(3):
        spool.append([entry, entry])
    with pytest.raises(SpoolFull):
        spool.append([entry, entry])
    data, cursor = drain(spool)
    assert data == entry * 6

    spool.release([cursor])
    spool.append([entry, entry])

    assert drain(spool, cursor)[0] == entry * 2


@pytest.mark.parametrize("step", ["write", "fdatasync"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    spool = Spool(tmp_path, 1 << 20)
    spool.append([b"before"])
    real = os.write

    def refuse(file, data=b""):
        if step == "write":
            real(file, bytes(data[:7]))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(OSError, match="No space"):
            spool.append([b"refused" * 10])
    spool.append([b"after"])

    assert drain(spool)[0] == b"beforeafter"
    assert drain(Spool(tmp_path, 1 << 20))[0] == b"beforeafter"
    assert spool.damages == []


def test_what_is_behind_a_cursor_is_known(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    spool.append([b"x" * 9000])
    spool.append([b"y" * 100])
    _, cursor = spool.read(Cursor(0, 0), 1)

    assert spool.behind(Cursor(0, 0)) == spool.size
    assert spool.behind(cursor) == len(frame(b"y" * 100))
    assert spool.behind(drain(spool)[1]) == 0
