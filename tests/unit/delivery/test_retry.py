"""What becomes of a delivery after an attempt, judged against a second statement of the rules."""

from hypothesis import given
from hypothesis import strategies as st

from pillion.delivery.model import (
    DAY,
    SECOND,
    STANDARD_SCHEDULE,
    Delivered,
    DisableDestination,
    Policy,
    Rejected,
    Retry,
)
from pillion.delivery.retry import judge

NOW = 1_700_000_000 * SECOND

policies = st.builds(
    Policy,
    schedule_ns=st.lists(st.integers(0, 7 * DAY), max_size=6).map(lambda s: tuple(sorted(s))),
    jitter_percent=st.integers(0, 100),
    respect_retry_after=st.booleans(),
    retry_after_cap_ns=st.integers(0, 2 * DAY),
)
asked = st.none() | st.integers(-5, 3 * DAY)
entropy = st.floats(0, 1, exclude_max=True)


@given(policy=policies, step=st.integers(0, 7), retry_after=asked, chance=entropy)
def test_a_retry_is_never_earlier_than_schedule_or_request_and_at_most_jitter_later(policy, step, retry_after, chance):
    verdict = judge(policy, Retry(reason="503", retry_after_ns=retry_after), step=step, now_ns=NOW, entropy=chance)
    pause = retry_after if policy.respect_retry_after and retry_after and retry_after > 0 else 0
    if pause > policy.retry_after_cap_ns or step >= len(policy.schedule_ns):
        assert verdict.state == "failed"
        assert verdict.due_ns == 0
        return
    own = policy.schedule_ns[step]
    assert verdict.state == "pending"
    assert verdict.step == step + 1
    assert verdict.due_ns >= NOW + own
    assert verdict.due_ns >= NOW + pause
    assert (verdict.due_ns - NOW - max(own, pause)) * 100 <= own * policy.jitter_percent


@given(policy=policies, step=st.integers(0, 7), retry_after=asked, chance=entropy)
def test_only_a_pause_that_is_kept_pauses_the_destination(policy, step, retry_after, chance):
    verdict = judge(policy, Retry(reason="429", retry_after_ns=retry_after), step=step, now_ns=NOW, entropy=chance)
    kept = policy.respect_retry_after and (retry_after or 0) > 0 and retry_after <= policy.retry_after_cap_ns
    assert verdict.pause_until_ns == (NOW + retry_after if kept else 0)


def test_a_pause_beyond_the_cap_is_a_dead_letter_that_says_so():
    verdict = judge(Policy(), Retry(reason="503", retry_after_ns=2 * DAY), step=0, now_ns=NOW, entropy=0.5)
    assert verdict.state == "failed"
    assert verdict.reason == "503; asked to come back after 2d, beyond the limit of 1d"


def test_the_standard_schedule_makes_ten_attempts_over_seventy_five_hours_and_a_half():
    now, step, attempts = NOW, 0, 0
    while True:
        attempts += 1
        verdict = judge(Policy(jitter_percent=0), Retry(reason="down"), step=step, now_ns=now, entropy=0)
        if verdict.state == "failed":
            break
        now, step = verdict.due_ns, verdict.step
    assert attempts == 10
    assert now - NOW == sum(STANDARD_SCHEDULE) == (75 * 3600 + 35 * 60 + 5) * SECOND
    assert verdict.reason == "down; gave up after 10 attempts"


def test_success_rejection_and_disabling_are_final():
    assert judge(Policy(), Delivered(), step=3, now_ns=NOW, entropy=0).state == "succeeded"
    rejected = judge(Policy(), Rejected(reason="415"), step=0, now_ns=NOW, entropy=0)
    assert (rejected.state, rejected.reason, rejected.disable) == ("failed", "415", "")
    disabled = judge(Policy(), DisableDestination(reason="410 Gone"), step=0, now_ns=NOW, entropy=0)
    assert (disabled.state, disabled.disable) == ("failed", "410 Gone")
