"""The `health` section of a SidecarProfile: which dependencies are checked, how often, and what a failure means.

There is no field by which liveness could depend on anything remote: liveness is answered by the process itself and cannot be configured.
"""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pillion.health.engine import CheckPlan, DiskTarget, HttpTarget, RedisTarget, Target, TcpTarget
from pillion.kinds.definition import BlockDefinition, ProfileSection
from pillion.kinds.model import JSON, DnsLabel, Model, Rule, SecretKeyRef, list_map
from pillion.kinds.quantities import NANOSECONDS, Duration, Size, parse_duration, parse_size
from pillion.kinds.violations import FieldPath, Violation, at

MAX_CHECKS: Final = 64
"""Checks of one sidecar: more dependencies than any one application should have, few enough to run side by side."""

MIN_INTERVAL: Final = 100 * NANOSECONDS["ms"]
"""Faster checks are load, not health."""

MAX_INTERVAL: Final = NANOSECONDS["h"]
"""Slower checks answer no question that a probe asks."""

MIN_TIMEOUT: Final = 10 * NANOSECONDS["ms"]
"""Below this a busy machine alone fails the check."""

RESERVED: Final = ("live", "ready", "start", "started")
"""Last segments of the MicroProfile paths below `/health/`."""

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 section 5.6.2: a token."""

_SECRET_HEADERS: Final = ("authorization", "cookie", "proxy-authorization")

ADDRESS_PATTERN: Final = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"
"""A host name, an IPv4 address or an IPv6 address in brackets; then a port."""

HeaderName = Annotated[str, Meta(min_length=1, max_length=128)]
HeaderValue = Annotated[str, Meta(max_length=1024)]


class HttpCheck(Model, frozen=True, kw_only=True):
    """A request whose answer must have a status from 200 to 399. Redirects are not followed; only the status is read."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://", min_length=9, max_length=2048)],
        Meta(description="Absolute URL, http or https, without user or password."),
    ]
    method: Annotated[Literal["GET", "HEAD"], Meta(description="Request method.")] = "GET"
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Meta(max_length=16, description="Further request headers. Nothing secret: this text stands in the resource."),
    ] = {}


class TcpCheck(Model, frozen=True, kw_only=True):
    """A connection that must be accepted; nothing is sent."""

    address: Annotated[
        Annotated[str, Meta(pattern=ADDRESS_PATTERN, min_length=3, max_length=260)],
        Meta(description='Host and port, as in "postgres:5432" or "[::1]:5432".'),
    ]


class RedisCheck(Model, frozen=True, kw_only=True):
    """A Redis server that must answer PING."""

    url_ref: Annotated[
        SecretKeyRef, Meta(description="Secret key with the URL, as in redis://user:password@host:6379/0.")
    ]


class DiskCheck(Model, frozen=True, kw_only=True):
    """A file system that must keep some bytes free for this process."""

    path: Annotated[
        Annotated[str, Meta(pattern=r"^/", min_length=1, max_length=4096)],
        Meta(description="Absolute path of any file or folder on the file system."),
    ]
    min_free: Annotated[Size, Meta(description="Bytes that must be free, as in 512Mi.")]


class Check(Model, frozen=True, kw_only=True):
    """One check. Exactly one of http, tcp, redis and disk says what it looks at."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="[has(self.http), has(self.tcp), has(self.redis), has(self.disk)].exists_one(given, given)",
            test=lambda o: sum(o.get(name) is not None for name in ("http", "tcp", "redis", "disk")) == 1,
            message="must have exactly one of http, tcp, redis and disk; add the one that is meant, remove the others",
        ),
    )

    name: Annotated[
        DnsLabel, Meta(description="Name of the check, unique within the profile; also its path, as in /health/db.")
    ]
    critical: Annotated[
        bool,
        Meta(
            description="Whether its failure makes the pod unready; otherwise it only degrades the health that is reported."
        ),
    ] = False
    http: Annotated[HttpCheck | None, Meta(description="Request something over HTTP.")] = None
    tcp: Annotated[TcpCheck | None, Meta(description="Open a TCP connection.")] = None
    redis: Annotated[RedisCheck | None, Meta(description="PING a Redis server.")] = None
    disk: Annotated[DiskCheck | None, Meta(description="Look at the free space of a file system.")] = None
    interval: Annotated[
        Duration,
        Meta(
            description="Longest time from one run to the next, 100ms to 1h; up to a tenth less, so that checks drift apart."
        ),
    ] = "10s"
    timeout: Annotated[Duration, Meta(description="A run that takes longer has failed; 10ms to the interval.")] = "1s"
    failures: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Meta(description="Failures in a row that turn a passing check into a failing one."),
    ] = 3
    successes: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Meta(description="Successes in a row that turn a failing check into a passing one."),
    ] = 1


class Health(Model, frozen=True, kw_only=True):
    """Checks of what the application depends on."""

    checks: Annotated[
        tuple[Check, ...],
        Meta(
            max_length=MAX_CHECKS,
            description="Checks, run side by side in the background.",
            extra_json_schema=list_map("name"),
        ),
    ] = ()


def split_address(address: str) -> tuple[str, int]:
    """Give host and port of a TCP address.

    Raises:
        ValueError: *address* is no host and port.
    """
    host, _, port = address.rpartition(":")
    if not re.fullmatch(ADDRESS_PATTERN, address) or not 1 <= int(port) <= 65535:
        raise ValueError(address)
    return host.strip("[]"), int(port)


def _check(section: Health, path: FieldPath) -> Iterable[Violation]:
    for index, check in enumerate(section.checks):
        here = at(path, "checks", index)
        if check.name in RESERVED:
            yield Violation(
                path=at(here, "name"),
                value=check.name,
                rule=f"is taken: /health/{check.name} is a path of MicroProfile Health",
                fix="choose another name",
            )
        yield from _check_times(check, here)
        if check.http is not None:
            yield from _check_http(check.http, at(here, "http"))
        if check.tcp is not None:
            try:
                split_address(check.tcp.address)
            except ValueError:
                yield Violation(
                    path=at(here, "tcp", "address"),
                    value=check.tcp.address,
                    rule="has no usable port",
                    fix='use a port from 1 to 65535, as in "postgres:5432"',
                )
        if check.disk is not None and parse_size(check.disk.min_free) < 1:
            yield Violation(
                path=at(here, "disk", "minFree"),
                value=check.disk.min_free,
                rule="can never fail",
                fix="ask for at least 1 byte, or remove the check",
            )


def _check_times(check: Check, here: FieldPath) -> Iterable[Violation]:
    interval, timeout = parse_duration(check.interval), parse_duration(check.timeout)
    if not MIN_INTERVAL <= interval <= MAX_INTERVAL:
        yield Violation(
            path=at(here, "interval"), value=check.interval, rule="is not between 100ms and 1h", fix="10s is usual"
        )
    if timeout < MIN_TIMEOUT:
        yield Violation(path=at(here, "timeout"), value=check.timeout, rule="is below 10ms", fix="1s is usual")
    elif timeout > interval:
        # Otherwise a hung target would be looked at less often than promised, or twice at a time.
        yield Violation(
            path=at(here, "timeout"),
            value=check.timeout,
            rule=f"is longer than the interval of {check.interval}",
            fix=f"use {check.interval} or less, or a longer interval",
        )


def _check_http(http: HttpCheck, here: FieldPath) -> Iterable[Violation]:
    try:
        parts = urlsplit(http.url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and not re.search(r"[\x00-\x20\x7f]", http.url)
    except ValueError:
        parts, sound = urlsplit(""), False
    if parts.username is not None or parts.password is not None:
        # The value is not repeated: it holds a password.
        yield Violation(
            path=at(here, "url"), rule="holds a user or a password", fix="check a path that needs no credentials"
        )
    elif not sound:
        yield Violation(
            path=at(here, "url"),
            value=http.url,
            rule="is no absolute http or https URL",
            fix="write it in full, as in http://localhost:8080/healthz",
        )
    for name, value in http.headers.items():
        field = at(here, "headers", name)
        if not _HEADER.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            yield Violation(
                path=field,
                rule="is no header field: the name is a token, the value has no control characters",
                fix="correct the name or the value",
            )
        elif name.lower() in _SECRET_HEADERS:
            yield Violation(
                path=field,
                rule="would put a secret into the resource",
                fix="check a path that needs no credentials",
            )


def _target(check: Check) -> Target:
    if check.http is not None:
        return HttpTarget(url=check.http.url, method=check.http.method, headers=dict(check.http.headers))
    if check.tcp is not None:
        host, port = split_address(check.tcp.address)
        return TcpTarget(host=host, port=port)
    if check.redis is not None:
        return RedisTarget(secret=check.redis.url_ref.name, key=check.redis.url_ref.key)
    if check.disk is not None:
        return DiskTarget(path=check.disk.path, min_free=parse_size(check.disk.min_free))
    raise TypeError(f"check {check.name} has no target; the rules of the model refuse it")


def _compile(section: Health) -> JSON:
    plans = [
        CheckPlan(
            name=check.name,
            critical=check.critical,
            interval=parse_duration(check.interval),
            timeout=parse_duration(check.timeout),
            failures=check.failures,
            successes=check.successes,
            target=_target(check),
        )
        for check in section.checks
    ]
    return {"checks": msgspec.to_builtins(plans)}


BLOCK: Final = BlockDefinition(
    name="health",
    section=ProfileSection(
        field="health",
        model=Health,
        description="Checks of what the application depends on; run in the background, answered from memory.",
        check=_check,
        compile=_compile,
    ),
)
