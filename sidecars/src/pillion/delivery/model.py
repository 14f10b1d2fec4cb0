"""The words of the delivery machine: messages, destinations, deliveries, attempts, outcomes, policies.

A *message* is stored once. Each *destination* it goes to makes one *delivery*, whose state moves

    pending → (in-flight → pending)* → succeeded | failed | cancelled

and an *attempt* is one try at a delivery. A failed delivery is the dead letter: it stays readable and can be retried by hand. Everything here
is frozen data without behaviour; what is done with it stands in `retry.py` (pure), `scheduler.py` (pure), `store.py` (SQLite) and
`machine.py` (which puts them together).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, NewType, Protocol

import msgspec
from msgspec import Meta

MessageId = NewType("MessageId", str)
"""Identifies a message: 1-128 characters of `A-Z a-z 0-9 _ -`. No full stop (Standard Webhooks signs `id.timestamp.body`), no tilde."""

DestinationName = NewType("DestinationName", str)
"""Where deliveries go: the name of a WebhookEndpoint, a notification channel. 1-253 characters, no tilde."""

DeliveryId = NewType("DeliveryId", str)
"""`<message id>~<destination>`: what identifies a delivery in URLs. Neither part holds a tilde."""

MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What a message id must match as a whole."""

State = Literal["pending", "in-flight", "succeeded", "failed", "cancelled"]
"""State of a delivery. `in-flight` is known to the running process only: on disk such a delivery is pending, which is why a crash redelivers it."""

NEVER: Final = 0
"""A time that is not set."""


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be delivered; the same bytes to every destination, on every attempt.

    Args:
        id: constant over all attempts, so that receivers can drop repeats.
        type: what it is, as in `order.created`; for filters and lists.
        body: the bytes that a sender sends (or renders from), exactly as accepted.
        attributes: small facts beside the body that the sender needs; they must encode to at most 8 KiB of JSON.
        accepted_ns: when it was accepted, in wall nanoseconds.
    """

    id: MessageId
    type: str
    body: bytes
    attributes: Mapping[str, str] = {}
    accepted_ns: int = NEVER


class Submission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that asks to be accepted, and where it is to go.

    Args:
        id: `Machine.new_id()`, or an id of the caller's own, which then needs a fingerprint.
        type: see `Message`.
        body: see `Message`.
        destinations: configured destinations, without repeats; none means that nothing is stored.
        attributes: see `Message`.
        fingerprint: digest of what the caller said (1-64 bytes). The same id with the same fingerprint is the same message, accepted already;
            with another fingerprint it is a conflict. None for an id made by `new_id()`, which cannot have been seen.
        not_before_ns: wall nanoseconds before which nothing is attempted; 0 means at once.
    """

    id: MessageId
    type: str
    body: bytes
    destinations: tuple[DestinationName, ...]
    attributes: Mapping[str, str] = {}
    fingerprint: bytes | None = None
    not_before_ns: int = NEVER


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What `Machine.accept` gives back for one submission, after the commit.

    Args:
        id: the message.
        deliveries: how many deliveries it has (of the first acceptance, if it is a repeat).
        repeated: whether it had been accepted before.
    """

    id: MessageId
    deliveries: int
    repeated: bool = False


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message on its way to one destination.

    Args:
        message: the message.
        destination: where it goes.
        state: where it stands.
        attempts: attempts made so far, over all rounds; an attempt that a crash cut off is not counted.
        accepted_ns: when the message was accepted, in wall nanoseconds.
        due_ns: next attempt, in wall nanoseconds; 0 once settled.
        settled_ns: when it reached its final state, in wall nanoseconds; 0 while pending.
        reason: why it is in this state, for a person: the last error, who cancelled it. Empty at first and after success.
    """

    message: MessageId
    destination: DestinationName
    state: State = "pending"
    attempts: int = 0
    accepted_ns: int = NEVER
    due_ns: int = NEVER
    settled_ns: int = NEVER
    reason: str = ""

    @property
    def id(self) -> DeliveryId:
        """What identifies it."""
        return delivery_id(self.message, self.destination)


def delivery_id(message: MessageId, destination: DestinationName) -> DeliveryId:
    """Put the id of a delivery together."""
    return DeliveryId(f"{message}~{destination}")


def split_delivery_id(text: str) -> tuple[MessageId, DestinationName] | None:
    """Take the id of a delivery apart; None when *text* is none."""
    message, tilde, destination = text.partition("~")
    if not tilde or not destination or len(destination) > 253 or not MESSAGE_ID.fullmatch(message):
        return None
    return MessageId(message), DestinationName(destination)


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What every outcome carries.

    Args:
        status: the peer's status code (HTTP, SMTP); 0 when there was none.
        excerpt: the beginning of what the peer said, already cut to what may be kept.
    """

    status: int = 0
    excerpt: bytes = b""


class Delivered(_Outcome, frozen=True, kw_only=True, tag="delivered"):
    """The destination took it. Final.

    Args:
        disable: it took this one and wants no more: why the destination is disabled; empty when it is not.
    """

    disable: str = ""


class Retry(_Outcome, frozen=True, kw_only=True, tag="retry"):
    """It failed in a way that a later attempt may cure; when the schedule is exhausted it becomes a dead letter.

    Args:
        reason: what failed, for a person; names no secret.
        retry_after_ns: the destination asked for this pause. Never attempted earlier than that nor than the own schedule; the whole destination
            pauses meanwhile. A pause beyond `Policy.retry_after_cap_ns` makes a dead letter at once rather than an attempt that is too early.
    """

    reason: str
    retry_after_ns: int | None = None


class Rejected(_Outcome, frozen=True, kw_only=True, tag="rejected"):
    """No later attempt can cure it: a dead letter at once.

    Args:
        reason: why, for a person.
    """

    reason: str


class DisableDestination(_Outcome, frozen=True, kw_only=True, tag="disabled"):
    """The destination wants no more (HTTP 410): a dead letter at once, and the destination is disabled.

    A disabled destination gets no attempts until `Machine.enable` or until its `Policy.identity` changes; what is pending waits for that.

    Args:
        reason: why, for a person.
    """

    reason: str


Outcome = Delivered | Retry | Rejected | DisableDestination
"""What one attempt came to."""

OutcomeName = Literal["delivered", "retry", "rejected", "disabled"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a delivery, as recorded.

    Args:
        message: the message.
        destination: where it went.
        number: 1 for the first.
        started_ns: when it began, in wall nanoseconds.
        duration_ns: how long it took.
        outcome: what it came to.
        status: the peer's status code; 0 when there was none.
        reason: why it failed; empty on success.
        excerpt: the beginning of what the peer said.
    """

    message: MessageId
    destination: DestinationName
    number: int
    started_ns: int
    duration_ns: int
    outcome: OutcomeName
    status: int = 0
    reason: str = ""
    excerpt: bytes = b""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries to list, newest first.

    Args:
        destination: only those to it; empty means any.
        state: only those in it; None means any.
        message: only those of it; empty means any.
        type: only those of messages of exactly this type; empty means any.
        limit: at most so many, 1-1000.
        cursor: `Page.cursor` of the page before; empty for the first.
    """

    destination: str = ""
    state: State | None = None
    message: str = ""
    type: str = ""
    limit: int = 100
    cursor: str = ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some deliveries. A page may be short, even empty, although more follow: one call looks at a bounded number of rows.

    Args:
        deliveries: what was found.
        cursor: ask for the next page with it; empty when this was the last.
    """

    deliveries: tuple[Delivery, ...]
    cursor: str = ""


class AttemptQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempts to list, those of the newest message first.

    Args:
        destination: only those at it; empty means any.
        limit: at most so many, 1-1000.
        cursor: `AttemptPage.cursor` of the page before; empty for the first.
    """

    destination: str = ""
    limit: int = 100
    cursor: str = ""


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some attempts; see `Page`."""

    attempts: tuple[Attempt, ...]
    cursor: str = ""


SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND

STANDARD_SCHEDULE: Final = tuple(s * SECOND for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400))
"""The sample schedule of Standard Webhooks 1.0.0: pauses before the second and every later attempt; the last is 75 h 35 min after the first."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How one destination is served.

    Args:
        schedule_ns: pause before the 2nd, 3rd, ... attempt, in nanoseconds; as many retries as entries, none means a single attempt.
        jitter_percent: up to this share of each pause is added at random (never subtracted), 0-100, so that retries do not march in step.
        respect_retry_after: whether a pause that the destination asks for is kept.
        retry_after_cap_ns: the longest such pause that is waited for.
        timeout_ns: how long one attempt may take in all.
        concurrency: attempts in flight at the same time, >= 1.
        retain_succeeded_ns: how long a succeeded or cancelled delivery stays readable (and its message id remembered).
        retain_failed_ns: how long a dead letter stays.
        identity: changes when the destination becomes another one (its URL, say); a change enables a disabled destination again.
        hold: a reason to attempt nothing for now (a missing secret); deliveries are accepted and wait. Empty means go.
    """

    schedule_ns: tuple[Annotated[int, Meta(ge=0)], ...] = STANDARD_SCHEDULE
    jitter_percent: Annotated[int, Meta(ge=0, le=100)] = 10
    respect_retry_after: bool = True
    retry_after_cap_ns: Annotated[int, Meta(ge=0)] = DAY
    timeout_ns: Annotated[int, Meta(ge=1)] = 15 * SECOND
    concurrency: Annotated[int, Meta(ge=1)] = 16
    retain_succeeded_ns: Annotated[int, Meta(ge=0)] = 3 * DAY
    retain_failed_ns: Annotated[int, Meta(ge=0)] = 14 * DAY
    identity: str = ""
    hold: str = ""


class Sender(Protocol):
    """What a block gives the machine: how one delivery is attempted."""

    async def send(self, message: Message, delivery: Delivery, attempt: int, deadline: float) -> Outcome:
        """Attempt *delivery* once.

        Called concurrently, up to the policy's `concurrency` per destination. Must keep the deadline itself (it alone knows what to tell of a
        timeout); the machine cancels it five seconds later and counts that as `Retry`. An exception counts as `Retry` too and is logged: it is a
        bug of the sender, never a reason to lose a message. After a cancellation (shutdown) the delivery is attempted again by the next process.

        Args:
            message: what to send, from memory or from the store; the bytes are the same on every attempt.
            delivery: where it goes and how often it was tried; `delivery.state` is `in-flight`.
            attempt: 1 for the first.
            deadline: when the attempt must be over, in the event loop's time, as `asyncio.timeout_at` takes it.
        """
        ...


class DestinationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine knows of one destination now.

    Args:
        name: the destination.
        backlog: deliveries that are pending or in flight.
        in_flight: attempts running now.
        oldest_ns: when the oldest pending message was accepted, in wall nanoseconds, at most ten seconds stale; 0 when there is none.
        last_success_ns: when something was last delivered, in wall nanoseconds; 0 when never.
        paused_until_ns: it asked for a pause until then, in wall nanoseconds; 0 when not.
        disabled: why it is disabled; empty when it is not.
        hold: the policy's reason to wait; empty when there is none.
        succeeded: deliveries that succeeded since the process started.
        failed: deliveries that became dead letters since then.
        cancelled: deliveries that were cancelled since then.
        retries: attempts that failed and are tried again, since then.
    """

    name: DestinationName
    backlog: int = 0
    in_flight: int = 0
    oldest_ns: int = NEVER
    last_success_ns: int = NEVER
    paused_until_ns: int = NEVER
    disabled: str = ""
    hold: str = ""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one machine is doing now.

    Args:
        accepted: messages accepted since the process started, repeats not counted.
        repeated: submissions that had been accepted before.
        refused: submissions that were refused because the disk was full or too many waited.
        waiting: calls of `accept` that wait for their commit.
        unrecorded: finished attempts that are not committed yet.
        in_memory: deliveries held in memory (ready or in flight); all others wait on disk.
        in_flight: attempts running now.
        commits: transactions committed.
        unlogged: attempts whose log entry could not be kept (disk full) although their outcome was.
        database_bytes: size of the database.
        destinations: each destination.
    """

    accepted: int
    repeated: int
    refused: int
    waiting: int
    unrecorded: int
    in_memory: int
    in_flight: int
    commits: int
    unlogged: int
    database_bytes: int
    destinations: tuple[DestinationStatus, ...]
