"""Connecting to a receiver: resolve, judge every address, connect to a judged one. Never resolve twice."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pillion.webhooks.egress import Denied, Guard
from pillion.webhooks.http1 import Connection
from pillion.webhooks.target import Target

RESOLVERS: Final = 16
"""Threads that resolve names. Lookups of one name share one, so that a name server that hangs for one host blocks no other."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From (host, port) to every address, as text; raises OSError when there is none."""


class CannotConnect(Exception):  # noqa: N818 - says what happened
    """There is no connection. The message says why, for a person.

    Args:
        reason: why.
        refused: our own guard refused the destination; trying again cures it only when the manifest or the name changes.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Resolver:
    """The system's resolver (`/etc/hosts`, DNS search list of the pod), in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Resolve *host*; see `Resolve`."""
        key = (host, port)
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._asked[key] = asked
            asked.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(asked)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[Sequence[str]]) -> None:
        del self._asked[key]
        if not done.cancelled():
            done.exception()  # whoever waited may have given up meanwhile

    def close(self) -> None:
        """Let the threads end; a lookup that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Dialer:
    """Opens connections.

    Args:
        resolve: gives the addresses of a host.
        tls: makes the context of https connections, with the first of them: reading the system's authorities takes time and memory.
    """

    def __init__(self, resolve: Resolve, tls: Callable[[], ssl.SSLContext]) -> None:
        self._resolve = resolve
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    async def dial(self, target: Target, guard: Guard, deadline: float) -> Connection:
        """Connect to *target* if *guard* admits all its addresses.

        Args:
            target: where to.
            guard: what may be reached.
            deadline: when it must be over, in the event loop's time.

        Raises:
            CannotConnect: it did not work.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await self._dial(target, guard, deadline)
        except TimeoutError:
            raise CannotConnect("timeout: no connection in time") from None

    async def _dial(self, target: Target, guard: Guard, deadline: float) -> Connection:
        try:
            answers = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise CannotConnect(
                f"{target.host} cannot be resolved ({getattr(error, 'strerror', None) or error})"
            ) from None
        try:
            addresses = guard.admit(target.scheme, target.host, answers)
        except Denied as denied:
            raise CannotConnect(f"egress denied: {denied}", refused=True) from None
        loop = asyncio.get_running_loop()
        failure = CannotConnect(f"{target.host} has no address")
        for index, address in enumerate(addresses):
            # The time that is left is shared out, so that one address that swallows packets does not hide the next.
            share = (deadline - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    return await self._connect(target, address)
            except TimeoutError:
                failure = CannotConnect("timeout: no connection in time")
            except ssl.SSLError as error:
                failure = CannotConnect(f"TLS: {_tls_reason(error)}")
            except OSError as error:
                failure = CannotConnect(f"no connection ({error.strerror or error})")
        raise failure

    async def _connect(self, target: Target, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        https = target.scheme == "https"
        if https and self._tls is None:
            self._tls = self._make_tls()
        _, connection = await loop.create_connection(
            lambda: Connection(loop),
            address,
            target.port,
            ssl=self._tls if https else None,
            server_hostname=target.host if https else None,
        )
        return connection


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    return error.reason or str(error)


def default_tls() -> ssl.SSLContext:
    """Make the context of https connections: the system's authorities (`SSL_CERT_FILE` overrides), TLS 1.2 or later, HTTP/1.1."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
