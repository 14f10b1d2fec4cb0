"""Server-sent events, the receiving side: bytes in, events out.

Follows "Parsing an event stream" of the HTML standard (section 9.2.6): lines end with LF, CR or CRLF, a leading byte order mark is dropped, fields are `event`,
`data` and `id` (`retry` is left to the caller's own backoff), a line that begins with a colon is a comment, an empty line dispatches.

Pure and incremental: the bytes may be split anywhere. Bounded: an event that grows over the limit is an error instead of memory. It opens no connection.
"""

import re
from typing import Final

import msgspec

_LINE_END: Final = re.compile(rb"[\r\n]")
_BOM: Final = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True):
    """One event: its type (`message` where the stream names none), its data, and the id in force."""

    type: str
    data: str
    id: str


class EventTooLong(ValueError):  # noqa: N818 - says what happened
    """An event exceeds the parser's limit. The stream cannot be read on."""


class EventParser:
    """Parser of one stream.

    Args:
        limit: bytes that one event may hold, its field names included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._first_line = True
        self._skip_lf = False
        self._size = 0
        self._type = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and give the events that they complete.

        Raises:
            EventTooLong: the event being read is longer than the limit.
        """
        events: list[Event] = []
        position = 0
        if self._skip_lf and chunk:
            self._skip_lf = False
            position = 1 if chunk[0] == 0x0A else 0
        while found := _LINE_END.search(chunk, position):
            self._grow(found.start() - position)
            self._partial += chunk[position : found.start()]
            line = bytes(self._partial)
            self._partial.clear()
            position = found.end()
            if chunk[found.start()] == 0x0D:
                if position == len(chunk):
                    self._skip_lf = True
                elif chunk[position] == 0x0A:
                    position += 1
            self._take(line, events)
        self._grow(len(chunk) - position)
        self._partial += chunk[position:]
        return events

    def _grow(self, count: int) -> None:
        self._size += count
        if self._size > self._limit:
            raise EventTooLong(f"an event is longer than {self._limit} bytes")

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(Event(self._type or "message", "\n".join(self._data), self._id))
            self._type, self._data, self._size = "", [], 0
            return
        if line.startswith(b":"):
            self._size -= len(line)  # comments may go on for ever without an event
            return
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        match name:
            case b"event":
                self._type = text
            case b"data":
                self._data.append(text)
            case b"id" if "\0" not in text:
                self._id = text
            case _:
                pass
