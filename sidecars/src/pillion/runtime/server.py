"""The HTTP server of the sidecar: all blocks' operations on a main TCP port and a unix socket, probes and metrics on an admin port.

It promises that every answer that is not a success is a problem (RFC 9457), that every bound of `ServerSettings` holds, and that an answer does not
depend on the lane or the listener it came through. It knows no block: it is built from operations, and what they mean is theirs.

Life: `Server(...)` → `start()` → `drain()` (main listeners close, requests in flight finish, admin goes on answering probes) → `stop()`.
"""

import asyncio
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions
from pillion.runtime.description import Description
from pillion.runtime.endpoints import REQUEST_ID, Endpoint, HotEndpoint, OrdinaryEndpoint
from pillion.runtime.exchange import Exchange
from pillion.runtime.gate import Gate
from pillion.runtime.hotlane import LaneServer
from pillion.runtime.hotroutes import Lane
from pillion.runtime.listeners import ListenError, open_tcp, open_unix, remove_unix
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.replies import Replies
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.traffic import Traffic

__all__ = ["ListenError", "Server", "ServerSettings"]

_ADMIN_GRACE: Final = 1.0
"""Seconds that a scrape in flight gets at the very end."""


class Server:
    """The server of one process.

    Args:
        settings: where it listens, and its bounds.
        operations: routes of all blocks and of the runtime.
        hot_operations: routes of the hot lane.
        conditions: what is wrong with the sidecar; shown as metrics.
        metrics: where the server registers its own metrics.
        clock: the time.

    Raises:
        ValueError: two operations share a route or a name, or one cannot be served; the message names it.
    """

    def __init__(  # noqa: PLR0917 - what a server is made of, in the order of its life
        self,
        settings: ServerSettings,
        operations: Sequence[Operation],
        hot_operations: Sequence[HotOperation],
        conditions: Conditions,
        metrics: CollectorRegistry,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._traffic = Traffic(conditions)
        metrics.register(self._traffic)
        self._replies = Replies(clock)
        self._admin_replies = Replies(clock)
        self._tcp_gate = Gate(check_host=True, allowed_hosts=settings.allowed_hosts)
        self._unix_gate = Gate(check_host=False)
        main = [operation for operation in operations if "main" in operation.listener]
        admin = [operation for operation in operations if "admin" in operation.listener]
        self._description = Description("main", main, hot_operations, metrics)
        self._admin_description = Description("admin", admin, (), metrics)
        main += self._description.operations
        admin += self._admin_description.operations
        _refuse_duplicates([*main, *hot_operations])
        _refuse_duplicates(admin)
        timeout = settings.body_timeout
        self._main_endpoints: list[Endpoint] = [
            OrdinaryEndpoint(operation, self._tcp_gate, self._replies, timeout) for operation in main
        ]
        self._shortcuts = [operation for operation in main if operation.shortcut is not None]
        self._hot_endpoints = [
            HotEndpoint(operation, self._tcp_gate, self._replies, timeout) for operation in hot_operations
        ]
        self._admin_endpoints: list[Endpoint] = [
            OrdinaryEndpoint(operation, None, self._admin_replies, timeout) for operation in admin
        ]
        self._main: list[_Listener] = []
        self._admin: list[_Listener] = []
        self._runners: list[web.AppRunner] = []
        self._lanes: list[Lane] = []

    async def start(self) -> None:
        """Open all listeners.

        Raises:
            ListenError: one cannot be opened; none stays open.
        """
        settings = self._settings
        try:
            main = await self._route(self._replies, [*self._main_endpoints, *self._hot_endpoints])
            sock = open_tcp("main", settings.host, settings.port, settings.backlog)
            self._main.append(
                await self._listen(sock, main, self._tcp_gate, replies=self._replies, lane=self._lane(self._tcp_gate))
            )
            if settings.socket_path:
                path = Path(settings.socket_path)
                sock = open_unix(path, settings.backlog, settings.socket_mode)
                self._main.append(
                    await self._listen(
                        sock, main, self._unix_gate, replies=self._replies, lane=self._lane(self._unix_gate), path=path
                    )
                )
            if settings.admin_host:
                admin = await self._route(self._admin_replies, self._admin_endpoints)
                sock = open_tcp("admin", settings.admin_host, settings.admin_port, settings.backlog)
                self._admin.append(await self._listen(sock, admin, Gate(check_host=False), replies=self._admin_replies))
        except BaseException:
            await self.stop()
            raise

    def set_token(self, token: bytes | None) -> None:
        """Require a bearer token on every main route that is not public; None requires none. Takes effect with the next request."""
        self._tcp_gate.set_token(token)
        self._unix_gate.set_token(token)
        for lane in self._lanes:
            lane.forget()

    async def drain(self) -> None:
        """Close the main listeners and their idle connections, and wait for requests in flight, for at most the grace period."""
        self._replies.closing = True
        await _close(self._main, self._settings.grace_period)
        self._main.clear()

    async def stop(self) -> None:
        """Close everything; what `drain` has not finished is cut off."""
        self._replies.closing = self._admin_replies.closing = True
        await _close(self._main, 0)
        self._main.clear()
        await _close(self._admin, _ADMIN_GRACE)
        self._admin.clear()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    @property
    def main_port(self) -> int:
        """The port that the main listener is bound to; 0 while it is closed."""
        return self._main[0].port if self._main else 0

    @property
    def admin_port(self) -> int:
        """The port that the admin listener is bound to; 0 while it is closed."""
        return self._admin[0].port if self._admin else 0

    @property
    def url(self) -> str:
        """Base URL of the main listener, as in `http://127.0.0.1:3700`."""
        return f"http://{_in_url(self._settings.host)}:{self.main_port}"

    @property
    def admin_url(self) -> str:
        """Base URL of the admin listener on this machine."""
        return f"http://{_in_url(self._settings.admin_host)}:{self.admin_port}"

    @property
    def socket_path(self) -> str:
        """Path of the unix socket; empty for none."""
        return self._settings.socket_path

    @property
    def openapi(self) -> Mapping[str, Any]:
        """The description of the main listener."""
        return self._description.document

    @property
    def traffic(self) -> Traffic:
        """The request counts."""
        return self._traffic

    async def _route(self, replies: Replies, endpoints: Sequence[Endpoint]) -> web.Server:
        """Give aiohttp's own server around the routes of *endpoints*."""
        app = web.Application()
        for path, group in _by_path(endpoints):
            resource = app.router.add_resource(path)
            for endpoint in group:
                resource.add_route(endpoint.method, endpoint.handle)

        async def finish(request: web.Request, response: web.StreamResponse) -> None:
            if not isinstance(response, web.Response):
                replies.finish(response, request[REQUEST_ID])

        app.on_response_prepare.append(finish)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._runners.append(runner)
        assert runner.server is not None  # noqa: S101 - setup has made it
        return runner.server

    async def _listen(
        self,
        sock: socket.socket,
        routed: web.Server,
        gate: Gate,
        *,
        replies: Replies,
        lane: Lane | None = None,
        path: Path | None = None,
    ) -> "_Listener":
        """Serve *routed* on *sock*."""
        settings = self._settings
        exchange = Exchange(routed.request_handler, gate, replies, self._traffic, self._clock)
        connections = LaneServer(
            exchange,
            lane=lane,
            replies=replies,
            traffic=self._traffic,
            request_factory=routed.request_factory,
            access_log=None,
            keepalive_timeout=settings.keepalive_timeout,
            max_line_size=settings.max_header_bytes,
            max_field_size=settings.max_header_bytes,
            max_headers=settings.max_headers,
        )
        return await _Listener.open(sock, connections, path)

    def _lane(self, gate: Gate) -> Lane | None:
        """Make the hot lane of one listener."""
        if not self._settings.hot_lane:
            return None
        paths = [(endpoint.method, endpoint.path) for endpoint in (*self._main_endpoints, *self._hot_endpoints)]
        lane = Lane(
            self._hot_endpoints,
            self._shortcuts,
            paths,
            gate=gate,
            replies=self._replies,
            traffic=self._traffic,
            clock=self._clock,
            settings=self._settings,
        )
        self._lanes.append(lane)
        return lane


class _Listener:
    """One open socket and its connections."""

    def __init__(self, server: asyncio.AbstractServer, connections: LaneServer, port: int, path: Path | None) -> None:
        self._server = server
        self.connections = connections
        self.port = port
        self._path = path
        self._inode = path.lstat().st_ino if path else 0

    @classmethod
    async def open(cls, sock: socket.socket, connections: LaneServer, path: Path | None) -> "_Listener":
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        if path is not None:
            return cls(await loop.create_unix_server(connections, sock=sock), connections, 0, path)
        port = sock.getsockname()[1]
        return cls(await loop.create_server(connections, sock=sock), connections, port, None)

    def refuse(self) -> None:
        """Accept no more."""
        self._server.close()
        if self._path is not None:
            remove_unix(self._path, self._inode)

    async def finish(self, grace: float) -> None:
        """Close idle connections at once, the others when they are done, at the latest after *grace* seconds."""
        await self.connections.drain(grace)


async def _close(listeners: Sequence[_Listener], grace: float) -> None:
    """Close listeners together."""
    await asyncio.sleep(0)  # what has been received already is seen as in flight
    for listener in listeners:
        listener.refuse()
    await asyncio.gather(*(listener.finish(grace) for listener in listeners))


def _by_path(endpoints: Iterable[Endpoint]) -> list[tuple[str, list[Endpoint]]]:
    """Group by path; the more literal text a path has, the earlier it is tried, so that `{id}:retry` wins over `{id}`."""
    groups: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault(endpoint.path, []).append(endpoint)
    return sorted(groups.items(), key=lambda item: (-len(_literal(item[0])), item[0]))


def _literal(path: str) -> str:
    """Give a path without its parameters."""
    return re.sub(r"\{[^}]*\}", "", path)


def _refuse_duplicates(operations: Iterable[Operation | HotOperation]) -> None:
    """Refuse two operations with one route or one name."""
    seen: set[str] = set()
    for operation in operations:
        for identity in (f"{operation.method} {operation.path}", operation.name):
            if identity in seen:
                raise ValueError(f'two operations are called "{identity}"; give each its own')
            seen.add(identity)


def _in_url(host: str) -> str:
    """Write an address as it stands in a URL of this machine."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
