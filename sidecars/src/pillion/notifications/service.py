"""The notification block at work: configuration in, messages out.

It promises that an accepted notification is delivered at least once, whatever crashes in between, and that a template or a mail server that does
not work costs nobody else anything: templates are rendered in a process of their own, and a mail server that is gone is waited for.
Deliberately absent so far: other channels than e-mail, digests, preferences, tracking.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pillion.delivery.machine import Machine
from pillion.delivery.model import Delivered, Delivery, Message, Outcome, Policy, Rejected
from pillion.kinds.exchange import ConditionReport
from pillion.notifications.channel import PASSWORD, USERNAME
from pillion.notifications.compiled import EmailSettings, Settings, Template, read_template
from pillion.notifications.figures import Figures, NotificationCollector, NotificationStatistics
from pillion.notifications.renderer import Renderer
from pillion.notifications.routes import Routes
from pillion.notifications.sending import EMAIL, Sending
from pillion.notifications.smtp import SmtpChannel, SmtpSender
from pillion.notifications.variables import SchemaError
from pillion.runtime.block import (
    JSON,
    Block,
    BlockConfiguration,
    Context,
    Prepared,
    Refused,
    SecretMissing,
    Secrets,
    Unready,
)
from pillion.runtime.operation import HotOperation, Operation

TEMPLATE_KIND: Final = "NotificationTemplate"

DRAIN: Final = 20.0
"""Seconds that attempts in flight get to end."""

FIELD: Final = "spec.notifications.email"


class NotificationBlock:
    """The notification block of one sidecar."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._figures = Figures()
        self._smtp = SmtpSender(context.conditions, context.tasks)
        self._renderer = Renderer(context.tasks)
        self._machine = Machine(
            name="notifications",
            path=context.data_dir / "deliveries.db",
            sender=self,
            clock=context.clock,
            conditions=context.conditions,
            tasks=context.tasks,
        )
        self._schedule = 0
        self._hold = ("", "")
        """Why no e-mail can be sent with this configuration: reason and message."""
        sending = Sending(self._machine, self._renderer, self._figures, context.clock)
        self._sending = sending
        self._routes = Routes(sending, self._machine)
        context.metrics.register(NotificationCollector(self.statistics))

    def operations(self) -> Sequence[Operation]:
        """Give its routes."""
        return self._routes.operations()

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give its routes of the hot lane: none, because rendering waits for another process."""
        return ()

    # Configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Read templates and channel.

        Raises:
            Refused: they are not what this version compiles.
        """
        where = f"SidecarProfile {configuration.profile}: spec.notifications"
        try:
            email = msgspec.convert(configuration.settings or {}, Settings).email
        except msgspec.ValidationError as error:
            raise Refused(f"{where}: {error}") from None
        templates: dict[str, Template] = {}
        for name, document in configuration.resources.get(TEMPLATE_KIND, {}).items():
            try:
                templates[name] = read_template(name, document)
            except (msgspec.ValidationError, SchemaError) as error:
                raise Refused(f"{TEMPLATE_KIND} {name}: {error}") from None
        reason, hold = "", ""
        channel = context = None
        if email is None:
            reason, hold = (
                "ChannelMissing",
                f"no e-mail can be sent: {where}.email is missing; name a mail server there",
            )
        else:
            try:
                channel = _channel(email, configuration.secrets, self._context.identity.pod)
                context = channel.context()
            except SecretMissing as error:
                reason, hold = "SecretMissing", f"{where}.email.smtp: {error}; create it, or change the reference"
            except ValueError as error:
                reason, hold = "SecretInvalid", f"{where}.email.smtp: {error}"
            if channel is not None and importlib.util.find_spec("aiosmtplib") is None:
                reason, hold = "NotInstalled", "e-mail needs the extra smtp; install pillion[smtp]"
        policies = {} if email is None else {EMAIL: _policy(email, hold)}

        def commit() -> None:
            self._schedule = len(email.schedule_ns) if email is not None else 0
            self._hold = (reason, hold)
            self._figures.keep(templates)
            self._sending.configure(templates, email, configuration.profile)
            self._smtp.configure(None if hold else channel, None if hold else context)
            self._machine.configure(policies)

        unready = tuple(
            Unready(kind=TEMPLATE_KIND, name=name, reason=reason, message=hold) for name in templates if reason
        )
        return Prepared(commit=commit, unready=unready)

    # Life

    async def start(self) -> None:
        """Open the store and begin to deliver."""
        await self._machine.open()

    async def drain(self) -> None:
        """Let attempts in flight end; notifications are still accepted."""
        await self._machine.drain(DRAIN)

    async def stop(self) -> None:
        """Close the store, the connections and the renderer."""
        await self._machine.stop()
        await self._smtp.stop()
        await self._renderer.stop()

    # Sending, for the delivery machine

    async def send(self, message: Message, delivery: Delivery, attempt: int, deadline: float) -> Outcome:
        """Attempt one delivery and count what it came to; see `delivery.model.Sender`."""
        outcome = await self._smtp.send(message, delivery, attempt, deadline)
        tally = self._figures.of(message.type)
        if isinstance(outcome, Delivered):
            tally.sent += 1
        elif isinstance(outcome, Rejected) or attempt > self._schedule:
            tally.failed += 1
        else:
            tally.retried += 1
        return outcome

    # Introspection

    def statistics(self) -> NotificationStatistics:
        """Give what it is doing now."""
        return NotificationStatistics(
            templates=self._figures.statistics(),
            refused=dict(self._figures.refused),
            renderer=self._renderer.statistics(),
            connections=self._smtp.connections,
            idle_connections=self._smtp.idle,
            delivery=self._machine.statistics(),
        )

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Give the figures of each template for the operator's status."""
        return self._figures.observed(TEMPLATE_KIND)

    def reports(self) -> Iterator[ConditionReport]:
        """Tell of a channel that cannot be used, and of templates that could not be rendered."""
        reason, message = self._hold
        if not reason and self._smtp.trouble:
            reason, message = "ServerUnreachable", self._smtp.trouble
        if reason and self._figures.names:
            yield _report("", "ChannelReady", reason, message)
        for name, where in self._figures.unrendered():
            message = f"could not be rendered with data that its schema allows: {where}; mend the template, or declare the data more strictly"
            yield _report(name, "Renders", "RenderFailed", message)


def _report(name: str, kind: str, reason: str, message: str) -> ConditionReport:
    return ConditionReport(
        kind=TEMPLATE_KIND, name=name, type=kind, status=False, reason=reason, message=message, degrades=True
    )


def _channel(email: EmailSettings, secrets: Secrets, pod: str) -> SmtpChannel:
    """Put the channel together with its Secrets.

    Raises:
        SecretMissing: a Secret or one of its keys is not there.
        ValueError: a value is no text.
    """
    username = password = ca = ""
    if email.credentials:
        username = _text(secrets, email.credentials, USERNAME)
        password = _text(secrets, email.credentials, PASSWORD)
    if email.ca is not None:
        ca = _text(secrets, email.ca.name, email.ca.key)
    return SmtpChannel(
        host=email.host,
        port=email.port,
        tls=email.tls,
        username=username,
        password=password,
        ca=ca,
        concurrency=email.concurrency,
        hello=pod or "localhost",
    )


def _text(secrets: Secrets, name: str, key: str) -> str:
    try:
        return secrets.value(name, key).decode().strip()
    except UnicodeDecodeError:
        # Without the cause: it would hold the value.
        raise ValueError(f'the key "{key}" of Secret "{name}" holds no text') from None


def _policy(email: EmailSettings, hold: str) -> Policy:
    return Policy(
        schedule_ns=email.schedule_ns,
        timeout_ns=email.timeout_ns,
        concurrency=email.concurrency,
        identity=f"{email.host}:{email.port}",
        hold=hold,
    )


def create(context: Context) -> Block:
    """Make the block."""
    return NotificationBlock(context)
