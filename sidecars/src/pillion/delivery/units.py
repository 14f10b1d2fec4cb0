"""What the writer commits: each unit whole or not at all, several units in one transaction.

Made in the event loop, read in the writer's thread, taken back in the event loop: whoever has a unit is the only one to touch it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pillion.delivery.failures import DeliveryError
from pillion.delivery.model import Receipt, Submission
from pillion.delivery.store import DeliveryRow, Row, Store


class Unit:
    """Something to be committed. After the commit either `error` is set or its result is valid; then the owner calls `done`."""

    __slots__ = ("done", "error")

    done: Callable[[], None]
    error: DeliveryError | None

    def __init__(self) -> None:
        self.error = None


class AcceptUnit(Unit):
    """Messages to be accepted, all or none.

    Args:
        submissions: what was submitted.
        first_seq: sequence number of the first; the others follow.
        destinations: numbers of the destinations of each.
        now_ns: accepted when, in wall nanoseconds.
        due_ns: due when, per submission.
    """

    __slots__ = ("destinations", "due_ns", "first_seq", "now_ns", "receipts", "submissions")

    def __init__(
        self,
        submissions: Sequence[Submission],
        first_seq: int,
        destinations: Sequence[Sequence[int]],
        now_ns: int,
        due_ns: Sequence[int],
    ) -> None:
        super().__init__()
        self.submissions = submissions
        self.first_seq = first_seq
        self.destinations = destinations
        self.now_ns = now_ns
        self.due_ns = due_ns
        self.receipts: tuple[Receipt, ...] = ()


class RecordUnit(Unit):
    """Results of attempts.

    Args:
        deliveries: the new state of each.
        attempts: the log entry of each.
    """

    __slots__ = ("attempts", "deliveries", "unlogged")

    def __init__(self, deliveries: Sequence[DeliveryRow], attempts: Sequence[Row]) -> None:
        super().__init__()
        self.deliveries = deliveries
        self.attempts = attempts
        self.unlogged = False


class TaskUnit(Unit):
    """Anything else: *work* runs inside the transaction and gives the result; it may be run again if the transaction fails."""

    __slots__ = ("result", "work")

    def __init__(self, work: Callable[[Store], Any]) -> None:
        super().__init__()
        self.work = work
        self.result: Any = None
