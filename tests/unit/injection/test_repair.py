"""Missed pods are found by the very injection that missed them, and evicted only where that helps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_operator.injection.patch import MIRROR_ANNOTATION
from pillion_operator.injection.precedence import INJECT_LABEL
from pillion_operator.injection.repair import MAX_CONTROLLERS, Evictions, Finding, State, examine
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespace
from pillion_operator.settings import Settings

ASKS = {INJECT_LABEL: "true"}
SIDECAR = {"name": "pillion", "restartPolicy": "Always"}
INJECTOR = Injector(Settings(namespace="pillion-system"))


def pod(labels=None, phase="Running", owners=(), annotations=None, **spec):
    return {
        "metadata": {
            "name": "p",
            "namespace": "shop",
            "uid": "u",
            "labels": labels or {},
            "annotations": annotations or {},
            "ownerReferences": list(owners),
        },
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
        "status": {"phase": phase},
    }


def judged(one, namespace_labels=None):
    labels = ASKS if namespace_labels is None else namespace_labels
    return examine(one, labels, lambda p: INJECTOR(p, Namespace(labels=labels)))


@pytest.mark.parametrize(
    ("one", "state", "reason"),
    [
        (pod(), State.MISSED, "SidecarMissed"),
        (pod(phase="Pending"), State.MISSED, "SidecarMissed"),
        (pod(initContainers=[SIDECAR]), State.INJECTED, ""),
        (pod(initContainers=[{"name": "pillion"}]), State.IMPOSSIBLE, "NameTaken"),
        (pod(hostNetwork=True), State.IMPOSSIBLE, "HostNetwork"),
        (pod(annotations={"pillion.dev/port": "80"}), State.IMPOSSIBLE, "BadAnnotation"),
    ],
)
def test_a_pod_that_is_to_have_a_sidecar_is_judged(one, state, reason):
    found = judged(one)

    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(
    "one",
    [
        pod({INJECT_LABEL: "false"}),
        pod(phase="Succeeded"),
        pod(phase="Failed"),
        pod(annotations={MIRROR_ANNOTATION: "x"}),
        pod() | {"metadata": pod()["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_one_that_is_to_have_none_or_is_at_its_end_is_passed_over(one):
    assert judged(one) is None


def test_the_message_names_the_label_that_asks_and_the_fix():
    assert "the pod is labelled pillion.dev/inject=true" in judged(pod(ASKS), {}).message
    assert "the namespace is labelled" in judged(pod()).message
    assert "kubectl rollout restart" in judged(pod()).message


def test_only_a_controller_makes_pods_anew():
    assert judged(pod(owners=[{"uid": "o"}])).controller == ""
    assert judged(pod(owners=[{"uid": "o"}, {"uid": "c", "controller": True}])).controller == "c"


def missed(uid, controller="c"):
    return Finding(
        namespace="shop",
        name=uid,
        uid=uid,
        labels={},
        controller=controller,
        state=State.MISSED,
        reason="SidecarMissed",
    )


def test_pods_without_controller_are_never_chosen():
    assert Evictions().choose([missed("a", ""), missed("b", "")]) == []


def test_one_pod_of_a_controller_goes_at_a_time_until_none_is_left():
    evictions, left, gone = Evictions(), [missed("a"), missed("b"), missed("c")], []
    while chosen := evictions.choose(left):
        [one] = chosen
        evictions.evicted(one, left)
        left.remove(one)
        gone.append(one.uid)

    assert gone == ["a", "b", "c"]


def test_a_controller_whose_new_pods_are_missed_as_well_is_given_up():
    evictions = Evictions()
    evictions.evicted(missed("a"), [missed("a"), missed("b")])

    assert evictions.choose([missed("b"), missed("made-anew")]) == []
    assert [one.uid for one in evictions.choose([missed("b")])] == ["b"]


def test_the_memory_is_bounded():
    evictions = Evictions()
    for number in range(MAX_CONTROLLERS + 5):
        evictions.evicted(missed("a", str(number)), [missed("a", str(number))])

    assert len(evictions._missed_before) == MAX_CONTROLLERS


@given(st.lists(st.tuples(st.sampled_from(["", "c1", "c2", "c3"]), st.booleans()), max_size=12))
def test_where_every_replacement_is_missed_too_each_controller_loses_one_pod_at_most(world):
    """A cluster in which injection does not work at all: whatever is evicted comes back without a sidecar."""
    evictions, left, lost = Evictions(), [missed(f"p{n}", c) for n, (c, _) in enumerate(world)], []
    for round_ in range(5):
        for chosen in evictions.choose(left):
            evictions.evicted(chosen, left)
            lost.append(chosen.controller)
            left = [one for one in left if one.uid != chosen.uid] + [
                missed(f"r{round_}-{chosen.uid}", chosen.controller)
            ]

    assert sorted(lost) == sorted({controller for controller, _ in world if controller})
