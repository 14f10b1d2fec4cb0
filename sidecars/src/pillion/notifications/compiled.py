"""What the sidecar reads of a snapshot: templates and the e-mail channel, ready for use. Needs no template engine."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pillion.notifications.content import Source
from pillion.notifications.variables import Variable, parse

JSON = Any


class _TemplateDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    variables: JSON
    default_locale: str
    email: dict[str, Source]


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """One NotificationTemplate.

    Args:
        name: its name.
        variables: the root of its schema.
        default_locale: the translation for readers whose own has none.
        sources: translations by locale.
        keys: for each translation a digest of its text, under which the renderer knows it.
    """

    name: str
    variables: Variable
    default_locale: str
    sources: Mapping[str, Source]
    keys: Mapping[str, str]


class CaReference(msgspec.Struct, frozen=True, kw_only=True):
    """The Secret key with the certificates that a mail server's must chain to."""

    name: str
    key: str


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The e-mail channel of a profile, as `channel.py` compiles it. Durations are nanoseconds.

    Args:
        from_name: display name of the sender; may be empty.
        from_address: address of the sender.
        reply_to_name: display name of where answers go.
        reply_to_address: address of where answers go; empty for the sender.
        host: the mail server.
        port: its port.
        tls: how the connection is secured.
        credentials: name of the Secret with `username` and `password`; empty for none.
        ca: the certificates to trust; None for the system's.
        timeout_ns: how long one attempt may take.
        concurrency: connections, and messages in flight, at the same time.
        schedule_ns: pauses between attempts.
    """

    from_name: str
    from_address: str
    reply_to_name: str
    reply_to_address: str
    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    credentials: str
    ca: CaReference | None
    timeout_ns: int
    concurrency: int
    schedule_ns: tuple[int, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The section `notifications` of a profile."""

    email: EmailSettings | None = None


def read_template(name: str, document: JSON) -> Template:
    """Read one compiled template.

    Raises:
        msgspec.ValidationError: it is not what this version compiles.
        pillion.notifications.variables.SchemaError: its schema is not one that this version understands.
    """
    found = msgspec.convert(document, _TemplateDocument)
    return Template(
        name=name,
        variables=parse(found.variables),
        default_locale=found.default_locale,
        sources=found.email,
        keys={locale: _digest(source) for locale, source in found.email.items()},
    )


def _digest(source: Source) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(source)).hexdigest()
