"""The one thread that writes: it gathers what waits, commits it in one transaction, and reports back after the sync.

While one group is being synced the next one gathers, so the cost of a sync is shared by as many as come meanwhile, and nobody waits for a
timer. When a group cannot be written, its parts are tried apart, the results of attempts first: losing those means sending twice, while
a refused acceptance is told to the caller, who still has the event.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from pillion.delivery.database import damage_marker
from pillion.delivery.failures import DeliveryError, IdConflict, StoreFull, StoreUnavailable
from pillion.delivery.model import MessageId, Receipt
from pillion.delivery.store import DeliveryRow, Known, Row, Store, encode_attributes
from pillion.delivery.units import AcceptUnit, RecordUnit, TaskUnit, Unit

GROUP: Final = 2_048
"""Units in one transaction: above some hundred the sync is amortised, and a longer transaction only delays its first answer."""

RESERVE: Final = 50
"""One page in this many is kept for results of attempts: a full store refuses new messages while it still settles old ones."""


class Writer:
    """Owns the writing connection and its thread.

    Args:
        name: name of the thread.
        store: the open store.
        path: the database file, for messages, and beside which damage is marked for the next start.
        committed: told, in the writer's thread, which units are done and whether the store was damaged.
        soon: has a function called at the end of the event loop's turn.
    """

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        path: Path,
        committed: Callable[[Sequence[Unit], str], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._store = store
        self._path = path
        self._committed = committed
        self._soon = soon
        self._gathered: list[Unit] = []
        self._waiting: deque[Unit] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self.commits = 0
        self.used_bytes = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, unit: Unit) -> None:
        """Hand a unit over; the owner bounds how many are under way.

        The thread gets all units of one turn of the event loop together. Woken by the first of them, it would commit that one alone, and take the
        interpreter lock from the loop that is about to bring the others.
        """
        self._gathered.append(unit)
        if len(self._gathered) == 1:
            self._soon(self._hand_over)

    def _hand_over(self) -> None:
        self._waiting.extend(self._gathered)
        self._gathered.clear()
        self._wake.set()

    def stop(self) -> None:
        """Write what was submitted up to the event loop's last turn, then end the thread and close the store. Blocks."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    group: list[Unit] = []
                    while self._waiting and len(group) < GROUP:
                        group.append(self._waiting.popleft())
                    damage = self._write(group)
                    self._committed(group, damage)
                if self._stopping:
                    return
        finally:
            self._store.close()

    def _write(self, group: Sequence[Unit]) -> str:
        """Commit a group; gives what is wrong with the store as a whole, or the empty string."""
        try:
            self._transaction(group)
            return ""
        except sqlite3.IntegrityError as error:
            return self._each(group, error)
        except sqlite3.Error as error:
            if len(group) == 1 and not isinstance(group[0], RecordUnit):
                return self._blame(group, error)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a unit does
            return self._each(group, error)
        records = [unit for unit in group if isinstance(unit, RecordUnit)]
        accepts = [unit for unit in group if isinstance(unit, AcceptUnit)]
        damage = self._apart(records)
        for unit in group:
            if isinstance(unit, TaskUnit):
                damage = self._apart([unit]) or damage
        return self._apart(accepts) or damage

    def _apart(self, units: Sequence[Unit]) -> str:
        if not units:
            return ""
        try:
            self._transaction(units)
            return ""
        except sqlite3.IntegrityError as error:
            return self._each(units, error)
        except sqlite3.Error as error:
            records = [unit for unit in units if isinstance(unit, RecordUnit)]
            if not records or any(unit.unlogged for unit in records):
                return self._blame(units, error)
        # The outcome decides, the log follows: better an attempt without its log entry than one that is made again.
        for unit in records:
            unit.unlogged = True
        return self._apart(units)

    def _each(self, group: Sequence[Unit], error: Exception) -> str:
        """Commit units one by one after a mistake of ours, so that only the one that has it suffers."""
        if len(group) == 1:
            structlog.get_logger("delivery").error("a unit of work failed in the store", exc_info=error)
            group[0].error = StoreUnavailable(f"{type(error).__name__} while writing to the store")
            return ""
        return "".join(dict.fromkeys(self._write([unit]) for unit in group))

    def _blame(self, units: Sequence[Unit], error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0)
        failure: DeliveryError
        damage = ""
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            # A quota or a file size limit shows as a write error, a full file system as FULL.
            failure = StoreFull(f"no room in the store {self._path} ({error})")
        else:
            failure = StoreUnavailable(f"the store {self._path} cannot be written ({error})")
            damage = str(error)
            if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                damage_marker(self._path).touch()
        for unit in units:
            unit.error = failure
        return damage

    def _transaction(self, units: Sequence[Unit]) -> None:
        store = self._store
        store.begin()
        try:
            accepts = [unit for unit in units if isinstance(unit, AcceptUnit)]
            if accepts:
                self._accept(accepts)
            deliveries: list[DeliveryRow] = []
            attempts: list[Row] = []
            for unit in units:
                if isinstance(unit, RecordUnit):
                    deliveries += unit.deliveries
                    attempts += () if unit.unlogged else unit.attempts
            store.update_deliveries(deliveries)
            store.insert_attempts(attempts)
            for unit in units:
                if isinstance(unit, TaskUnit):
                    unit.result = unit.work(store)
            store.commit()
        except BaseException:
            store.rollback()
            raise
        self.commits += 1

    def _accept(self, units: Sequence[AcceptUnit]) -> None:
        store = self._store
        used = store.used_pages()
        self.used_bytes = used * store.page_size
        messages: list[Row] = []
        deliveries: list[Row] = []
        fresh: dict[MessageId, Known] = {}
        for unit in units:
            unit.error = None
            if used > store.max_pages - store.max_pages // RESERVE:
                limit = store.max_pages * store.page_size
                unit.error = StoreFull(f"the store {self._path} holds all it may ({limit} bytes)")
                continue
            taken = self._accept_unit(unit, fresh)
            if taken is not None:
                messages += taken[0]
                deliveries += taken[1]
        store.insert_messages(messages)
        store.insert_deliveries(deliveries)

    def _accept_unit(self, unit: AcceptUnit, fresh: dict[MessageId, Known]) -> tuple[list[Row], list[Row]] | None:
        messages: list[Row] = []
        deliveries: list[Row] = []
        receipts: list[Receipt] = []
        conflicts: list[MessageId] = []
        mine: dict[MessageId, Known] = {}
        for index, submission in enumerate(unit.submissions):
            wanted = submission.id
            if submission.fingerprint is not None:
                known = mine.get(wanted) or fresh.get(wanted) or self._store.known(wanted)
                if known is not None:
                    if known.fingerprint != submission.fingerprint:
                        conflicts.append(wanted)
                    receipts.append(Receipt(id=wanted, deliveries=known.deliveries, repeated=True))
                    continue
                if unit.destinations[index]:
                    mine[wanted] = Known(submission.fingerprint, len(unit.destinations[index]))
            seq = unit.first_seq + index
            if unit.destinations[index]:
                attributes = encode_attributes(submission.attributes)
                messages.append(
                    (seq, wanted, submission.type, unit.now_ns, submission.fingerprint, attributes, submission.body)
                )
                deliveries += [(seq, destination, unit.due_ns[index]) for destination in unit.destinations[index]]
            receipts.append(Receipt(id=wanted, deliveries=len(unit.destinations[index])))
        if conflicts:
            unit.error = IdConflict(dict.fromkeys(conflicts))
            return None
        fresh.update(mine)
        unit.receipts = tuple(receipts)
        return messages, deliveries
