"""What the delivery machine writes, as SQL: every change of the store is a method here, called by the writer thread inside a transaction.

Rows go in by statements of many rows (`VALUES (…),(…)`), not by `executemany`: Python hands the interpreter lock over at every step of a
statement, so a thousand steps beside a busy event loop cost far more than the rows themselves.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from pillion.delivery.model import Message, MessageId, State
from pillion.delivery.scheduler import Entry, Load

PENDING, SUCCEEDED, FAILED, CANCELLED = range(4)
STATES: Final[tuple[State, ...]] = ("pending", "succeeded", "failed", "cancelled")
"""States by their number on disk."""

_CHUNKS: Final = (64, 32, 16, 8, 4, 2, 1)
"""Rows per statement: few sizes, so that prepared statements are found in the cache; halves, so that few statements make up any number."""

Row = tuple[Any, ...]


class Known(NamedTuple):
    """What is stored under a message id."""

    fingerprint: bytes | None
    deliveries: int


class DeliveryRow(NamedTuple):
    """A delivery as stored."""

    message: int
    destination: int
    state: int
    attempts: int
    step: int
    due: int
    settled: int
    reason: str


class Loaded(NamedTuple):
    """What a load found: entries in order of their due times, and when the next one that was left is due."""

    entries: list[Entry]
    next_due: int | None
    lost: int


class DestinationRow(NamedTuple):
    """A destination as stored."""

    id: int
    name: str
    identity: str
    disabled: str
    paused_until: int
    last_success: int


def encode_attributes(attributes: Mapping[str, str]) -> str | None:
    """Write a message's attributes as they are stored; None when there are none."""
    return msgspec.json.encode(attributes).decode() if attributes else None


def decode_attributes(text: str | None) -> Mapping[str, str]:
    """Read what `encode_attributes` wrote."""
    return msgspec.json.decode(text, type=dict[str, str]) if text else {}


@cache
def _statement(head: str, width: int, size: int, tail: str) -> str:
    """Write a statement of *size* rows; there are as many as kinds of rows times sizes."""
    row = "(" + ",".join("?" * width) + ")"
    return head + ",".join([row] * size) + tail


class Store:
    """The writing side of the store. Not thread-safe: it belongs to the writer thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.page_size: int = self._value("PRAGMA page_size")
        self.max_pages: int = self._value("PRAGMA max_page_count")

    def _value(self, sql: str, *arguments: Any) -> Any:
        row = self._db.execute(sql, arguments).fetchone()
        return row[0] if row else None

    # Transactions

    def begin(self) -> None:
        """Begin a transaction that will write."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit; when this returns, the transaction is on disk."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one is open (SQLite ends it by itself on some errors)."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def used_pages(self) -> int:
        """Give how many pages hold something."""
        return int(self._value("PRAGMA page_count")) - int(self._value("PRAGMA freelist_count"))

    def close(self) -> None:
        """Fold the log into the file and close it."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()

    # Messages and deliveries

    def known(self, message: MessageId) -> Known | None:
        """Give what is stored under an id."""
        row = self._db.execute(
            "SELECT fingerprint, (SELECT count(*) FROM deliveries WHERE message = seq) FROM messages WHERE id = ?",
            (message,),
        ).fetchone()
        return Known(*row) if row else None

    def insert_messages(self, rows: Sequence[Row]) -> None:
        """Insert rows of (seq, id, type, accepted, fingerprint, attributes, body)."""
        self._bulk("INSERT INTO messages (seq, id, type, accepted, fingerprint, attributes, body) VALUES ", 7, "", rows)

    def insert_deliveries(self, rows: Sequence[Row]) -> None:
        """Insert pending deliveries: rows of (message, destination, due)."""
        self._bulk(
            "INSERT INTO deliveries (message, destination, due, state, attempts, step, settled, reason) "
            "SELECT column1, column2, column3, 0, 0, 0, 0, '' FROM (VALUES ",
            3,
            ")",
            rows,
        )

    def update_deliveries(self, rows: Sequence[DeliveryRow]) -> None:
        """Write the new state of deliveries."""
        self._bulk(
            "UPDATE deliveries SET state = v.column3, attempts = v.column4, step = v.column5, due = v.column6, settled = v.column7, "
            "reason = v.column8 FROM (VALUES ",
            8,
            ") AS v WHERE deliveries.message = v.column1 AND deliveries.destination = v.column2",
            rows,
        )

    def insert_attempts(self, rows: Sequence[Row]) -> None:
        """Insert rows of (message, destination, number, started, duration, outcome, status, reason, excerpt)."""
        self._bulk(
            "INSERT OR REPLACE INTO attempts (message, destination, number, started, duration, outcome, status, reason, excerpt) VALUES ",
            9,
            "",
            rows,
        )

    def _bulk(self, head: str, width: int, tail: str, rows: Sequence[Sequence[Any]]) -> None:
        start = 0
        for size in _CHUNKS:
            while len(rows) - start >= size:
                part = rows[start : start + size]
                self._db.execute(_statement(head, width, size, tail), list(chain.from_iterable(part)))
                start += size

    def load(self, load: Load, settled_ns: int, forget_ns: int) -> Loaded:
        """Bring due deliveries of one lane; those whose message is gone (which must not happen) become dead letters."""
        # One row for all: see the module's docstring.
        text = self._value(
            "SELECT json_group_array(json_array(message, due, attempts, step)) FROM "
            "(SELECT message, due, attempts, step FROM deliveries WHERE destination = ? AND state = 0 AND due <= ? ORDER BY due LIMIT ?)",
            load.lane,
            load.now_ns,
            load.limit + len(load.known) + 1,
        )
        due = [
            row for row in msgspec.json.decode(text, type=list[tuple[int, int, int, int]]) if row[0] not in load.known
        ]
        entries: list[Entry] = []
        lost: list[DeliveryRow] = []
        size = load.size
        brought = 0
        for seq, _, attempts, step in due[: load.limit]:
            if entries and size <= 0:
                break
            brought += 1
            message = self._message(seq)
            if message is None:
                lost.append(
                    DeliveryRow(seq, load.lane, FAILED, attempts, step, forget_ns, settled_ns, "its message is gone")
                )
                continue
            entry = Entry(lane=load.lane, seq=seq, message=message, attempts=attempts, step=step)
            entries.append(entry)
            size -= entry.cost
        if lost:
            self.update_deliveries(lost)
        return Loaded(entries, due[brought][1] if brought < len(due) else self._next_due(load), len(lost))

    def _next_due(self, load: Load) -> int | None:
        return self._value(  # type: ignore[no-any-return]  # an INTEGER column of a STRICT table
            "SELECT due FROM deliveries WHERE destination = ? AND state = 0 AND due > ? ORDER BY due LIMIT 1",
            load.lane,
            load.now_ns,
        )

    def _message(self, seq: int) -> Message | None:
        row = self._db.execute(
            "SELECT id, type, accepted, attributes, body FROM messages WHERE seq = ?", (seq,)
        ).fetchone()
        return message_of(row) if row else None

    def reopen(self, message: MessageId, destination: int, due_ns: int) -> DeliveryRow | None:
        """Make a delivery pending again, its schedule from the start; gives its row before that, None when there is none."""
        found = self.delivery(message, destination)
        if found is not None:
            self.update_deliveries([found._replace(state=PENDING, step=0, due=due_ns, settled=0, reason="")])
        return found

    def cancel(
        self, message: MessageId, destination: int, reason: str, settled_ns: int, forget_ns: int
    ) -> DeliveryRow | None:
        """Cancel a pending delivery; gives its row before that, None when there is none."""
        found = self.delivery(message, destination)
        if found is not None and found.state == PENDING:
            self.update_deliveries([found._replace(state=CANCELLED, due=forget_ns, settled=settled_ns, reason=reason)])
        return found

    def delivery(self, message: MessageId, destination: int) -> DeliveryRow | None:
        """Give one delivery."""
        row = self._db.execute(
            "SELECT message, destination, state, attempts, step, due, settled, reason FROM deliveries "
            "WHERE message = (SELECT seq FROM messages WHERE id = ?) AND destination = ?",
            (message, destination),
        ).fetchone()
        return DeliveryRow(*row) if row else None

    def cancel_overdue(
        self,
        destination: int,
        *,
        before_ns: int,
        known: Iterable[int],
        reason: str,
        settled_ns: int,
        forget_ns: int,
        limit: int,
    ) -> int:
        """Cancel pending deliveries of a resting destination that were due before a time; gives how many."""
        return self._db.execute(
            "UPDATE deliveries SET state = 3, due = ?, settled = ?, reason = ? WHERE destination = ? AND state = 0 AND message IN "
            "(SELECT message FROM deliveries WHERE destination = ? AND state = 0 AND due < ? "
            "AND message NOT IN (SELECT value FROM json_each(?)) LIMIT ?)",
            (forget_ns, settled_ns, reason, destination, destination, before_ns, _json(known), limit),
        ).rowcount

    def forget(self, now_ns: int, limit: int) -> int:
        """Delete at most *limit* deliveries whose retention is over, their attempts, and messages that nothing refers to any more."""
        gone = self._db.execute(
            "DELETE FROM deliveries WHERE (message, destination) IN "
            "(SELECT message, destination FROM deliveries WHERE state <> 0 AND due <= ? ORDER BY due LIMIT ?) RETURNING message, destination",
            (now_ns, limit),
        ).fetchall()
        if gone:
            pairs = _json([list(pair) for pair in gone])
            self._db.execute(
                "DELETE FROM attempts WHERE (message, destination) IN "
                "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))",
                (pairs,),
            )
            self._db.execute(
                "DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?)) "
                "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = messages.seq)",
                (_json(sorted({pair[0] for pair in gone})),),
            )
        return len(gone)

    # Destinations

    def destinations(self) -> list[DestinationRow]:
        """Give all destinations."""
        rows = self._db.execute("SELECT id, name, identity, disabled, paused_until, last_success FROM destinations")
        return [DestinationRow(*row) for row in rows.fetchall()]

    def put_destination(self, row: DestinationRow) -> None:
        """Insert or replace a destination."""
        self._db.execute(
            "INSERT INTO destinations (id, name, identity, disabled, paused_until, last_success) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET identity = excluded.identity, disabled = excluded.disabled, "
            "paused_until = excluded.paused_until, last_success = excluded.last_success",
            row,
        )

    def drop_destinations(self, ids: Iterable[int]) -> None:
        """Forget destinations that no delivery refers to."""
        self._db.execute("DELETE FROM destinations WHERE id IN (SELECT value FROM json_each(?))", (_json(ids),))

    def referred(self) -> set[int]:
        """Give the destinations that some delivery refers to; reads all deliveries (about 0.1 s per million)."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT destination FROM deliveries").fetchall()}

    def backlogs(self) -> dict[int, int]:
        """Give how many deliveries are pending, by destination."""
        rows = self._db.execute("SELECT destination, count(*) FROM deliveries WHERE state = 0 GROUP BY destination")
        return dict(rows.fetchall())

    def last_seq(self) -> int:
        """Give the highest sequence number of a message; 0 when there is none."""
        return int(self._value("SELECT coalesce(max(seq), 0) FROM messages"))


def message_of(row: Sequence[Any]) -> Message:
    """Make a message of a row of (id, type, accepted, attributes, body)."""
    return Message(id=row[0], type=row[1], accepted_ns=row[2], attributes=decode_attributes(row[3]), body=row[4])


def _json(values: Iterable[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()
