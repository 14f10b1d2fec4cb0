"""From a request to a message on disk: check everything, render, accept. Each mistake of the caller is named with a pointer to its field.

The order matters: what can be refused is refused before anything is stored, and a notification is rendered when it is accepted, so that what was
answered 202 can always be sent. A repeated request (same idempotency key, same content) is answered from the store without rendering again.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pillion.delivery.failures import IdConflict, Overloaded, StoreFull, StoreUnavailable
from pillion.delivery.machine import Machine
from pillion.delivery.model import NEVER, DestinationName, MessageId, Receipt, Submission
from pillion.kinds.violations import did_you_mean
from pillion.notifications import addresses, locales
from pillion.notifications.compiled import EmailSettings, Template
from pillion.notifications.content import Rendered, RenderError
from pillion.notifications.figures import Figures
from pillion.notifications.formats import parse_date_time
from pillion.notifications.mail import Envelope
from pillion.notifications.renderer import Renderer, RendererBusy, RendererUnavailable
from pillion.notifications.smtp import attributes
from pillion.notifications.validation import validate
from pillion.notifications.views import Notification, PreviewRequest, Recipient
from pillion.runtime.clock import Clock
from pillion.runtime.problems import FieldError, Problem

EMAIL: Final = DestinationName("email")
"""The channel, and the delivery machine's destination for it."""

MAX_AHEAD: Final = 30 * 86_400 * 1_000_000_000
"""Nanoseconds that a notification may be scheduled ahead."""

_MICROSECOND: Final = timedelta(microseconds=1)
_canonical = msgspec.json.Encoder(order="sorted").encode


class Sending:
    """Takes notifications in.

    Args:
        machine: keeps and delivers them.
        renderer: renders them.
        figures: counts them.
        clock: the time.
    """

    def __init__(self, machine: Machine, renderer: Renderer, figures: Figures, clock: Clock) -> None:
        self._machine = machine
        self._renderer = renderer
        self._figures = figures
        self._clock = clock
        self._templates: Mapping[str, Template] = {}
        self._email: EmailSettings | None = None
        self._profile = ""

    def configure(self, templates: Mapping[str, Template], email: EmailSettings | None, profile: str) -> None:
        """Use these templates and this channel from now on. Synchronous and cannot fail."""
        self._templates, self._email, self._profile = templates, email, profile

    async def accept(self, wanted: Notification) -> Receipt:
        """Accept one notification; returns when it is on disk.

        Raises:
            Problem: 404, 409, 422, 503 or 507, each with the field and the fix.
        """
        template = self._template(wanted.template)
        email = self._channel()
        errors = [*_channel_errors(wanted.channels), *_schedule_errors(wanted.send_at, self._clock.wall_ns())]
        recipient, problems = _recipient(wanted.to)
        locale, wrong = _locale(wanted.locale, template)
        errors += problems + wrong
        errors += [
            FieldError(f"#/data{error.pointer}", error.detail) for error in validate(wanted.data, template.variables)
        ]
        if errors:
            self._figures.refuse("recipient" if problems else "data")
            raise _invalid(errors)
        identifier, fingerprint = self._machine.new_id(), None
        if wanted.idempotency_key is not None:
            identifier = MessageId("key_" + hashlib.sha256(wanted.idempotency_key.encode()).hexdigest())
            fingerprint = _fingerprint(wanted)
            known = await self._seen(identifier, fingerprint)
            if known is not None:
                return known
        now = self._clock.wall_ns()
        envelope = Envelope(
            from_name=email.from_name,
            from_address=email.from_address,
            to_name=recipient.name,
            to_address=recipient.email,
            reply_to_name=email.reply_to_name,
            reply_to_address=email.reply_to_address,
            message_id=identifier,
            date_ns=max(now, _send_at_ns(wanted.send_at)),
            locale=locale,
        )
        rendered, body = await self._render(template, locale, wanted.data, envelope)
        about = dict(
            attributes(sender=email.from_address, recipient=recipient.email, subject=rendered.subject, locale=locale)
        )
        if fingerprint is not None:
            about["fingerprint"] = fingerprint.hex()
        submission = Submission(
            id=identifier,
            type=template.name,
            body=body,
            destinations=(EMAIL,),
            attributes=about,
            fingerprint=fingerprint,
            not_before_ns=_send_at_ns(wanted.send_at),
        )
        receipt = await self._store(submission)
        if not receipt.repeated:
            self._figures.of(template.name).accepted += 1
        return receipt

    async def preview(self, wanted: PreviewRequest) -> tuple[Rendered, str]:
        """Render one notification as it would be sent, and give the locale that was taken; nothing is kept.

        Raises:
            Problem: 404, 422 or 503, each with the field and the fix.
        """
        template = self._template(wanted.template)
        locale, errors = _locale(wanted.locale, template)
        errors += [
            FieldError(f"#/data{error.pointer}", error.detail) for error in validate(wanted.data, template.variables)
        ]
        if errors:
            raise _invalid(errors)
        rendered, _ = await self._render(template, locale, wanted.data, None)
        return rendered, locale

    # Steps

    def _template(self, name: str) -> Template:
        template = self._templates.get(name)
        if template is None:
            fix = did_you_mean(name, self._templates)
            raise Problem(
                404,
                "unknown-template",
                "Unknown template",
                f'There is no NotificationTemplate "{name}" in this sidecar; {fix}',
                errors=[FieldError("#/template", fix)],
            )
        return template

    def _channel(self) -> EmailSettings:
        if self._email is None:
            self._figures.refuse("channel")
            profile = f'SidecarProfile "{self._profile}"' if self._profile else "SidecarProfile of this pod"
            raise Problem(
                409,
                "channel-missing",
                "Channel missing",
                f"No e-mail can be sent: the {profile} has no spec.notifications.email; name a mail server there.",
            )
        return self._email

    async def _render(
        self, template: Template, locale: str, data: dict[str, object], envelope: Envelope | None
    ) -> tuple[Rendered, bytes]:
        try:
            rendered = await self._renderer.render(
                template.keys[locale], template.sources[locale], locale, data, envelope
            )
            self._figures.of(template.name).unrendered.pop(locale, None)
            return rendered
        except RenderError as error:
            self._figures.refuse("render")
            where = f"{error.part}, line {error.line}" if error.line else error.part
            # Without the reason, which may repeat what the data says.
            self._figures.of(template.name).unrendered[locale] = where
            raise Problem(
                422,
                "not-renderable",
                "Not renderable",
                f'NotificationTemplate "{template.name}" ({locale}, {where}) cannot be rendered with this data: {error.reason}.',
                errors=[FieldError("#/data", error.reason)],
            ) from error
        except (RendererBusy, RendererUnavailable) as error:
            self._figures.refuse("busy")
            raise _later(
                "renderer-busy", "Renderer busy", f"Nothing was accepted: {error}; try again in a moment."
            ) from error

    async def _seen(self, identifier: MessageId, fingerprint: bytes) -> Receipt | None:
        """Give the receipt of an earlier acceptance under the same key."""
        try:
            known = await self._machine.message(identifier)
        except StoreUnavailable as error:
            raise self._unavailable(error) from error
        if known is None:
            return None
        if known.attributes.get("fingerprint") != fingerprint.hex():
            raise _conflict()
        return Receipt(id=identifier, deliveries=1, repeated=True)

    async def _store(self, submission: Submission) -> Receipt:
        try:
            return (await self._machine.accept([submission]))[0]
        except IdConflict as error:
            raise _conflict() from error
        except StoreFull as error:
            self._figures.refuse("store")
            raise Problem(
                507,
                "store-full",
                "Store full",
                f"Nothing was accepted: {error}; try again when there is room on the sidecar's volume.",
            ) from error
        except Overloaded as error:
            self._figures.refuse("store")
            raise _later(
                "overloaded", "Overloaded", f"Nothing was accepted: {error}; try again in a moment."
            ) from error
        except StoreUnavailable as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: StoreUnavailable) -> Problem:
        self._figures.refuse("store")
        return _later(
            "store-unavailable", "Store unavailable", f"Nothing was accepted: {error}; try again in a moment."
        )


def _later(slug: str, title: str, detail: str) -> Problem:
    return Problem(503, slug, title, detail, headers={"Retry-After": "1"})


def _conflict() -> Problem:
    return Problem(
        409,
        "idempotency-conflict",
        "Idempotency conflict",
        "This idempotencyKey was used before for another notification; use a new key for other content.",
        errors=[FieldError("#/idempotencyKey", "was used before with other content")],
    )


def _invalid(errors: list[FieldError]) -> Problem:
    return Problem(
        422, "invalid-notification", "Invalid notification", f"{errors[0].pointer}: {errors[0].detail}.", errors=errors
    )


def _fingerprint(wanted: Notification) -> bytes:
    """Give a digest of what is asked for, however its JSON is spaced or ordered.

    Raises:
        Problem: 422, the data is nested too deeply.
    """
    said = (wanted.template, wanted.to, wanted.data, wanted.locale, wanted.channels, wanted.send_at)
    try:
        return hashlib.sha256(_canonical(said)).digest()
    except (RecursionError, OverflowError):
        raise _invalid([FieldError("#/data", "is nested too deeply, or holds a number of more than 64 bits")]) from None


def _channel_errors(channels: tuple[str, ...] | None) -> list[FieldError]:
    if channels is None:
        return []
    if not channels:
        return [FieldError("#/channels", "is empty; name a channel, or leave it out for all of them")]
    return [
        FieldError(f"#/channels/{index}", f"is no channel of this template; {did_you_mean(name, [EMAIL])}")
        for index, name in enumerate(channels)
        if name != EMAIL
    ][:20]


def _send_at_ns(send_at: str | None) -> int:
    if send_at is None:
        return NEVER
    moment = parse_date_time(send_at)
    # In whole microseconds: a float would lose them.
    return ((moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND) * 1_000


def _schedule_errors(send_at: str | None, now_ns: int) -> list[FieldError]:
    try:
        moment = _send_at_ns(send_at)
    except (ValueError, OverflowError) as error:
        return [FieldError("#/sendAt", str(error))]
    if moment > now_ns + MAX_AHEAD:
        return [FieldError("#/sendAt", "is more than 30 days ahead; send it later")]
    return []


def _recipient(to: str | Recipient) -> tuple[Recipient, list[FieldError]]:
    plain = isinstance(to, str)
    recipient = Recipient(email=to) if isinstance(to, str) else to
    errors = []
    try:
        addresses.mailbox(recipient.email)
    except ValueError as error:
        errors.append(FieldError("#/to" if plain else "#/to/email", str(error)))
    try:
        addresses.display_name(recipient.name)
    except ValueError as error:
        errors.append(FieldError("#/to/name", str(error)))
    return recipient, errors


def _locale(wanted: str | None, template: Template) -> tuple[str, list[FieldError]]:
    try:
        return locales.choose(wanted, template.sources, template.default_locale), []
    except ValueError as error:
        return template.default_locale, [FieldError("#/locale", str(error))]
