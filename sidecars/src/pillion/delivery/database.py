"""Opening the delivery store's SQLite file, whatever is found in its place.

    no file            begin a fresh one; if this folder had one before, say so: what it held is lost
    a sound file       check it, bring its schema up to date
    a broken file      move it aside under a new name, say so, begin a fresh one
    a newer version's  refuse to start: an old program must not write into it
    another process    refuse to start: two would deliver everything twice

"Say so" is a `Notice`; the machine turns it into a `fail` condition and a log line, so that nothing is ever lost silently.
"""

import fcntl
import os
import sqlite3
import time
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from pillion.delivery.failures import Unstartable

APPLICATION_ID: Final = 0x50494C44
"""`PILD`, in the header of the file (PRAGMA application_id), so that the file can be recognised."""

MIGRATIONS: Final = ("schema_1.sql",)
"""One script per schema version, in order; `PRAGMA user_version` counts those that ran. A script that was released never changes."""

CHECKED_IN_FULL: Final = 64 << 20
"""Bytes up to which every page is verified at start (about 0.2 s); a larger file is verified only when its last process noticed damage."""

LOCK_WAIT: Final = 5.0
"""Seconds to wait for the process before us to let go of the store: a container that restarts overlaps with its predecessor for moments."""

_SIGNATURE: Final = b"pillion delivery store\n"


class Notice(msgspec.Struct, frozen=True):
    """Something that was wrong with the store and that a person must know.

    Args:
        message: what happened, which file, what to do.
    """

    message: str


class Opened(msgspec.Struct, frozen=True):
    """An open store.

    Args:
        connection: the one connection that writes.
        lock: file descriptor that keeps other processes out while it is open.
        notices: what was wrong.
    """

    connection: sqlite3.Connection
    lock: int
    notices: tuple[Notice, ...]


def open_store(path: Path, *, max_bytes: int, now: time.struct_time, lock_wait: float = LOCK_WAIT) -> Opened:
    """Open the store at *path* for writing, in this thread.

    Args:
        path: the database file; its folder exists.
        max_bytes: bound of the file.
        now: names a file that is moved aside.
        lock_wait: seconds to wait for another process to let go.

    Raises:
        Unstartable: another process has it, it belongs to a newer version or another program, or the folder cannot be written.
    """
    lock = _lock(path, lock_wait)
    try:
        notices = list(_without_database(path, lock, now))
        try:
            connection = _open_sound(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise Unstartable(f"{path} cannot be opened: {error}; see to the volume and its permissions") from error
            notices.append(_move_aside(path, now, f"is damaged ({error})"))
            connection = _open_sound(path)
        try:
            _migrate(connection, path)
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(max_bytes // page_size, 64)}")
            os.pwrite(lock, _SIGNATURE, 0)
        except (sqlite3.Error, OSError) as error:
            connection.close()
            raise Unstartable(
                f"{path} cannot be prepared: {error}; see to the room and permissions of the volume"
            ) from error
        damage_marker(path).unlink(missing_ok=True)
    except BaseException:
        os.close(lock)
        raise
    return Opened(connection, lock, tuple(notices))


def damage_marker(path: Path) -> Path:
    """Give the file whose presence asks the next start to verify every page."""
    return path.with_name(path.name + ".check")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Connect with the settings that all connections share.

    `synchronous=FULL` syncs the log on every commit: that is what lets a 202 promise anything.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=64)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -4096")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _lock(path: Path, wait: float) -> int:
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unstartable(
            f"{path.parent} cannot be written: {error.strerror}; see to the volume and its permissions"
        ) from error
    give_up = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                os.close(lock)
                raise Unstartable(
                    f"{path} is in use by another process; give every sidecar a data directory of its own, or stop the other one"
                ) from None
            time.sleep(0.05)
        else:
            return lock


def _without_database(path: Path, lock: int, now: time.struct_time) -> list[Notice]:
    """See to a missing file: SQLite would begin a new one and delete what is left of the old one's log."""
    if path.exists() and path.stat().st_size > 0:
        return []
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size > 0:
        return [_move_aside(path, now, "is missing or empty, although its write-ahead log is there")]
    if os.pread(lock, len(_SIGNATURE), 0) == _SIGNATURE:
        return [
            Notice(
                f"{path} is missing or empty, although this data directory had one; deliveries that it held are lost unless it is put back. "
                "A fresh one was begun."
            )
        ]
    return []


def _open_sound(path: Path) -> sqlite3.Connection:
    """Open the file and verify it; raises sqlite3.DatabaseError when it is damaged."""
    connection = connect(path, read_only=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if damage_marker(path).exists() or path.stat().st_size <= CHECKED_IN_FULL:
            _verify(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _verify(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        damage = sqlite3.DatabaseError(found)
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _move_aside(path: Path, now: time.struct_time, what: str) -> Notice:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', now)}")
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.partition('+')[0]}+{number}")
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return Notice(
        f"{path} {what}. It was moved to {aside.name} and a fresh one was begun: undelivered messages are in that file and will not be sent. "
        "Rescue them with sqlite3's .recover if they matter, then delete the file."
    )


def damaged_files(path: Path) -> list[str]:
    """Give the names of files that were moved aside and are still there."""
    return sorted(p.name for p in path.parent.glob(f"{path.name}.damaged-*") if not p.name.endswith("-wal"))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if owner != APPLICATION_ID and not empty:
        connection.close()
        raise Unstartable(f"{path} is a database of another program; move it away or choose another data directory")
    if version > len(MIGRATIONS):
        connection.close()
        raise Unstartable(
            f"{path} was written by a newer version of Pillion (schema {version}, this one knows {len(MIGRATIONS)}); "
            "run that version, or move the file away to begin without its messages"
        )
    for number, name in enumerate(MIGRATIONS[version:], version + 1):
        script = files("pillion.delivery").joinpath(name).read_text()
        # executescript commits first, so the transaction stands inside the script: a crash leaves the old schema whole.
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};\nCOMMIT;"
        )
