"""Parameters are checked by the schema that describes them."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.runtime.operation import Parameter
from pillion.runtime.parameters import ParameterChecks


def checks(schema, *, required=False, place="query") -> ParameterChecks:
    return ParameterChecks(
        [Parameter(name="p", place=place, description="A parameter.", schema=schema, required=required)]
    )


def wrong(schema, *values, required=False) -> list[str]:
    errors = checks(schema, required=required).errors("query", {"p": values} if values else {})
    assert all(error.pointer == "query:p" for error in errors)
    return [error.detail for error in errors]


SCHEMAS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("integer")},
        optional={"minimum": st.integers(-20, 0), "maximum": st.integers(0, 20), "default": st.integers()},
    ),
    st.fixed_dictionaries(
        {"type": st.just("number")}, optional={"minimum": st.integers(-20, 0), "maximum": st.floats(0, 20)}
    ),
    st.just({"type": "boolean"}),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 3),
            "maxLength": st.integers(3, 6),
            "pattern": st.sampled_from(["^[a-z]*$", "b", "^a"]),
            "enum": st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=3, unique=True),
        },
    ),
)


@given(
    schema=SCHEMAS,
    value=st.sampled_from(["", "true", "false", "1", "-1", "007", "+1", "1.5", "1e1", "nan", "inf", "1_0", " 1", "abc"])
    | st.text(max_size=8)
    | st.integers(-30, 30).map(str)
    | st.floats(-30, 30).map(str),
)
def test_a_value_is_right_exactly_when_jsonschema_says_so(schema, value):
    assert (wrong(schema, value) == []) == right(schema, value)


def right(schema, value) -> bool:
    """Judge by JSON's own grammar and jsonschema."""
    instance = value
    if schema["type"] != "string":
        try:
            instance = json.loads(value, parse_constant=lambda _: None)
        except ValueError:
            return False
        if value != value.strip() or not isinstance(instance, int if schema["type"] == "integer" else (int, float)):
            return False
    return jsonschema.Draft202012Validator(schema).is_valid(instance)


@pytest.mark.parametrize(
    ("schema", "values", "detail"),
    [
        ({"type": "integer"}, ("x",), "is no integer; write decimal digits"),
        ({"type": "integer", "minimum": 1}, ("0",), "is below the minimum 1"),
        ({"type": "integer", "maximum": 9}, ("10",), "is above the maximum 9"),
        ({"type": "integer"}, ("9" * 30,), "is no integer; write decimal digits"),
        ({"type": "boolean"}, ("True",), "is no boolean; write true or false"),
        ({"type": "string", "enum": ["a", "b"]}, ("c",), "is not allowed; write one of a, b"),
        ({"type": "integer", "enum": [1, 2]}, ("3",), "is not allowed; write one of 1, 2"),
        ({"const": "x"}, ("y",), "is not allowed; write one of x"),
        ({"maxLength": 2}, ("abc",), "is longer than 2 characters"),
        ({"minLength": 2}, ("a",), "is shorter than 2 characters"),
        ({"pattern": "^a$"}, ("b",), "does not match ^a$"),
        ({}, ("a", "b"), "is given more than once; give it once"),
    ],
)
def test_what_is_wrong_is_said_with_the_fix(schema, values, detail):
    assert wrong(schema, *values) == [detail]


def test_a_missing_parameter_is_wrong_only_where_it_is_required():
    assert wrong({}) == []
    assert wrong({}, required=True) == ["is missing"]


def test_parameters_that_are_not_declared_are_ignored():
    assert checks({}).errors("query", {"other": ["x", "y"]}) == []


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "object"}, {"oneOf": []}, {"multipleOf": 2}])
def test_a_schema_that_is_not_checked_is_refused_at_once(schema):
    with pytest.raises(ValueError, match='parameter "p": schema'):
        checks(schema)
