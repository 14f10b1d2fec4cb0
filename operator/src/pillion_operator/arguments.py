"""Settings as flags: parsed, checked one by one and together, and written down as a table.

Everything is read off the fields of `Settings`, so that flag, help and documentation cannot differ from them. A refusal names the flag, the value and the fix.
"""

import argparse

import msgspec
from msgspec import inspect as msgspec_inspect

from pillion_operator.injection.forms import amount
from pillion_operator.injection.precedence import ANNOTATIONS
from pillion_operator.settings import InvalidSettingsError, Settings


def _check_sidecar(settings: Settings) -> None:
    """Refuse what would make the API server refuse every injected pod."""
    for name, (field, form) in ANNOTATIONS.items():
        value = getattr(settings, f"sidecar_{field}", None)
        if value is None:
            continue
        try:
            form.read(value or "none")
        except ValueError as error:
            raise InvalidSettingsError(f"--sidecar-{name}: {value!r} is not allowed; {error}") from None
    for what in ("cpu", "memory"):
        request, limit = getattr(settings, f"sidecar_{what}_request"), getattr(settings, f"sidecar_{what}_limit")
        if limit and amount(request) > amount(limit):
            raise InvalidSettingsError(
                f"--sidecar-{what}-request: {request} is above the limit, {limit}; raise the limit"
            )


def _bracketed(url: str) -> str:
    """Give *url* with brackets around a bare IPv6 address, which is what a pod's address is in its environment."""
    scheme, mark, rest = url.partition("://")
    host, colon, port = rest.rpartition(":")
    return f"{scheme}{mark}[{host}]{colon}{port}" if ":" in host and "[" not in host else url


def validate(settings: Settings) -> Settings:
    """Give *settings* back, with a usable URL to advertise, if they go together.

    Raises:
        InvalidSettingsError: they do not.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidSettingsError("--tls-cert and --tls-key belong together; give both")
    if settings.tls_cert is not None and settings.insecure:
        raise InvalidSettingsError("--insecure contradicts --tls-cert; remove one")
    if settings.tls_ca is not None and settings.tls_cert is None:
        raise InvalidSettingsError("--tls-ca belongs to --tls-cert; without it the operator's own authority is told")
    _check_sidecar(settings)
    if not settings.lease_retry_period < settings.lease_renew_deadline < settings.lease_duration:
        raise InvalidSettingsError(
            "--lease-retry-period must be below --lease-renew-deadline, and that below --lease-duration;"
            f" found {settings.lease_retry_period}, {settings.lease_renew_deadline}, {settings.lease_duration}"
        )
    if settings.advertise_url and settings.peer_token_file is None:
        raise InvalidSettingsError("--advertise-url needs --peer-token-file: replicas report to each other with it")
    return msgspec.structs.replace(settings, advertise_url=_bracketed(settings.advertise_url))


def flag(name: str) -> str:
    """Give the flag of a field."""
    return "--" + name.replace("_", "-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting."""
    for field in _fields():
        kind, description = _parts(field.type)
        if isinstance(kind, msgspec_inspect.BoolType):
            parser.add_argument(
                flag(field.name), dest=field.name, action="store_true", default=None, help=_help(description)
            )
            continue
        shown = "" if field.default in (msgspec.NODEFAULT, None, "") else f" Default: {field.default}."
        parser.add_argument(
            flag(field.name), dest=field.name, default=None, metavar=_metavar(kind), help=_help(description + shown)
        )


def from_arguments(args: argparse.Namespace) -> Settings:
    """Make settings of parsed arguments.

    Raises:
        InvalidSettingsError: a value is no number, or out of its bounds, or they do not go together.
    """
    given = {f.name: getattr(args, f.name) for f in _fields() if getattr(args, f.name, None) is not None}
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False, dec_hook=lambda kind, text: kind(text))
        except msgspec.ValidationError as error:
            text = str(error).partition(" - at ")[0]
            raise InvalidSettingsError(f"{flag(name)}: {value!r} is not allowed: {text}") from None
    return validate(msgspec.convert(given, Settings, strict=False, dec_hook=lambda kind, text: kind(text)))


def documentation() -> str:
    """Write the table of settings as Markdown, for the documentation."""
    lines = ["| flag | default | what it does |", "| --- | --- | --- |"]
    for field in _fields():
        _, description = _parts(field.type)
        default = "" if field.default in (msgspec.NODEFAULT, None, "", False) else f"`{field.default}`"
        lines.append(f"| `{flag(field.name)}` | {default} | {description} |")
    return "\n".join(lines) + "\n"


def _fields() -> tuple[msgspec_inspect.Field, ...]:
    info = msgspec_inspect.type_info(Settings)
    if not isinstance(info, msgspec_inspect.StructType):
        raise TypeError("Settings is no struct")
    return info.fields


def _parts(kind: msgspec_inspect.Type) -> tuple[msgspec_inspect.Type, str]:
    description = ""
    while True:
        if isinstance(kind, msgspec_inspect.Metadata):
            description = description or str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        elif isinstance(kind, msgspec_inspect.UnionType):
            kind = next(t for t in kind.types if not isinstance(t, msgspec_inspect.NoneType))
        else:
            return kind, description


def _metavar(kind: msgspec_inspect.Type) -> str:
    if isinstance(kind, msgspec_inspect.FloatType):
        return "SECONDS"
    if isinstance(kind, msgspec_inspect.IntType):
        return "N"
    return "TEXT" if isinstance(kind, msgspec_inspect.StrType) else "FILE"


def _help(text: str) -> str:
    return text.replace("%", "%%")
