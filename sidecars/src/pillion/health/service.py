"""The health block at work: runs the checks in the background and answers every probe from memory.

Promises: no request ever waits for a check, and none starts one, so probe traffic is no load on the dependencies; an answer is rendered once
per change; a configuration change keeps the state of every check that it does not touch; liveness is that this process answers at all.
Deliberately absent: reacting to ill health (pausing deliveries), quorum between pods.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pillion.health.dialects import (
    HEALTH_MEDIA,
    JSON_MEDIA,
    MEDIA,
    PLAIN_MEDIA,
    Dialect,
    HealthDocument,
    MicroProfileDocument,
    Question,
    Service,
    choose,
    render,
    render_check,
)
from pillion.health.engine import (
    CheckPlan,
    CheckResult,
    Complaint,
    RedisTarget,
    Report,
    judge,
    next_stale,
)
from pillion.health.metrics import HealthCollector, Tally
from pillion.health.probes import Probe, Prober, Reading, Unwell
from pillion.health.runners import Runner, Watch
from pillion.kinds.exchange import ConditionReport
from pillion.kinds.violations import did_you_mean
from pillion.runtime.block import JSON, Block, BlockConfiguration, Context, Prepared, Refused, SecretMissing, Unready
from pillion.runtime.operation import Answer, Call, Operation, Parameter, Reply
from pillion.runtime.problems import FieldError, Problem
from pillion.version import VERSION

START_GRACE: Final = 1_000_000_000
"""Nanoseconds beyond the longest timeout after which startup no longer waits for a first result."""

_BY_ACCEPT: Final = {JSON_MEDIA: MicroProfileDocument, PLAIN_MEDIA: str}
"""What `Accept` may ask for instead of health+json."""

_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


class HealthSettings(msgspec.Struct, frozen=True):
    """The compiled section."""

    checks: tuple[CheckPlan, ...] = ()


class CheckStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One check in `/v1/statistics`."""

    name: str
    status: str
    passed: int
    failed: int
    changes: int
    flying: bool


class HealthStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the block is doing now."""

    started: bool
    draining: bool
    rendered: int
    checks: tuple[CheckStatistics, ...]


class HealthBlock:
    """The health block of one sidecar.

    Args:
        context: what the runtime lends.
        entropy: gives random numbers from 0 to 1, for jitter.
    """

    def __init__(self, context: Context, entropy: random.Random) -> None:
        self._context = context
        self._clock = context.clock
        self._watch = Watch(context.clock, entropy, self._changed)
        self._service = Service(context.identity.pod, VERSION)
        self._prober = Prober()
        self._runners: dict[str, Runner] = {}
        self._start_deadline: int | None = None
        self._started = False
        self._draining = False
        self._report: Report | None = None
        self._conditions = tuple(context.conditions)
        self._next_stale: int | None = None
        self._answers: dict[tuple[str, Dialect], Answer] = {}
        self._rendered = 0
        context.metrics.register(HealthCollector(self._look))

    # Configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Build the checks that *configuration* asks for, keeping those that it leaves alone.

        Raises:
            Refused: the settings are not what this version compiles.
        """
        try:
            settings = msgspec.convert(configuration.settings or {}, HealthSettings)
        except msgspec.ValidationError as error:
            raise Refused(f"SidecarProfile {configuration.profile}: spec.health: {error}") from None
        runners: dict[str, Runner] = {}
        unready: list[Unready] = []
        for plan in settings.checks:
            secret, missing = b"", ""
            if isinstance(plan.target, RedisTarget):
                try:
                    secret = configuration.secrets.value(plan.target.secret, plan.target.key).strip()
                except SecretMissing as error:
                    missing = str(error)
                    unready.append(_secret_missing(configuration.profile, plan.name, missing))
            known = self._runners.get(plan.name)
            if known is not None and known.plan == plan and known.secret == secret and not missing:
                runners[plan.name] = known
            else:
                probe = (
                    _unable(missing) if missing else self._prober.probe(plan.target, secret.decode(errors="replace"))
                )
                runners[plan.name] = Runner(plan, probe, secret)
        return Prepared(commit=lambda: self._commit(runners), unready=tuple(unready))

    def _commit(self, runners: dict[str, Runner]) -> None:
        self._runners = runners
        self._watch.set(runners.values())
        self._changed()

    async def start(self) -> None:
        """Begin to run the checks."""
        self._prober.open()
        longest = max((runner.plan.timeout for runner in self._runners.values()), default=0)
        self._start_deadline = self._clock.monotonic_ns() + longest + START_GRACE
        self._changed()
        self._context.tasks.spawn("checks", self._watch.run)

    async def drain(self) -> None:
        """Say that the pod must get no new traffic."""
        self._draining = True
        self._changed()

    async def stop(self) -> None:
        """Stop the checks."""
        await self._context.tasks.stop()
        await self._watch.stop()
        await self._prober.close()

    # Answers

    def _changed(self) -> None:
        self._report = None

    def _current(self) -> Report:
        """Give the report of this moment; made anew only when something it is made of has changed."""
        now = self._clock.monotonic_ns()
        conditions = tuple(self._context.conditions)
        stale = self._next_stale is not None and now >= self._next_stale
        waits = self._start_deadline is not None and not self._started
        if self._report is not None and conditions == self._conditions and not stale and not waits:
            return self._report
        runners = self._runners.values()
        if waits and self._start_deadline is not None:
            self._started = now >= self._start_deadline or all(r.last is not None for r in runners)
        report = Report(
            started=self._started,
            draining=self._draining,
            checks=tuple(judge(r.plan, r.standing, r.last, now) for r in runners),
            complaints=tuple(Complaint(c.name, c.level, c.message, int(c.since)) for c in conditions),
        )
        if report != self._report:
            self._answers.clear()
        self._report, self._conditions = report, conditions
        self._next_stale = next_stale(((r.plan, r.last) for r in runners), now)
        return report

    def _look(self) -> tuple[Report, Sequence[tuple[CheckResult, Tally]]]:
        report = self._current()
        return report, [(check, self._runners[check.plan.name].tally) for check in report.checks]

    def _answer(self, question: Question, dialect: Dialect) -> Answer:
        report = self._current()
        found = self._answers.get((question, dialect))
        if found is None:
            status, body = render(question, report, dialect, self._service)
            found = self._answers[question, dialect] = _answer(status, body, dialect)
            self._rendered += 1
        return found

    def _answer_check(self, name: str, dialect: Dialect) -> Answer:
        report = self._current()
        key = f"check {name}"
        found = self._answers.get((key, dialect))
        if found is None:
            check = next((check for check in report.checks if check.plan.name == name), None)
            if check is None:
                fix = did_you_mean(name, self._runners)
                raise Problem(
                    404,
                    "unknown-check",
                    "Unknown check",
                    f"There is no check of this name; {fix}",
                    errors=[FieldError("path:check", fix)],
                )
            status, body = render_check(check, dialect, self._service)
            found = self._answers[key, dialect] = _answer(status, body, dialect)
            self._rendered += 1
        return found

    def operations(self) -> Sequence[Operation]:
        """Give the probes; on both listeners, without the token, because kubelet has none."""

        def probe(path: str, name: str, summary: str, question: Question) -> Operation:
            async def handler(call: Call[Any]) -> Answer:
                return self._answer(question, choose(call.request.headers.get("Accept", "")))

            return _operation(
                path, name, summary, handler, model=HealthDocument, media=HEALTH_MEDIA, further=_BY_ACCEPT
            )

        def microprofile(path: str, name: str, summary: str, question: Question) -> Operation:
            async def handler(_call: Call[Any]) -> Answer:
                return self._answer(question, "microprofile")

            return _operation(path, name, summary, handler, model=MicroProfileDocument, media=JSON_MEDIA)

        async def one(call: Call[Any]) -> Answer:
            return self._answer_check(call.path("check"), choose(call.request.headers.get("Accept", "")))

        check = Parameter(
            name="check",
            place="path",
            description="Name of the check, as in the profile.",
            schema={"type": "string", "maxLength": 253},
            required=True,
        )
        single = _operation(
            "/health/{check}",
            "getHealthOfCheck",
            "The health of one check.",
            one,
            model=HealthDocument,
            media=HEALTH_MEDIA,
            further=_BY_ACCEPT,
        )
        return (
            probe("/livez", "getLiveness", "Whether this process answers; depends on nothing else.", "live"),
            probe("/readyz", "getReadiness", "Whether traffic should come to this pod.", "ready"),
            probe("/startupz", "getStartup", "Whether the first configuration and first checks are done.", "started"),
            probe("/health", "getHealth", "The health of everything, with the reasons.", "health"),
            microprofile("/health/live", "getMicroProfileLiveness", "Liveness in MicroProfile form.", "live"),
            microprofile("/health/ready", "getMicroProfileReadiness", "Readiness in MicroProfile form.", "ready"),
            microprofile("/health/started", "getMicroProfileStartup", "Startup in MicroProfile form.", "started"),
            msgspec.structs.replace(single, parameters=(check,)),
        )

    def hot_operations(self) -> Sequence[Any]:
        """None: a probe comes every few seconds."""
        return ()

    def statistics(self) -> JSON:
        """Give what the block is doing now."""
        report = self._current()
        return HealthStatistics(
            started=report.started,
            draining=report.draining,
            rendered=self._rendered,
            checks=tuple(
                CheckStatistics(
                    name=check.plan.name,
                    status=check.status,
                    passed=runner.tally.passed,
                    failed=runner.tally.failed,
                    changes=runner.tally.changes,
                    flying=runner.flight is not None,
                )
                for check in report.checks
                for runner in (self._runners[check.plan.name],)
            ),
        )

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Nothing: the block has no kind of its own."""
        return {}

    def reports(self) -> Sequence[ConditionReport]:
        """Nothing: the health of the application is no matter of the resource that asks for it."""
        return ()


def _answer(status: int, body: bytes, dialect: Dialect) -> Answer:
    return Answer(status=status, body=body, headers=_HEADERS, media=MEDIA[dialect])


def _operation(
    path: str,
    name: str,
    summary: str,
    handler: Any,
    *,
    model: type,
    media: str,
    further: Mapping[str, Any] | None = None,
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        tag="health",
        handler=handler,
        replies={
            200: Reply(description="pass or warn", type=model, media=media, further_media=further or {}),
            503: Reply(description="fail", type=model, media=media, further_media=further or {}),
        },
        listener=("main", "admin"),
        public=True,
    )


def _secret_missing(profile: str, check: str, message: str) -> Unready:
    return Unready(
        kind="SidecarProfile",
        name=profile,
        reason="SecretMissing",
        message=f"spec.health.checks: {check}: {message}; create it, the check fails until then",
    )


def _unable(reason: str) -> Probe:
    async def probe() -> Reading:
        raise Unwell(reason)

    return probe


def create(context: Context) -> Block:
    """Give the health block of one sidecar."""
    return HealthBlock(context, random.Random())  # noqa: S311 - spreads load, guards nothing
