"""Attributes of forwarded requests: whom to believe, and what a route is."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pillion.ratelimit.forwarded import attributes_of, route_of, without_port


def attributes(*fields, method="GET", peer="127.0.0.1", hops=1):
    return attributes_of(method, fields, peer, trusted_hops=hops)


def test_the_original_request_is_described_by_the_proxy():
    found = attributes(
        ("X-Forwarded-Method", "POST"),
        ("X-Forwarded-Proto", "HTTPS"),
        ("X-Forwarded-Host", "Shop.example"),
        ("X-Forwarded-Uri", "/api/orders?id=1"),
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Api-Key", "k1"),
    )

    plain = {name: value for name, value in found.items() if not name.startswith("header.x-forwarded")}
    assert plain == {
        "method": "POST",
        "scheme": "https",
        "host": "shop.example",
        "route": "/api/orders",
        "ip": "198.51.100.7",
        "header.x-api-key": "k1",
    }


@pytest.mark.parametrize(
    ("forwarded_for", "hops", "expected"),
    [
        ("203.0.113.9, 198.51.100.7", 1, "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7", 2, "203.0.113.9"),
        ("203.0.113.9, 198.51.100.7", 5, "203.0.113.9"),
        ("203.0.113.9, 198.51.100.7", 0, "127.0.0.1"),
        ("1.1.1.1, 198.51.100.7:4711", 1, "198.51.100.7"),
        ("[2001:db8::1]:4711", 1, "2001:db8::1"),
        ("2001:db8::1", 1, "2001:db8::1"),
        ("unknown", 1, "127.0.0.1"),
        (" , ", 1, "127.0.0.1"),
    ],
)
def test_the_address_counts_from_the_right(forwarded_for, hops, expected):
    assert attributes(("X-Forwarded-For", forwarded_for), hops=hops)["ip"] == expected


def test_a_field_that_comes_twice_is_one_list():
    found = attributes(("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7"))

    assert found["ip"] == "198.51.100.7"


def test_what_is_not_told_is_not_there():
    found = attributes(peer=None)

    assert found == {"method": "GET"}


@pytest.mark.parametrize(
    ("uri", "route"),
    [
        ("/api/x?y=/z", "/api/x"),
        ("/%61pi//x", "/api/x"),
        ("/api/../login", "/login"),
        ("/api/%2e%2e/login", "/login"),
        ("//evil/..//login", "/login"),
        ("/login/", "/login/"),
        ("/login/.", "/login"),
        ("", "/"),
        ("?a", "/"),
        ("https://shop.example/login?x", "/login"),
        ("https://shop.example", "/"),
        ("/a;b=c/d", "/a;b=c/d"),
    ],
)
def test_a_route_is_the_plainest_form_of_the_path(uri, route):
    assert route_of(uri) == route


@given(st.text(st.sampled_from("/.%2eEf:ab?"), max_size=20))
def test_a_route_cannot_hide_anything(uri):
    route = route_of(uri)

    assert route.startswith("/")
    assert "//" not in route
    assert not {".", ".."} & set(route.split("/"))


@given(st.ip_addresses())
def test_an_address_keeps_what_is_no_port(address):
    assert without_port(str(address)) == str(address)
