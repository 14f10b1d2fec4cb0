"""One look at one target: HTTP, TCP, Redis, disk.

Promises: a probe returns a reading or raises `Unwell` with a text that holds no secret; it holds no connection between runs, because a kept
one would hide that new ones are refused; it may be cancelled at any time. Deliberately absent: timeouts and thresholds, which are its
caller's.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec

from pillion.health.detached import Detached, DetachedResolver
from pillion.health.engine import DiskTarget, HttpTarget, RedisTarget, Target, TcpTarget
from pillion.version import VERSION

USER_AGENT: Final = f"pillion-health/{VERSION}"


class Unwell(Exception):  # noqa: N818 - says what was found
    """The target is not well. The message is short and holds no secret."""


class Reading(msgspec.Struct, frozen=True):
    """What a well target showed beside being well."""

    measure: str = ""
    value: float = 0


Probe = Callable[[], Awaitable[Reading]]

_FINE: Final = Reading()


class Prober:
    """Makes probes. Owns the HTTP client and the detached threads that they share."""

    def __init__(self) -> None:
        self._detached = Detached()
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready; called inside the event loop."""
        self._session = aiohttp.ClientSession(
            # No limit: ten hung targets must not keep the other twenty from connecting.
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, use_dns_cache=False, resolver=DetachedResolver(self._detached)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": USER_AGENT},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the HTTP client."""
        if self._session is not None:
            await self._session.close()

    def probe(self, target: Target, url: str = "") -> Probe:
        """Give the probe of *target*.

        Args:
            target: what to look at.
            url: the URL of a Redis target, from its Secret.
        """
        match target:
            case HttpTarget():
                return lambda: self._http(target)
            case TcpTarget():
                return lambda: self._tcp(target)
            case RedisTarget():
                return lambda: self._redis(url)
            case DiskTarget():
                return lambda: self._disk(target)

    async def _http(self, target: HttpTarget) -> Reading:
        if self._session is None:
            raise Unwell("not started")
        try:
            async with self._session.request(
                target.method, target.url, headers=target.headers, allow_redirects=False
            ) as response:
                status = response.status
        except aiohttp.ClientConnectorCertificateError:
            raise Unwell("the TLS certificate is not trusted") from None
        except aiohttp.ClientConnectorError as error:
            raise Unwell(explain(error.os_error)) from None
        except aiohttp.ClientError as error:
            raise Unwell(f"no valid answer ({type(error).__name__})") from None
        except OSError as error:
            raise Unwell(explain(error)) from None
        if not 200 <= status < 400:
            raise Unwell(f"HTTP status {status}")
        return _FINE

    async def _tcp(self, target: TcpTarget) -> Reading:
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        try:
            addresses = await self._detached.addresses(target.host, target.port)
        except OSError as error:
            raise Unwell(explain(error)) from None
        for address in addresses:
            try:
                transport, _ = await loop.create_connection(asyncio.Protocol, address.host, address.port)
            except OSError as error:
                problem = error
            else:
                # No FIN handshake to wait for: the connection has said all that was asked.
                transport.abort()
                return _FINE
        raise Unwell(explain(problem) if problem else "name has no address")

    async def _redis(self, url: str) -> Reading:
        try:
            # Here and not above: only sidecars with a redis check need the client.
            from redis import asyncio as redis  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError  # noqa: PLC0415
            from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: PLC0415
        except ImportError:
            raise Unwell("the Redis client is not installed; install pillion[redis]") from None
        try:
            client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), single_connection_client=True)
        except ValueError:
            raise Unwell("the URL in the Secret is no Redis URL") from None
        try:
            await client.ping()
        except AuthenticationError:
            raise Unwell("authentication failed") from None
        except BusyLoadingError:
            raise Unwell("the server is loading its data") from None
        except RedisConnectionError as error:
            cause = error.__cause__ or error.__context__
            raise Unwell(explain(cause) if isinstance(cause, OSError) else "the connection was lost") from None
        except RedisError:
            raise Unwell("the server answered PING with an error") from None
        except OSError as error:
            raise Unwell(explain(error)) from None
        finally:
            await client.aclose()
        return _FINE

    async def _disk(self, target: DiskTarget) -> Reading:
        try:
            found = await self._detached.run(("disk", target.path), lambda: os.statvfs(target.path))
        except OSError as error:
            raise Unwell(explain(error)) from None
        free = found.f_bavail * found.f_frsize
        if free < target.min_free:
            raise Unwell(f"{free} bytes are free, {target.min_free} are asked for")
        # As `df` counts: what is reserved for root is neither used nor available.
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return Reading("utilization", round(100 * used / (used + free), 2) if used + free else 0.0)


def explain(error: OSError) -> str:
    """Say in few words what an operating system error means for a target."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "timed out"
        case socket.gaierror():
            return "name does not resolve"
        case ssl.SSLError():
            return f"TLS failed ({error.reason})" if error.reason else "TLS failed"
        case _:
            return (error.strerror or type(error).__name__)[:100].lower()
