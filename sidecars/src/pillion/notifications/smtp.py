"""Sending by SMTP (RFC 5321): what the delivery machine calls for each attempt at a notification.

Connections are kept for reuse, a few per channel, and closed when they idle. What the server answers decides what happens next: a 4yz reply and
every failure of the connection is tried again, a 5yz reply to the message is final (RFC 5321 section 4.2.1). Two exceptions: a refused login or a
missing login is the channel's fault and not the message's, so it is tried again too; and a connection that breaks after the message was sent leaves
open whether it was taken. Then the message is sent again with the same Message-ID (at least once), and the attempt says so.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import structlog

from pillion.delivery.model import Delivered, Delivery, Message, Outcome, Rejected, Retry
from pillion.runtime.conditions import Conditions
from pillion.runtime.journal import CONCEALED
from pillion.runtime.tasks import Tasks

if TYPE_CHECKING:
    import aiosmtplib

IDLE: Final = 20.0
"""Seconds that an unused connection is kept: below every mail server's own patience (Postfix: 300, Exim: 300, Exchange: 60 between commands)."""

QUIT: Final = 2.0
"""Seconds that a farewell may take."""

MAX_PAUSE: Final = 30
"""Seconds between looks at a server that cannot be reached, at most."""

EXCERPT: Final = 512
"""Octets of a reply that are kept: RFC 5321 section 4.5.3.1.5 allows a reply line no more."""

CONDITION: Final = "notifications: mail server"

CLOSING: Final = 421
"""The reply of a server that closes the connection (RFC 5321 section 3.8), as one does with connections that idle."""

LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
"""Replies about authentication (RFC 4954 section 6): the channel's fault, not the message's."""

OUTCOME_UNKNOWN: Final = "it may have been taken: sent again under the same Message-ID"
"""What the reason of an attempt says when the connection broke after the message was sent."""


class SmtpChannel(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how messages are handed over.

    Args:
        host: host name or IP address.
        port: port.
        tls: `starttls` (must succeed), `implicit`, or `none`.
        username: for the login; empty for none.
        password: for the login.
        ca: PEM certificates that the server's must chain to; empty for the system's.
        concurrency: connections at the same time.
        hello: how this client calls itself in EHLO.
    """

    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    username: str = ""
    password: str = ""
    ca: str = ""
    concurrency: int = 4
    hello: str = "localhost"

    def __repr__(self) -> str:
        return f"SmtpChannel({self.host}:{self.port})"

    def context(self) -> ssl.SSLContext | None:
        """Make the TLS context, which verifies certificate and name.

        Raises:
            ValueError: `ca` holds no certificate.
        """
        if self.tls == "none":
            return None
        try:
            return ssl.create_default_context(cadata=self.ca or None)
        except ssl.SSLError as error:
            raise ValueError("the Secret of caRef holds no PEM certificate") from error


class _Idle(msgspec.Struct):
    """A connection that waits for its next message."""

    client: "aiosmtplib.SMTP"
    expires: asyncio.TimerHandle


class _Progress:
    """How far an attempt came; a timeout looks at it from outside."""

    sent = False


class _Failed(Exception):  # noqa: N818 - an attempt that failed is an outcome, not an error
    def __init__(self, outcome: Retry | Rejected) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class SmtpSender:
    """Attempts deliveries over the channel in force.

    Args:
        conditions: where it says that the mail server cannot be reached.
        tasks: where connections say goodbye.
    """

    def __init__(self, conditions: Conditions, tasks: Tasks) -> None:
        self._conditions = conditions
        self._tasks = tasks
        self._channel: SmtpChannel | None = None
        self._context: ssl.SSLContext | None = None
        self._idle: deque[_Idle] = deque()
        self._unreachable = 0
        self._log = structlog.get_logger("notifications")
        self.connections = 0
        """Connections made since the process started."""

    def configure(self, channel: SmtpChannel | None, context: ssl.SSLContext | None) -> None:
        """Use *channel* from now on; what is under way ends over the old one. Synchronous and cannot fail."""
        if channel == self._channel:
            return
        self._channel, self._context, self._unreachable = channel, context, 0
        self._conditions.clear(CONDITION)
        while self._idle:
            self._part(self._idle.pop())

    async def send(self, message: Message, delivery: Delivery, attempt: int, deadline: float) -> Outcome:  # noqa: ARG002 - the machine's protocol
        """Attempt to hand one message over; see `delivery.model.Sender`."""
        channel = self._channel
        if channel is None:
            return Retry(reason="the profile names no mail server (spec.notifications.email)")
        progress = _Progress()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._hand_over(channel, message, progress)
        except _Failed as failed:
            return failed.outcome
        except TimeoutError:
            if progress.sent:
                return Retry(
                    reason=f"the mail server did not answer in time after the message was sent; {OUTCOME_UNKNOWN}"
                )
            return self._not_reached("the mail server did not answer in time")

    async def stop(self) -> None:
        """Say goodbye to every idle connection."""
        idle, self._idle = self._idle, deque()
        for one in idle:
            one.expires.cancel()
        await asyncio.gather(*(_quit(one.client) for one in idle))

    @property
    def trouble(self) -> str:
        """Why the mail server cannot be used now; empty when it can, as far as is known."""
        return next((one.message for one in self._conditions if one.name == CONDITION), "")

    @property
    def idle(self) -> int:
        """Connections that wait for their next message."""
        return len(self._idle)

    # One message

    async def _hand_over(self, channel: SmtpChannel, message: Message, progress: _Progress) -> Outcome:
        while True:
            client, fresh = await self._connection(channel)
            taken = None
            try:
                await _command(client, b"MAIL", b"FROM:<" + message.attributes["from"].encode("ascii") + b">")
                await _command(client, b"RCPT", b"TO:<" + message.attributes["to"].encode("ascii") + b">")
                progress.sent = True
                taken = await client.data(message.body)
            except _Failed as failed:
                if not fresh and failed.outcome.status == CLOSING:
                    continue
                raise
            except Exception as error:
                code = getattr(error, "code", 0)
                if code:
                    raise _Failed(_judge(code, str(getattr(error, "message", "")))) from error
                if progress.sent:
                    raise _Failed(
                        Retry(reason=f"the connection broke after the message was sent; {OUTCOME_UNKNOWN}")
                    ) from error
                if not fresh:
                    # The server had closed a connection that we kept. Nothing was said yet, so a new one is asked at once.
                    continue
                raise _Failed(self._not_reached(f"the connection broke ({_describe(error)})")) from error
            finally:
                if taken is not None and channel is self._channel:
                    self._keep(client)
                else:
                    client.close()
            self._reached()
            return Delivered(status=taken.code, excerpt=taken.message.encode()[:EXCERPT])

    # Connections

    async def _connection(self, channel: SmtpChannel) -> tuple["aiosmtplib.SMTP", bool]:
        """Give a connection that is logged in, and whether it is fresh."""
        while self._idle:
            idle = self._idle.pop()
            idle.expires.cancel()
            if idle.client.is_connected:
                return idle.client, False
            idle.client.close()
        import aiosmtplib  # noqa: PLC0415 - an extra, and nothing that a sidecar without e-mail should load

        client = aiosmtplib.SMTP(
            hostname=channel.host,
            port=channel.port,
            use_tls=channel.tls == "implicit",
            start_tls=channel.tls == "starttls",
            tls_context=self._context,
            local_hostname=channel.hello,
            username=channel.username or None,
            password=channel.password or None,
            timeout=None,  # the attempt's deadline bounds all of it
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except aiosmtplib.SMTPResponseException as error:
            raise _Failed(
                self._not_reached(f"the mail server refused the connection: {error.code} {error.message}", error.code)
            ) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _Failed(self._not_reached(f"no connection to the mail server ({_describe(error)})")) from error
        self.connections += 1
        return client, True

    def _keep(self, client: "aiosmtplib.SMTP") -> None:
        if self._channel is None or len(self._idle) >= self._channel.concurrency:
            self._tasks.spawn("smtp quit", partial(_quit, client))
            return
        kept = _Idle(client, asyncio.get_running_loop().call_later(IDLE, self._expire, client))
        self._idle.append(kept)

    def _expire(self, client: "aiosmtplib.SMTP") -> None:
        for one in self._idle:
            if one.client is client:
                self._idle.remove(one)
                self._part(one)
                return

    def _part(self, idle: _Idle) -> None:
        idle.expires.cancel()
        self._tasks.spawn("smtp quit", partial(_quit, idle.client))

    # How the server fares

    def _not_reached(self, reason: str, status: int = 0) -> Retry:
        """Note that the channel itself failed; every failure in a row doubles the pause of the whole channel."""
        reason = CONCEALED.hide(reason)  # some servers repeat what they were told
        pause = min(MAX_PAUSE, 1 << min(self._unreachable, 10))
        self._unreachable += 1
        if self._unreachable == 1:
            self._log.warning("the mail server cannot be used", reason=reason)
        where = f"{self._channel.host}:{self._channel.port}" if self._channel else "none"
        self._conditions.set(CONDITION, "warn", f"{where}: {reason}; messages are kept and tried again")
        return Retry(reason=reason, status=status, retry_after_ns=pause * 1_000_000_000)

    def _reached(self) -> None:
        if self._unreachable:
            self._log.info("the mail server can be used again")
            self._unreachable = 0
            self._conditions.clear(CONDITION)


async def _command(client: "aiosmtplib.SMTP", verb: bytes, argument: bytes) -> None:
    """Say one command of the envelope. Addresses go out as accepted: the library's own quoting would take a quoted local part apart."""
    reply = await client.execute_command(verb, argument)
    if not 200 <= reply.code < 300:
        raise _Failed(_judge(reply.code, reply.message))


def _judge(code: int, text: str) -> Retry | Rejected:
    text = CONCEALED.hide(text)
    excerpt = f"{code} {text}".encode()[:EXCERPT]
    shown = " ".join(text.split())[:200]
    if 500 <= code < 600 and code not in LOGIN_CODES:
        return Rejected(reason=f"the mail server refused it: {code} {shown}", status=code, excerpt=excerpt)
    return Retry(reason=f"the mail server did not take it now: {code} {shown}", status=code, excerpt=excerpt)


def _describe(error: BaseException) -> str:
    """Name what failed. Replies and addresses may stand in it, credentials never do."""
    text = " ".join(str(error).split())[:200].rstrip(": ")
    cause = error.__cause__
    # A connection that is reset while it is made has no words of its own.
    nameless = cause is not None and not str(cause)
    return f"{text}: {type(cause).__name__}" if nameless else text or type(error).__name__


async def _quit(client: "aiosmtplib.SMTP") -> None:
    try:
        async with asyncio.timeout(QUIT):
            await client.quit()
    except Exception:  # noqa: BLE001, S110 - a farewell that fails changes nothing
        pass
    finally:
        client.close()


def attributes(*, sender: str, recipient: str, subject: str, locale: str) -> Mapping[str, str]:
    """Give what stands beside a message's bytes in the store, for the envelope and for its trace."""
    return {"from": sender, "to": recipient, "subject": subject, "locale": locale}
