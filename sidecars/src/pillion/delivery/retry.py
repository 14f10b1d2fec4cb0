"""What becomes of a delivery after an attempt: done, again later, or a dead letter. Pure: time and entropy are arguments."""

import msgspec

from pillion.delivery.model import (
    NEVER,
    Delivered,
    DisableDestination,
    Outcome,
    Policy,
    Rejected,
    Retry,
    State,
)
from pillion.kinds.quantities import format_duration


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt changes.

    Args:
        state: `pending` (attempted again), `succeeded` or `failed`.
        due_ns: when it is attempted again; 0 once settled.
        step: retries taken from the schedule so far.
        reason: why, for a person; empty on success.
        pause_until_ns: the whole destination gets no attempt before this time; 0 for no pause.
        disable: why the destination is disabled; empty when it is not.
    """

    state: State
    due_ns: int = NEVER
    step: int = 0
    reason: str = ""
    pause_until_ns: int = NEVER
    disable: str = ""


def judge(policy: Policy, outcome: Outcome, *, step: int, now_ns: int, entropy: float) -> Verdict:
    """Decide about a delivery after an attempt.

    Args:
        policy: the destination's policy.
        outcome: what the attempt came to.
        step: retries already taken from the schedule in this round, >= 0.
        now_ns: when the attempt ended.
        entropy: a random number in [0, 1) for the jitter.
    """
    match outcome:
        case Delivered(disable=disable):
            return Verdict(state="succeeded", step=step, disable=disable)
        case Rejected(reason=reason):
            return Verdict(state="failed", step=step, reason=reason)
        case DisableDestination(reason=reason):
            return Verdict(state="failed", step=step, reason=reason, disable=reason)
        case Retry(reason=reason, retry_after_ns=asked):
            return _again(policy, reason, asked, step=step, now_ns=now_ns, entropy=entropy)


def _again(policy: Policy, reason: str, asked: int | None, *, step: int, now_ns: int, entropy: float) -> Verdict:
    pause = asked if asked is not None and asked > 0 and policy.respect_retry_after else 0
    # A pause longer than we are willing to wait is no reason to come early (CloudEvents Webhook 1.0, 2.2), and it pauses nobody else.
    if pause > policy.retry_after_cap_ns:
        text = f"asked to come back after {format_duration(pause)}, beyond the limit of {format_duration(policy.retry_after_cap_ns)}"
        return Verdict(state="failed", step=step, reason=f"{reason}; {text}")
    paused_until = now_ns + pause if pause else NEVER
    if step >= len(policy.schedule_ns):
        last = f"gave up after {step + 1} attempt{'s' if step else ''}"
        return Verdict(state="failed", step=step, reason=f"{reason}; {last}", pause_until_ns=paused_until)
    delay = max(policy.schedule_ns[step], pause)
    jitter = int(policy.schedule_ns[step] * policy.jitter_percent * entropy) // 100
    return Verdict(
        state="pending", due_ns=now_ns + delay + jitter, step=step + 1, reason=reason, pause_until_ns=paused_until
    )
