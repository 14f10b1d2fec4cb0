"""Feeds bytes to a connection of a `Server` without a socket, one piece at a time, and keeps what it writes.

The transport behaves like asyncio's own where it matters: nothing is read while reading is paused or after a close, and a close is reported later, by
the event loop.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

from pillion.runtime.hotlane import LaneProtocol
from pillion.runtime.server import Server

SETTLE_ROUNDS = 12
"""Turns of the event loop within which one request makes some progress, if it needs neither new bytes nor time."""

_GENERATED = re.compile(rb"(?<=X-Request-Id: )[0-9a-f]{32}(?=\r\n)|(?<=urn:pillion:request:)[0-9a-f]{32}")
_DATE = re.compile(rb"(?<=\r\nDate: )[^\r]+")


class Piece(NamedTuple):
    """Bytes that arrive together."""

    data: bytes
    settle: bool = True
    """Whether everything that they cause happens before the next piece arrives."""


class Talk(NamedTuple):
    """What a connection did."""

    written: bytes
    closed: bool


class FakeTransport(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self, protocol: LaneProtocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.written = bytearray()
        self.closed = False
        self.paused = False
        self.writes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.writes += 1
            self.written += data

    def writelines(self, list_of_data) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return 0


class Wire:
    """One connection of one of the server's main listeners.

    Args:
        server: a started server.
        listener: 0 for TCP, 1 for the unix socket.
    """

    def __init__(self, server: Server, listener: int = 0) -> None:
        protocol = server._main[listener].connections()
        assert isinstance(protocol, LaneProtocol)
        self.protocol = protocol
        self.transport = FakeTransport(protocol)
        protocol.connection_made(self.transport)

    async def feed(self, piece: Piece) -> None:
        """Let bytes arrive; they are lost once the connection is closed."""
        for _ in range(SETTLE_ROUNDS):
            if not self.transport.paused:
                break
            await asyncio.sleep(0)
        if not self.transport.closed:
            self.protocol.data_received(piece.data)
        if piece.settle:
            await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no time: turn the loop until nothing more is written."""
        written = -1
        while written != self.transport.writes:
            written = self.transport.writes
            await settle()

    async def end(self) -> None:
        """Close from the client's side."""
        self.transport.close()
        await settle()


async def settle() -> None:
    """Turn the event loop for a while."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)


async def talk(server: Server, pieces: Sequence[Piece], listener: int = 0) -> Talk:
    """Say *pieces* on a new connection, and tell what came back."""
    wire = Wire(server, listener)
    await settle()
    for piece in pieces:
        await wire.feed(piece)
    await wire.settle()
    result = Talk(bytes(wire.transport.written), wire.transport.closed)
    await wire.end()
    return result


def comparable(written: bytes) -> bytes:
    """Make two answers comparable: without dates and generated ids."""
    return _DATE.sub(b"*", _GENERATED.sub(b"*", written))
