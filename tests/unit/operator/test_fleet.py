"""The fleet: tallies against a naive recount, and no change of a tally that goes untold."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.exchange import Acknowledgement, Observation, UnreadyReport
from pillion_operator.catalogue import ResourceKey
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.hearing import add_up

NAMES = ("a", "b", "c")
KEYS = [ResourceKey("Gauge", "shop", name) for name in NAMES]


def contents(versions):
    """What a revision holds: a version per resource, 0 for absent."""
    return {("Gauge", name): f"v{version}" for name, version in zip(NAMES, versions, strict=True) if version}


def revision(versions):
    return hashlib.sha256(json.dumps(versions).encode()).hexdigest()


def facts(pod, running=None, **more):
    return Facts(
        uid=pod, namespace="shop", pod=f"pod-{pod}", labels={}, revision=revision(running) if running else "", **more
    )


versions = st.tuples(*[st.integers(0, 2)] * len(NAMES))
pods = st.sampled_from(["1", "2", "3"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("join"), pods, st.none() | versions),
        st.tuples(st.just("target"), pods, versions),
        st.tuples(st.just("ack"), pods, st.booleans()),
        st.tuples(st.just("unready"), pods, st.sampled_from(NAMES)),
        st.tuples(st.just("leave"), pods, st.none()),
        st.tuples(st.just("expire"), pods, st.none()),
    ),
    max_size=30,
)


class Recount:
    """What a person would count: per pod the wish, the deed, and whether it is still there."""

    def __init__(self):
        self.pods, self.seen = {}, set()

    def step(self, verb, pod, value):
        known = self.pods.get(pod)
        if verb == "join":
            # A revision is understood once some sidecar was asked to run it.
            running = value if value in self.seen else None
            wanted = known["wanted"] if known else None
            self.pods[pod] = {"wanted": wanted, "running": running, "claimed": value, "left": False, "unready": set()}
            if known and known["claimed"] == value:
                self.pods[pod]["running"] = known["running"] if known["running"] is not None else running
        elif verb == "expire":
            self.pods = {name: one for name, one in self.pods.items() if not one["left"]}
        elif known is None:
            return
        elif verb == "target":
            if known["left"] and contents(value) != contents(known["running"] or (0, 0, 0)):
                del self.pods[pod]
                return
            self.seen.add(value)
            known["wanted"] = value
            if known["claimed"] == value:
                known["running"] = value
        elif verb == "ack" and value and known["wanted"] is not None:
            known["running"] = known["claimed"] = known["wanted"]
            known["unready"] = set()
        elif verb == "ack" and known["wanted"] is not None:
            known["unready"] = set()
            if known["claimed"] in self.seen:  # its claim may be understood by now
                known["running"] = known["claimed"]
        elif verb == "unready" and known["wanted"] is not None:
            known["running"] = known["claimed"] = known["wanted"]
            known["unready"] = {value}
        elif verb == "leave":
            same = contents(known["wanted"] or (0, 0, 0)) == contents(known["running"] or (0, 0, 0))
            if same and not known["unready"]:
                known["left"] = True
            else:
                del self.pods[pod]

    def tally(self, index):
        total = applied = 0
        for one in self.pods.values():
            wanted, running = (one["wanted"] or (0, 0, 0))[index], (one["running"] or (0, 0, 0))[index]
            total += bool(wanted or running)
            applied += bool(wanted or running) and wanted == running
        return applied, total


def play(fleet, verb, pod, value):
    sidecar = fleet.get("shop", pod)
    match verb:
        case "join":
            return fleet.put(facts(pod, value))
        case "target" if sidecar:
            return fleet.retarget(sidecar, revision(value), contents(value))
        case "ack" if sidecar and sidecar.target:
            said = Acknowledgement(revision=sidecar.target, applied=value, message="" if value else "no")
            return fleet.acknowledge("shop", pod, said)
        case "unready" if sidecar and sidecar.target:
            report = UnreadyReport(kind="Gauge", name=value, reason="SecretMissing")
            return fleet.acknowledge(
                "shop", pod, Acknowledgement(revision=sidecar.target, applied=True, unready=(report,))
            )
        case "leave":
            return fleet.leave("shop", pod, 1.0)
        case "expire":
            return fleet.expire(2.0)
    return set()


@given(steps)
def test_tallies_are_what_a_recount_gives_and_every_change_is_told(script):
    fleet, recount = Fleet(), Recount()
    before = {key: fleet.tally(key) for key in KEYS}

    for verb, pod, value in script:
        touched = play(fleet, verb, pod, value)
        recount.step(verb, pod, value)
        after = {key: fleet.tally(key) for key in KEYS}
        assert {key for key in KEYS if before[key] != after[key]} <= touched
        for index, key in enumerate(KEYS):
            assert (after[key].applied, after[key].total) == recount.tally(index)
        before = after


def connected(*pods, versions=(1, 1, 0)):
    fleet = Fleet()
    for pod in pods:
        fleet.put(facts(pod))
        fleet.retarget(fleet.get("shop", pod), revision(versions), contents(versions))
        fleet.acknowledge("shop", pod, Acknowledgement(revision=revision(versions), applied=True))
    return fleet


def test_an_edit_of_one_resource_makes_only_that_one_lag():
    fleet = connected("1", "2")

    fleet.retarget(fleet.get("shop", "1"), revision((2, 1, 0)), contents((2, 1, 0)))

    assert (fleet.tally(KEYS[0]).applied, fleet.tally(KEYS[0]).lagging) == (1, ("pod-1",))
    assert fleet.tally(KEYS[1]).propagated


def test_a_withdrawal_counts_until_the_last_sidecar_has_dropped_it():
    fleet = connected("1")
    sidecar = fleet.get("shop", "1")

    fleet.retarget(sidecar, revision((0, 1, 0)), contents((0, 1, 0)))
    assert (fleet.tally(KEYS[0]).applied, fleet.tally(KEYS[0]).total) == (0, 1)

    fleet.acknowledge("shop", "1", Acknowledgement(revision=sidecar.target, applied=True))
    assert (fleet.tally(KEYS[0]).applied, fleet.tally(KEYS[0]).total) == (0, 0)


def test_a_refusal_is_told_with_its_reason_until_it_is_over():
    fleet = connected("1")
    sidecar = fleet.get("shop", "1")
    fleet.retarget(sidecar, revision((2, 1, 0)), contents((2, 1, 0)))

    fleet.acknowledge("shop", "1", Acknowledgement(revision=sidecar.target, applied=False, message="port in use"))
    assert fleet.tally(KEYS[0]).refusals == ("port in use",)
    assert fleet.tally(KEYS[1]).refusals == ()

    fleet.retarget(sidecar, revision((1, 1, 0)), contents((1, 1, 0)))
    assert fleet.tally(KEYS[0]).propagated
    assert fleet.tally(KEYS[0]).refusals == ()


def test_a_sidecar_that_left_never_holds_an_edit_up():
    fleet = connected("1", "2")
    fleet.leave("shop", "1", 1.0)

    for pod in ("1", "2"):
        fleet.retarget(fleet.get("shop", pod), revision((2, 1, 0)), contents((2, 1, 0)))
    fleet.acknowledge("shop", "2", Acknowledgement(revision=revision((2, 1, 0)), applied=True))

    assert fleet.tally(KEYS[0]).propagated
    assert fleet.tally(KEYS[0]).total == 1


def test_a_sidecar_that_returns_with_the_revision_it_left_with_changes_nothing():
    fleet = connected("1")
    before = fleet.tally(KEYS[0])

    assert fleet.leave("shop", "1", 1.0) == set()
    fleet.put(facts("1", (1, 1, 0)))

    assert fleet.tally(KEYS[0]) == before
    assert fleet.expire(100.0) == set()


def test_figures_of_all_sidecars_are_added_up():
    fleet = connected("1", "2")
    for pod, hits in (("1", 3), ("2", 4)):
        seen = Observation(kind="Gauge", name="a", figures={"hits": hits, "last": f"2026-01-0{hits}", "open": hits > 3})
        said = Acknowledgement(revision=revision((1, 1, 0)), applied=True, observed=(seen,))
        assert KEYS[0] in fleet.acknowledge("shop", pod, said)

    assert fleet.tally(KEYS[0]).figures == {"hits": 7, "last": "2026-01-04", "open": True}


def test_figures_that_do_not_go_together_do_no_harm():
    assert add_up([{"a": 1, "b": [1]}, {"a": "x", "b": None}, {"a": True}]) == {"a": 1}


def test_sidecars_of_another_replica_count_and_go_with_it():
    fleet = connected("1")
    remote = facts("9", (1, 1, 0))

    fleet.replace_origin("replica-b", [remote], 1.0)
    fleet.retarget(fleet.get("shop", "9"), revision((1, 1, 0)), contents((1, 1, 0)))
    assert fleet.tally(KEYS[0]).total == 2

    fleet.replace_origin("replica-b", [], 2.0)
    assert fleet.expire(3.0) >= {KEYS[0]}
    assert fleet.tally(KEYS[0]).total == 1


def test_a_stale_report_does_not_take_back_a_sidecar_that_moved_here():
    fleet = connected("1")

    fleet.replace_origin("replica-b", [facts("1")], 1.0)

    assert fleet.get("shop", "1").origin == ""
    assert fleet.tally(KEYS[0]).propagated


def test_what_is_remembered_is_bounded():
    fleet = connected("1")
    sidecar = fleet.get("shop", "1")

    for number in range(1000):
        fleet.retarget(sidecar, f"r{number}", contents((1, 1, 1)))

    assert len(fleet._contents) < 100
