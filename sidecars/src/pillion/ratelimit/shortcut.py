"""The whole way of the plainest request in one function: one rule with one enforced limit applies, and nobody peeks.

Nearly all requests are like that. For them a decision through `engine.py` and its words through `answers.py` cost 3 µs, most of it for
calls and for carrying numbers from one to the other; the closures here need 1 µs. They say nothing that those two would not say: a test
compares them byte by byte. What they cannot say (a cost that can never pass) they leave to them, before anything is charged.
"""

from collections.abc import Callable
from typing import Final

from pillion.ratelimit.answers import FRACTIONS, Texts
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.decisions import Limit
from pillion.ratelimit.engine import Tally
from pillion.ratelimit.matching import Key
from pillion.runtime.operation import JSON_MEDIA, OK_JSON, Again, HotAnswer

Shortcut = Callable[[Key, int, int, int, bool], HotAnswer | None]
"""(key, index of its shard, cost, now in nanoseconds, whether only an answer that allows is wanted) → the answer; None where it cannot say."""

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000

_NUMBERS: Final = tuple(map(str, range(1000)))
"""Numbers as text; looking one up takes a third of writing it."""

_tuple: Final = tuple.__new__
"""Makes a named tuple without its Python constructor, which would take a fifth of the time that the rest takes."""


def shortcut(limit: Limit, texts: Texts, tally: Tally, counters: Counters) -> Shortcut:
    """Give the function that answers for *limit*."""
    return _gcra(limit, texts, tally, counters) if limit.algorithm == "gcra" else _window(limit, texts, tally, counters)


def _gcra(limit: Limit, texts: Texts, tally: Tally, counters: Counters) -> Shortcut:
    shards, table, added = limit.shards, limit.table, counters.added
    count, period, capacity = limit.scale, limit.unit, limit.capacity
    ms, second = count * _MILLISECOND, count * _SECOND
    head, allowed, refused = texts.alone, texts.allowed, texts.refused
    fractions = FRACTIONS
    # Where a request comes back within a second, the header's whole seconds are always one.
    fast = period <= second

    def answer(key: Key, index: int, cost: int, now: int, allow_only: bool) -> HotAnswer | None:  # noqa: FBT001 - hot path
        shard = shards[index]
        level = shard.get(key, 0)
        floor = now * count
        # What is spent ahead of the clock: the same numbers as the engine's, but small ones.
        spent = level - floor if level > floor else 0
        after = spent + period * cost
        if after <= capacity:
            shard[key] = floor + after
            if not level:
                added(table, now)
            tally.allowed += 1
            left, rest = divmod(capacity - after, period)
            reset = -(-after // ms)
            return _tuple(
                HotAnswer,
                (
                    200,
                    f"{head}{left};t=1\r\n" if fast else f"{head}{left};t={-((rest - period) // second)}\r\n",
                    f'{allowed}{left},"resetAfter":{reset // 1000}{fractions[reset % 1000]},"retryAfter":0,"shadow":false}}'.encode(),
                    JSON_MEDIA,
                ),
            )
        if allow_only or after - spent > capacity:
            return None
        tally.limited += 1
        left = (capacity - spent) // period if spent < capacity else 0
        more = -((capacity - spent - (left + 1) * period) // second)
        reset, retry = -(-spent // ms), -((capacity - after) // ms)
        return HotAnswer(
            200,
            f"{head}{left};t={more}\r\n",
            f'{refused}{left},"resetAfter":{reset // 1000}{fractions[reset % 1000]},"retryAfter":{retry // 1000}{fractions[retry % 1000]},"shadow":false}}'.encode(),
        )

    return answer


def _window(limit: Limit, texts: Texts, tally: Tally, counters: Counters) -> Shortcut:
    shards, table, added = limit.shards, limit.table, counters.added
    scale, period, capacity = limit.scale, limit.step, limit.capacity
    head, allowed, refused = texts.alone, texts.allowed, texts.refused
    fractions = FRACTIONS

    def answer(key: Key, index: int, cost: int, now: int, allow_only: bool) -> HotAnswer | None:  # noqa: FBT001 - hot path
        shard = shards[index]
        level = shard.get(key, 0)
        window, passed = divmod(now, period)
        floor = window * scale
        spent = level - floor if level > floor else 0
        after = spent + cost
        if after <= capacity:
            shard[key] = floor + after
            if not level:
                added(table, now)
            tally.allowed += 1
            left = capacity - after
            reset = -((passed - period) // _MILLISECOND)
            return _tuple(
                HotAnswer,
                (
                    200,
                    f"{head}{left};t={-((passed - period) // _SECOND)}\r\n",
                    f'{allowed}{left},"resetAfter":{reset // 1000}{fractions[reset % 1000]},"retryAfter":0,"shadow":false}}'.encode(),
                    JSON_MEDIA,
                ),
            )
        if allow_only or cost > capacity or spent >= scale:
            return None
        tally.limited += 1
        left = capacity - spent if spent < capacity else 0
        reset = -((passed - period) // _MILLISECOND)
        told = f"{reset // 1000}{fractions[reset % 1000]}"
        return HotAnswer(
            200,
            f"{head}{left};t={-((passed - period) // _SECOND)}\r\n",
            f'{refused}{left},"resetAfter":{told},"retryAfter":{told},"shadow":false}}'.encode(),
        )

    return answer


class Live:
    """Whether a configuration is in force. What was made under it asks, so that nothing outlives it."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = True


def again(
    limit: Limit, texts: Texts, tally: Tally, key: Key, cost: int, *, live: Live, clock: Callable[[], int], offset: int
) -> Again | None:
    """Give the function that answers one certain plain request once more, as long as it is allowed; None where there is no such function.

    It writes the very text that the lane makes of what a shortcut gives, in one piece: half of the time of a remembered check is
    for handing pieces on. The counter must be there already.

    Args:
        limit: the limit.
        texts: its words.
        tally: the decisions of its policy.
        key: the key of the request.
        cost: its cost.
        live: whether the configuration is in force.
        clock: the monotonic clock, in nanoseconds.
        offset: what is to be added to it.
    """
    if limit.algorithm != "gcra":
        return None
    shards, index = limit.shards, hash(key) & limit.mask
    count, period, capacity, charge = limit.scale, limit.unit, limit.capacity, limit.unit * cost
    ms, second = count * _MILLISECOND, count * _SECOND
    head, allowed, fast = texts.alone, texts.allowed, period <= second
    numbers, fractions = _NUMBERS, FRACTIONS
    fixed = len(f'{allowed},"resetAfter":,"retryAfter":0,"shadow":false}}')

    def answer(tail: str) -> str | None:
        now = clock() + offset
        shard = shards[index]
        level = shard.get(key, 0)
        floor = now * count
        after = level - floor + charge if level > floor else charge
        # A counter that is not there may need room made for it: that is the shortcut's.
        if after > capacity or not level or not live.now:
            return None
        shard[key] = floor + after
        tally.allowed += 1
        remaining, rest = divmod(capacity - after, period)
        left = str(remaining)
        more = "1" if fast else str(-((rest - period) // second))
        reset = -(-after // ms)
        seconds = reset // 1000
        told = f"{numbers[seconds] if seconds < 1000 else seconds}{fractions[reset % 1000]}"
        length = fixed + len(left) + len(told)
        return f'{OK_JSON}{length}\r\n{head}{left};t={more}\r\n{tail}{allowed}{left},"resetAfter":{told},"retryAfter":0,"shadow":false}}'

    return answer
