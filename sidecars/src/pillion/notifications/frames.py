"""What the sidecar and its renderer say to each other over two pipes.

A frame is four bytes of length, most significant first, and that many bytes of MessagePack. Jobs are answered in the order in which they came.
"""

import struct
from typing import Final

import msgspec

from pillion.notifications.content import Rendered, Source
from pillion.notifications.mail import Envelope

MAX_FRAME: Final = 16 << 20
"""Bytes of a frame: a rendered message at its bounds, three times over."""

LENGTH: Final = struct.Struct(">I")


class Job(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One rendering.

    Args:
        key: identifies the source.
        source: the templates; None when this process has been sent them before under *key*.
        locale: how numbers, amounts and dates are written.
        data: the variables, as MessagePack.
        envelope: for a finished message; None for a preview.
    """

    key: str
    source: Source | None
    locale: str
    data: msgspec.Raw
    envelope: Envelope | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What became of a job.

    Args:
        rendered: the result; None where it could not be rendered.
        message: the finished message; empty for a preview.
        part: the part that could not be rendered.
        line: its line; 0 where it is not known.
        reason: why not.
        forgotten: the source was not sent and is not known; ask again with it.
    """

    rendered: Rendered | None = None
    message: bytes = b""
    part: str = ""
    line: int = 0
    reason: str = ""
    forgotten: bool = False


def frame(value: Job | Outcome) -> bytes:
    """Write one frame."""
    body = msgspec.msgpack.encode(value)
    return LENGTH.pack(len(body)) + body
