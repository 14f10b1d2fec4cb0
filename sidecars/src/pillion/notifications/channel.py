"""The e-mail channel: which mail server takes the messages, and who they are from. A section of SidecarProfile.

A channel belongs to the profile, not to a template, because it is the platform's: the same template goes out through another server in another
namespace. The account stands in a Secret with the keys `username` and `password`.
"""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from pillion.kinds.definition import ProfileSection
from pillion.kinds.model import ATOMIC, JSON, Model, Rule, SecretKeyRef, SecretRef
from pillion.kinds.quantities import Duration, parse_duration
from pillion.kinds.violations import FieldPath, Violation, at
from pillion.notifications import addresses

USERNAME: Final = "username"
PASSWORD: Final = "password"  # noqa: S105 - the key's name, no password
"""Keys of the Secret that `credentialsRef` names."""

DEFAULT_SCHEDULE: Final = ("30s", "2m", "10m", "30m", "1h", "2h", "4h", "8h", "12h")
"""Pauses between attempts: a restart of the mail server costs half a minute, greylisting ten, and a mail server that is gone for a day loses
nothing. 27 h 42 min 30 s in all; a notification that is later than that rarely helps anybody."""

MIN_PAUSE: Final = parse_duration("1s")
MAX_PAUSE: Final = parse_duration("7d")
MIN_TIMEOUT: Final = parse_duration("1s")
MAX_TIMEOUT: Final = parse_duration("10m")

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?"
)
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


Mailbox = Annotated[str, Meta(min_length=3, max_length=512)]
"""An address with or without a display name."""


class Concurrency(Model, frozen=True, kw_only=True):
    """How much is sent at the same time."""

    max: Annotated[
        int, Meta(ge=1, le=64, description="Connections to the mail server at the same time, and messages in flight.")
    ] = 4


class Retries(Model, frozen=True, kw_only=True):
    """When a message that the mail server did not take is tried again."""

    schedule: Annotated[
        tuple[Duration, ...],
        Meta(
            max_length=32,
            description="Pause before the second and every later attempt, 1s to 7d each, as in 30s or 1h; after the last the message is a dead letter.",
            extra_json_schema=ATOMIC,
        ),
    ] = DEFAULT_SCHEDULE


class Smtp(Model, frozen=True, kw_only=True):
    """A mail server that takes messages by SMTP."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.tls != 'none' || !has(self.credentialsRef)",
            test=lambda smtp: smtp.get("tls") != "none" or "credentialsRef" not in smtp,
            message="tls: none would send the password in clear; use starttls or implicit, or remove credentialsRef",
            field="tls",
        ),
        Rule(
            cel="self.tls != 'none' || !has(self.caRef)",
            test=lambda smtp: smtp.get("tls") != "none" or "caRef" not in smtp,
            message="caRef verifies nothing with tls: none; use starttls or implicit, or remove caRef",
            field="caRef",
        ),
    )

    host: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=253,
            description="Host name or IP address of the mail server, as in smtp.example.com.",
        ),
    ]
    port: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="Port: 587 for submission with starttls (default), 465 for implicit TLS, 25 for a relay.",
        ),
    ] = 587
    tls: Annotated[
        Literal["starttls", "implicit", "none"],
        Meta(
            description="starttls (default) upgrades the connection and fails where the server offers no TLS; implicit begins with TLS; none "
            "sends in clear and suits only a server in the same pod."
        ),
    ] = "starttls"
    credentials_ref: Annotated[
        SecretRef | None, Meta(description="Secret with the keys username and password; absent means no login.")
    ] = None
    ca_ref: Annotated[
        SecretKeyRef | None,
        Meta(
            description="Secret key with the PEM certificates that the server's certificate must chain to; absent means the system's."
        ),
    ] = None
    timeout: Annotated[
        Duration, Meta(description="How long one attempt may take in all, 1s to 10m, as in 60s (default).")
    ] = "60s"
    concurrency: Annotated[Concurrency, Meta(description="How much is sent at the same time.")] = Concurrency()
    retry: Annotated[Retries, Meta(description="When a message that was not taken is tried again.")] = Retries()


class Email(Model, frozen=True, kw_only=True):
    """The e-mail channel."""

    smtp: Annotated[Smtp, Meta(description="The mail server that takes the messages.")]
    from_: Annotated[Mailbox, Meta(description='Sender of every message, as in "Shop <no-reply@shop.example>".')] = (
        msgspec.field(name="from")
    )
    reply_to: Annotated[
        Mailbox | None,
        Meta(description='Where answers go, as in "Support <help@shop.example>"; absent means to the sender.'),
    ] = None


class Channels(Model, frozen=True, kw_only=True):
    """How notifications leave the sidecar."""

    email: Annotated[Email | None, Meta(description="The e-mail channel; absent means that no e-mail can be sent.")] = (
        None
    )


def _check(channels: Channels, path: FieldPath) -> Iterable[Violation]:
    email = channels.email
    if email is None:
        return
    here = at(path, "email")
    for field, value in (("from", email.from_), ("replyTo", email.reply_to)):
        if value is not None:
            try:
                addresses.named_mailbox(value)
            except ValueError as error:
                rule, _, fix = str(error).partition("; ")
                yield Violation(
                    path=at(here, field),
                    value=value,
                    rule=rule,
                    fix=fix or 'write it as in "Shop <no-reply@shop.example>"',
                )
    smtp = email.smtp
    there = at(here, "smtp")
    if not (_HOST.fullmatch(smtp.host) or _IPV6.fullmatch(smtp.host)):
        yield Violation(
            path=at(there, "host"),
            value=smtp.host,
            rule="is no host name and no IP address",
            fix="write it as in smtp.example.com, without scheme and port",
        )
    if (smtp.tls == "starttls" and smtp.port == 465) or (smtp.tls == "implicit" and smtp.port in (25, 587)):
        yield Violation(
            path=at(there, "tls"),
            value=smtp.tls,
            rule=f"is unusual on port {smtp.port}",
            fix="465 speaks implicit TLS, 25 and 587 speak starttls",
            severity="warning",
        )
    if not MIN_TIMEOUT <= parse_duration(smtp.timeout) <= MAX_TIMEOUT:
        yield Violation(path=at(there, "timeout"), value=smtp.timeout, rule="is out of range", fix="use 1s to 10m")
    for index, pause in enumerate(smtp.retry.schedule):
        if not MIN_PAUSE <= parse_duration(pause) <= MAX_PAUSE:
            yield Violation(
                path=at(there, "retry", "schedule", index),
                value=pause,
                rule="is out of range",
                fix="use 1s to 7d for each pause",
            )


def _compile(channels: Channels) -> JSON:
    email = channels.email
    if email is None:
        return {"email": None}
    smtp = email.smtp
    name, address = addresses.named_mailbox(email.from_)
    reply = addresses.named_mailbox(email.reply_to) if email.reply_to is not None else None
    return {
        "email": {
            "fromName": name,
            "fromAddress": address,
            "replyToName": reply[0] if reply else "",
            "replyToAddress": reply[1] if reply else "",
            "host": smtp.host,
            "port": smtp.port,
            "tls": smtp.tls,
            "credentials": smtp.credentials_ref.name if smtp.credentials_ref else "",
            "ca": {"name": smtp.ca_ref.name, "key": smtp.ca_ref.key} if smtp.ca_ref else None,
            "timeoutNs": parse_duration(smtp.timeout),
            "concurrency": smtp.concurrency.max,
            "scheduleNs": [parse_duration(pause) for pause in smtp.retry.schedule],
        }
    }


SECTION: Final = ProfileSection(
    field="notifications",
    model=Channels,
    description="Channels of notifications: the mail server and the sender's address.",
    check=_check,
    compile=_compile,
)
