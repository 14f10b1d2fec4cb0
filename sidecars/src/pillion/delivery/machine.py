"""The delivery machine: accepted messages in, attempts out, at least once.

A block makes one `Machine`, tells it the destinations with `configure` (synchronous: it fits into a commit), calls `open` in its `start`,
`accept` for whatever is to be sent (when it returns, the answer 202 may go out), `drain` and `stop` in its own drain and stop.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pillion.delivery.model import (
    Attempt,
    Delivery,
    DeliveryId,
    DestinationName,
    Message,
    MessageId,
    Page,
    Policy,
    Query,
    Receipt,
    Sender,
    Statistics,
    Submission,
)
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks


class Machine:
    """One delivery machine over one SQLite file.

    Args:
        name: the block's name, for conditions, tasks and threads.
        path: the database file; its folder exists and belongs to the block.
        sender: what attempts a delivery.
        clock: the time.
        conditions: where the machine says what is wrong (disk full, database moved aside).
        tasks: where its background tasks live.
    """

    def __init__(
        self, *, name: str, path: Path, sender: Sender, clock: Clock, conditions: Conditions, tasks: Tasks
    ) -> None:
        raise NotImplementedError

    def new_id(self) -> MessageId:
        """Make a message id: `msg_` and a ULID (sortable by time, 80 bits of randomness)."""
        raise NotImplementedError

    def configure(self, policies: Mapping[DestinationName, Policy]) -> None:
        """Say which destinations there are. Synchronous and cannot fail; may be called before `open` and at any time later.

        Pending deliveries of a destination that is gone wait seven days for its return, then they are cancelled.
        """
        raise NotImplementedError

    async def open(self) -> None:
        """Open the store, take up what is pending, start delivering.

        A corrupt database is moved aside under a new name, a `fail` condition names that file, and a fresh one is begun.

        Raises:
            Unstartable: another process has the store, or a newer version wrote it.
        """
        raise NotImplementedError

    async def accept(self, submissions: Sequence[Submission]) -> tuple[Receipt, ...]:
        """Accept messages, all or none; returns only after they are on disk (fsync).

        Raises:
            IdConflict: an id was used before for something else.
            StoreFull: there is no room.
            Overloaded: too much waits already.
            StoreUnavailable: the machine is not open, or its store is broken.
            ValueError: an id or a destination that must not be.
        """
        raise NotImplementedError

    async def deliveries(self, query: Query) -> Page:
        """List deliveries, newest message first."""
        raise NotImplementedError

    async def delivery(self, wanted: DeliveryId) -> Delivery:
        """Give one delivery.

        Raises:
            UnknownDelivery: there is none.
        """
        raise NotImplementedError

    async def message(self, wanted: MessageId) -> Message | None:
        """Give a message, body included; None when there is none (any more)."""
        raise NotImplementedError

    async def attempts(self, wanted: DeliveryId, *, limit: int = 100) -> tuple[Attempt, ...]:
        """Give the latest attempts at one delivery, newest first; none for an unknown delivery."""
        raise NotImplementedError

    async def retry(self, wanted: DeliveryId) -> Delivery:
        """Attempt a delivery again, now, whatever its state; its schedule starts over. Returns after the commit.

        Raises:
            UnknownDelivery: there is none.
            InFlight: it is being attempted right now.
        """
        raise NotImplementedError

    async def cancel(self, wanted: DeliveryId, reason: str) -> Delivery:
        """Attempt a pending delivery no more; a settled one stays as it is. Returns after the commit.

        Raises:
            UnknownDelivery: there is none.
            InFlight: it is being attempted right now.
        """
        raise NotImplementedError

    async def enable(self, destination: DestinationName) -> bool:
        """Serve a disabled destination again; False when it was not disabled. Returns after the commit."""
        raise NotImplementedError

    def statistics(self) -> Statistics:
        """Give what it is doing now."""
        raise NotImplementedError

    async def drain(self, grace: float) -> None:
        """Start no more attempts and let the running ones end, for at most *grace* seconds. `accept` still works."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Cancel what still runs, write what is known, close the store. What was accepted and not delivered is on disk."""
        raise NotImplementedError
