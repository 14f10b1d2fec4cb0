"""What the machine finds in place of its store, and what it does: never lose anything silently."""

import asyncio
import fcntl
import os
import sqlite3

import pytest
from tests.support.deliveries import Bench, bench, in_small_file_system

from pillion.delivery import database
from pillion.delivery.failures import Unstartable
from pillion.delivery.model import Policy

HELD = {"a": Policy(hold="SecretMissing")}


async def fill(folder, count=50):
    """Leave a store with pending deliveries behind, its log not folded in, as a crash would."""
    async with bench(folder, HELD) as b:
        for _ in range(count):
            await b.accept("a", body=b"x" * 2000)
    return b.path


def lost(b):
    return {c.level: c.message for c in b.conditions if c.name == "test: deliveries lost"}


async def open_bench(folder):
    b = Bench(folder, HELD)
    await b.open()
    return b


def clobber(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: clobber(p, 0, b"this is no database at all"), id="header"),
        pytest.param(lambda p: clobber(p, 4096 * 3, os.urandom(4096 * 4)), id="pages"),
        pytest.param(lambda p: os.truncate(p, 4096 * 5 + 100), id="truncated"),
        pytest.param(lambda p: p.write_bytes(os.urandom(20_000)), id="noise"),
    ],
)
async def test_a_damaged_store_is_moved_aside_and_said_loudly(tmp_path, damage):
    path = await fill(tmp_path)
    damage(path)
    content = path.read_bytes()
    b = await open_bench(tmp_path)
    try:
        (aside,) = (tmp_path / name for name in database.damaged_files(path))
        assert aside.read_bytes() == content
        assert aside.name in lost(b)["fail"]
        assert ".recover" in lost(b)["fail"]
        assert (await b.accept("a")).deliveries == 1
    finally:
        await b.close()
    again = await open_bench(tmp_path)
    assert aside.name in lost(again)["warn"], "as long as the file lies there, it is mentioned"
    assert again.status("a").backlog == 1
    await again.close()
    aside.unlink()
    clean = await open_bench(tmp_path)
    assert lost(clean) == {}
    await clean.close()


async def test_two_damaged_stores_in_one_second_get_two_names(tmp_path):
    for _ in range(2):
        path = await fill(tmp_path, 3)
        clobber(path, 0, b"garbage garbage garbage")
        await (await open_bench(tmp_path)).close()
    assert len(database.damaged_files(path)) == 2


async def test_a_store_that_vanished_is_said(tmp_path):
    path = await fill(tmp_path)
    path.unlink()
    b = await open_bench(tmp_path)
    assert "is missing or empty, although this data directory had one" in lost(b)["fail"]
    await b.close()


async def test_an_emptied_store_is_said(tmp_path):
    path = await fill(tmp_path)
    os.truncate(path, 0)
    b = await open_bench(tmp_path)
    assert "is missing or empty" in lost(b)["fail"]
    await b.close()


async def test_a_log_without_its_database_is_kept(tmp_path):
    log = tmp_path / "deliveries.db-wal"
    log.write_bytes(b"the last thing that was written")
    b = await open_bench(tmp_path)
    (aside,) = tmp_path.glob("deliveries.db.damaged-*-wal")
    assert aside.read_bytes() == b"the last thing that was written"
    assert "its write-ahead log is there" in lost(b)["fail"]
    await b.close()


async def test_a_first_start_says_nothing(tmp_path):
    b = await open_bench(tmp_path)
    assert list(b.conditions) == []
    await b.close()


async def test_a_store_of_a_newer_version_is_not_touched(tmp_path):
    path = await fill(tmp_path, 1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unstartable, match=r"written by a newer version of Pillion \(schema 99, this one knows 1\)"):
        await open_bench(tmp_path)
    assert not list(tmp_path.glob("*damaged*"))


async def test_another_programs_database_is_not_touched(tmp_path):
    with sqlite3.connect(tmp_path / "deliveries.db") as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()
    with pytest.raises(Unstartable, match="is a database of another program"):
        await open_bench(tmp_path)


async def test_two_machines_never_share_a_store(tmp_path, monkeypatch):
    b = await open_bench(tmp_path)
    monkeypatch.setattr(database.open_store, "__kwdefaults__", {"lock_wait": 0.0})
    with pytest.raises(Unstartable, match="is in use by another process"):
        await open_bench(tmp_path)
    await b.close()


async def test_a_start_waits_for_its_predecessor_to_let_go(tmp_path):
    await fill(tmp_path, 1)
    held = os.open(tmp_path / "deliveries.db.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    asyncio.get_running_loop().call_later(0.1, os.close, held)
    b = await open_bench(tmp_path)
    assert b.status("a").backlog == 1
    await b.close()


async def test_damage_noticed_while_running_is_said_and_the_next_start_looks_at_every_page(tmp_path, monkeypatch):
    path = await fill(tmp_path, 200)
    clobber(path, 4096 * 8, os.urandom(4096 * 8))
    monkeypatch.setattr(database, "CHECKED_IN_FULL", 0)
    b = await open_bench(tmp_path)
    b.machine.configure({"a": Policy()})
    await b.until(lambda: any(c.name == "test: store broken" for c in b.conditions))
    await b.close()
    assert database.damage_marker(path).exists()
    again = await open_bench(tmp_path)
    assert "is damaged" in lost(again)["fail"]
    assert not database.damage_marker(path).exists()
    await again.close()


async def test_destinations_long_gone_are_dropped_when_there_are_many(tmp_path):
    async with bench(tmp_path, {f"e{n}": Policy(hold="x") for n in range(100)}) as b:
        await b.accept("e7")
        await b.restart({})
        await b.until(lambda: True)
        await b.restart({})
        assert [d.name for d in b.machine.destinations] == ["e7"]


async def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Unstartable, match="cannot be written: No such file or directory"):
        await Bench(tmp_path / "gone", HELD).open()


def test_no_room_for_a_fresh_store_is_said(tmp_path):
    program = """
import asyncio, json, sys
from pathlib import Path
from pillion.delivery.failures import Unstartable
from tests.support.deliveries import Bench

async def main(folder):
    with (folder / "filler").open("wb") as file:
        file.truncate(0)
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    try:
        await Bench(folder, {}).open()
    except Unstartable as error:
        print(json.dumps(str(error)))

asyncio.run(main(Path(sys.argv[1])))
"""
    assert "see to the" in in_small_file_system(tmp_path, program)
