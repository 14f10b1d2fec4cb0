"""What a stream of check results means: thresholds against flapping, ages, and the verdict over everything.

Promises: one failure among successes never changes a check that asks for several in a row; a result older than its bound is never shown as
good; the same inputs give the same report. Deliberately absent: running checks (`probes.py`), deciding when (`schedule.py`) and wording the
answer (`dialects.py`). Everything here is a pure function of its arguments; times are integers in nanoseconds.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

Status = Literal["pass", "warn", "fail"]
"""The three words of draft-inadarei-api-health-check-06, section 3.1."""

Category = Literal["component", "datastore", "system"]
"""What kind of thing a check looks at; the draft's `componentType`."""


class HttpTarget(msgspec.Struct, frozen=True, tag="http"):
    """An HTTP request whose answer must have a status from 200 to 399, as for kubelet."""

    url: str
    method: str
    headers: dict[str, str]


class TcpTarget(msgspec.Struct, frozen=True, tag="tcp"):
    """A TCP connection that must be accepted."""

    host: str
    port: int


class RedisTarget(msgspec.Struct, frozen=True, tag="redis"):
    """A Redis server that must answer PING. The URL is in a Secret."""

    secret: str
    key: str


class DiskTarget(msgspec.Struct, frozen=True, tag="disk"):
    """A file system that must keep some bytes free."""

    path: str
    min_free: int


Target = HttpTarget | TcpTarget | RedisTarget | DiskTarget


class CheckPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One check as it is run; the compiled form of a check in a SidecarProfile.

    Args:
        name: unique among the checks of a sidecar.
        critical: whether its failure makes the pod unready; else it only degrades.
        interval: nanoseconds from one start to the next, at most.
        timeout: nanoseconds after which a run counts as failed; never above *interval*.
        failures: failures in a row that turn a passing check into a failing one (>= 1).
        successes: successes in a row that turn it back (>= 1).
        target: what is looked at.
    """

    name: str
    critical: bool
    interval: int
    timeout: int
    failures: int
    successes: int
    target: Target

    @property
    def stale_after(self) -> int:
        """Age in nanoseconds from which a result is no longer believed: two intervals and one timeout, so that a single late run never counts."""
        return 2 * self.interval + self.timeout

    @property
    def category(self) -> Category:
        """What kind of thing it looks at."""
        match self.target:
            case RedisTarget():
                return "datastore"
            case DiskTarget():
                return "system"
            case _:
                return "component"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run.

    Args:
        success: whether the target is well.
        wall: when it ended, nanoseconds since the Unix epoch.
        monotonic: when it ended, on the monotonic clock.
        duration: how long it took, nanoseconds.
        output: why it failed; empty on success. Holds no secret.
        measure: a figure beside the time, as in `utilization`.
        value: the figure; 0 without a measure.
    """

    success: bool
    wall: int
    monotonic: int
    duration: int
    output: str = ""
    measure: str = ""
    value: float = 0


class Standing(msgspec.Struct, frozen=True):
    """Where a check stands after all results so far.

    Args:
        healthy: None until the first result.
        streak: results in a row that speak against `healthy`; 0 when the last one agreed.
        changes: how often it turned, for metrics.
    """

    healthy: bool | None = None
    streak: int = 0
    changes: int = 0


def observe(standing: Standing, success: bool, failures: int, successes: int) -> Standing:  # noqa: FBT001 - the result is the event
    """Give the standing after one more result.

    The very first result decides alone: before it there is no good state that needs protection from a blip, and a dependency that is down
    at the start must not count as well for several intervals.

    Args:
        standing: the standing so far.
        success: the new result.
        failures: failures in a row that turn pass into fail.
        successes: successes in a row that turn fail into pass.
    """
    if standing.healthy is None:
        return Standing(healthy=success, changes=standing.changes)
    if success == standing.healthy:
        return Standing(healthy=success, changes=standing.changes) if standing.streak else standing
    streak = standing.streak + 1
    if streak >= (successes if success else failures):
        return Standing(healthy=success, changes=standing.changes + 1)
    return Standing(healthy=standing.healthy, streak=streak, changes=standing.changes)


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What is said about one check.

    Args:
        plan: the check.
        status: its own status, whatever its severity.
        output: why it is not `pass`; also a hint while failures are fewer than the threshold.
        last: its last result.
    """

    plan: CheckPlan
    status: Status
    output: str
    last: Observation | None

    @property
    def weight(self) -> Status:
        """What it adds to the whole: the failure of a check that is not critical only degrades."""
        return "warn" if self.status == "fail" and not self.plan.critical else self.status


def judge(plan: CheckPlan, standing: Standing, last: Observation | None, now: int) -> CheckResult:
    """Say where *plan* stands at *now* (monotonic nanoseconds)."""
    if last is None or standing.healthy is None:
        return CheckResult(plan=plan, status="warn", output="has not run yet", last=None)
    # The bound, not the age: a text that changes every second would have to be rendered every second.
    stale = f"no result for over {plan.stale_after / 1e9:g} s" if now - last.monotonic >= plan.stale_after else ""
    if not standing.healthy:
        hint = last.output
        if last.success:
            hint = f"recovering: {standing.streak} of {plan.successes} successes in a row"
        return CheckResult(plan=plan, status="fail", output="; ".join(filter(None, (hint, stale))), last=last)
    hint = f"{last.output} ({standing.streak} of {plan.failures} failures in a row)" if standing.streak else ""
    text = "; ".join(filter(None, (stale, hint)))
    return CheckResult(plan=plan, status="warn" if stale else "pass", output=text, last=last)


class Complaint(msgspec.Struct, frozen=True):
    """One thing that the sidecar says is wrong with itself."""

    name: str
    status: Status
    output: str
    since: int
    """Unix seconds."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that any health answer is made of.

    Args:
        started: the first configuration is in force and every check of it has had its first run.
        draining: the sidecar is on its way out.
        checks: in the order of the configuration.
        complaints: what the sidecar says about itself.
    """

    started: bool
    draining: bool
    checks: tuple[CheckResult, ...]
    complaints: tuple[Complaint, ...]

    @property
    def health(self) -> Status:
        """The whole: the worst of the checks by weight and of what the sidecar says about itself."""
        return worst((*(check.weight for check in self.checks), *(c.status for c in self.complaints)))

    @property
    def readiness(self) -> Status:
        """Whether traffic should come: not before the start, not while draining, not while a critical check fails.

        What the sidecar says about itself does not count here: a stale configuration or a dead log sink must not take the application out
        of service.
        """
        if not self.started or self.draining:
            return "fail"
        return worst(check.status for check in self.checks if check.plan.critical)

    @property
    def unreadiness(self) -> str:
        """Why it is not ready; empty when it is."""
        if self.draining:
            return "draining"
        if not self.started:
            return "not started"
        failing = [check.plan.name for check in self.checks if check.plan.critical and check.status == "fail"]
        return f"critical checks fail: {', '.join(failing)}" if failing else ""


def worst(statuses: Iterable[Status]) -> Status:
    """Give the worst of *statuses*; nothing is `pass`."""
    found = set(statuses)
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"


def next_stale(checks: Iterable[tuple[CheckPlan, Observation | None]], now: int) -> int | None:
    """Give the monotonic time after *now* at which the next of the results becomes stale; None when none will."""
    bounds = (last.monotonic + plan.stale_after for plan, last in checks if last is not None)
    return min((bound for bound in bounds if bound > now), default=None)
