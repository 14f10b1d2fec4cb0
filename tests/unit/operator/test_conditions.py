"""Statuses: what conditions say, when their time moves, and what is worth a write."""

import re
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kstatus import kstatus
from tests.support.operator.statuses import (
    NOON,
    STATEMENTS,
    WRONG,
    facts,
    many_facts,
    seen_by_kubectl,
    statement,
    truth,
)
from tests.support.operator.toys import GAUGE

from pillion.kinds.exchange import UnreadyReport
from pillion.kinds.violations import FieldPath, Violation
from pillion_operator.conditions import OWN, Difference, condition, difference, forgets, status_of
from pillion_operator.fleet import Tally

NEAR = Violation(path=FieldPath("spec.value"), value=12, rule="is near an unlucky one", severity="warning")


def written(seen=None, now=NOON, **changes):
    return status_of(GAUGE, facts(**changes), seen or {}, now)


def said(status, kind):
    found = condition(status, kind)
    return (found["status"], found["reason"], found["message"]) if found else None


def test_a_resource_that_every_sidecar_runs_is_ready():
    status = written()

    assert said(status, "Accepted") == ("True", "Accepted", "")
    assert said(status, "Propagated") == ("True", "Propagated", "3 of 3 sidecars run it")
    assert said(status, "Ready") == ("True", "Ready", "3 of 3 sidecars run it")
    assert said(status, "Stalled") is None
    assert status["sidecars"] == {"applied": 3, "total": 3, "summary": "3/3"}
    assert (status["observedGeneration"], status["revision"], status["value"]) == (2, "f" * 64, 7)


def test_a_refused_edit_names_field_value_and_fix_and_what_stays_in_force():
    status = written(accepted=False, violations=(WRONG,), good_generation=1)

    assert said(status, "Accepted") == ("False", "Invalid", "spec.value: 13 is unlucky; use 12 or 14")
    assert said(status, "Propagated")[2] == "this generation is refused; sidecars keep generation 1"
    assert said(status, "Ready")[0] == "False"
    assert said(status, "Stalled")[0] == "True"
    assert status["sidecars"]["summary"] == "0/3"


def test_a_resource_that_was_never_good_runs_nowhere():
    status = written(accepted=False, violations=(WRONG,), good_generation=0, revision="", tally=Tally(), own={})

    assert said(status, "Propagated")[2] == "this generation is refused; no sidecar runs this resource"
    assert "revision" not in status
    assert "value" not in status


def test_lagging_pods_are_named():
    status = written(tally=Tally(applied=1, total=12, lagging=("p-1", "p-2")))

    assert said(status, "Propagated") == (
        "False", "Propagating", "1 of 12 sidecars run it; waiting for p-1, p-2 and 9 more",
    )  # fmt: skip
    assert status["sidecars"] == {"applied": 1, "total": 12, "summary": "1/12", "lagging": ["p-1", "p-2"]}


def test_a_sidecar_that_refuses_is_named_with_its_reason():
    status = written(tally=Tally(applied=1, total=2, lagging=("p-2",), refusals=("logs: disk full",)))

    assert said(status, "Ready") == ("False", "Refused", "1 of 2 sidecars run it; p-2: logs: disk full")
    assert said(status, "Stalled")[0] == "True"


def test_no_sidecar_is_no_reason_to_wait():
    status = written(tally=Tally())

    assert said(status, "Propagated")[:2] == ("True", "NoSidecars")
    assert said(status, "Ready")[:2] == ("True", "NoSidecars")
    assert status["sidecars"]["summary"] == "0/0"


def test_a_parked_resource_waits_until_the_last_sidecar_has_dropped_it():
    assert said(written(suspended=True, tally=Tally(total=1, lagging=("p",))), "Propagated")[:2] == (
        "False",
        "Withdrawing",
    )
    assert said(written(suspended=True, tally=Tally()), "Ready")[:2] == ("True", "Suspended")


def test_what_cannot_work_yet_is_not_ready_though_it_is_propagated():
    report = UnreadyReport(kind="Gauge", name="a", reason="SecretMissing", message='Secret "s" does not exist')
    status = written(tally=Tally(applied=3, total=3, unready=(("p-1", report), ("p-2", report)), unready_count=3))

    assert said(status, "Propagated")[0] == "True"
    assert said(status, "Ready") == ("False", "SecretMissing", 'Secret "s" does not exist (p-1, p-2 and 1 more)')


def test_a_secret_that_may_not_be_read_is_not_ready():
    status = written(secrets=(("SecretForbidden", "bind the ClusterRole"),))

    assert said(status, "Ready") == ("False", "SecretForbidden", "bind the ClusterRole")


def test_warnings_stand_beside_acceptance():
    assert said(written(violations=(NEAR,)), "Accepted")[2] == "spec.value: 12 is near an unlucky one"


def test_figures_fit_the_schema_or_are_left_out():
    status = written(tally=Tally(applied=1, total=1, figures={"hits": 3.0, "last": 7, "unknown": 1, "value": 99}))

    assert status["hits"] == 3
    assert "last" not in status
    assert "unknown" not in status
    assert status["value"] == 7  # the spec's own word


def test_long_messages_are_cut():
    many = tuple(Violation(path=FieldPath(f"spec.rules[{n}]"), rule="x" * 500) for n in range(50))
    message = said(written(accepted=False, violations=many), "Accepted")[2]

    assert len(message) == 4096
    assert message.endswith("…")


@given(st.lists(many_facts, min_size=1, max_size=8))
def test_the_transition_time_moves_exactly_when_the_status_does(history):
    seen, now = {}, NOON
    for one in history:
        now += timedelta(minutes=1)
        status = status_of(GAUGE, one, seen, now)
        for new in status["conditions"]:
            old = condition(seen, new["type"])
            moved = not old or old["status"] != new["status"]
            assert (new["lastTransitionTime"] == now.strftime("%Y-%m-%dT%H:%M:%SZ")) == moved
            assert new["observedGeneration"] == one.generation
        seen = status


@given(many_facts)
def test_the_same_facts_are_never_worth_a_second_write(one):
    status = status_of(GAUGE, one, {}, NOON)

    assert difference(GAUGE, status, status_of(GAUGE, one, status, NOON + timedelta(days=1))) is Difference.NONE


@given(many_facts)
def test_kstatus_reads_every_status_right(one):
    assert kstatus(seen_by_kubectl(one)) == truth(one)


@given(many_facts)
def test_kstatus_never_takes_the_status_of_an_earlier_generation_for_this_one(one):
    assert kstatus(seen_by_kubectl(one, generation=one.generation + 1)) == "InProgress"


def test_kstatus_takes_no_unseen_resource_for_a_finished_one():
    assert kstatus({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}}) == "InProgress"


@given(many_facts)
def test_every_trouble_says_what_it_is_about(one):
    status = status_of(GAUGE, one, {}, NOON)
    for found in status["conditions"]:
        assert re.fullmatch("[A-Z][A-Za-z0-9]*", found["reason"])
        trouble = found["type"] in ("Stale", "Degraded", "Stalled") or (found["status"] == "False")
        assert found["message"] or not trouble
    assert {c["type"] for c in status["conditions"]} <= {*OWN, *GAUGE.conditions}


@given(many_facts)
def test_stale_and_degraded_are_there_exactly_while_they_are_true(one):
    status, tally = status_of(GAUGE, one, {}, NOON), one.tally
    older = not one.accepted and bool(one.good_generation) and not one.suspended
    behind = one.accepted and not tally.propagated and (bool(tally.refusals) or one.overdue)
    behind |= one.accepted and bool(one.absent) and not one.suspended
    complained = bool(tally.unready or (one.secrets and tally.total) or one.shortcomings)
    complained |= any(s.degrades or s.stalls for s in tally.statements)

    assert condition(status, "Stale").get("status") == ("True" if older or behind else None)
    assert condition(status, "Degraded").get("status") == ("True" if complained else None)


def test_stale_says_which_version_runs_and_how_to_end_it():
    assert said(written(accepted=False, violations=(WRONG,), good_generation=1), "Stale") == (
        "True", "LastGoodVersion", "generation 1 stays in force, the last one that was accepted; mend what Accepted names, or delete the resource to withdraw it",
    )  # fmt: skip
    lagging = Tally(applied=1, total=2, lagging=("p-2",))
    assert said(written(tally=lagging), "Stale") is None
    assert said(written(tally=lagging, overdue=True), "Stale")[1] == "Lagging"
    refusing = msgspec.structs.replace(lagging, refusals=("logs: disk full",))
    assert said(written(tally=refusing), "Stale")[1:] == (
        "Refused", "p-2: the last good configuration stays in force, because this one cannot be run; see Propagated",
    )  # fmt: skip


def test_sidecars_that_nobody_hears_are_named_and_hold_nothing_up():
    status = written(absent=("p-1", "p-2", "p-3", "p-4"))

    assert said(status, "Stale")[1] == "Disconnected"
    assert said(status, "Stale")[2].startswith("p-1, p-2, p-3 and 1 more: no stream to the operator")
    assert said(status, "Ready")[0] == "True"


def test_what_sidecars_complain_about_is_counted_and_named():
    full = statement(pods=("p-1", "p-2", "p-3"), count=12, messages=("the store is full; make room",))
    status = written(tally=Tally(applied=12, total=12, statements=(full,)))

    assert said(status, "Degraded") == ("True", "StoreFull", "the store is full; make room (p-1, p-2, p-3 and 9 more)")
    assert said(status, "Ready") == ("True", "Degraded", "12 of 12 sidecars run it")


def test_a_resource_that_waits_for_a_person_is_stalled():
    status = written(tally=Tally(applied=3, total=3, statements=(STATEMENTS[2],)))

    assert said(status, "Stuck") == said(status, "Stalled") == ("True", "Rusty", "oil it (p-1)")
    assert said(status, "Ready") == ("False", "Rusty", "oil it (p-1)")
    lagging = Tally(applied=1, total=3, lagging=("p-2",), statements=(STATEMENTS[2],))
    assert said(written(tally=lagging), "Stalled") is None  # what they say is about the version before


def test_a_kinds_own_conditions_are_those_that_it_declares():
    assert said(written(), "Calibrated") == ("True", "Calibrated", "")
    assert said(written(), "Stuck") is None
    assert said(written(tally=Tally()), "Calibrated") is None  # nobody has looked
    odd = written(tally=Tally(applied=1, total=1, statements=(STATEMENTS[1], STATEMENTS[3])))
    assert said(odd, "Calibrated") == ("False", "Drifted", "adjust it (p-1)")
    assert said(odd, "Unheard") is None


def test_the_version_in_force_is_kept_beside_a_refused_one():
    held = {"generation": 1, "spec": "{}"}

    assert written(accepted=False, violations=(WRONG,), good_generation=1, kept=held)["lastGood"] == held
    assert "lastGood" not in written()


BASE = written()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (written(seen=BASE), Difference.NONE),
        (written(seen=BASE, tally=Tally(applied=3, total=3, figures={"hits": 1})), Difference.FIGURES),
        (written(seen=BASE, tally=Tally(applied=4, total=4)), Difference.COUNTS),
        (written(seen=BASE, revision="e" * 64), Difference.COUNTS),
        (written(seen=BASE, tally=Tally(applied=2, total=3, lagging=("p",))), Difference.VERDICT),
        (written(seen=BASE, generation=3), Difference.VERDICT),
        (written(seen=BASE, shortcomings=(("SidecarsMissed", "restart"),)), Difference.COUNTS),
        (written(seen=BASE, tally=Tally(applied=3, total=3, statements=STATEMENTS[1:2])), Difference.COUNTS),
        (written(seen=BASE, tally=Tally(applied=3, total=3, statements=STATEMENTS[2:3])), Difference.VERDICT),
        (written(seen=BASE, accepted=False, violations=(WRONG,)), Difference.VERDICT),
    ],
)
def test_the_weight_of_a_difference(wanted, found):
    assert difference(GAUGE, BASE, wanted) is found


def test_conditions_and_fields_of_other_writers_do_not_count():
    other = {"type": "Verified", "status": "True", "reason": "R", "message": ""}
    seen = BASE | {"conditions": [*BASE["conditions"], other], "elsewhere": 1}

    assert difference(GAUGE, seen, written(seen=seen)) is Difference.NONE


def test_a_complaint_in_other_words_waits_for_the_figures():
    seen = written(shortcomings=(("SidecarsMissed", "1 of 2"),))
    again = written(seen=seen, shortcomings=(("SidecarsMissed", "1 of 3"),))

    assert difference(GAUGE, seen, again) is Difference.FIGURES
    assert difference(GAUGE, seen, written(seen=seen)) is Difference.COUNTS


def test_a_complaint_that_is_not_heard_yet_after_a_restart_is_not_over():
    complained = written(tally=Tally(applied=3, total=3, statements=STATEMENTS[:1]))

    assert forgets(complained, written(seen=complained))
    assert not forgets(BASE, written(seen=BASE, tally=Tally(applied=3, total=3, statements=STATEMENTS[:1])))


def test_a_dip_after_a_restart_is_recognised():
    assert forgets(BASE, written(seen=BASE, tally=Tally(applied=1, total=1)))
    assert not forgets(BASE, written(seen=BASE, tally=Tally(applied=4, total=4)))
    assert not forgets(BASE, written(seen=BASE, generation=3, tally=Tally()))
    assert not forgets(BASE, written(seen=BASE, accepted=False, violations=(WRONG,), tally=Tally()))
