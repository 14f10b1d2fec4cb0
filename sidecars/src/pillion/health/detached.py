"""Calls that may hang in the kernel, on threads that nobody waits for.

`statvfs` on a dead NFS mount and a name lookup behind a dead resolver cannot be cancelled. On a shared pool ten of them would starve everybody
else, so each runs on a daemon thread of its own. Promises: at most one thread per key, however often it is asked for; a caller may give up at
any time. Deliberately absent: a bound on the number of keys, because keys are checks and their hosts, which the configuration bounds.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

T = TypeVar("T")


class Address(NamedTuple):
    """One address of a name."""

    family: int
    proto: int
    host: str
    port: int


class Detached:
    """Runs blocking functions, one thread per key."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[tuple[Any, BaseException | None]]] = {}

    async def run(self, key: Hashable, function: Callable[[], T]) -> T:
        """Give what *function* returns; joins the call that is under way for *key*.

        Raises:
            BaseException: whatever *function* raises.
        """
        future = self._running.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._running[key] = loop.create_future()
            future.add_done_callback(lambda _: self._running.pop(key, None))
            threading.Thread(
                target=_call, args=(loop, future, function), name=f"health: {key!r}"[:60], daemon=True
            ).start()
        result, error = await asyncio.shield(future)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return] # the future was made for this function's result

    async def addresses(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """Resolve *host*.

        Raises:
            OSError: the name does not resolve.
        """
        key = ("resolve", host, port, family)
        found = await self.run(key, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
        return [Address(family, proto, str(address[0]), port) for family, _, proto, _, address in found]


def _call(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[tuple[Any, BaseException | None]],
    function: Callable[[], Any],
) -> None:
    try:
        outcome: tuple[Any, BaseException | None] = (function(), None)
    except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
        outcome = (None, error)

    def tell() -> None:
        if not future.done():
            future.set_result(outcome)

    # The loop may be closed by the time a hung call returns: then there is nobody left to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)


class DetachedResolver(AbstractResolver):
    """Name resolution for aiohttp's client on detached threads."""

    def __init__(self, detached: Detached) -> None:
        self._detached = detached

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of *host*.

        Raises:
            OSError: the name does not resolve.
        """
        return [
            ResolveResult(
                hostname=host,
                host=found.host,
                port=found.port,
                family=found.family,
                proto=found.proto,
                flags=socket.AI_NUMERICHOST,
            )
            for found in await self._detached.addresses(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing is held."""
