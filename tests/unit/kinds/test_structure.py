"""Structural schemas and their checker, with jsonschema as the independent judge."""

from typing import Annotated, ClassVar, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from pillion.kinds.model import FREEFORM, JSON, Model, Rule, list_map
from pillion.kinds.quantities import Duration
from pillion.kinds.schema import ModelError, structural_schema
from pillion.kinds.structure import check_rules, check_structure, with_defaults
from pillion.kinds.violations import SPEC


class Part(Model, frozen=True, kw_only=True):
    """A part."""

    rules: ClassVar = (
        Rule(
            cel="self.low <= self.high",
            test=lambda o: o["low"] <= o["high"],
            message="must not be above high; lower it",
            field="low",
        ),
    )

    name: Annotated[str, Meta(min_length=1, max_length=8, pattern="^[a-z]+$", description="Name.")]
    low: Annotated[int, Meta(ge=0, le=10, description="Low.")] = 0
    high: Annotated[int, Meta(ge=0, le=10, description="High.")] = 10


class Whole(Model, frozen=True, kw_only=True):
    """A whole."""

    parts: Annotated[
        tuple[Part, ...], Meta(max_length=3, min_length=1, description="Parts.", extra_json_schema=list_map("name"))
    ]
    labels: Annotated[dict[str, Annotated[str, Meta(max_length=4)]], Meta(max_length=2, description="Labels.")] = {}
    mode: Annotated[Literal["on", "off"], Meta(description="Mode.")] = "on"
    wait_for: Annotated[Duration | None, Meta(description="Wait.")] = None
    free: Annotated[JSON, Meta(description="Anything.", extra_json_schema=FREEFORM)] = None
    loud: Annotated[bool, Meta(description="Loud.")] = False


SCHEMA = structural_schema(Whole)


def errors(document):
    filled = with_defaults(document, SCHEMA)
    found = list(check_structure(filled, SCHEMA, SPEC))
    return [v.message for v in found or check_rules(filled, Whole, SPEC)]


def test_a_good_document_has_no_violations():
    assert errors({"parts": [{"name": "a"}], "free": {"x": [None]}, "waitFor": "5m"}) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "spec.parts: is missing; add it: Parts."),
        ({"parts": []}, "spec.parts: needs at least 1 items; add one"),
        ({"parts": [{"name": "a"}], "mod": "on"}, 'spec.mod: is no field of this object; did you mean "mode"?'),
        (
            {"parts": [{"name": "a"}], "mode": True},
            'spec.mode: true must be a string; quote it: YAML reads unquoted on, off, yes and no as booleans, so write "on" or "off"',
        ),
        (
            {"parts": [{"name": "a"}], "mode": "onn"},
            'spec.mode: "onn" is not one of the allowed values; did you mean "on"?',
        ),
        ({"parts": [{"name": "a", "low": 11}]}, "spec.parts[0].low: 11 is above the maximum of 10; use 10 or less"),
        ({"parts": [{"name": "a", "low": "3"}]}, 'spec.parts[0].low: "3" must be a whole number; remove the quotes: 3'),
        (
            {"parts": [{"name": "a", "low": True}]},
            "spec.parts[0].low: true must be a whole number; write a whole number",
        ),
        ({"parts": [{"name": "a", "low": 5, "high": 4}]}, "spec.parts[0].low: 5 must not be above high; lower it"),
        ({"parts": [{"name": "a"}, {"name": "a"}]}, 'spec.parts[1].name: "a" stands twice in this list; rename one'),
        ({"parts": [{"name": "a\n"}]}, 'spec.parts[0].name: "a\\n" does not match ^[a-z]+$; Name.'),
        (
            {"parts": [{"name": "a"}], "labels": {"a.b/c": "12345"}},
            'spec.labels["a.b/c"]: "12345" is longer than 4 characters; shorten it',
        ),
        ({"parts": {"name": "a"}}, 'spec.parts: {"name": "a"} must be a list; write a list'),
    ],
)
def test_a_violation_names_field_value_rule_and_fix(document, message):
    assert errors(document) == [message]


def test_all_mistakes_are_told_at_once():
    assert len(errors({"parts": [{"name": "A", "low": -1}], "loud": "yes", "x": 1})) == 4


def test_defaults_are_filled_in_at_every_depth():
    assert with_defaults({"parts": [{"name": "a"}]}, SCHEMA) == {
        "parts": [{"name": "a", "low": 0, "high": 10}],
        "mode": "on",
        "loud": False,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.sampled_from(["a", "on", "5m", "abcdefghi", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["parts", "name", "low", "high", "mode", "labels", "free", "waitFor"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
near_misses = st.fixed_dictionaries(
    {
        "parts": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "A"])}, optional={"low": st.integers(-1, 11)}),
            max_size=4,
        )
    },
    optional={
        "mode": st.sampled_from(["on", "off", 1]),
        "labels": st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", 5])),
        "free": json_values,
    },
)


@given(json_values | near_misses)
def test_the_checker_agrees_with_an_independent_validator(document):
    closed = dict(_closed(SCHEMA))
    expected = not list(jsonschema.Draft202012Validator(closed).iter_errors(document))
    names = (
        [p.get("name") for p in document["parts"] if isinstance(p, dict)]
        if isinstance(document, dict) and isinstance(document.get("parts"), list)
        else []
    )
    if len({str(n) for n in names}) != len(names):
        return  # JSON Schema has no word for list maps

    assert (not list(check_structure(document, SCHEMA, SPEC))) == expected


def _closed(schema):
    """The API server refuses unknown fields by pruning rules; JSON Schema needs to be told."""
    for key, value in schema.items():
        if key == "properties":
            yield key, {name: dict(_closed(child)) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            yield key, dict(_closed(value))
        elif not key.startswith("x-") and key not in ("format", "description", "default"):
            yield key, value
    if "properties" in schema:
        yield "additionalProperties", False


def test_a_model_without_description_or_bound_is_its_authors_mistake():
    class Mute(Model, frozen=True, kw_only=True):
        name: Annotated[str, Meta(max_length=3)] = ""

    class Endless(Model, frozen=True, kw_only=True):
        name: Annotated[str, Meta(description="Name.")] = ""

    for model, word in ((Mute, "description"), (Endless, "max_length")):
        with pytest.raises(ModelError, match=word):
            structural_schema(model)
