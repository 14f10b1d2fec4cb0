"""What people ask about deliveries, answered by a thread with a read-only connection of its own, so that no question delays a commit.

Every question has a bound: a page of a list looks at no more than `SCAN` rows and says where to go on.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pillion.delivery.database import connect
from pillion.delivery.failures import Overloaded, StoreUnavailable
from pillion.delivery.model import (
    Attempt,
    Delivery,
    DestinationName,
    Message,
    MessageId,
    OutcomeName,
    Query,
)
from pillion.delivery.store import PENDING, STATES, DeliveryRow, message_of

SCAN: Final = 5_000
"""Rows that one page of a filtered list looks at: about 10 ms."""

QUESTIONS: Final = 64
"""Questions that may wait at the same time."""

T = TypeVar("T")


class Found(msgspec.Struct, frozen=True):
    """One row of a list: the delivery and its message's number (with the destination's number it is the place in the list)."""

    seq: int
    lane: int
    delivery: Delivery


class Reader:
    """Answers questions about the store at *path*."""

    def __init__(self, *, name: str, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._db: sqlite3.Connection | None = None
        self._asked = 0

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Run *question* in the reader's thread.

        Raises:
            Overloaded: too many wait.
            StoreUnavailable: the store cannot be read.
        """
        if self._asked >= QUESTIONS:
            raise Overloaded(f"{QUESTIONS} questions about deliveries wait already; ask again in a moment")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store {self._path} cannot be read ({error})") from error
        finally:
            self._asked -= 1

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            self._db = connect(self._path, read_only=True)
        return question(self._db)

    def close(self) -> None:
        """Close the connection and end the thread. Blocks."""
        if self._db is not None:
            self._threads.submit(self._db.close).result()
        self._threads.shutdown()


def list_deliveries(
    query: Query, names: Mapping[int, DestinationName], after: tuple[int, int] | None
) -> Callable[[sqlite3.Connection], tuple[list[Found], tuple[int, int] | None]]:
    """Ask for one page, newest message first.

    Args:
        query: what to list; its state `in-flight` counts as pending here, only the machine knows better.
        names: destinations by number.
        after: go on behind this place; None for the beginning.

    Returns:
        What gives the rows, and the place where the next page goes on (None at the end).
    """
    place = after or (1 << 62, 1 << 62)
    conditions, arguments = ["(message, destination) < (?, ?)"], list[Any](place)
    if query.message:
        conditions.append("message = (SELECT seq FROM messages WHERE id = ?)")
        arguments.append(query.message)
    scan = (
        "SELECT message, destination, state, attempts, step, due, settled, reason FROM deliveries WHERE "  # noqa: S608 - no value is in the text
        + " AND ".join(conditions)
        + " ORDER BY message DESC, destination DESC"
    )
    filters, values = ["1"], list[Any]()
    if query.destination:
        filters.append("d.destination = ?")
        values.append(next((number for number, name in names.items() if name == query.destination), -1))
    if query.state is not None:
        filters.append("d.state = ?")
        values.append(PENDING if query.state == "in-flight" else STATES.index(query.state))
    if query.type:
        filters.append("m.type = ?")
        values.append(query.type)
    sql = (
        f"SELECT d.*, m.id, m.accepted FROM ({scan} LIMIT ?) AS d JOIN messages AS m ON m.seq = d.message "  # noqa: S608 - no value is in the text
        f"WHERE {' AND '.join(filters)} ORDER BY d.message DESC, d.destination DESC LIMIT ?"
    )

    def question(db: sqlite3.Connection) -> tuple[list[Found], tuple[int, int] | None]:
        rows = db.execute(sql, [*arguments, SCAN, *values, query.limit]).fetchall()
        found = [
            Found(row[0], row[1], delivery_of(DeliveryRow(*row[:8]), MessageId(row[8]), row[9], names)) for row in rows
        ]
        if len(found) == query.limit:
            return found, (found[-1].seq, found[-1].lane)
        end = db.execute(f"{scan} LIMIT 1 OFFSET ?", [*arguments, SCAN - 1]).fetchone()
        return found, (end[0], end[1]) if end else None

    return question


def read_delivery(
    message: MessageId, lane: int, names: Mapping[int, DestinationName]
) -> Callable[[sqlite3.Connection], Found | None]:
    """Ask for one delivery."""

    def question(db: sqlite3.Connection) -> Found | None:
        row = db.execute(
            "SELECT d.message, d.destination, d.state, d.attempts, d.step, d.due, d.settled, d.reason, m.id, m.accepted "
            "FROM messages AS m JOIN deliveries AS d ON d.message = m.seq WHERE m.id = ? AND d.destination = ?",
            (message, lane),
        ).fetchone()
        if row is None:
            return None
        return Found(row[0], row[1], delivery_of(DeliveryRow(*row[:8]), MessageId(row[8]), row[9], names))

    return question


def read_message(message: MessageId) -> Callable[[sqlite3.Connection], Message | None]:
    """Ask for a message with its body."""

    def question(db: sqlite3.Connection) -> Message | None:
        row = db.execute(
            "SELECT id, type, accepted, attributes, body FROM messages WHERE id = ?", (message,)
        ).fetchone()
        return message_of(row) if row else None

    return question


def read_attempts(
    message: MessageId, lane: int, destination: DestinationName, limit: int
) -> Callable[[sqlite3.Connection], tuple[Attempt, ...]]:
    """Ask for the latest attempts at one delivery, newest first."""

    def question(db: sqlite3.Connection) -> tuple[Attempt, ...]:
        rows = db.execute(
            "SELECT number, started, duration, outcome, status, reason, excerpt FROM attempts "
            "WHERE message = (SELECT seq FROM messages WHERE id = ?) AND destination = ? ORDER BY number DESC LIMIT ?",
            (message, lane, limit),
        ).fetchall()
        return tuple(attempt_of(row, message, destination) for row in rows)

    return question


def list_attempts(
    lane: int | None, names: Mapping[int, DestinationName], limit: int, after: tuple[int, int, int] | None
) -> Callable[[sqlite3.Connection], tuple[list[Attempt], tuple[int, int, int] | None]]:
    """Ask for attempts, newest message first, latest attempt first.

    Args:
        lane: only those at this destination; None for any.
        names: destinations by number.
        limit: at most so many.
        after: go on behind this place; None for the beginning.
    """
    place = after or (1 << 62, 1 << 62, 1 << 62)
    scan = (
        "SELECT message, destination, number, started, duration, outcome, status, reason, excerpt FROM attempts "
        "WHERE (message, destination, number) < (?, ?, ?) ORDER BY message DESC, destination DESC, number DESC"
    )

    def question(db: sqlite3.Connection) -> tuple[list[Attempt], tuple[int, int, int] | None]:
        rows = db.execute(
            f"SELECT a.*, m.id FROM ({scan} LIMIT ?) AS a JOIN messages AS m ON m.seq = a.message "  # noqa: S608 - constant text
            "WHERE (? IS NULL OR a.destination = ?) ORDER BY a.message DESC, a.destination DESC, a.number DESC LIMIT ?",
            [*place, SCAN, lane, lane, limit],
        ).fetchall()
        found = [attempt_of(row[2:9], MessageId(row[9]), names[row[1]]) for row in rows]
        if len(found) == limit:
            return found, (rows[-1][0], rows[-1][1], rows[-1][2])
        end = db.execute(f"{scan} LIMIT 1 OFFSET ?", [*place, SCAN - 1]).fetchone()
        return found, tuple(end[:3]) if end else None

    return question


def oldest_pending(lanes: list[int]) -> Callable[[sqlite3.Connection], dict[int, int]]:
    """Ask when the oldest pending message of each lane was accepted."""

    def question(db: sqlite3.Connection) -> dict[int, int]:
        found = {}
        for lane in lanes:
            row = db.execute(
                "SELECT accepted FROM messages WHERE seq = "
                "(SELECT min(message) FROM deliveries WHERE destination = ? AND state = 0)",
                (lane,),
            ).fetchone()
            if row:
                found[lane] = row[0]
        return found

    return question


def delivery_of(
    row: DeliveryRow, message: MessageId, accepted_ns: int, names: Mapping[int, DestinationName]
) -> Delivery:
    """Make a delivery of its row."""
    return Delivery(
        message=message,
        destination=names[row.destination],
        state=STATES[row.state],
        attempts=row.attempts,
        accepted_ns=accepted_ns,
        due_ns=row.due if row.state == PENDING else 0,
        settled_ns=row.settled,
        reason=row.reason,
    )


def attempt_of(row: tuple[Any, ...], message: MessageId, destination: DestinationName) -> Attempt:
    """Make an attempt of a row of (number, started, duration, outcome, status, reason, excerpt)."""
    outcome: OutcomeName = row[3]
    return Attempt(
        message=message,
        destination=destination,
        number=row[0],
        started_ns=row[1],
        duration_ns=row[2],
        outcome=outcome,
        status=row[4],
        reason=row[5],
        excerpt=row[6],
    )
