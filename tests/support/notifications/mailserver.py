"""A real SMTP server (aiosmtpd) in the test's own event loop, told what to answer, and a block in front of it.

async with MailServer() as server, notification_block(folder, server) as block: ...
"""

import asyncio
import contextlib
import email
import ssl
import warnings
from collections import deque
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Any, Self

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # aiosmtpd imports what Python 3.12 drops
    from aiosmtpd.smtp import SMTP, AuthResult

import yaml
from prometheus_client import CollectorRegistry

from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import check_document
from pillion.notifications.kind import BLOCK, TEMPLATE
from pillion.notifications.service import NotificationBlock
from pillion.runtime.block import BlockConfiguration, Context, Identity, Secrets
from pillion.runtime.clock import SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks

HANG = "hang"
"""Instead of a reply: never answer."""

DROP = "drop"
"""Instead of a reply: break the connection."""


class Received:
    """One message as the server took it."""

    def __init__(self, envelope: Any) -> None:
        self.sender: str = envelope.mail_from
        self.recipients: list[str] = list(envelope.rcpt_tos)
        self.content: bytes = envelope.content

    @property
    def message(self) -> EmailMessage:
        """The message as a mail program reads it."""
        return email.message_from_bytes(self.content, policy=modern)  # type: ignore[return-value]

    def part(self, kind: str) -> str:
        """Give the text of the part of type `text/<kind>`."""
        found = next(one for one in self.message.walk() if one.get_content_type() == f"text/{kind}")
        return found.get_content().replace("\r\n", "\n")


class MailServer:
    """An SMTP server.

    Args:
        tls: a certificate's context: STARTTLS is offered, or with *implicit* the connection begins with it.
        login: the one user and password; None for no AUTH.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.received: list[Received] = []
        self.mail: deque[str] = deque()
        self.rcpt: deque[str] = deque()
        self.data: deque[str] = deque()
        self.after: deque[str] = deque()
        """What to do after the message was taken, instead of answering 250."""
        self.connections = 0
        self.most_connections = 0
        self.now_connections = 0
        self.port = port
        self._tls, self._implicit, self._login = tls, implicit, login
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Event()
        self._transports: set[Any] = set()
        self._hanging = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen; on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol, "127.0.0.1", self.port, ssl=self._tls if self._implicit else None
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening and break every connection."""
        if self._server is None:
            return
        self._server.close()
        self._hanging.set()
        for transport in list(self._transports):
            transport.abort()
        self._server = None
        await asyncio.sleep(0)

    async def arrived(self, count: int) -> list[Received]:
        """Wait for *count* messages in all."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received

    def _protocol(self) -> SMTP:
        server = self

        class Protocol(SMTP):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                if transport not in server._transports:
                    server._transports.add(transport)
                    server.connections += 1
                    server.now_connections += 1
                    server.most_connections = max(server.most_connections, server.now_connections)

            def connection_lost(self, error: Exception | None) -> None:
                server.now_connections -= 1
                super().connection_lost(error)

        def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            return AuthResult(success=self._login == (data.login.decode(), data.password.decode()), handled=False)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a login without STARTTLS is unsafe: here TLS came first
            return self._make(Protocol, authenticate)

    def _make(self, protocol: type[SMTP], authenticate: Any) -> SMTP:
        return protocol(
            self,
            loop=asyncio.get_running_loop(),
            hostname="mail.test",
            tls_context=None if self._implicit else self._tls,
            require_starttls=self._tls is not None and not self._implicit,
            authenticator=authenticate if self._login else None,
            auth_required=self._login is not None,
            auth_require_tls=self._tls is not None and not self._implicit,
            enable_SMTPUTF8=False,
        )

    async def handle_MAIL(self, server: Any, _session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802 - aiosmtpd's name
        if self.mail:
            return await self._reply(server, self.mail.popleft())
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server: Any, _session: Any, envelope: Any, address: str, _options: list[str]) -> str:  # noqa: N802 - aiosmtpd's name
        if self.rcpt:
            return await self._reply(server, self.rcpt.popleft())
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.data:
            return await self._reply(server, self.data.popleft())
        self.received.append(Received(envelope))
        self._arrived.set()
        if self.after:
            return await self._reply(server, self.after.popleft())
        return "250 2.0.0 OK: queued as 4XyZ"

    async def _reply(self, server: Any, what: str) -> str:
        if what == HANG:
            await self._hanging.wait()
            return "421 bye"
        if what == DROP:
            server.transport.abort()
            return "421 bye"
        return what


TEMPLATES = """
apiVersion: pillion.dev/v1alpha1
kind: NotificationTemplate
metadata: {name: order-confirmation}
spec:
  variables:
    type: object
    required: [order, name]
    properties:
      name: {type: string, maxLength: 100}
      order:
        type: object
        required: [id, total]
        additionalProperties: false
        properties: {id: {type: string, maxLength: 40}, total: {type: number}}
  channels:
    email:
      content:
        en: {subject: "Order {{ order.id }} for {{ name }}", html: "<p>Hi {{ name }}, {{ order.total | currency('EUR') }}</p>"}
        de: {subject: "Bestellung {{ order.id }}", text: "Hallo {{ name }}: {{ order.total | currency('EUR') }}"}
---
apiVersion: pillion.dev/v1alpha1
kind: NotificationTemplate
metadata: {name: plain}
spec:
  channels: {email: {content: {en: {subject: Hello, text: There}}}}
"""

PROFILE = profile_kind([BLOCK])


def compiled(kind: Any, document: dict[str, Any]) -> Any:
    """Check and compile one manifest, as a snapshot holds it."""
    checked = check_document(document, {kind.kind: kind})
    assert checked.resource is not None, checked.violations
    return kind.compile(document["metadata"]["name"], checked.resource.spec)


def configuration(
    email_section: dict[str, Any] | None = None,
    templates: str = TEMPLATES,
    secrets: dict[str, dict[str, bytes]] | None = None,
) -> BlockConfiguration:
    """Give what a snapshot of these manifests hands the block."""
    settings = None
    if email_section is not None:
        profile = {
            "apiVersion": "pillion.dev/v1alpha1",
            "kind": "SidecarProfile",
            "metadata": {"name": "default"},
            "spec": {"notifications": {"email": email_section}},
        }
        settings = compiled(PROFILE, profile)["settings"]["notifications"]
    documents = [document for document in yaml.safe_load_all(templates) if document]
    return BlockConfiguration(
        namespace="default",
        settings=settings,
        resources={TEMPLATE.kind: {one["metadata"]["name"]: compiled(TEMPLATE, one) for one in documents}},
        secrets=Secrets(secrets or {}),
        profile="default",
    )


def channel(server: MailServer, **smtp: Any) -> dict[str, Any]:
    """Give the section of a profile that sends through *server*."""
    smtp = {"host": "127.0.0.1", "port": server.port, "tls": "none", "retry": {"schedule": ["1s", "1s", "1s"]}} | smtp
    return {"smtp": smtp, "from": "Shop <no-reply@shop.example>"}


class RunningBlock:
    """A block and what the runtime lends it."""

    def __init__(self, folder: Path, clock: Any = None) -> None:
        self.conditions = Conditions()
        self.tasks = Tasks("notifications", self.conditions)
        self.metrics = CollectorRegistry()
        self.block = NotificationBlock(
            Context(
                block="notifications",
                data_dir=folder,
                clock=clock or SystemClock(),
                identity=Identity(pod="shop-1"),
                metrics=self.metrics,
                conditions=self.conditions,
                tasks=self.tasks,
            )
        )

    async def apply(self, wanted: BlockConfiguration) -> Any:
        """Prepare and commit."""
        prepared = await self.block.prepare(wanted)
        prepared.commit()
        return prepared

    async def until(self, done: Any) -> None:
        """Wait until *done* holds."""
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 - what it looks at has no event
                await asyncio.sleep(0.002)

    def sample(self, name: str, **labels: str) -> float:
        """Give the value of a metric."""
        return self.metrics.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def notification_block(
    folder: Path, wanted: BlockConfiguration, clock: Any = None
) -> AsyncIterator[RunningBlock]:
    """A started block, stopped in the end."""
    running = RunningBlock(folder, clock)
    await running.apply(wanted)
    await running.block.start()
    try:
        yield running
    finally:
        await running.block.drain()
        await running.block.stop()
        await running.tasks.stop()
