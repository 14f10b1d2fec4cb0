"""IP addresses and networks as integers, for matching and for keys.

`socket.inet_pton` is used as a parser: it is strict (no leading zeros, no port, no spaces) and ten times as fast as `ipaddress`. An IPv4
address that comes in IPv6 clothes (`::ffff:192.0.2.1`) is read as the IPv4 address that it is, so that neither a rule nor a counter can be
dodged by writing it the other way.
"""

import ipaddress
import socket
from typing import Final, NamedTuple

_MAPPED: Final = bytes.fromhex("00000000000000000000ffff")
"""First twelve bytes of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2)."""


class Address(NamedTuple):
    """An address: its version (4 or 6) and its number."""

    version: int
    number: int


class Network(NamedTuple):
    """A network: its version, its number and its mask."""

    version: int
    number: int
    mask: int

    def holds(self, address: Address) -> bool:
        """Tell whether *address* lies in it."""
        return address.version == self.version and address.number & self.mask == self.number


def parse_address(text: str) -> Address:
    """Read an IPv4 or IPv6 address; an IPv6 zone (`%eth0`) is ignored.

    Raises:
        ValueError: *text* is no address.
    """
    try:
        if ":" not in text:
            return Address(4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
        packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate in the text
        raise ValueError(f'"{text[:80]}" is not an IP address; write it without port and brackets') from None
    if packed[:12] == _MAPPED:
        return Address(4, int.from_bytes(packed[12:], "big"))
    return Address(6, int.from_bytes(packed, "big"))


def parse_network(text: str) -> Network:
    """Read a network in CIDR notation; a single address is a network of one.

    Raises:
        ValueError: *text* is no network, or has bits set beyond its prefix. The message names the fix.
    """
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network in CIDR notation; write it as in 192.0.2.0/24 or 2001:db8::/32") from None
    try:
        ipaddress.ip_network(text, strict=True)
    except ValueError:
        raise ValueError(f'has bits set beyond its prefix; did you mean "{loose}"?') from None
    return Network(loose.version, int(loose.network_address), int(loose.netmask))


def prefix_key(text: str, bits: int) -> str:
    """Give the text under which *text* is counted: an IPv4 address by itself, IPv6 addresses by their first *bits* (1-128) bits.

    Raises:
        ValueError: *text* is no address.
    """
    version, number = parse_address(text)
    return f"4:{number:x}" if version == 4 else f"6:{number >> (128 - bits):x}"
