"""Who may ask: host names, origins, tokens."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.runtime.gate import Gate, name_of
from pillion.runtime.problems import Problem


def refusal(check, *arguments) -> int:
    try:
        check(*arguments)
    except Problem as problem:
        return problem.status
    return 0


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:3700", "localhost"),
        ("localhost.", "localhost"),
        ("localhost.:80", "localhost"),
        ("[::1]", "[::1]"),
        ("[::1]:3700", "[::1]"),
        ("[::1]x", ""),
        ("[::1", "[::1"),
        ("a:b", ""),
        ("a:", "a"),
        ("a:1:2", ""),
        ("a:\u0661", ""),
        ("", ""),
        ("user@localhost", "user@localhost"),
        ("localhost, evil", "localhost, evil"),
    ],
)
def test_the_name_in_a_host_field(host, name):
    assert name_of(host) == name


@given(
    name=st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,20}[a-zA-Z0-9])?|\[[0-9a-f:]{2,20}\]", fullmatch=True),
    port=st.none() | st.integers(0, 65535),
)
def test_names_of_well_formed_hosts_are_those_of_the_standard_library(name, port):
    host = name if port is None else f"{name}:{port}"
    try:
        expected = urlsplit(f"//{host}").hostname
    except ValueError:
        return  # no IPv6 address
    assert name_of(host).strip("[]") == expected


@given(host=st.text(max_size=30))
def test_only_allowed_names_are_admitted_whatever_is_written(host):
    admitted = refusal(Gate(check_host=True).admit, host, None) == 0
    assert admitted == (name_of(host) in {"localhost", "127.0.0.1", "[::1]"})


def test_names_are_compared_without_case():
    gate = Gate(check_host=True, allowed_hosts=("Shop.Internal",))
    assert refusal(gate.admit, "SHOP.internal:8080", None) == 0


def test_an_authority_in_the_target_must_be_allowed_too():
    gate = Gate(check_host=True)
    assert refusal(gate.admit, "localhost", None, "localhost:3700") == 0
    assert refusal(gate.admit, "localhost", None, "evil.example") == 421


def test_without_host_check_any_host_is_admitted_but_no_foreign_origin():
    gate = Gate(check_host=False)
    assert refusal(gate.admit, "anything", None) == 0
    assert refusal(gate.admit, "anything", "http://evil.example") == 403


@given(
    token=st.text(min_size=1, max_size=20).map(str.encode),
    given_=st.none() | st.text(max_size=30) | st.text(max_size=20).map(lambda text: f"Bearer {text}"),
)
def test_only_the_token_itself_is_accepted(token, given_):
    gate = Gate(check_host=False)
    gate.set_token(token)
    scheme, _, said = (given_ or "").partition(" ")
    right = scheme.lower() == "bearer" and said.strip(" ").encode("utf-8", "surrogateescape") == token
    assert (refusal(gate.authorize, given_) == 0) == right


def test_without_a_token_everybody_may_ask():
    gate = Gate(check_host=False)
    assert not gate.needs_token
    assert refusal(gate.authorize, None) == 0


def test_a_refusal_shows_neither_the_token_nor_what_was_sent():
    gate = Gate(check_host=False)
    gate.set_token(b"sesame")
    with pytest.raises(Problem) as caught:
        gate.authorize("Bearer guess")
    assert b"sesame" not in caught.value.document()
    assert b"guess" not in caught.value.document()
