"""One HTTP/1.1 connection: a request goes out, its answer comes in, everything bounded.

The parser is httptools (llhttp); this module moves bytes and counts. A receiver may be slow, endless or malformed: the head of an answer has a
bound, its body has one, the whole exchange has a deadline, and what an answer means is decided by its status alone, so that a body that drips
for ever costs a log entry and nothing else. Bodies are not decompressed: nothing here can be inflated.
"""

import asyncio
from typing import Final, NamedTuple, cast

import httptools

MAX_HEAD: Final = 64 << 10
"""Bytes of an answer's status line and headers, informational answers included."""

MAX_BODY: Final = 64 << 10
"""Bytes that are read of an answer's body; a longer one costs the connection, which is then closed."""

TOO_LONG: Final = f"the answer's head is longer than {MAX_HEAD} bytes"

MAX_INFORMATIONAL: Final = 8
"""Informational (1xx) answers before the final one."""


class Answer(NamedTuple):
    """What a receiver answered.

    Args:
        status: HTTP status, 200-599.
        retry_after: the `Retry-After` field, or empty.
        control: the `webhook-delivery` field in lower case, or empty.
        excerpt: the beginning of the body.
    """

    status: int
    retry_after: str
    control: str
    excerpt: bytes


class ExchangeFailed(Exception):  # noqa: N818 - says what happened
    """There is no answer. The message says why, for a person.

    Args:
        reason: why.
        untouched: no byte of an answer came and the connection had been used before: the receiver may have closed it as idle just now.
    """

    def __init__(self, reason: str, *, untouched: bool = False) -> None:
        super().__init__(reason)
        self.untouched = untouched


class Connection(asyncio.Protocol):
    """A connection to one receiver; carries one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._keep = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._received = 0
        self._fields = 0
        self._in_head = True
        self._started = False
        self._informational = 0
        self._retry_after = ""
        self._control = ""
        self._whole = False
        self.exchanges = 0
        """Exchanges that were begun on it."""
        self.idle_since = 0.0
        """When it became idle, in the event loop's time; kept by the pool."""

    # What the pool and the sender use

    @property
    def reusable(self) -> bool:
        """Whether another exchange may begin on it."""
        return self._waiting is None and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, deadline: float, keep: int) -> Answer:
        """Send *request* and wait for the answer.

        Args:
            request: head and body.
            deadline: when it must be over, in the event loop's time.
            keep: bytes of the body to keep.

        Raises:
            ExchangeFailed: there is no answer.
        """
        transport = self._transport
        if transport is None or self._waiting is not None:
            raise ExchangeFailed("the connection was closed", untouched=True)
        waiting: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting = waiting
        self._keep = keep
        self._body.clear()
        self._body_size = self._received = self._fields = self._informational = 0
        self._in_head = True
        self._started = self._whole = False
        self._retry_after = self._control = ""
        self.exchanges += 1
        alarm = self._loop.call_at(deadline, self._expire)
        transport.write(request)
        try:
            return await waiting
        finally:
            alarm.cancel()
            self._waiting = None
            if not self._whole:
                # Cancelled, or an answer whose rest is not worth reading: the next answer could not be told from it.
                self.close()

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._waiting is None or self._waiting.done():
            # Nobody asked: whatever this is, the next answer must not be mistaken for it.
            self.close()
            return
        self._started = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the receiver switched protocols")
        except httptools.HttpParserCallbackError as error:
            self._fail(str(error.__context__ or error))
        except httptools.HttpParserError as error:
            self._fail(f"the answer is no HTTP/1.1 ({error})")
        else:
            if self._in_head and self._received > MAX_HEAD:
                self._fail(TOO_LONG)
            elif self._received > MAX_HEAD + 2 * MAX_BODY:
                # Chunks with more framing than content, or trailers without end.
                self._answer()

    def eof_received(self) -> bool:
        """Close as well."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._transport = None
        if self._in_head:
            what = f"{type(exc).__name__}: {exc}" if exc else "closed by the receiver"
            self._fail(f"the connection broke before the answer ({what})")
        else:
            # A body may end with the connection (RFC 9112 section 6.3); one that was cut off changes nothing about the status.
            self._answer()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the fields that mean something."""
        if not self._in_head:
            return  # a trailer
        self._fields += len(name) + len(value) + 4  # ": " and CRLF
        if self._fields > MAX_HEAD:
            raise ValueError(TOO_LONG)
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value[:64].decode("latin-1")
        elif len(name) == 16 and name.lower() == b"webhook-delivery":
            self._control = value[:64].decode("latin-1").strip().lower()

    def on_headers_complete(self) -> None:
        """Learn the status."""
        status = self._parser.get_status_code()
        if status >= 200:
            self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Keep the beginning; stop reading beyond the bound."""
        room = self._keep - self._body_size
        if room > 0:
            self._body.append(body[:room])
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            self._answer()

    def on_message_complete(self) -> None:
        """Hand over the answer, or go on after an informational one."""
        if self._in_head:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                self._fail(f"more than {MAX_INFORMATIONAL} informational answers")
            self._retry_after = self._control = ""
            return
        self._whole = self._waiting is not None and not self._waiting.done() and self._parser.should_keep_alive()
        self._answer()

    # Ends

    def _answer(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            excerpt = b"".join(self._body)
            self._waiting.set_result(Answer(self._parser.get_status_code(), self._retry_after, self._control, excerpt))

    def _fail(self, reason: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            untouched = not self._started and self.exchanges > 1
            self._waiting.set_exception(ExchangeFailed(reason, untouched=untouched))
        self.close()

    def _expire(self) -> None:
        if not self._in_head:
            self._answer()
        else:
            self._fail(
                "timeout: the answer did not come in time"
                if not self._started
                else "timeout: the answer's head did not end in time"
            )
