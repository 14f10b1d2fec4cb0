"""Statuses: what conditions say, when their time moves, and what is worth a write."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operator.toys import GAUGE

from pillion.kinds.exchange import UnreadyReport
from pillion.kinds.violations import FieldPath, Violation
from pillion_operator.conditions import Difference, Facts, condition, difference, loses_sidecars, status_of
from pillion_operator.fleet import Tally

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRONG = Violation(path=FieldPath("spec.value"), value=13, rule="is unlucky", fix="use 12 or 14")
NEAR = Violation(path=FieldPath("spec.value"), value=12, rule="is near an unlucky one", severity="warning")


def facts(**changes):
    known = {
        "generation": 2,
        "accepted": True,
        "violations": (),
        "good_generation": 2,
        "revision": "f" * 64,
        "suspended": False,
        "own": {"value": 7},
        "tally": Tally(applied=3, total=3),
    }
    return Facts(**(known | changes))


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


tallies = st.builds(
    lambda applied, more, refused, unready: Tally(
        applied=applied,
        total=applied + more,
        lagging=("p",) if more else (),
        refusals=("no",) if refused and more else (),
        unready=(("p", UnreadyReport(kind="Gauge", name="a", reason="R", message="m")),) if unready else (),
        unready_count=int(unready),
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
many_facts = st.builds(
    lambda generation, accepted, tally, suspended: facts(
        generation=generation,
        accepted=accepted,
        violations=() if accepted else (WRONG,),
        tally=tally,
        suspended=suspended,
    ),
    st.integers(1, 3),
    st.booleans(),
    tallies,
    st.booleans(),
)


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
    """The algorithm of kstatus (kubernetes-sigs/cli-utils, generic.go) as an oracle."""
    status = status_of(GAUGE, one, {}, NOON)
    by_type = {c["type"]: c["status"] for c in status["conditions"]}
    if by_type.get("Stalled") == "True":
        result = "Failed"
    elif by_type["Ready"] != "True":
        result = "InProgress"
    else:
        result = "Current"

    tally = one.tally
    if not one.accepted or (not tally.propagated and tally.refusals):
        assert result == "Failed"
    elif not tally.propagated or tally.unready:
        assert result == "InProgress"
    else:
        assert result == "Current"


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
        (written(seen=BASE, accepted=False, violations=(WRONG,)), Difference.VERDICT),
    ],
)
def test_the_weight_of_a_difference(wanted, found):
    assert difference(GAUGE, BASE, wanted) is found


def test_conditions_and_fields_of_other_writers_do_not_count():
    other = {"type": "Verified", "status": "True", "reason": "R", "message": ""}
    seen = BASE | {"conditions": [*BASE["conditions"], other], "elsewhere": 1}

    assert difference(GAUGE, seen, written(seen=seen)) is Difference.NONE


def test_a_dip_after_a_restart_is_recognised():
    assert loses_sidecars(BASE, written(seen=BASE, tally=Tally(applied=1, total=1)))
    assert not loses_sidecars(BASE, written(seen=BASE, tally=Tally(applied=4, total=4)))
    assert not loses_sidecars(BASE, written(seen=BASE, generation=3, tally=Tally()))
    assert not loses_sidecars(BASE, written(seen=BASE, accepted=False, violations=(WRONG,), tally=Tally()))
