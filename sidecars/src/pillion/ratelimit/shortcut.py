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
from pillion.runtime.operation import JSON_MEDIA, HotAnswer

Shortcut = Callable[[Key, int, int, int, bool], HotAnswer | None]
"""(key, index of its shard, cost, now in nanoseconds, whether only an answer that allows is wanted) → the answer; None where it cannot say."""

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000

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
