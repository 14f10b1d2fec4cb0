"""One report, several languages: `application/health+json`, MicroProfile Health and plain text.

Each dialect is a pure function from a report to bytes. Promises: the HTTP status follows the same rule everywhere (fail is 503, all else is
200), whatever the client accepts; a client that accepts nothing we speak gets health+json, because a probe wants an answer and no 406.
Deliberately absent: Spring, ASP.NET and gRPC forms.

Sources: draft-inadarei-api-health-check-06; MicroProfile Health 4.0; RFC 9110 section 12.5.1 for Accept.
"""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from pillion.health.engine import CheckResult, Observation, Report, Status

HEALTH_MEDIA: Final = "application/health+json"
PLAIN_MEDIA: Final = "text/plain"
JSON_MEDIA: Final = "application/json"

Dialect = Literal["health+json", "microprofile", "plain"]
Question = Literal["live", "ready", "started", "health"]

MEDIA: Final[dict[Dialect, str]] = {
    "health+json": HEALTH_MEDIA,
    "microprofile": JSON_MEDIA,
    "plain": f"{PLAIN_MEDIA}; charset=utf-8",
}

_OFFERS: Final[dict[str, Dialect]] = {
    HEALTH_MEDIA: "health+json",
    JSON_MEDIA: "microprofile",
    PLAIN_MEDIA: "plain",
}

_MAX_ACCEPT: Final = 1024
"""Characters of an Accept field that are read; a longer one is treated as absent."""


class Component(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One entry below `checks` (section 4 of the draft)."""

    component_id: str
    component_type: str = ""
    observed_value: float | msgspec.UnsetType = msgspec.UNSET
    observed_unit: str = ""
    status: Status | msgspec.UnsetType = msgspec.UNSET
    time: str = ""
    output: str = ""


class HealthDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The body of `application/health+json` (section 3 of the draft)."""

    status: Status
    release_id: str = ""
    service_id: str = ""
    output: str = ""
    checks: dict[str, tuple[Component, ...]] = {}


class Procedure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One health check procedure of MicroProfile Health; `data` holds scalars only."""

    name: str
    status: Literal["UP", "DOWN"]
    data: dict[str, str | int | float | bool] = {}


class MicroProfileDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The body of MicroProfile Health."""

    status: Literal["UP", "DOWN"]
    checks: tuple[Procedure, ...]


class Service(msgspec.Struct, frozen=True):
    """Who answers."""

    id: str
    release: str


def choose(accept: str) -> Dialect:
    """Give the dialect for an Accept header field; an empty field, a wildcard and anything unknown mean health+json."""
    best: tuple[float, int, Dialect] = (0.0, 0, "health+json")
    for part in accept.split(",") if len(accept) <= _MAX_ACCEPT else ():
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _weight(value.strip())
        dialect: Dialect | None = _OFFERS.get(media)
        exact = 1
        if dialect is None and media in ("*/*", "application/*"):
            dialect, exact = "health+json", 0
        elif dialect is None and media == "text/*":
            dialect, exact = "plain", 0
        if dialect is not None and weight > 0 and (weight, exact) > best[:2]:
            best = (weight, exact, dialect)
    return best[2]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


def http_status(status: Status) -> int:
    """Give the HTTP status: `warn` still serves."""
    return 503 if status == "fail" else 200


def overall(question: Question, report: Report) -> Status:
    """Answer one question with one word. That this code runs is all that liveness asks."""
    match question:
        case "live":
            return "pass"
        case "started":
            return "pass" if report.started else "fail"
        case "ready":
            return report.readiness
        case "health":
            return report.health


def _shown(question: Question, report: Report) -> tuple[CheckResult, ...]:
    match question:
        case "live":
            return ()
        case "ready":
            return tuple(check for check in report.checks if check.plan.critical)
        case "started" | "health":
            return report.checks


def _remark(question: Question, report: Report) -> str:
    match question:
        case "ready":
            return report.unreadiness
        case "started" if not report.started:
            waiting = [check.plan.name for check in report.checks if check.last is None]
            return f"waiting for the first run of: {', '.join(waiting)}" if waiting else "no configuration yet"
        case _:
            return ""


def render(question: Question, report: Report, dialect: Dialect, service: Service) -> tuple[int, bytes]:
    """Answer one question in one dialect: HTTP status and body."""
    status = overall(question, report)
    match dialect:
        case "health+json":
            body = _health_json(question, report, status, service)
        case "microprofile":
            body = _microprofile(question, report, status)
        case "plain":
            body = _plain(question, report, status)
    return http_status(status), body


def render_check(check: CheckResult, dialect: Dialect, service: Service) -> tuple[int, bytes]:
    """Answer `/health/{check}`: its own status, whatever its severity."""
    match dialect:
        case "health+json":
            document = HealthDocument(
                status=check.status,
                release_id=service.release,
                service_id=service.id,
                output=check.output,
                checks={key(check): (component(check),)},
            )
            body = msgspec.json.encode(document)
        case "microprofile":
            up: Literal["UP", "DOWN"] = "DOWN" if check.status == "fail" else "UP"
            body = msgspec.json.encode(MicroProfileDocument(status=up, checks=(_procedure(check, up),)))
        case "plain":
            body = _line(check).encode()
    return http_status(check.status), body


def key(check: CheckResult) -> str:
    """Give the draft's `component:measurement` key."""
    return f"{check.plan.name}:{_measure(check.plan.category, check.last)}"


def _measure(category: str, last: Observation | None) -> str:
    if last is not None and last.measure:
        return last.measure
    return "utilization" if category == "system" else "responseTime"


def component(check: CheckResult) -> Component:
    """Give the draft's entry for one check."""
    last = check.last
    if last is None:
        return Component(
            component_id=check.plan.name,
            component_type=check.plan.category,
            status=check.status,
            output=check.output,
        )
    measured = bool(last.measure)
    return Component(
        component_id=check.plan.name,
        component_type=check.plan.category,
        observed_value=last.value if measured else round(last.duration / 1e6, 3),
        observed_unit="percent" if measured else "ms",
        status=check.status,
        time=timestamp(last.wall // 1_000_000_000),
        output=check.output,
    )


def timestamp(seconds: int) -> str:
    """Write Unix *seconds* as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _health_json(question: Question, report: Report, status: Status, service: Service) -> bytes:
    checks: dict[str, tuple[Component, ...]] = {key(check): (component(check),) for check in _shown(question, report)}
    if question == "health" and report.complaints:
        # A check cannot be called so: its name has no colon and the key of a check ends in a measurement.
        checks["sidecar:conditions"] = tuple(
            Component(
                component_id=complaint.name,
                component_type="system",
                status=complaint.status,
                time=timestamp(complaint.since),
                output=complaint.output,
            )
            for complaint in report.complaints
        )
    return msgspec.json.encode(
        HealthDocument(
            status=status,
            release_id=service.release,
            service_id=service.id,
            output=_remark(question, report),
            checks=checks,
        )
    )


def _procedure(check: CheckResult, up: Literal["UP", "DOWN"]) -> Procedure:
    data: dict[str, str | int | float | bool] = {"status": check.status, "critical": check.plan.critical}
    if check.output:
        data["output"] = check.output
    return Procedure(name=check.plan.name, status=up, data=data)


def _microprofile(question: Question, report: Report, status: Status) -> bytes:
    """Write the MicroProfile form, which knows no degraded state.

    Its total is the AND over its procedures, so a failing check that only degrades is UP there, with the truth in `data.status`.
    """
    procedures = [_procedure(check, "DOWN" if check.weight == "fail" else "UP") for check in _shown(question, report)]
    remark = _remark(question, report)
    if question in ("ready", "started"):
        # The lifecycle is a procedure of its own: otherwise the total would not follow from the list.
        up = report.started and not (question == "ready" and report.draining)
        procedures = [p if question == "ready" else msgspec.structs.replace(p, status="UP") for p in procedures]
        lifecycle = Procedure(name="sidecar", status="UP" if up else "DOWN", data={"output": remark} if remark else {})
        procedures.insert(0, lifecycle)
    if question == "health":
        procedures += [
            Procedure(
                name=f"sidecar/{complaint.name}",
                status="DOWN" if complaint.status == "fail" else "UP",
                data={"status": complaint.status, "output": complaint.output},
            )
            for complaint in report.complaints
        ]
    document = MicroProfileDocument(status="DOWN" if status == "fail" else "UP", checks=tuple(procedures))
    return msgspec.json.encode(document)


def _line(check: CheckResult) -> str:
    return f"{check.plan.name}: {check.status}" + (f": {check.output}" if check.output else "") + "\n"


def _plain(question: Question, report: Report, status: Status) -> bytes:
    remark = _remark(question, report)
    lines = [status + (f": {remark}" if remark else "") + "\n"]
    lines += [_line(check) for check in _shown(question, report)]
    if question == "health":
        lines += [f"sidecar/{c.name}: {c.status}: {c.output}\n" for c in report.complaints]
    return "".join(lines).encode()
