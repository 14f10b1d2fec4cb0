"""Which addresses a delivery may connect to. Pure: an address goes in, a judgement comes out.

The list is our own on purpose: `ipaddress.is_global` changes between patch releases of Python and calls multicast, 6to4, NAT64 and others
global. It is judged where the connection is made, on every address that the name resolved to, and the connection goes to a judged address,
so that a name that answers differently the second time (DNS rebinding) gains nothing.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DENIED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "unspecified, loopback or IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard only"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Special-purpose addresses (IANA registries, RFC 6890 and successors), and what they are for."""

NEVER_BY_HOST: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fd00:ec2::/32",
        "ff00::/8",
    )
)
"""Not reachable through an exception for a host name either, only by naming the network: the clouds' metadata services live here, and a name can be
pointed at them by whoever owns it."""


class Denied(Exception):  # noqa: N818 - says what happened
    """A destination that must not be connected to. The message says which address, what it is, and how to allow it."""


class Guard(msgspec.Struct, frozen=True):
    """The exceptions of one endpoint.

    Args:
        networks: may be reached.
        hosts: names, in lower case, whose addresses may be reached.
        also_denied: further single addresses that are denied (the API server of the cluster).
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    also_denied: frozenset[Address] = frozenset()

    def admit(self, scheme: str, host: str, answers: Sequence[str]) -> list[str]:
        """Give the addresses that may be connected to: all that *host* resolved to, or none.

        Args:
            scheme: of the URL; plain `http` needs an exception.
            host: of the URL, in lower case, a name or an address.
            answers: every address that it resolved to.

        Raises:
            Denied: at least one must not be reached. A mixed answer is refused as a whole: it is how rebinding begins.
        """
        if not answers:
            raise Denied(f"{host} has no address")
        return [self._admit_one(scheme, host, answer) for answer in answers]

    def _admit_one(self, scheme: str, host: str, answer: str) -> str:
        address = read_address(answer)
        if any(address.version == network.version and address in network for network in self.networks):
            return answer
        if host in self.hosts:
            if _within(address, NEVER_BY_HOST):
                raise Denied(
                    f"{_named(host, answer)} is link-local or reserved; name its network in egress.allow if that is meant"
                )
            return answer
        special = special_purpose(address)
        if special:
            raise Denied(
                f"{_named(host, answer)} is not reachable by default ({special}); name it in egress.allow if that is meant"
            )
        if address in self.also_denied:
            raise Denied(
                f"{_named(host, answer)} is the cluster's API server; name it in egress.allow if that is meant"
            )
        if scheme != "https":
            raise Denied(f"{_named(host, answer)} is not named in egress.allow, which plain http needs; use https")
        return answer


def read_address(text: str) -> Address:
    """Read an address as a resolver gives it; a mapped IPv4 address (`::ffff:…`) is judged as what it leads to.

    Raises:
        Denied: it is none.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise Denied(f'"{text}" is no address') from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def special_purpose(address: Address) -> str:
    """Say what special purpose an address has; empty for an ordinary one."""
    return next((what for network, what in DENIED if network.version == address.version and address in network), "")


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(network.version == address.version and address in network for network in networks)


def _named(host: str, answer: str) -> str:
    return answer if host == answer else f"{host} ({answer})"
