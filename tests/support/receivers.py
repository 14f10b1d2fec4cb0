"""HTTP receivers for webhook tests: a real aiohttp server that verifies with the official library, and raw sockets that misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Takes deliveries, verifies each, answers as it is told."""

    def __init__(self, secret: str = SECRET) -> None:
        self.secret = secret
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.flying = 0
        self.most_flying = 0
        self.connections: set[object] = set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        Webhook(self.secret).verify(body, headers)
        self.got.append((headers, body))
        self.connections.add(request.transport.get_extra_info("peername"))
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            await self.gate.wait()
        finally:
            self.flying -= 1
        status, fields, text = self.answers.pop(0) if self.answers else (204, {}, b"")
        return web.Response(status=status, headers=fields, body=text)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver, *, port: int = 0, ssl=None) -> AsyncIterator[Receiver]:
    """Serve *receiver* on a local port."""
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=ssl)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if ssl else 'http'}://127.0.0.1:{port}/hooks"
    try:
        yield receiver
    finally:
        receiver.gate.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve raw bytes: *handle* gets each connection. Gives the URL."""
    tasks: set[asyncio.Task] = set()

    async def connected(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request off a raw connection: head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)
