"""WebhookEndpoint: what is wrong with one, and what becomes of it in a snapshot."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pillion.kinds.definition import BlockDefinition, Column, Kind, OwnCondition
from pillion.kinds.model import JSON
from pillion.kinds.quantities import NANOSECONDS, parse_duration, parse_percentage, parse_size
from pillion.kinds.violations import FieldPath, Violation, at
from pillion.webhooks.compiled import CompiledAllow, CompiledEndpoint
from pillion.webhooks.manifest import HEADER_NAME, HEADER_VALUE, Egress, RetryPolicy, WebhookEndpointSpec
from pillion.webhooks.target import Target, parse_target

LONGEST_PAUSE: Final = 7 * NANOSECONDS["d"]
"""Of a retry: a receiver that is away longer needs a person, and what is parked longer fills the disk."""

RESERVED_HEADERS: Final = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
"""Header fields that belong to the connection (RFC 9110 section 7.6.1) or to the sender."""

RESERVED_PREFIXES: Final = ("webhook-", "svix-")
"""Header fields of the signature: set by hand they would contradict it."""

MAX_EXCERPT: Final = 64 << 10

_NAME = re.compile(HEADER_NAME.removesuffix("$"), re.ASCII)
_VALUE = re.compile(HEADER_VALUE.removesuffix("$"), re.ASCII)


def check(spec: WebhookEndpointSpec, path: FieldPath) -> Iterable[Violation]:
    """Yield what the schema cannot say about an endpoint."""
    target = None
    try:
        target = parse_target(spec.url)
    except ValueError as error:
        rule, _, fix = str(error).partition("; ")
        yield Violation(path=at(path, "url"), value=spec.url, rule=rule, fix=fix)
    yield from _check_egress(spec.egress, target, path)
    yield from _check_events(spec.events, at(path, "events"))
    yield from _check_retry(spec.retry, at(path, "retry"))
    yield from _check_between(at(path, "timeout"), spec.timeout, "1s", "60s")
    yield from _check_between(at(path, "retention", "succeeded"), spec.retention.succeeded, "1m", "90d")
    yield from _check_between(at(path, "retention", "failed"), spec.retention.failed, "1m", "90d")
    if parse_size(spec.retention.bodies) > MAX_EXCERPT:
        yield Violation(
            path=at(path, "retention", "bodies"),
            value=spec.retention.bodies,
            rule="is more than is ever read of a response (64Ki)",
            fix='write "64Ki" or less',
        )
    yield from _check_headers(spec.headers, at(path, "headers"))


def _check_egress(egress: Egress, target: Target | None, path: FieldPath) -> Iterable[Violation]:
    hosts: list[str] = []
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for index, rule in enumerate(egress.allow):
        if rule.host is not None:
            hosts.append(rule.host.lower().removesuffix("."))
        if rule.cidr is not None:
            try:
                networks.append(ipaddress.ip_network(rule.cidr))
            except ValueError as error:
                text = "has bits set beyond its prefix" if "host bits" in str(error) else "is no network"
                yield Violation(
                    path=at(path, "egress", "allow", index, "cidr"),
                    value=rule.cidr,
                    rule=text,
                    fix="write an address and a prefix length, as in 10.20.0.0/16 or 127.0.0.1/32",
                )
                return
    if target is None or target.scheme == "https" or target.host in hosts:
        return
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        # A name is judged by the addresses that it has when it is called; some network must be named for that to succeed.
        reachable = bool(networks)
    else:
        reachable = any(address.version == network.version and address in network for network in networks)
    if not reachable:
        yield Violation(
            path=at(path, "url"),
            value=f"{target.scheme}://{target.authority}",
            rule="is plain http to a destination that egress.allow does not name, so nothing would ever be sent",
            fix=f"use https, or add {{host: {target.host}}} to egress.allow",
        )


def _check_events(events: tuple[str, ...], path: FieldPath) -> Iterable[Violation]:
    seen: set[str] = set()
    for index, pattern in enumerate(events):
        if pattern in seen:
            yield Violation(path=at(path, index), value=pattern, rule="stands here twice", fix="remove one")
        seen.add(pattern)
    if "*" in seen and len(seen) > 1:
        yield Violation(
            path=path,
            value=list(events),
            rule='holds "*", which matches everything, so the others say nothing',
            fix='remove the others, or remove "*"',
            severity="warning",
        )


def _check_retry(retry: RetryPolicy, path: FieldPath) -> Iterable[Violation]:
    before = 0
    for index, text in enumerate(retry.schedule):
        pause = parse_duration(text)
        here = at(path, "schedule", index)
        if pause > LONGEST_PAUSE:
            yield Violation(path=here, value=text, rule="is not allowed (maximum 7d)", fix='write "7d" or less')
        elif pause < before:
            yield Violation(
                path=here,
                value=text,
                rule=f"is shorter than the pause before it ({retry.schedule[index - 1]}), so retries would come faster the longer it fails",
                fix="sort the schedule",
            )
        before = max(before, pause)


def _check_between(path: FieldPath, text: str, low: str, high: str) -> Iterable[Violation]:
    value = parse_duration(text)
    if not parse_duration(low) <= value <= parse_duration(high):
        nearest = low if value < parse_duration(low) else high
        yield Violation(
            path=path,
            value=text,
            rule=f"is not allowed (minimum {low}, maximum {high})",
            fix=f'did you mean "{nearest}"?',
        )


def _check_headers(headers: Mapping[str, str], path: FieldPath) -> Iterable[Violation]:
    seen: set[str] = set()
    for name, value in headers.items():
        here = at(path, name)
        lower = name.lower()
        if not _NAME.fullmatch(name):
            yield Violation(path=here, rule="is no header field name", fix="use letters, digits and hyphens")
        elif lower in RESERVED_HEADERS or lower.startswith(RESERVED_PREFIXES):
            yield Violation(path=here, rule="is set by the sender itself", fix="remove it, or choose another name")
        elif lower in seen:
            yield Violation(path=here, rule="stands here twice in different case", fix="remove one")
        if not _VALUE.fullmatch(value) or value != value.strip():
            yield Violation(
                path=here,
                value=value,
                rule="holds line breaks, characters beyond ASCII, or spaces around it",
                fix="write printable ASCII on one line",
            )
        if lower in ("authorization", "cookie", "x-api-key"):
            yield Violation(
                path=here,
                rule="looks like a credential, and everyone who may read this resource can read it",
                fix="let the receiver verify the signature instead",
                severity="warning",
            )
        seen.add(lower)


def compile_endpoint(_name: str, spec: WebhookEndpointSpec) -> JSON:
    """Give an endpoint as the block reads it."""
    return msgspec.to_builtins(
        CompiledEndpoint(
            url=spec.url,
            events=spec.events,
            secret=(spec.signing.secret_ref.name, spec.signing.secret_ref.key),
            schedule_ns=tuple(parse_duration(pause) for pause in spec.retry.schedule),
            jitter_percent=parse_percentage(spec.retry.jitter),
            respect_retry_after=spec.retry.respect_retry_after,
            timeout_ns=parse_duration(spec.timeout),
            concurrency=spec.concurrency.max,
            headers=tuple(sorted(spec.headers.items())),
            allow=tuple(
                CompiledAllow(cidr=rule.cidr or "", host=(rule.host or "").lower().removesuffix("."))
                for rule in spec.egress.allow
            ),
            retain_succeeded_ns=parse_duration(spec.retention.succeeded),
            retain_failed_ns=parse_duration(spec.retention.failed),
            excerpt_bytes=parse_size(spec.retention.bodies),
        )
    )


def summarize(spec: WebhookEndpointSpec) -> Mapping[str, JSON]:
    """Give the status fields that follow from the spec alone. Of the URL only the host: the rest may hold a token."""
    events = ",".join(spec.events)
    return {"host": parse_target(spec.url).authority, "events": events if len(events) <= 64 else f"{events[:63]}…"}


BLOCK = BlockDefinition(
    name="webhooks",
    kinds=(
        Kind(
            kind="WebhookEndpoint",
            plural="webhookendpoints",
            short_names=("whe",),
            summary="A receiver of the application's events: its URL, which events it gets, how they are signed and retried.",
            spec=WebhookEndpointSpec,
            check=check,
            compile=compile_endpoint,
            summarize=summarize,
            columns=(
                Column(name="URL", json_path=".status.host", description="Host that events are posted to."),
                Column(name="Events", json_path=".status.events", description="Types of events that are delivered."),
                Column(
                    name="Backlog",
                    json_path=".status.backlog",
                    type="integer",
                    description="Deliveries that wait in all sidecars.",
                ),
                Column(
                    name="Last-Success",
                    json_path=".status.lastSuccess",
                    type="date",
                    description="How long ago something was last delivered.",
                ),
            ),
            conditions={
                "Disabled": OwnCondition(
                    summary="True while a sidecar sends nothing because the receiver wants no more (410)."
                ),
                "SecretRotating": OwnCondition(summary="True while more than one secret signs its deliveries."),
            },
            status_schema={
                "host": {"type": "string", "maxLength": 300, "description": "Host that events are posted to."},
                "events": {"type": "string", "maxLength": 64, "description": "Types of events that are delivered."},
                "backlog": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "Deliveries that wait in all sidecars.",
                },
                "lastSuccess": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When something was last delivered.",
                },
            },
        ),
    ),
)
