"""Reads header blocks: what the hot lane must know of one, and nothing else.

One client sends the same header fields with every request, so a block is judged once (admission by `Host` and token, content type, everything that only
aiohttp may handle) and remembered. Fields that vary (trace context, request id, content length) are cut out before it is looked up. What is
remembered is bounded in count and size.

The grammar here is narrower than HTTP's (RFC 9112 section 5) on purpose: visible ASCII, no folding, no repeated field, no bare line feed. What does not
fit is not an error but somebody else's: aiohttp sees the bytes and judges.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from pillion.runtime import bodies, requestids
from pillion.runtime.gate import Gate
from pillion.runtime.operation import JSON_MEDIA
from pillion.runtime.problems import Problem

UNKNOWN: Final = -1
"""The length of a body that cannot be told from the head here."""

MAX_BLOCK: Final = 4096
"""Bytes of a header block that is looked at; typical ones have 100 to 600."""

MAX_FIELDS: Final = 64
"""Header fields of a block that is looked at."""

_SHAPES_MAX: Final = 256
"""Blocks that are remembered, without the fields that vary: one per client library. At most 1 MB of keys, typically 50 KB."""

_CUT = re.compile(
    rb"\r\n(content-length|traceparent|tracestate|x-request-id):[ \t]*([!-~][ -~]*)(?=\r\n|\Z)", re.IGNORECASE
)
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([!-~][ -~\t]*)?")
_CUT_NAMES: Final = {
    spelling: name
    for name in (b"content-length", b"traceparent", b"tracestate", b"x-request-id")
    for spelling in (name, name.title())
}
"""The usual spellings of the fields that are cut out; the others cost a little more."""

_LENGTH_DIGITS: Final = 9
_ZERO: Final = ord("0")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_UNFRAMED: Final = frozenset(
    {"transfer-encoding", "upgrade", "content-length", "proxy-connection", "sec-websocket-key1", "trailer"}
)
"""Fields with which the end of the body is not ours to tell. A content length that stands here was not cut out, so it is odd."""

_NOT_OURS: Final = frozenset(
    {"expect", "content-encoding", "origin", "x-request-id", "traceparent", "tracestate", "range"}
)
"""Fields whose meaning the ordinary lane knows. Ids and trace context that stand here were not cut out, so they are odd."""


class Head(NamedTuple):
    """What a header block says.

    Args:
        length: bytes of the body; `UNKNOWN` where the ordinary lane must find out.
        admitted: whether the hot lane may answer: let in by the gate, and nothing in it is the ordinary lane's.
        json: whether the body is declared as JSON.
        varies: whether it holds fields that differ with every request.
        request_id: the id that the client sent, if it may be repeated; else empty.
        names: the names of the other fields, in lower case.
    """

    length: int
    admitted: bool = False
    json: bool = False
    varies: bool = False
    request_id: str = ""
    names: frozenset[str] = frozenset()


class _Shape(NamedTuple):
    """What a block without its varying fields says."""

    framed: bool
    admitted: bool
    json: bool
    names: frozenset[str] = frozenset()


_ODD: Final = Head(UNKNOWN)


class Heads:
    """The header blocks of one listener.

    Args:
        gate: who may ask.
        max_bytes: bound of one header field in aiohttp; blocks that could exceed it are not looked at.
        max_fields: bound of the number of fields in aiohttp.
    """

    def __init__(self, gate: Gate, max_bytes: int, max_fields: int) -> None:
        self._gate = gate
        self._max_block = min(MAX_BLOCK, max_bytes)
        self._max_fields = min(MAX_FIELDS, max_fields)
        self._shapes: dict[bytes, _Shape] = {}

    def forget(self) -> None:
        """Forget everything: what a block means has changed (a new token)."""
        self._shapes.clear()

    def read(self, block: bytes) -> Head:
        r"""Read a block: the bytes from the CRLF that ends the request line up to, not including, the CRLF CRLF that ends the head."""
        if len(block) > self._max_block or block.count(b"\n") > self._max_fields:
            return _ODD
        parts = _CUT.split(block)
        rest = b"".join(parts[::3])
        shape = self._shapes.get(rest)
        if shape is None:
            shape = self._shape(rest)
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes.clear()
            self._shapes[rest] = shape
        length, admitted, request_id = 0, shape.admitted, ""
        has_length = varies = False
        for name, value in zip(parts[1::3], parts[2::3], strict=True):
            cut = _CUT_NAMES.get(name) or name.lower()
            if cut == b"content-length":
                digits = value.rstrip(b" ")
                if (
                    has_length
                    or not digits.isdigit()
                    or len(digits) > _LENGTH_DIGITS
                    or (digits[0] == _ZERO and digits != b"0")
                ):
                    return _ODD
                has_length, length = True, int(digits)
                continue
            varies = True
            if cut == b"x-request-id":
                given = requestids.valid(value.rstrip(b" ").decode("ascii"))
                if given is None or request_id:
                    admitted = False  # replaced or repeated: the ordinary lane knows how
                else:
                    request_id = given
        if not shape.framed:
            return _ODD
        return Head(length, admitted, shape.json, varies, request_id, shape.names)

    def _shape(self, block: bytes) -> _Shape:
        """Judge a block without its varying fields."""
        fields = _fields(block)
        if fields is None or not _UNFRAMED.isdisjoint(fields):
            return _Shape(framed=False, admitted=False, json=False)
        host = fields.get("host", "")
        ours = (
            _NOT_OURS.isdisjoint(fields)
            and fields.get("connection", "keep-alive").lower() == "keep-alive"
            and _HOST.fullmatch(host) is not None
        )
        admitted = (
            ours
            and _passes(lambda: self._gate.admit(host, None))
            and _passes(lambda: self._gate.authorize(fields.get("authorization")))
        )
        json = bodies.accepts((JSON_MEDIA,), fields.get("content-type", ""))
        return _Shape(framed=True, admitted=admitted, json=json, names=frozenset(fields))


def _fields(block: bytes) -> dict[str, str] | None:
    """Split a block into fields by lower-case name; None where anything is odd, or a name comes twice."""
    fields: dict[str, str] = {}
    lines = block.split(b"\r\n")
    if lines[0]:
        return None
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].decode("ascii").lower()
        if name in fields:
            return None
        fields[name] = (match[2] or b"").decode("ascii").rstrip(" \t")
    return fields


def _passes(check: Callable[[], None]) -> bool:
    """Tell whether a check raises no problem."""
    try:
        check()
    except Problem:
        return False
    return True
