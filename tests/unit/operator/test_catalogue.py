"""The catalogue: verdicts from documents alone, the last good version in force, events in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operator.toys import VOCABULARY, gauge

from pillion_operator.catalogue import Catalogue, Change, ResourceKey

A = ResourceKey("Gauge", "shop", "a")


def observed(*documents):
    catalogue = Catalogue(VOCABULARY)
    for document in documents:
        catalogue.observe(document)
        catalogue.relate("shop")
    return catalogue


def in_force(catalogue):
    return {c.resource.name: c.resource.spec.value for c in catalogue.in_force("shop")}


def test_a_good_resource_is_in_force():
    catalogue = observed(gauge("a", 1))

    assert catalogue.get(A).accepted
    assert in_force(catalogue) == {"a": 1}


def test_a_refused_edit_leaves_the_last_good_version_in_force():
    catalogue = observed(gauge("a", 1), gauge("a", 13, generation=2, version=2))

    known = catalogue.get(A)
    assert not known.accepted
    assert [v.message for v in known.violations] == ["spec.value: 13 is unlucky; use 12 or 14"]
    assert (known.generation, known.good.generation) == (2, 1)
    assert in_force(catalogue) == {"a": 1}


def test_a_mended_resource_is_in_force_again():
    catalogue = observed(gauge("a", 1), gauge("a", 13, generation=2, version=2), gauge("a", 3, generation=3, version=3))

    assert catalogue.get(A).accepted
    assert in_force(catalogue) == {"a": 3}


def test_deletion_withdraws_and_forgets_the_last_good_version():
    catalogue = observed(gauge("a", 1))

    assert catalogue.forget(A, "uid-a")
    catalogue.observe(gauge("a", 13, uid="another", version=9))
    catalogue.relate("shop")

    assert in_force(catalogue) == {}


def test_the_deletion_of_a_predecessor_does_not_touch_its_successor():
    catalogue = observed(gauge("a", 1, uid="old"), gauge("a", 2, uid="new", version=5))

    assert not catalogue.forget(A, "old")
    assert in_force(catalogue) == {"a": 2}


def test_an_overtaken_event_is_passed_over():
    catalogue = observed(gauge("a", 2, generation=2, version=7))

    assert catalogue.observe(gauge("a", 1, version=5)) == (A, Change(meaning=False, status=False))
    assert catalogue.observe(gauge("a", 9, uid="older", version=6))[1] == Change(meaning=False, status=False)
    assert in_force(catalogue) == {"a": 2}


def test_a_document_that_was_just_read_is_believed_whatever_its_version():
    catalogue = observed(gauge("a", 2, generation=2, version=700))

    catalogue.observe(gauge("a", 1, version=5), trusted=True)
    catalogue.relate("shop")

    assert in_force(catalogue) == {"a": 1}


def test_a_change_of_status_alone_means_nothing_new():
    catalogue = observed(gauge("a", 1))

    _, change = catalogue.observe(gauge("a", 1, version=2, status={"observedGeneration": 1}))

    assert change == Change(meaning=False, status=True)
    assert catalogue.relate("shop") == (set(), [])


def test_a_bug_in_a_kind_refuses_the_resource_and_nothing_else():
    catalogue = observed(gauge("a", 99), gauge("b", 1))

    assert "RuntimeError: a bug in a kind" in catalogue.get(A).violations[0].message
    assert in_force(catalogue) == {"b": 1}


def test_warnings_do_not_refuse():
    catalogue = observed(gauge("a", 12))

    assert catalogue.get(A).accepted
    assert catalogue.get(A).violations[0].severity == "warning"


def test_relations_are_judged_again_when_the_other_resource_changes():
    catalogue = observed(gauge("a", 1, claim="x"), gauge("b", 2, claim="x"))
    b = ResourceKey("Gauge", "shop", "b")
    assert not catalogue.get(b).accepted
    assert in_force(catalogue) == {"a": 1}

    catalogue.observe(gauge("a", 1, claim="y", generation=2, version=2))
    changed, _ = catalogue.relate("shop")

    assert changed == {A, b}
    assert in_force(catalogue) == {"a": 1, "b": 2}


documents = st.lists(
    st.builds(
        lambda name, value, claim: (name, value, claim),
        st.sampled_from("abcd"),
        st.sampled_from([1, 2, 12, 13, 99, "no number", 101]),
        st.sampled_from(["", "x", "y"]),
    ),
    unique_by=lambda d: d[0],
)


@given(documents, st.randoms())
def test_verdicts_do_not_depend_on_the_order_of_events(chosen, chance):
    made = [gauge(name, value, claim=claim) for name, value, claim in chosen]
    shuffled = list(made)
    chance.shuffle(shuffled)
    one, other = Catalogue(VOCABULARY), Catalogue(VOCABULARY)
    for catalogue, order in ((one, made), (other, shuffled)):
        for document in order:
            catalogue.observe(document)
            if catalogue is other:
                catalogue.relate("shop")  # judged at every step, or once at the end: the same
        catalogue.relate("shop")

    def verdicts(catalogue):
        return {known.key: known.violations for known in catalogue}

    assert verdicts(one) == verdicts(other)


@given(st.lists(st.sampled_from([1, 2, 3, 13, 99, 101]), min_size=1))
def test_in_force_is_always_the_last_good_edit(values):
    catalogue = observed(*(gauge("a", v, generation=n, version=n) for n, v in enumerate(values, start=1)))

    good = [v for v in values if v <= 12]
    assert in_force(catalogue) == ({"a": good[-1]} if good else {})


@pytest.mark.parametrize("field", ["extra", "data"])
def test_fields_that_the_api_server_may_add_later_are_no_error(field):
    document = gauge("a", 1) | {field: {}}

    assert in_force(observed(document)) == {"a": 1}
