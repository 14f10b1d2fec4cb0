"""From conditions and key parts to functions of a request's attributes, built once per configuration.

A condition about an attribute that the request does not have is false, except `present: false`. A key of which a part is missing is no key:
the rule then does not apply. Both are decided here and nowhere else.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pillion.ratelimit.addresses import parse_address, parse_network, prefix_key
from pillion.ratelimit.compiled import Condition, KeyPart

Attributes = Mapping[str, str]
"""What a request says about itself."""

Predicate = Callable[[Attributes], bool]

Key = str | bytes
"""What a counter is filed under: the text itself, or the digest of a long one. The two types cannot collide."""

KeyOf = Callable[[Attributes], Key | None]

LONGEST_KEY: Final = 128
"""Characters up to which a key is kept as it is; longer ones are kept as a digest, so that memory per counter is bounded."""


class MalformedAttribute(ValueError):  # noqa: N818 - says what it is
    """An attribute has a value that a rule cannot read, as in an `ip` that is no address.

    Args:
        attribute: its name.
        detail: what is wrong with the value, and the fix.
    """

    def __init__(self, attribute: str, detail: str) -> None:
        super().__init__(f"attribute {attribute}: {detail}")
        self.attribute = attribute
        self.detail = detail


def predicate(condition: Condition) -> Predicate:
    """Give the function that tells whether *condition* holds.

    The function raises `MalformedAttribute` where a `cidr` condition meets a value that is no address.

    Raises:
        ValueError: the value of a `cidr` condition is no network.
    """
    name, value = condition.attribute, condition.value
    match condition.test, value:
        case "exact", str():
            return lambda attributes: attributes.get(name) == value
        case "prefix", str():
            return lambda attributes: attributes.get(name, "").startswith(value) and name in attributes
        case "suffix", str():
            return lambda attributes: attributes.get(name, "").endswith(value) and name in attributes
        case "glob", str():
            # `fnmatch.translate` writes atomic groups for `*`: no pattern backtracks exponentially.
            matches = re.compile(fnmatch.translate(value)).match
            return lambda attributes: name in attributes and matches(attributes[name]) is not None
        case "cidr", str():
            return _in_network(name, value)
        case "present", bool():
            return lambda attributes: (name in attributes) is value
        case "in", tuple():
            alternatives = frozenset(value)
            return lambda attributes: attributes.get(name) in alternatives
    raise ValueError(f"{condition.test} does not take {value!r}")


def _in_network(name: str, text: str) -> Predicate:
    network = parse_network(text)

    def holds(attributes: Attributes) -> bool:
        value = attributes.get(name)
        if value is None:
            return False
        try:
            return network.holds(parse_address(value))
        except ValueError as error:
            raise MalformedAttribute(name, str(error)) from None

    return holds


def every(conditions: Sequence[Condition]) -> Predicate | None:
    """Give the function that tells whether all *conditions* hold; None where there is none to hold."""
    if not conditions:
        return None
    tests = tuple(predicate(condition) for condition in conditions)
    if len(tests) == 1:
        return tests[0]

    def holds(attributes: Attributes) -> bool:
        for test in tests:  # noqa: SIM110 - a loop; all() with a generator costs three times as much
            if not test(attributes):
                return False
        return True

    return holds


def some(conditions: Sequence[Condition]) -> Predicate | None:
    """Give the function that tells whether one of *conditions* holds; None where there is none."""
    if not conditions:
        return None
    tests = tuple(predicate(condition) for condition in conditions)

    def holds(attributes: Attributes) -> bool:
        for test in tests:  # noqa: SIM110 - see `every`
            if test(attributes):
                return True
        return False

    return holds


def key_of(parts: Sequence[KeyPart]) -> KeyOf:
    """Give the function that builds the key of a request; it gives None where a part is missing.

    The function raises `MalformedAttribute` where an address is wanted and the value is none.
    """
    if not parts:
        return lambda _attributes: ""
    if len(parts) == 1 and parts[0].ipv6_prefix is None:
        name = parts[0].attribute

        def single(attributes: Attributes) -> Key | None:
            value = attributes.get(name)
            return value if value is None or len(value) <= LONGEST_KEY else _digest(value)

        return single
    if len(parts) == 1:
        return _reader(parts[0])
    readers = tuple(_reader(part) for part in parts)

    def joined(attributes: Attributes) -> Key | None:
        key = ""
        for read in readers:
            value = read(attributes)
            if value is None:
                return None
            # The length in front keeps ("a", "bc") and ("ab", "c") apart, whatever the values hold.
            key += f"{len(value)}:{value}"
        return key if len(key) <= LONGEST_KEY else _digest(key)

    return joined


def _reader(part: KeyPart) -> Callable[[Attributes], str | None]:
    name, bits = part.attribute, part.ipv6_prefix
    if bits is None:
        return lambda attributes: attributes.get(name)

    def address(attributes: Attributes) -> str | None:
        value = attributes.get(name)
        if value is None:
            return None
        try:
            return prefix_key(value, bits)
        except ValueError as error:
            raise MalformedAttribute(name, str(error)) from None

    return address


def _digest(text: str) -> bytes:
    # surrogatepass: header values may carry bytes that are no UTF-8, and every text must have a key.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def in_share(identity: str, key: Key, percent: int) -> bool:
    """Tell whether *key* is among the *percent* (0-100) of keys that are chosen; the same everywhere and after every restart."""
    raw = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(raw, digest_size=8, person=_person(identity)).digest(), "big")
    return number % 100 < percent


def _person(identity: str) -> bytes:
    """Rules choose independently of one another: `person` sets their hashes apart (at most 16 bytes, hence a digest)."""
    return hashlib.blake2b(identity.encode(), digest_size=16).digest()
