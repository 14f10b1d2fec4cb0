"""The version that stays in force: what is kept of it is what comes back, for every kind, and nothing unreadable is believed."""

from pathlib import Path

import pytest
import yaml
from tests.support.operator.toys import VOCABULARY, gauge

from pillion.kinds import registry
from pillion.kinds.crd import MAX_LAST_GOOD
from pillion.kinds.resource import check_document
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.history import was_accepted
from pillion_operator.last_good import document_of, kept

ROOT = Path(__file__).parents[3]
A = ResourceKey("Gauge", "shop", "a")


def manifests():
    """Every manifest of the documentation and the examples."""
    texts = [
        part.split("```")[0]
        for page in sorted(ROOT.glob("docs/*.md"))
        for part in page.read_text().split("```yaml\n")[1:]
    ]
    texts += [path.read_text() for path in sorted(ROOT.glob("examples/shop/*/*.yaml"))]
    for text in texts:
        for document in yaml.safe_load_all(text) if "pillion.dev/v1alpha1" in text else ():
            if isinstance(document, dict) and document.get("apiVersion") == "pillion.dev/v1alpha1":
                yield document


def test_what_is_kept_comes_back_as_it_was_for_every_kind():
    kinds, seen = registry.kinds(), set()
    for document in manifests():
        checked = check_document(document, kinds)
        if checked.resource is None:
            continue
        one = checked.resource
        held = kept(one, 7)
        back, generation = document_of(one.kind, one.namespace, one.name, {"lastGood": held})
        assert (check_document(back, kinds).resource, generation) == (one, 7)
        seen.add(one.kind)
    assert seen == set(kinds)


@pytest.mark.parametrize(
    "held",
    [None, {}, [], {"generation": 1}, {"generation": "1", "spec": "{}"}, {"generation": 1, "spec": "{"}, {"generation": 1, "spec": "[" * 9999}],
)  # fmt: skip
def test_what_cannot_be_read_is_nothing(held):
    assert document_of("Gauge", "shop", "a", {"lastGood": held}) is None


def test_a_version_that_would_not_fit_twice_is_not_kept():
    large = check_document(gauge("a", 1, claim="x"), VOCABULARY.kinds).resource
    spec = type(large.spec)(value=1, claim="x" * MAX_LAST_GOOD)

    assert kept(type(large)(kind="Gauge", namespace="shop", name="a", spec=spec), 1) is None


def catalogue(*documents):
    found = Catalogue(VOCABULARY)
    for document in documents:
        found.observe(document)
        found.relate("shop")
    return found


def refused(**held):
    status = {"observedGeneration": 2, "lastGood": held} if held else {"observedGeneration": 2}
    return gauge("a", 13, generation=2, version=2, status=status)


def test_a_process_that_never_saw_the_good_version_takes_it_from_the_status():
    known = catalogue(refused(generation=1, spec='{"value": 7}')).get(A)

    assert not known.accepted
    assert (known.good.resource.spec.value, known.good.generation) == (7, 1)


def test_a_kept_version_that_fails_todays_checks_is_not_put_in_force():
    assert catalogue(refused(generation=1, spec='{"value": 101}')).get(A).good is None


def test_a_kept_version_gives_way_to_one_that_is_accepted():
    status = refused(generation=1, spec='{"value": 7}')["status"]

    assert catalogue(gauge("a", 8, generation=3, version=3, status=status)).get(A).good.resource.spec.value == 8


def test_what_another_replica_keeps_is_put_in_force_here_too():
    found = catalogue(refused())
    assert found.get(A).good is None
    later = refused(generation=1, spec='{"value": 7}')
    later["metadata"]["resourceVersion"] = "3"

    _, change = found.observe(later)

    assert change.meaning
    assert found.get(A).good.resource.spec.value == 7


def test_only_what_its_own_status_calls_accepted_is_recalled():
    def accepted(generation):
        condition = {"type": "Accepted", "status": "True", "observedGeneration": generation}
        return gauge("a", 7, generation=4, status={"observedGeneration": generation, "conditions": [condition]})

    assert was_accepted(accepted(4))[1] == 4
    assert was_accepted(accepted(3)) is None
    assert was_accepted(gauge("a", 7)) is None
    assert was_accepted(refused(generation=1, spec='{"value": 7}'))[1] == 1
