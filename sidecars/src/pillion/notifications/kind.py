"""NotificationTemplate: what a notification says, in which languages, and from which data.

The template is proven when it is applied (`proof.py`): undeclared variables, values that may be absent, markup that a value could break, and
everything that could fail at run time are refused with the line and the fix, so that an accepted notification is never lost to its template.
"""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from msgspec import Meta

from pillion.kinds.definition import BlockDefinition, Column, Kind, OwnCondition
from pillion.kinds.model import FREEFORM, JSON, Model, Rule, Spec
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean
from pillion.notifications import locales, variables
from pillion.notifications.channel import SECTION
from pillion.notifications.content import Source
from pillion.notifications.proof import prove

TEMPLATE_KIND: Final = "NotificationTemplate"

NO_VARIABLES: Final[JSON] = {"type": "object"}

LocaleTag = Annotated[str, Meta(min_length=2, max_length=locales.MAX_LENGTH)]


class EmailContent(Model, frozen=True, kw_only=True):
    """One translation of an e-mail. Every text is a template."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.text) || has(self.html)",
            test=lambda content: "text" in content or "html" in content,
            message="an e-mail needs a text or an html part; add one",
        ),
    )

    subject: Annotated[str, Meta(min_length=1, max_length=1000, description="Template of the subject: one line.")]
    text: Annotated[
        Annotated[str, Meta(min_length=1, max_length=65536)] | None,
        Meta(description="Template of the text part; absent means that it is made from the html part."),
    ] = None
    html: Annotated[
        Annotated[str, Meta(min_length=1, max_length=131072)] | None,
        Meta(description="Template of the HTML part; values in it are escaped. Absent means text alone."),
    ] = None

    @property
    def source(self) -> Source:
        """The templates as the engine reads them."""
        return Source(subject=self.subject.strip(), text=self.text or "", html=self.html or "")


class EmailTemplate(Model, frozen=True, kw_only=True):
    """The template as an e-mail."""

    content: Annotated[
        dict[LocaleTag, EmailContent],
        Meta(min_length=1, max_length=64, description="Translations by locale, as in en, de-AT or zh-Hant."),
    ]


class TemplateChannels(Model, frozen=True, kw_only=True):
    """The channels that the template has content for."""

    email: Annotated[EmailTemplate, Meta(description="The template as an e-mail.")]


class NotificationTemplateSpec(Spec, frozen=True, kw_only=True):
    """What a notification says, in which languages, and from which data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.defaultLocale in self.channels.email.content",
            test=lambda spec: spec["defaultLocale"] in spec["channels"]["email"]["content"],
            message="has no translation; add one under that locale, or name one that is there",
            field="defaultLocale",
        ),
    )

    variables: Annotated[
        JSON,
        Meta(
            description="JSON Schema of the data: type, properties, required, additionalProperties, items, enum, const, format, and bounds. "
            "Data that does not fit is refused when a notification is sent. Absent means that the template uses no data.",
            extra_json_schema=FREEFORM,
        ),
    ] = None
    default_locale: Annotated[
        LocaleTag,
        Meta(description="Locale of readers whose own has no translation, and neither has any that it inherits from."),
    ] = "en"
    channels: Annotated[TemplateChannels, Meta(description="The channels that the template has content for.")]


def _check(spec: NotificationTemplateSpec, path: FieldPath) -> Iterable[Violation]:
    content = spec.channels.email.content
    where = at(path, "channels", "email", "content")
    found = [*_encodable(spec, where), *_tags(spec, path, where)]
    yield from found
    try:
        described = variables.parse(NO_VARIABLES if spec.variables is None else spec.variables, at(path, "variables"))
    except variables.SchemaError as error:
        yield from error.violations
        return
    if not found:
        yield from prove({locale: one.source for locale, one in content.items()}, described, where)


def _encodable(spec: NotificationTemplateSpec, where: FieldPath) -> Iterable[Violation]:
    """YAML can write half of a surrogate pair, which no mail can carry."""
    for locale, one in spec.channels.email.content.items():
        for field in ("subject", "text", "html"):
            try:
                (getattr(one, field) or "").encode()
            except UnicodeEncodeError as error:
                yield Violation(
                    path=at(where, locale, field),
                    rule=f"holds half of a character at position {error.start}",
                    fix=r"write the whole character, or its \U escape",
                )


def _tags(spec: NotificationTemplateSpec, path: FieldPath, where: FieldPath) -> Iterable[Violation]:
    named = [(at(where, tag), tag) for tag in spec.channels.email.content]
    for place, tag in [(at(path, "defaultLocale"), spec.default_locale), *named]:
        try:
            canonical = locales.canonical(tag)
        except ValueError as error:
            rule, _, fix = str(error).partition("; ")
            yield Violation(path=place, value=tag, rule=rule.partition('" ')[2], fix=fix)
            continue
        if canonical != tag:
            yield Violation(path=place, value=tag, rule="is not in the usual case", fix=f"write {canonical}")
        elif not locales.is_known(tag):
            language = tag.partition("-")[0]
            yield Violation(
                path=place,
                value=tag,
                rule=f'begins with "{language}", which is no language that CLDR knows',
                fix=did_you_mean(language, locales.languages()),
            )


def _compile(_name: str, spec: NotificationTemplateSpec) -> JSON:
    return {
        "variables": NO_VARIABLES if spec.variables is None else spec.variables,
        "defaultLocale": spec.default_locale,
        "email": {
            locale: {"subject": one.source.subject, "text": one.source.text, "html": one.source.html}
            for locale, one in spec.channels.email.content.items()
        },
    }


TEMPLATE: Final = Kind(
    kind=TEMPLATE_KIND,
    plural="notificationtemplates",
    short_names=("ntpl",),
    summary="What a notification says, in which languages, and from which data.",
    spec=NotificationTemplateSpec,
    check=_check,
    compile=_compile,
    columns=(
        Column(
            name="Channels", json_path=".status.channels", description="Channels that the template has content for."
        ),
        Column(name="Locales", json_path=".status.locales", description="Locales that the template is written in."),
        Column(
            name="Sent",
            json_path=".status.sent",
            type="integer",
            description="Messages that were taken, since the sidecars started.",
        ),
        Column(
            name="Failed",
            json_path=".status.failed",
            type="integer",
            description="Messages that became dead letters, since the sidecars started.",
        ),
    ),
    conditions={
        "ChannelReady": OwnCondition(
            summary="Whether its channel can be used: it is configured, its Secrets are there, its server answers.",
            normally=True,
        ),
        "Renders": OwnCondition(
            summary="Whether every locale could be rendered the last time that somebody asked for it.", normally=True
        ),
    },
    summarize=lambda spec: {"channels": "email", "locales": ",".join(sorted(spec.channels.email.content))},
    status_schema={
        "channels": {"type": "string", "maxLength": 256, "description": "Channels that the template has content for."},
        "locales": {"type": "string", "maxLength": 4096, "description": "Locales that the template is written in."},
        "sent": {
            "type": "integer",
            "format": "int64",
            "description": "Messages that were taken, since the sidecars started.",
        },
        "failed": {
            "type": "integer",
            "format": "int64",
            "description": "Messages that became dead letters, since the sidecars started.",
        },
    },
)

BLOCK: Final = BlockDefinition(name="notifications", kinds=(TEMPLATE,), section=SECTION)
