"""What a thousand sidecars say: one statement per matter, in a fixed order, with names and a count."""

from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.exchange import Acknowledgement, ConditionReport
from pillion_operator.catalogue import ResourceKey
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.hearing import MAX_MESSAGES, MAX_PODS, MAX_STATEMENTS, statements

A = ResourceKey("Gauge", "shop", "a")
FULL = ConditionReport(kind="Gauge", name="a", reason="StoreFull", message="make room", degrades=True)


def test_a_thousand_that_agree_are_one_statement():
    (found,) = statements([(f"pod-{number:03}", FULL) for number in range(1000)])

    assert (found.reason, found.messages, found.pods, found.count) == (
        "StoreFull", ("make room",), ("pod-000", "pod-001", "pod-002"), 1000,
    )  # fmt: skip


reports = st.builds(
    ConditionReport,
    kind=st.just("Gauge"),
    name=st.just("a"),
    type=st.sampled_from(["", "T", "U", "V", "W"]),
    status=st.booleans(),
    reason=st.sampled_from(["R", "S", "Q"]),
    message=st.sampled_from(["", "one", "two", "three", "four"]),
    degrades=st.booleans(),
    stalls=st.booleans(),
)


@given(st.lists(st.tuples(st.sampled_from(["p1", "p2", "p3", "p4", "p5"]), reports)), st.randoms())
def test_statements_are_bounded_and_do_not_depend_on_the_order(said, chance):
    found = statements(said)

    assert found == statements(chance.sample(said, len(said)))
    assert len(found) <= MAX_STATEMENTS
    assert all(len(one.messages) <= MAX_MESSAGES and len(one.pods) <= MAX_PODS for one in found)
    kinds = {(r.type, r.status, r.reason) for _, r in said}
    assert len(found) == min(len(kinds), MAX_STATEMENTS)
    for one in found:
        alike = [(pod, r) for pod, r in said if (r.type, r.status, r.reason) == (one.type, one.status, one.reason)]
        assert one.count == len({pod for pod, _ in alike})
        assert one.stalls == any(r.stalls for _, r in alike)


def fleet_of(*pods):
    fleet = Fleet()
    for pod in pods:
        fleet.put(Facts(uid=pod, namespace="shop", pod=pod, labels={}, revision="r"))
        fleet.retarget(fleet.get("shop", pod), "r", {("Gauge", "a"): "f"})
    return fleet


def test_what_is_said_is_heard_and_its_end_too():
    fleet = fleet_of("p1", "p2")

    assert fleet.acknowledge("shop", "p1", Acknowledgement(revision="r", applied=True, conditions=(FULL,))) == {A}
    assert [(one.reason, one.count) for one in fleet.tally(A).statements] == [("StoreFull", 1)]
    assert fleet.acknowledge("shop", "p1", Acknowledgement(revision="r", applied=True, conditions=(FULL,))) == set()
    assert fleet.acknowledge("shop", "p1", Acknowledgement(revision="r", applied=True)) == {A}
    assert fleet.tally(A).statements == ()


def test_a_stream_that_moves_to_another_replica_forgets_nothing():
    fleet = fleet_of("p1")
    fleet.acknowledge("shop", "p1", Acknowledgement(revision="r", applied=True, conditions=(FULL,)))
    fleet.leave("shop", "p1", 1.0)

    moved = Facts(uid="p1", namespace="shop", pod="p1", labels={}, revision="r")
    assert fleet.replace_origin("replica-b", [moved], 2.0) == set()
    assert fleet.tally(A).statements != ()
    spoken = Facts(uid="p1", namespace="shop", pod="p1", labels={}, revision="r", acknowledged=True)
    assert fleet.replace_origin("replica-b", [spoken], 3.0) == {A}
    assert fleet.tally(A).statements == ()


def test_a_word_about_a_whole_kind_is_one_about_each_of_its_resources_that_run_there():
    fleet = fleet_of("p1", "p2")
    fleet.retarget(fleet.get("shop", "p1"), "r2", {("Gauge", "a"): "f", ("Gauge", "b"): "g", ("Other", "c"): "h"})
    every = ConditionReport(kind="Gauge", name="", reason="StoreFull", message="make room", degrades=True)

    touched = fleet.acknowledge("shop", "p1", Acknowledgement(revision="r2", applied=True, conditions=(every,)))

    both = {A, ResourceKey("Gauge", "shop", "b")}
    assert both <= touched
    assert all(fleet.tally(key).statements[0].pods == ("p1",) for key in both)
    assert fleet.tally(ResourceKey("Other", "shop", "c")).statements == ()
    assert fleet.acknowledge("shop", "p1", Acknowledgement(revision="r2", applied=True)) == both
    assert fleet.leave("shop", "p1", 1.0) == set()
    assert fleet.expire(2.0) >= both
