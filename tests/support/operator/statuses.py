"""All that can be said of a resource: facts in every combination, with what is true of them, for whoever judges statuses."""

from datetime import UTC, datetime

from hypothesis import strategies as st
from tests.support.operator.toys import GAUGE

from pillion.kinds.exchange import UnreadyReport
from pillion.kinds.violations import FieldPath, Violation
from pillion_operator.conditions import status_of
from pillion_operator.fleet import Tally
from pillion_operator.hearing import Statement
from pillion_operator.verdicts import Facts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRONG = Violation(path=FieldPath("spec.value"), value=13, rule="is unlucky", fix="use 12 or 14")


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


def statement(**changes):
    said = {"type": "", "status": True, "reason": "StoreFull", "messages": ("full",), "pods": ("p-1",), "count": 1}
    return Statement(**(said | {"degrades": True, "stalls": False} | changes))


STATEMENTS = (
    statement(),
    statement(type="Calibrated", status=False, reason="Drifted", messages=("adjust it",)),
    statement(type="Stuck", reason="Rusty", messages=("oil it",), stalls=True),
    statement(type="Unheard", reason="Odd", degrades=False),
)
tallies = st.builds(
    lambda applied, more, refused, unready, said: Tally(
        applied=applied,
        total=applied + more,
        lagging=("p",) if more else (),
        refusals=("no",) if refused and more else (),
        unready=(("p", UnreadyReport(kind="Gauge", name="a", reason="R", message="m")),) if unready and applied else (),
        unready_count=int(unready and applied > 0),
        statements=said if applied else (),
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(STATEMENTS), unique_by=lambda one: one.type, max_size=4).map(tuple),
)
many_facts = st.builds(
    lambda generation, accepted, good, secrets, **others: facts(
        generation=generation,
        accepted=accepted,
        violations=() if accepted else (WRONG,),
        good_generation=generation if accepted else good * (generation - 1),
        secrets=(("SecretMissing", "create it"),) if secrets else (),
        kept=None if accepted or not good else {"generation": 1, "spec": "{}"},
        **others,
    ),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 1),
    st.booleans(),
    tally=tallies,
    suspended=st.booleans(),
    overdue=st.booleans(),
    absent=st.sampled_from([(), ("p-9",)]),
    shortcomings=st.sampled_from([(), (("SidecarsMissed", "restart them"),)]),
)


def seen_by_kubectl(one, seen=None, generation=None):
    """The object of which *one* is known, as the API server shows it."""
    status = status_of(GAUGE, one, seen or {}, NOON)
    return {"metadata": {"generation": generation or one.generation}, "status": status}


def truth(one):
    """What is to be said of a resource: by its facts, not by its conditions."""
    tally = one.tally
    works = not tally.unready and not (one.secrets and tally.total) and not any(s.stalls for s in tally.statements)
    stuck = tally.propagated and any(s.stalls for s in tally.statements) and not tally.unready
    waits_for_secret = bool(one.secrets and tally.total)
    if not one.accepted or tally.refusals or (stuck and not waits_for_secret):
        return "Failed"
    return "Current" if tally.propagated and works else "InProgress"
