"""Conditions, addresses and keys."""

import ipaddress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pillion.ratelimit.addresses import parse_address, parse_network, prefix_key
from pillion.ratelimit.compiled import Condition, KeyPart
from pillion.ratelimit.matching import MalformedAttribute, every, in_share, key_of, predicate, some


def holds(test, value, given_value, attribute="a"):
    attributes = {} if given_value is None else {attribute: given_value}
    return predicate(Condition(attribute=attribute, test=test, value=value))(attributes)


@pytest.mark.parametrize(
    ("test", "value", "yes", "no"),
    [
        ("exact", "x", ["x"], ["X", "xx", "", None]),
        ("prefix", "/api/", ["/api/", "/api/x"], ["/api", "x/api/", None]),
        ("suffix", ".json", [".json", "a.json"], [".jso", None]),
        ("glob", "/a/*/c?", ["/a/b/cd", "/a//c1", "/a/b/b/cx"], ["/a/b/c", "x/a/b/cd", "/a/b/cd\nx", None]),
        ("glob", "[ab]*", ["a", "bx"], ["c", "", None]),
        ("cidr", "192.0.2.0/24", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.3.1", "2001:db8::1", None]),
        ("cidr", "2001:db8::/32", ["2001:db8:1::1", "2001:db8::1%eth0"], ["2001:db9::1", "192.0.2.1", None]),
        ("present", True, ["x", ""], [None]),
        ("present", False, [None], ["x", ""]),
        ("in", ("a", "b"), ["a", "b"], ["c", "ab", None]),
    ],
)
def test_a_condition_holds_for_these_values_only(test, value, yes, no):
    assert [one for one in yes if not holds(test, value, one)] == []
    assert [one for one in no if holds(test, value, one)] == []


def test_an_empty_prefix_is_about_attributes_that_are_there():
    assert holds("prefix", "", "anything")
    assert not holds("prefix", "", None)


@pytest.mark.parametrize("text", ["192.0.2.1:80", "[::1]", "192.0.2.01", "unknown", "", "1.2.3", "::1\0", "\ud800"])
def test_a_network_condition_names_a_value_that_is_no_address(text):
    with pytest.raises(MalformedAttribute) as raised:
        holds("cidr", "192.0.2.0/24", text)

    assert raised.value.attribute == "a"


def test_a_glob_does_not_run_away():
    assert not holds("glob", "*a" * 40 + "b", "a" * 4_000)


def test_every_and_some_of_none():
    assert every(()) is None
    assert some(()) is None


@given(st.lists(st.sampled_from(["exact", "prefix"]), min_size=1, max_size=4), st.text("ab", max_size=3))
def test_every_is_all_and_some_is_any(tests, value):
    conditions = [Condition(attribute="a", test=test, value="a") for test in tests]
    each = [predicate(condition)({"a": value}) for condition in conditions]

    assert every(conditions)({"a": value}) == all(each)
    assert some(conditions)({"a": value}) == any(each)


@given(st.ip_addresses())
def test_addresses_are_read_as_the_standard_library_reads_them(address):
    mapped = address.ipv4_mapped if address.version == 6 else None

    assert parse_address(str(address)) == ((mapped or address).version, int(mapped or address))


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_hold_what_the_standard_library_says(address, bits):
    network = ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    other = ipaddress.ip_address(
        (int(address) ^ 1 << (address.max_prefixlen // 2)) & ((1 << address.max_prefixlen) - 1)
    )
    if address.version == 6 and (address.ipv4_mapped or other.ipv4_mapped):
        return

    for one in (address, other):
        assert parse_network(str(network)).holds(parse_address(str(one))) == (one in network)


def test_host_bits_in_a_network_are_told_with_the_fix():
    with pytest.raises(ValueError, match=r'did you mean "192\.0\.2\.0/24"'):
        parse_network("192.0.2.1/24")


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(1, 128))
def test_addresses_share_a_key_when_they_share_the_prefix(one, other, bits):
    if one.ipv4_mapped or other.ipv4_mapped:
        return
    same = ipaddress.ip_network((one, bits), strict=False) == ipaddress.ip_network((other, bits), strict=False)

    assert (prefix_key(str(one), bits) == prefix_key(str(other), bits)) == same


def test_ipv4_addresses_count_singly_and_never_with_ipv6():
    assert prefix_key("192.0.2.1", 64) != prefix_key("192.0.2.2", 64)
    assert prefix_key("::ffff:192.0.2.1", 64) == prefix_key("192.0.2.1", 64)
    assert prefix_key("0.0.0.1", 128) != prefix_key("::1", 128)


@given(st.lists(st.text(max_size=80), min_size=2, max_size=3), st.lists(st.text(max_size=80), min_size=2, max_size=3))
def test_keys_are_equal_only_where_all_parts_are(one, other):
    if len(one) != len(other):
        return
    names = [f"a{index}" for index in range(len(one))]
    key = key_of([KeyPart(attribute=name) for name in names])

    assert (key(dict(zip(names, one, strict=True))) == key(dict(zip(names, other, strict=True)))) == (one == other)


def test_a_key_with_a_missing_part_is_none():
    key = key_of([KeyPart(attribute="a"), KeyPart(attribute="ip", ipv6_prefix=64)])

    assert key({"a": "x"}) is None
    assert key({"ip": "::1"}) is None
    assert key_of([KeyPart(attribute="a")])({}) is None
    assert key_of([KeyPart(attribute="ip", ipv6_prefix=64)])({}) is None


def test_a_key_names_a_value_that_is_no_address():
    with pytest.raises(MalformedAttribute, match="ip"):
        key_of([KeyPart(attribute="ip", ipv6_prefix=64)])({"ip": "here"})


def test_rules_choose_their_shares_independently():
    keys = [str(number) for number in range(1_000)]
    first = {key for key in keys if in_share("p/a", key, 50)}
    second = {key for key in keys if in_share("p/b", key, 50)}

    assert 400 < len(first) < 600
    assert 150 < len(first & second) < 350


@given(st.text(max_size=5), st.integers(0, 100))
def test_a_share_only_grows(key, percent):
    assert not in_share("p/a", key, 0)
    assert in_share("p/a", key, 100)
    assert not in_share("p/a", key, percent) or in_share("p/a", key, min(percent + 1, 100))
