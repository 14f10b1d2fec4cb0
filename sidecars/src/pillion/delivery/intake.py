"""Taking messages in: checks, commits, brings what was committed to the scheduler."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pillion.delivery.commit import Commits, Wait
from pillion.delivery.destinations import Destinations
from pillion.delivery.failures import DeliveryError, Overloaded, StoreFull
from pillion.delivery.model import MESSAGE_ID, Message, Receipt, Submission
from pillion.delivery.scheduler import Entry, Scheduler
from pillion.delivery.steady import SteadyClock
from pillion.delivery.units import AcceptUnit
from pillion.runtime.clock import Clock

WAITING: Final = 4_096
"""Calls that may wait for their commit."""

WAITING_BYTES: Final = 64 << 20
"""Bytes that they may hold together."""

ATTRIBUTES: Final = 8_192
"""Characters of a message's attributes."""

Accepted = Callable[[tuple[Receipt, ...] | DeliveryError], None]
"""Takes what came of a submission: receipts once it is on disk, or why it is not."""


class Intake:
    """Accepts messages for one machine."""

    def __init__(
        self,
        *,
        destinations: Destinations,
        scheduler: Scheduler,
        clock: Clock,
        steady: SteadyClock,
        next_seq: int,
        commits: Commits,
    ) -> None:
        self._destinations = destinations
        self._scheduler = scheduler
        self._clock = clock
        self._steady = steady
        self._next_seq = next_seq
        self._commits = commits
        self._waiting_bytes = 0
        self.waiting = 0
        """Calls that wait for their commit."""
        self.accepted = 0
        """Messages accepted, repeats not counted."""
        self.repeated = 0
        """Submissions that had been accepted before."""
        self.refused = 0
        """Calls that were refused for lack of room."""

    async def accept(self, submissions: Sequence[Submission]) -> tuple[Receipt, ...]:
        """See `Machine.accept`."""
        future: asyncio.Future[tuple[Receipt, ...]] = asyncio.get_running_loop().create_future()

        def told(outcome: tuple[Receipt, ...] | DeliveryError) -> None:
            if future.done():
                return
            if isinstance(outcome, DeliveryError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        try:
            self.submit(submissions, told)
        except Overloaded:
            self.refused += 1
            raise
        return await future

    def submit(self, submissions: Sequence[Submission], told: Accepted) -> None:
        """See `Machine.submit`."""
        destinations: list[list[int]] = []
        size = 0
        for submission in submissions:
            destinations.append(self._numbers(submission))
            size += len(submission.body)
        if self.waiting >= WAITING or self._waiting_bytes + size > WAITING_BYTES:
            raise Overloaded(f"{self.waiting} acceptances wait for the disk")
        now = self._steady.now_ns()
        unit = AcceptUnit(
            submissions,
            self._next_seq,
            destinations,
            self._clock.wall_ns(),
            [max(now, submission.not_before_ns) for submission in submissions],
        )
        self._next_seq += len(submissions)
        self.waiting += 1
        self._waiting_bytes += size
        self._commits.begin(_Acceptance(self, unit, size, told))

    def told(self, size: int, error: DeliveryError | None) -> None:
        """Take note that a call waits no longer; *size* is what it held, in bytes."""
        self.waiting -= 1
        self._waiting_bytes -= size
        self.refused += isinstance(error, StoreFull)

    def _numbers(self, submission: Submission) -> list[int]:
        if not MESSAGE_ID.fullmatch(submission.id):
            raise ValueError(f'"{submission.id[:140]}" is no message id; use 1-128 characters of A-Z a-z 0-9 _ -')
        if submission.fingerprint is not None and not 1 <= len(submission.fingerprint) <= 64:
            raise ValueError(f"a fingerprint has 1-64 bytes, not {len(submission.fingerprint)}")
        attributes = submission.attributes
        if attributes and sum(len(key) + len(value) for key, value in attributes.items()) > ATTRIBUTES:
            raise ValueError(f"attributes hold more than {ATTRIBUTES} characters; put large things into the body")
        numbers: list[int] = []
        for name in submission.destinations:
            destination = self._destinations.named(name)
            if destination is None or destination.policy is None:
                raise ValueError(f'destination "{name}" is not configured')
            if destination.id in numbers:
                raise ValueError(f'destination "{name}" is named twice')
            numbers.append(destination.id)
        return numbers

    def taken(self, unit: AcceptUnit) -> None:
        """Bring what was committed to the scheduler."""
        if unit.error is not None:
            return
        now = self._steady.now_ns()
        for index, (submission, receipt) in enumerate(zip(unit.submissions, unit.receipts, strict=True)):
            if receipt.repeated:
                self.repeated += 1
                continue
            self.accepted += 1
            message = Message(
                id=submission.id,
                type=submission.type,
                body=submission.body,
                attributes=submission.attributes,
                accepted_ns=unit.now_ns,
            )
            for number in unit.destinations[index]:
                self._destinations[number].backlog += 1
                entry = Entry(lane=number, seq=unit.first_seq + index, message=message)
                self._scheduler.offer(number, entry, unit.due_ns[index], now)


class _Acceptance(Wait):
    """A call that waits for its commit.

    Args:
        intake: what it came through.
        unit: what is to be committed.
        size: bytes that it holds.
        accepted: who waits.
    """

    __slots__ = ("_acceptance", "_accepted", "_intake", "_size")

    def __init__(self, intake: Intake, unit: AcceptUnit, size: int, accepted: Accepted) -> None:
        super().__init__(unit)
        self._intake = intake
        self._acceptance = unit
        self._size = size
        self._accepted = accepted

    def taken(self) -> None:
        self._intake.taken(self._acceptance)

    def told(self, error: DeliveryError | None) -> None:
        self._intake.told(self._size, error)
        self._accepted(self._acceptance.receipts if error is None else error)
