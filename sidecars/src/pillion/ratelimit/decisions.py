"""What one limit says to one request, and what is said about the request in the end.

A `Reading` is taken from a limit before anything is changed; `passed` and `refused` choose among the readings of a request the one that
tells its sender most, and put it in the sender's terms: how many more, and how long until there are more.
"""

from collections.abc import Sequence
from typing import Final, final

import msgspec

from pillion.ratelimit.compiled import Algorithm, CompiledLimit
from pillion.ratelimit.counters import Table
from pillion.ratelimit.matching import Key

NEVER: Final = -1
"""A time in a `Decision` that does not come: a cost above the burst, a denied address."""


@final
class Limit:
    """One limit, ready to decide.

    Args:
        policy: the name of its policy.
        rule: the name of its rule.
        limit: its numbers.
        name: what it is called in RateLimit headers.
        index: its place among all limits of the engine.
        table: its counters.
    """

    __slots__ = (
        "algorithm",
        "alone",
        "burst",
        "capacity",
        "index",
        "mask",
        "name",
        "per_ns",
        "policy",
        "requests",
        "rule",
        "scale",
        "shards",
        "step",
        "table",
        "unit",
    )

    def __init__(self, policy: str, rule: str, limit: CompiledLimit, *, name: str, index: int, table: Table) -> None:
        self.policy = policy
        self.rule = rule
        self.name = name
        self.index = index
        self.algorithm: Algorithm = limit.algorithm
        self.requests = limit.requests
        self.per_ns = limit.per_ns
        self.burst = limit.burst
        self.table = table
        self.shards = table.shards
        self.mask = table.mask
        self.step = table.step
        self.scale = table.scale
        self.unit = limit.per_ns if limit.algorithm == "gcra" else 1
        self.capacity = self.unit * limit.burst
        self.alone: tuple[Limit] = (self,)
        """Itself as the only limit that was consulted; made once, because most decisions need it."""

    def until(self, level: int, now: int) -> int:
        """Nanoseconds from *now* until the limit's clock reads *level* or more."""
        return max(-(-level // self.scale) * self.step - now, 0)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What was decided, and what the limit that decided it has left.

    Args:
        allowed: whether the request may pass.
        limit: the limit that the other fields speak of: the one that was exceeded and takes longest, else the one with least left; None where
            no limit had a say.
        remaining: requests that it would admit right now.
        reset_ns: nanoseconds until all of its quota is back.
        retry_ns: nanoseconds until the same request can pass; 0 when it passes, `NEVER` when it never can.
        more_ns: nanoseconds until it would admit one more than `remaining`; `NEVER` when it is full.
        applied: the enforced limits that were consulted.
        violated: the limits that refused.
        denied_by: the policy whose deny list refused; empty otherwise.
        shadow: whether `limit` belongs to a shadow rule that would have refused a request that passes.
        enforced: what the enforced limits say, where the fields above speak of a shadow rule.
    """

    allowed: bool
    limit: Limit | None
    remaining: int
    reset_ns: int
    retry_ns: int
    more_ns: int
    applied: tuple[Limit, ...]
    violated: tuple[Limit, ...] = ()
    denied_by: str = ""
    shadow: bool = False
    enforced: "Decision | None" = None


UNLIMITED: Final = Decision(True, None, 0, 0, 0, NEVER, ())
"""Nothing applied, so nothing was counted."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one limit says to one request."""

    limit: Limit
    key: Key
    base: int
    after: int
    ceiling: int
    enforced: bool

    @property
    def fits(self) -> bool:
        """Whether the limit allows it."""
        return self.after <= self.ceiling


def passed(readings: Sequence[Reading], now: int, *, peek: bool) -> Decision:
    """Describe a request that passes by the limit that has least left."""
    tightest, level, least = readings[0], 0, -1
    for reading in readings:
        spent = reading.base if peek else reading.after
        left = (reading.ceiling - spent) // reading.limit.unit
        if least < 0 or left < least:
            tightest, level, least = reading, spent, left
    return _describe(tightest, level, now, applied=readings)


def refused(violated: Sequence[Reading], applied: Sequence[Reading], now: int) -> Decision:
    """Describe a request that is refused by the limit that takes longest to allow it."""
    waits = [_wait(reading, now) for reading in violated]
    worst = waits.index(NEVER) if NEVER in waits else waits.index(max(waits))
    return _describe(violated[worst], violated[worst].base, now, applied=applied, violated=violated, wait=waits[worst])


def _wait(reading: Reading, now: int) -> int:
    """Nanoseconds until a limit that refuses a request allows it."""
    limit = reading.limit
    return NEVER if reading.after - reading.base > limit.capacity else limit.until(reading.after - limit.capacity, now)


def _describe(
    reading: Reading,
    level: int,
    now: int,
    *,
    applied: Sequence[Reading],
    violated: Sequence[Reading] = (),
    wait: int = 0,
) -> Decision:
    limit = reading.limit
    remaining = max((reading.ceiling - level) // limit.unit, 0)
    full = remaining >= limit.burst
    return Decision(
        not violated,
        limit,
        remaining,
        limit.until(level, now),
        wait,
        NEVER if full else limit.until(level + (remaining + 1) * limit.unit - limit.capacity, now),
        tuple(one.limit for one in applied),
        tuple(one.limit for one in violated),
    )
