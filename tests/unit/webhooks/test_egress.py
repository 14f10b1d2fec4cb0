"""Which addresses may be connected to: a table of vectors, and a second implementation over whole numbers."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.webhooks.egress import DENIED, Denied, Guard, read_address, special_purpose

OPEN = Guard()

DENIED_VECTORS = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.0",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.0.0.53",
    "127.1.2.3",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.16.0.1",
    "172.20.10.1",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.1",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.1",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.0.1",
    "192.168.1.1",
    "192.168.255.255",
    "198.18.0.0",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.7",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.9",
    "203.0.113.255",
    "224.0.0.0",
    "224.0.0.1",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.0",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.254",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:ffff",
    "::ffff:0.0.0.0",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:172.16.0.1",
    "::ffff:192.168.1.1",
    "::ffff:100.64.0.1",
    "::ffff:224.0.0.1",
    "::ffff:255.255.255.255",
    "0:0:0:0:0:ffff:a00:1",
    "64:ff9b::",
    "64:ff9b::8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::",
    "64:ff9b:1::a00:1",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "100::",
    "100::1",
    "100::ffff:ffff:ffff:ffff",
    "2001::",
    "2001::1",
    "2001:0:53aa:64c::",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8::1",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::",
    "2002:a00:1::",
    "2002:7f00:1::1",
    "2002:c0a8:101::1",
    "2002:808:808::1",
    "3fff::",
    "3fff::1",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "5f00::",
    "5f00::1",
    "5f00:ffff::1",
    "fc00::",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd12:3456:789a::1",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::a9fe:a9fe",
    "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fec0::",
    "fec0::1",
    "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ff00::",
    "ff01::1",
    "ff02::1",
    "ff02::1%eth0",
    "ff0e::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]

ALLOWED_VECTORS = [
    "1.0.0.0",
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "::ffff:1.1.1.1",
    "2000::1",
    "2001:200::1",
    "2001:470::1",
    "2001:4860:4860::8888",
    "2001:db7::1",
    "2001:db9::1",
    "2003::1",
    "2400:cb00::1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "3ffe::1",
    "4000::1",
    "5eff::1",
    "5f01::1",
    "64:ff9a::1",
    "64:ff9b:2::1",
    "100:0:0:1::1",
    "fbff::1",
]


def test_there_are_enough_vectors():
    assert len(set(DENIED_VECTORS)) >= 100
    assert len(set(ALLOWED_VECTORS)) >= 40


@pytest.mark.parametrize("address", DENIED_VECTORS)
def test_special_addresses_are_denied(address):
    with pytest.raises(Denied, match="is not reachable by default"):
        OPEN.admit("https", "hooks.example", [address])


@pytest.mark.parametrize("address", ALLOWED_VECTORS)
def test_ordinary_addresses_are_admitted(address):
    assert OPEN.admit("https", "hooks.example", [address]) == [address]


@pytest.mark.parametrize(
    "answer", ["", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3", "::ffff", "1.1.1.1 "]
)
def test_what_is_no_address_is_denied(answer):
    with pytest.raises(Denied):
        OPEN.admit("https", "hooks.example", [answer])


def test_a_mixed_answer_is_refused_whole_in_any_order():
    for answers in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::ffff:127.0.0.1"]):
        with pytest.raises(Denied):
            OPEN.admit("https", "hooks.example", answers)


def test_no_answer_is_no_admission():
    with pytest.raises(Denied, match="has no address"):
        OPEN.admit("https", "hooks.example", [])


def test_a_named_network_is_reachable_also_as_a_mapped_address_and_by_http():
    guard = Guard(networks=(ipaddress.ip_network("10.20.0.0/16"),))
    assert guard.admit("http", "x", ["10.20.3.4", "::ffff:10.20.3.4"]) == ["10.20.3.4", "::ffff:10.20.3.4"]
    with pytest.raises(Denied):
        guard.admit("https", "x", ["10.21.0.1"])


def test_a_named_host_is_reachable_wherever_it_is_but_never_at_the_metadata_service():
    guard = Guard(hosts=frozenset({"billing.internal"}))
    assert guard.admit("http", "billing.internal", ["10.0.0.9"]) == ["10.0.0.9"]
    assert guard.admit("https", "billing.internal", ["fd00::9", "127.0.0.1"]) == ["fd00::9", "127.0.0.1"]
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "fd00:ec2::254", "0.0.0.0", "ff02::1"):
        with pytest.raises(Denied, match="is link-local or reserved"):
            guard.admit("https", "billing.internal", [address])
    with pytest.raises(Denied):
        guard.admit("https", "other.internal", ["10.0.0.9"])


def test_the_metadata_service_is_reachable_where_its_network_is_named():
    guard = Guard(networks=(ipaddress.ip_network("169.254.169.254/32"),))
    assert guard.admit("http", "169.254.169.254", ["169.254.169.254"]) == ["169.254.169.254"]


def test_plain_http_needs_an_exception_also_for_an_ordinary_address():
    with pytest.raises(Denied, match="which plain http needs"):
        OPEN.admit("http", "hooks.example", ["8.8.8.8"])
    assert Guard(hosts=frozenset({"hooks.example"})).admit("http", "hooks.example", ["8.8.8.8"]) == ["8.8.8.8"]


def test_the_api_server_is_denied_even_at_an_ordinary_address():
    guard = Guard(also_denied=frozenset({ipaddress.ip_address("34.1.2.3")}))
    with pytest.raises(Denied, match="API server"):
        guard.admit("https", "x", ["34.1.2.3"])


def in_network(address: str, network: str) -> bool:
    """Compare leading bits as text: an oracle that shares nothing with `ipaddress` networks."""
    prefix, length = network.split("/")
    size = 128 if ":" in prefix else 32
    bits = [f"{int(ipaddress.ip_address(a)):0{size}b}"[: int(length)] for a in (address, prefix)]
    return bits[0] == bits[1]


@given(st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n))))
def test_ipv4_against_bit_strings(address):
    expected = any(in_network(address, str(n)) for n, _ in DENIED if n.version == 4)
    assert bool(special_purpose(read_address(address))) == expected
    assert bool(special_purpose(read_address(f"::ffff:{address}"))) == expected


v6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.sampled_from([n for n, _ in DENIED if n.version == 6]).flatmap(
        lambda n: st.integers(max(int(n.network_address) - 2, 0), min(int(n.broadcast_address) + 2, 2**128 - 1))
    ),
)


@given(v6.map(ipaddress.IPv6Address).filter(lambda a: a.ipv4_mapped is None).map(str))
def test_ipv6_against_bit_strings(address):
    expected = any(in_network(address, str(n)) for n, _ in DENIED if n.version == 6)
    assert bool(special_purpose(read_address(address))) == expected
