"""One resource beside those that are there: contradictions refuse, what is merely missing yet warns."""

from tests.support.operator.toys import GAUGE, GaugeSpec

from pillion.kinds.definition import Kind
from pillion.kinds.resource import Resource
from pillion.kinds.violations import FieldPath, Violation
from pillion_operator.admission.relations import consequences

KINDS = {"Gauge": GAUGE}


def held(name, claim=""):
    return Resource(kind="Gauge", namespace="shop", name=name, spec=GaugeSpec(value=1, claim=claim))


def found(resource, *others, kinds=KINDS):
    return [(v.severity, str(v.path), v.rule) for v in consequences(resource, others, kinds)]


def test_a_resource_that_contradicts_another_is_refused():
    assert found(held("b", "x"), held("a", "x")) == [("error", "spec.claim", "is held by a")]


def test_so_is_one_that_would_make_another_wrong():
    [(severity, _, rule)] = found(held("a", "x"), held("b", "x"))

    assert severity == "error"
    assert rule.startswith("would make Gauge b invalid (spec.claim:")


def test_what_was_wrong_before_is_not_blamed_on_it():
    assert found(held("c", "y"), held("a", "x"), held("b", "x")) == []


def test_its_own_earlier_version_does_not_count():
    assert found(held("a", "x"), held("a", "x")) == []


def _needs(specs):
    for name, spec in specs.items():
        if spec.claim and spec.claim not in specs:
            yield (
                name,
                Violation(path=FieldPath("spec.claim"), rule="is no gauge here", fix=f"use one of {sorted(specs)}"),
            )


NEEDY: Kind = Kind(
    kind="Gauge", plural="gauges", short_names=(), summary="x", spec=GaugeSpec, compile=lambda _n, _s: {}, relate=_needs
)


def test_what_refers_to_something_that_is_not_there_yet_is_let_in_with_a_warning():
    kinds = {"Gauge": NEEDY}

    assert found(held("a", "later"), held("b"), kinds=kinds) == [("warning", "spec.claim", "is no gauge here")]
    assert found(held("a", "b"), held("b"), kinds=kinds) == []


def test_kinds_without_relations_say_so():
    assert GAUGE.relates
    assert not Kind(
        kind="K", plural="ks", short_names=(), summary="x", spec=GaugeSpec, compile=lambda _n, _s: {}
    ).relates
