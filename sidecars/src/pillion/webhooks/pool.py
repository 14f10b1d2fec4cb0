"""Connections kept for the next delivery. One pool for all endpoints: opening a connection costs more than a delivery.

Connections of one *origin* are alike: same scheme, host and port, opened under the same egress exceptions. A connection that was admitted under
other exceptions is another origin, so that tightening `egress.allow` takes effect at once.
"""

import asyncio
from collections import deque
from typing import Final

import msgspec

from pillion.webhooks.dialing import CannotConnect, Dialer
from pillion.webhooks.egress import Guard
from pillion.webhooks.http1 import Connection
from pillion.webhooks.target import Target

IDLE: Final = 30.0
"""Seconds that an idle connection is kept: many servers close theirs after 60 or 75."""

PER_ORIGIN: Final = 256
"""Connections to one origin; deliveries beyond it wait within their own deadline."""

TOTAL_IDLE: Final = 512
"""Idle connections altogether; beyond it the one that is given back is closed."""


class Origin(msgspec.Struct, frozen=True):
    """What connections have in common.

    Args:
        key: identifies it; a text, because its hash is computed once.
        target: where they lead.
        guard: what they were admitted by.
    """

    key: str
    target: Target
    guard: Guard


def origin_of(target: Target, guard: Guard) -> Origin:
    """Give the origin of connections to *target* under *guard*; equal ones have equal keys."""
    exceptions = sorted([*map(str, guard.networks), *guard.hosts, *map(str, guard.also_denied)])
    return Origin(f"{target.scheme}://{target.host}:{target.port} {' '.join(exceptions)}", target, guard)


class _Kept:
    """The connections of one origin."""

    __slots__ = ("idle", "open", "waiting")

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.open = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool holds.

    Args:
        open: connections in use or idle.
        idle: connections that wait for a delivery.
        opened: connections opened since the start.
        reused: deliveries that found one open.
    """

    open: int
    idle: int
    opened: int
    reused: int


class Pool:
    """All connections of the block."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._origins: dict[str, _Kept] = {}
        self._idle = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._opened = 0
        self._reused = 0

    def idle(self, origin: Origin) -> Connection | None:
        """Give an idle connection, the one used last; None when there is none."""
        kept = self._origins.get(origin.key)
        while kept is not None and kept.idle:
            connection = kept.idle.pop()
            self._idle -= 1
            if connection.reusable:
                self._reused += 1
                return connection
            kept.open -= 1
        return None

    async def open(self, origin: Origin, deadline: float) -> Connection:
        """Open a connection, waiting while its origin has as many as it may.

        Raises:
            CannotConnect: it did not work.
        """
        kept = self._origins.get(origin.key)
        if kept is None:
            kept = self._origins[origin.key] = _Kept()
        while kept.open >= PER_ORIGIN:
            await self._turn(kept, deadline)
            if (connection := self.idle(origin)) is not None:
                return connection
        kept.open += 1
        try:
            connection = await self._dialer.dial(origin.target, origin.guard, deadline)
        except BaseException:
            self._gone(origin.key, kept)
            raise
        self._opened += 1
        return connection

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Take a connection after an exchange: keep it, or count it as gone."""
        kept = self._origins[origin.key]
        if connection.reusable and not self._closed and self._idle < TOTAL_IDLE:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            kept.idle.append(connection)
            self._idle += 1
            if self._sweep is None:
                self._sweep = loop.call_later(IDLE, self._sweep_idle)
            self._wake(kept)
        else:
            connection.close()
            self._gone(origin.key, kept)

    def _gone(self, key: str, kept: _Kept) -> None:
        kept.open -= 1
        self._wake(kept)
        if kept.open == 0 and not kept.waiting:
            self._origins.pop(key, None)

    async def _turn(self, kept: _Kept, deadline: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except TimeoutError:
            raise CannotConnect(f"timeout: all {PER_ORIGIN} connections to this host are busy") from None
        finally:
            if turn in kept.waiting:
                kept.waiting.remove(turn)

    def _wake(self, kept: _Kept) -> None:
        while kept.waiting:
            turn = kept.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _sweep_idle(self) -> None:
        """Close what was idle too long."""
        loop = asyncio.get_running_loop()
        before = loop.time() - IDLE
        self._sweep = None
        for key, kept in list(self._origins.items()):
            while kept.idle and (kept.idle[0].idle_since <= before or not kept.idle[0].reusable):
                connection = kept.idle.pop(0)
                self._idle -= 1
                connection.close()
                self._gone(key, kept)
        if self._idle:
            self._sweep = loop.call_later(IDLE / 4, self._sweep_idle)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are given back."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for key, kept in list(self._origins.items()):
            while kept.idle:
                kept.idle.pop().close()
                self._idle -= 1
                self._gone(key, kept)

    def statistics(self) -> PoolStatistics:
        """Give what it holds."""
        return PoolStatistics(
            open=sum(kept.open for kept in self._origins.values()),
            idle=self._idle,
            opened=self._opened,
            reused=self._reused,
        )
