"""The memory of the limits: how much of each limit each key has used up, bounded in size and swept in small steps.

A counter is one integer, the *level*: a point on the limit's own clock, up to which its quota is spent. That clock reads
`now // step * scale`. With `step = 1` it runs smoothly and the level is GCRA's theoretical arrival time, scaled by the limit's count so that
nothing is ever rounded. With `step` = one window it jumps from window to window and the level is a fixed window's count. For both a level
that the clock has passed says nothing any more, and may be forgotten without anybody noticing.

A table holds its counters in shards, many small dictionaries instead of a big one: growing a dictionary of a million entries stops the
process for 40 ms, growing a shard takes a fraction of one. Sweeping and making room go shard by shard for the same reason.

When there is no room, the largest table gives: counters that say nothing any more, else those nearest to it, because their owners regain the
least. This favours callers over limits, and is counted (`evictions`), so that it can be seen.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, final

from pillion.ratelimit.compiled import CompiledLimit, KeyPart
from pillion.ratelimit.matching import Key

WINDOW_SCALE: Final = 1 << 32
"""Distance of two windows on the clock of a fixed window; more than any quota (1e9), so that counts of different windows never touch."""

SHARD_TARGET: Final = 1024
"""Counters in a shard when the memory is full: sweeping one then takes about 0.1 ms."""

MOST_SHARDS: Final = 8192
"""Shards of one table at most; an empty shard costs 64 bytes."""

EVICTED_SHARE: Final = 16
"""Making room evicts a sixteenth of a shard, so that the cost of looking through it is spread over many insertions."""


class Identity(NamedTuple):
    """What gives a level its meaning. A limit that keeps its identity keeps its counters when the configuration changes."""

    policy: str
    rule: str
    key: tuple[KeyPart, ...]
    per_ns: int
    scale: int


def identity_of(policy: str, rule: str, key: tuple[KeyPart, ...], limit: CompiledLimit) -> Identity:
    """Give the identity of a limit: a GCRA level depends on the count, a window's count does not. Neither depends on the burst."""
    scale = limit.requests if limit.algorithm == "gcra" else -WINDOW_SCALE
    return Identity(policy, rule, key, limit.per_ns, scale)


@final
class Table:
    """The counters of one limit.

    Args:
        identity: what its levels mean.
        shards: how many shards; a power of two.
    """

    __slots__ = ("identity", "keys", "mask", "scale", "shards", "step", "turn")

    def __init__(self, identity: Identity, shards: int) -> None:
        self.identity = identity
        self.step = 1 if identity.scale > 0 else identity.per_ns
        self.scale = abs(identity.scale)
        self.shards: list[dict[Key, int]] = [{} for _ in range(shards)]
        self.mask = shards - 1
        self.keys = 0
        self.turn = 0
        """The shard that gives room next."""

    def floor(self, now: int) -> int:
        """What the limit's clock reads at *now* (nanoseconds); levels up to it say nothing any more."""
        return now // self.step * self.scale

    def forget(self, index: int, now: int) -> int:
        """Drop what says nothing any more from one shard; gives how many it were."""
        shard = self.shards[index]
        floor = self.floor(now)
        dead = [key for key, level in shard.items() if level <= floor]
        if len(dead) == len(shard):
            self.shards[index] = {}
        elif len(dead) * 2 > len(shard):
            # A dictionary does not give memory back by itself.
            self.shards[index] = {key: level for key, level in shard.items() if level > floor}
        else:
            for key in dead:
                del shard[key]
        self.keys -= len(dead)
        return len(dead)

    def evict(self, index: int) -> int:
        """Drop the sixteenth of one shard that is nearest to saying nothing; gives how many it were, at least 1 of a shard that has any."""
        shard = self.shards[index]
        count = -(-len(shard) // EVICTED_SHARE)
        for key, _ in sorted(shard.items(), key=_level)[:count]:
            del shard[key]
        self.keys -= count
        return count


def _level(item: tuple[Key, int]) -> int:
    return item[1]


@final
class Counters:
    """All tables of a sidecar, under one bound.

    Args:
        max_keys: the most counters to hold; insertions beyond it evict.
    """

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.keys = 0
        """Counters that are held now."""
        self.evictions = 0
        """Counters that were dropped while they still said something."""
        self.expirations = 0
        """Counters that were dropped because they said nothing any more."""
        self._tables: dict[Identity, Table] = {}
        self._order: list[Table] = []
        self._table = 0
        self._shard = 0
        self._withdrawn: list[Table] = []

    def table(self, identity: Identity) -> Table:
        """Give the table of *identity*: the one in use, else a new one, which is not in use before `adopt`."""
        return self._tables.get(identity) or Table(identity, self._shards(identity))

    def _shards(self, identity: Identity) -> int:
        if not identity.key:
            return 1
        wanted = max(self.max_keys // SHARD_TARGET, 1)
        return min(1 << (wanted - 1).bit_length(), MOST_SHARDS)

    def adopt(self, tables: Mapping[Identity, Table]) -> None:
        """Use *tables* from now on. The memory of those that are withdrawn is given back by later sweeps, in small steps."""
        self._withdrawn += [table for identity, table in self._tables.items() if tables.get(identity) is not table]
        self._tables = dict(tables)
        self._order = list(tables.values())
        self._table = self._shard = 0
        self.keys = sum(table.keys for table in self._order)

    def added(self, table: Table, now: int) -> None:
        """Take note of a new counter in *table*; makes room when there are too many."""
        table.keys += 1
        self.keys += 1
        if self.keys > self.max_keys:
            self._make_room(now)

    def _make_room(self, now: int) -> None:
        victim = max(self._order, key=_keys)
        while not victim.shards[victim.turn]:
            victim.turn = (victim.turn + 1) & victim.mask
        forgotten = victim.forget(victim.turn, now)
        self.expirations += forgotten
        self.keys -= forgotten
        if not forgotten:
            evicted = victim.evict(victim.turn)
            self.evictions += evicted
            self.keys -= evicted
        victim.turn = (victim.turn + 1) & victim.mask

    def sweep(self, now: int, budget: int = SHARD_TARGET // 2) -> bool:
        """Forget some of what says nothing any more.

        Args:
            now: nanoseconds.
            budget: how many counters to look at; the shard that exceeds it is the last.

        Returns:
            Whether there is more to look at in this round.
        """
        while budget > 0 and self._withdrawn:
            table = self._withdrawn[-1]
            budget -= len(table.shards.pop()) + 1
            if not table.shards:
                self._withdrawn.pop()
        while budget > 0 and self._table < len(self._order):
            table = self._order[self._table]
            if table.keys:
                budget -= len(table.shards[self._shard]) + 1
                forgotten = table.forget(self._shard, now)
                self.expirations += forgotten
                self.keys -= forgotten
                self._shard += 1
            if not table.keys or self._shard > table.mask:
                self._table, self._shard = self._table + 1, 0
        if self._table < len(self._order) or self._withdrawn:
            return True
        self._table = 0
        return False


def _keys(table: Table) -> int:
    return table.keys
