"""Bodies: decoding never fails in an unforeseen way, and content types are compared as RFC 9110 says."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fuzz import BROKEN
from tests.support.operations import Thing

from pillion.runtime import bodies
from pillion.runtime.problems import Problem


def refusal(model, body: bytes) -> Problem | None:
    try:
        bodies.decode(msgspec.json.Decoder(model), body)
    except Problem as problem:
        return problem
    return None


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("model", [Thing, dict, list, object])
def test_every_broken_body_is_a_problem_or_fits(name, model):
    problem = refusal(model, BROKEN[name])
    assert problem is None or (problem.status in {400, 422} and problem.errors)


@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_problem_or_fit(body):
    problem = refusal(Thing, body)
    assert problem is None or problem.status in {400, 422}


@pytest.mark.parametrize(
    ("accepted", "given_", "fits"),
    [
        (("application/json",), "application/json", True),
        (("application/json",), "Application/JSON ; charset=utf-8", True),
        (("application/json",), "application/jsonx", False),
        (("application/json",), "", False),
        (("application/json", "application/x"), "application/x", True),
        (("text/*",), "text/plain", True),
        (("text/*",), "textual/plain", False),
        (("*/*",), "", True),
        (("*/*",), "anything", True),
    ],
)
def test_content_types_are_compared_without_case_and_parameters(accepted, given_, fits):
    assert bodies.accepts(accepted, given_) is fits
